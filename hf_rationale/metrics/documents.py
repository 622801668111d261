"""The input of every metric: documents of units, checked and joined into flat arrays.

A unit is whatever the caller counts in, in this package a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Documents:
    """All documents, one after the other. `units` arrays are of shape `(num_units,)`, in the documents' order."""

    selected: np.ndarray  # bool units
    gold: np.ndarray  # bool units
    scores: np.ndarray | None  # float units
    document: np.ndarray  # units: the document that each belongs to
    count: int  # documents, the empty ones among them

    def per_document(self, values: np.ndarray, document: np.ndarray | None = None) -> np.ndarray:
        """The sums (documents,) of `values`, which belong to the units, or to the documents given."""
        return np.bincount(self.document if document is None else document, values, self.count)


def join_documents(predictions: Sequence, references: Sequence, scores: Sequence | None = None) -> Documents:
    """Checks the sides against each other and joins them.

    Raises:
        TypeError: an argument is not a sequence.
        ValueError: the sides differ in their documents or units, a mask is not 0/1, a score is not finite, or there is
            no unit at all.
    """
    predictions = _as_documents(predictions, "predictions")
    references = _as_documents(references, "references")
    _check_same_shape(predictions, "predictions", references, "references")
    if sum(map(len, references)) == 0:
        raise ValueError("`predictions` and `references` are empty: there is no unit to score")
    joined_scores = None
    if scores is not None:
        scores = _as_documents(scores, "scores", "numbers")
        _check_same_shape(scores, "scores", references, "references")
        joined_scores = np.concatenate(scores).astype(float)
        _check(np.isfinite(joined_scores), joined_scores, scores, "scores", "finite")
    return Documents(
        selected=_join_masks(predictions, "predictions"),
        gold=_join_masks(references, "references"),
        scores=joined_scores,
        document=np.repeat(np.arange(len(references)), [len(document) for document in references]),
        count=len(references),
    )


def _as_documents(documents: Sequence, name: str, of: str = "0/1") -> list[np.ndarray]:
    """`documents` as a list of one-dimensional numeric arrays; values are not checked yet."""
    try:
        documents = list(documents)
    except TypeError:
        raise TypeError(
            f"`{name}` must be a list of documents, each a sequence of {of}, got {type(documents).__name__}"
        ) from None

    arrays = []
    for i, document in enumerate(documents):
        try:
            array = np.asarray(document)
        except ValueError:  # NumPy refuses ragged nesting
            raise ValueError(f"`{name}`: document {i} must be one flat sequence of {of}, got a ragged one") from None
        if array.ndim == 0:
            raise ValueError(
                f"`{name}` must be a list of documents, each a sequence of {of}, but element {i} is {document!r}: "
                "wrap a single document in a list"
            )
        if array.ndim > 1:
            raise ValueError(
                f"`{name}`: document {i} must be one flat sequence of {of}, got an array of shape {array.shape}"
            )
        if array.dtype.kind not in "biuf":
            raise ValueError(f"`{name}`: document {i} must hold numbers or bools, got dtype {array.dtype}")
        arrays.append(array)
    return arrays


def _check_same_shape(left: list[np.ndarray], left_name: str, right: list[np.ndarray], right_name: str):
    if len(left) != len(right):
        raise ValueError(
            f"`{left_name}` and `{right_name}` must have the same number of documents, got {len(left)} and "
            f"{len(right)}"
        )
    for i, (one, other) in enumerate(zip(left, right, strict=True)):
        if len(one) != len(other):
            raise ValueError(f"document {i} has {len(one)} units in `{left_name}` and {len(other)} in `{right_name}`")


def _join_masks(documents: list[np.ndarray], name: str) -> np.ndarray:
    units = np.concatenate(documents)
    selected = units == 1
    _check(selected | (units == 0), units, documents, name, "0 or 1")  # NaN equals neither, so it is caught here too
    return selected


def _check(valid: np.ndarray, units: np.ndarray, documents: list[np.ndarray], name: str, rule: str):
    if not valid.all():
        first = int(valid.argmin())
        ends = np.cumsum([len(document) for document in documents])
        i = int(np.searchsorted(ends, first, side="right"))
        unit = first - int(ends[i]) + len(documents[i])
        raise ValueError(f"`{name}`: every unit must be {rule}, but unit {unit} of document {i} is {units[first]}")
