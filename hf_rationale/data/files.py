"""Finding and reading the files of a corpus. Every error names the file and, if possible, the line."""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from .schema import MalformedDataError


def corpus_folder(name: str, data_dir: str | os.PathLike | None, holds: str) -> Path:
    """The folder of a corpus: `data_dir` itself, or the folder of the corpus's name in it.

    Args:
        name (`str`): the corpus.
        data_dir (`str` or `os.PathLike`): what the user gave.
        holds (`str`): the files that belong there, for the message.

    Raises:
        FileNotFoundError: no `data_dir`, or it is not a folder.
    """
    if data_dir is None:
        raise FileNotFoundError(f"{name} is read from files: pass data_dir, a folder that holds {holds}.")
    folder = Path(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. For {name} it has to hold {holds}.")
    return folder / name if (folder / name).is_dir() else folder


def find_file(folder: Path, file_names: Iterable[str], what: str) -> Path:
    """The first of `file_names` that exists in `folder`.

    Raises:
        FileNotFoundError: none exists. The message says where each was looked for and what it would hold.
    """
    paths = [folder / file_name for file_name in file_names]
    for path in paths:
        if path.is_file():
            return path
    raise FileNotFoundError(f"Found no {' nor '.join(map(str, paths))}. Put {what} there.")


def decode_lines(stream: Iterable[bytes], path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    r"""Number (from 1) and text of each line, without its line end.

    Lines end at `\n` alone, because reviews contain the other characters that `str.splitlines` breaks at (U+0085).

    Raises:
        MalformedDataError: a line is not UTF-8.
    """
    for number, raw in enumerate(stream, start=1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")  # Excel writes a byte order mark
        except UnicodeDecodeError as error:
            problem = f"expected UTF-8, found byte 0x{raw[error.start]:02x} at position {error.start} of the line"
            raise MalformedDataError(path, number, problem) from error
        yield number, text.removesuffix("\n").removesuffix("\r")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """[`decode_lines`] over a file, which is decompressed if its name ends in `.gz`.

    Raises:
        MalformedDataError: a line is not UTF-8, or the gzip stream is damaged or cut short.
    """
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
        try:
            for number, text in decode_lines(stream, path):
                yield number, text
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            problem = f"the gzip stream is damaged or cut short here ({error}); fetch the file again"
            raise MalformedDataError(path, number + 1, problem) from error
