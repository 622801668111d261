"""The columns of every corpus, and the error for data that breaks its format."""

import os
from collections.abc import Iterable, Sequence
from typing import NotRequired, TypedDict

from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value


class MalformedDataError(ValueError):
    """A data file breaks its format.

    Args:
        path (`str` or `os.PathLike`): the file (for a member of an archive, the archive's path and the member's).
        line (`int`, *optional*): the line, counted from 1; `None` if the file is not read line by line.
        problem (`str`): what was expected and what was found.
    """

    def __init__(self, path: str | os.PathLike, line: int | None, problem: str):
        super().__init__(path, line, problem)
        self.path = path
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        place = str(self.path) if self.line is None else f"{self.path}, line {self.line}"
        return f"{place}: {self.problem}"


class Example(TypedDict):
    """One text."""

    tokens: list[str]
    label: int
    rationale: list[int] | None
    query: NotRequired[list[str]]  # of a corpus of pairs: the first segment, of which no word can be selected
    sentence_ids: NotRequired[list[int]]  # of a corpus that knows its sentences: the number of each word's sentence


def rationale_features(label_names: Sequence[str], columns: Iterable[str] = ()) -> Features:
    """The columns of a rationale corpus.

    Args:
        label_names (`Sequence[str]`): the class names in the order of their ids.
        columns (`Iterable[str]`, *optional*): which of the optional columns there are.

    Returns:
        `datasets.Features`: `tokens` (the words), `label`, `rationale` (0/1 for each word; the whole list is `None`
        if nobody marked the text), and the optional columns of an [`Example`].
    """
    features = {
        "tokens": List(Value("string")),
        "label": ClassLabel(names=list(label_names)),
        "rationale": List(Value("int8")),
    }
    optional = {"query": List(Value("string")), "sentence_ids": List(Value("int32"))}
    return Features(features | {name: feature for name, feature in optional.items() if name in columns})


def to_dataset(examples: Sequence[Example], label_names: Sequence[str]) -> Dataset:
    """Puts examples, which all have the same columns, into a `Dataset` with [`rationale_features`]."""
    features = rationale_features(label_names, examples[0])
    return Dataset.from_dict({name: [example[name] for example in examples] for name in features}, features=features)


def to_dataset_dict(splits: dict[str, Sequence[Example]], label_names: Sequence[str]) -> DatasetDict:
    """Puts each split into a `Dataset`, with the same features for all.

    Raises:
        ValueError: a split has no example.
    """
    for name, examples in splits.items():
        if not examples:
            raise ValueError(f"The {name} split has no usable example left.")
    return DatasetDict({name: to_dataset(examples, label_names) for name, examples in splits.items()})


def resolve_aspect(corpus: str, aspect: str | int | None, names: Sequence[str]) -> int:
    """The position of an aspect that is given by name (in any case) or by number.

    Raises:
        ValueError: no aspect, or one that the corpus does not have; the message lists those it has.
    """
    choices = {str(position): position for position in range(len(names))}
    choices.update({name.lower(): position for position, name in enumerate(names)})
    key = str(aspect).strip().lower()
    if key not in choices:
        found = "no aspect was given" if aspect is None else f"{aspect!r} is not one of them"
        listed = ", ".join(f"{name} ({position})" for position, name in enumerate(names))
        raise ValueError(f"{corpus} is read for one aspect: {listed}; {found}.")
    return choices[key]


def spans_to_rationale(spans: Iterable[tuple[int, int]], length: int) -> list[int]:
    """0/1 for each of `length` tokens, 1 inside any of the half-open `[start, end)` spans."""
    rationale = [0] * length
    for start, end in spans:
        rationale[start:end] = [1] * (end - start)
    return rationale
