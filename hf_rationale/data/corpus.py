"""What is known of a corpus, in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import DatasetDict


@dataclass(frozen=True)
class Corpus:
    r"""
    A corpus of selective rationalization. It is registered in `CORPORA`, from which [`load_rationale_dataset`], the
    command line, the model cards and the documents take it.

    Args:
        name (`str`): the name for [`load_rationale_dataset`].
        read (`Callable`): reads all splits. Its arguments are the folder, the aspect if the corpus has aspects, and
            the corpus's own options.
        description (`str`): what the data is, for model cards.
        license (`str`): the licence of the data and marks, and where it is stated, for model cards.
        files (`str`): the files that it is read from, for the documents.
        source (`str`): where these files are, for the documents.
        marked (`str`): the splits in which people marked rationales, for the documents.
        example (`str` or `dict[str, str]`, *optional*): an invented text, or a pair, for model cards. Corpora of
            graphs and images have none.
        aspects (`tuple[str, ...]`, *optional*): the aspects that can decide the label.
        instances (`Callable`, *optional*): for a corpus of the ERASER benchmark, the instances of a split
            (`instances(data_dir, split)`), by which predictions in ERASER's format are named.
        class_names (`tuple[str, ...]`, *optional*): ERASER's names of the labels.
    """

    name: str
    read: Callable[..., DatasetDict]
    description: str
    license: str
    files: str
    source: str
    marked: str
    example: str | dict[str, str] | None = None
    aspects: tuple[str, ...] = ()
    instances: Callable[..., Sequence[Any]] | None = None
    class_names: tuple[str, ...] | None = None
