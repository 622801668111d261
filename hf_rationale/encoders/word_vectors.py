"""Reading static word vectors (GloVe, word2vec's text format)."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np


def read_word_vectors(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    r"""
    Read a text file of lines `word v1 v2 … vd`, plain or gzip, as GloVe publishes them (Pennington et al. 2014). A
    first line `count width`, as word2vec writes it, is skipped.

    Returns:
        the distinct words in the order of the file, and a `float32` array of shape `(len(words), d)`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: with the file and the line, if a line has another width than the first, contains numbers that are
            not finite, or is not UTF-8; with the file, if it is empty or a damaged archive.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No word vectors at {path}. Give a GloVe text file (plain or .gz), for example glove.6B.100d.txt."
        )
    rows: dict[str, np.ndarray] = {}
    width = None
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
        for number, line in enumerate(_undamaged(lines, path), start=1):
            try:
                word, _, numbers = line.decode("utf-8").rstrip("\n").partition(" ")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8 ({error})") from None
            if number == 1 and numbers.strip().isdigit() and word.isdigit():
                continue
            try:
                vector = np.array(numbers.split(), dtype=np.float32)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not a word and its numbers ({error})") from None
            width = width or len(vector)
            if len(vector) != width or not width:
                raise ValueError(f"{path}, line {number}: {len(vector)} numbers, expected {width or 'at least one'}")
            if not np.isfinite(vector).all():
                raise ValueError(f"{path}, line {number}: a number is not finite")
            rows.setdefault(word, vector)
    if not rows:
        raise ValueError(f"{path} holds no word vectors")
    return list(rows), np.stack(list(rows.values()))


def _undamaged(lines: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a damaged archive ({error}); fetch it again") from None
