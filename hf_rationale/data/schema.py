"""The columns of every corpus, and the error for data that breaks its format."""

import os
from collections.abc import Iterable, Sequence
from typing import TypedDict

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


class Example(TypedDict, total=False):
    """One text. Only corpora of pairs have a `query`."""

    tokens: list[str]
    label: int
    rationale: list[int] | None
    query: list[str]


def rationale_features(label_names: Sequence[str], query: bool = False) -> Features:
    """The columns of a rationale corpus.

    Args:
        label_names (`Sequence[str]`): the class names in the order of their ids.
        query (`bool`, *optional*, defaults to `False`): whether a first segment comes with each text, as in question
            answering and fact checking. Only the words of `tokens` can be selected, never those of `query`.

    Returns:
        `datasets.Features`: `tokens` (the words), `label`, `rationale` (0/1 for each word; the whole list is `None`
        if nobody marked the text) and, if asked for, `query`.
    """
    features = {
        "tokens": List(Value("string")),
        "label": ClassLabel(names=list(label_names)),
        "rationale": List(Value("int8")),
    }
    if query:
        features["query"] = List(Value("string"))
    return Features(features)


def to_dataset(examples: Sequence[Example], label_names: Sequence[str], query: bool = False) -> Dataset:
    """Puts examples into a `Dataset` with [`rationale_features`]."""
    features = rationale_features(label_names, query)
    return Dataset.from_dict({name: [example[name] for example in examples] for name in features}, features=features)


def to_dataset_dict(
    splits: dict[str, Sequence[Example]], label_names: Sequence[str], query: bool = False
) -> DatasetDict:
    """Puts each split into a `Dataset`, with the same features for all.

    Raises:
        ValueError: a split has no example.
    """
    for name, examples in splits.items():
        if not examples:
            raise ValueError(f"The {name} split has no usable example left.")
    return DatasetDict({name: to_dataset(examples, label_names, query) for name, examples in splits.items()})


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
