"""Plausibility: how well the selected units agree with the ones that people marked.

Every metric takes the same input, one 0/1 sequence per document for the selection and one for the human annotation,
and checks and joins it with [`_join_documents`]. A unit is whatever the caller counts in, in this package a word.
"""

from collections.abc import Sequence

import numpy as np


def _as_documents(masks: Sequence, name: str) -> list[np.ndarray]:
    """`masks` as a list of one-dimensional numeric arrays; values are not checked yet."""
    try:
        masks = list(masks)
    except TypeError:
        raise TypeError(
            f"`{name}` must be a list of documents, each a sequence of 0/1, got {type(masks).__name__}"
        ) from None

    documents = []
    for i, mask in enumerate(masks):
        try:
            document = np.asarray(mask)
        except ValueError:  # NumPy refuses ragged nesting
            raise ValueError(f"`{name}`: document {i} must be one flat sequence of 0/1, got a ragged one") from None
        if document.ndim == 0:
            raise ValueError(
                f"`{name}` must be a list of documents, each a sequence of 0/1, but element {i} is {mask!r}: "
                "wrap a single document in a list"
            )
        if document.ndim > 1:
            raise ValueError(
                f"`{name}`: document {i} must be one flat sequence of 0/1, got an array of shape {document.shape}"
            )
        if document.dtype.kind not in "biuf":
            raise ValueError(f"`{name}`: document {i} must hold numbers or bools, got dtype {document.dtype}")
        documents.append(document)
    return documents


def _concatenate(documents: list[np.ndarray], name: str) -> np.ndarray:
    """All units of `documents` in one bool array of shape `(num_units,)`, each value checked to be 0 or 1."""
    units = np.concatenate(documents)
    selected = units == 1
    invalid = ~(selected | (units == 0))  # NaN equals neither, so it is caught here too
    if invalid.any():
        first = int(invalid.argmax())
        ends = np.cumsum([len(document) for document in documents])
        i = int(np.searchsorted(ends, first, side="right"))
        unit = first - int(ends[i]) + len(documents[i])
        raise ValueError(f"`{name}`: every unit must be 0 or 1, but unit {unit} of document {i} is {units[first]}")
    return selected


def _join_documents(predictions: Sequence, references: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Checks the two sides against each other and returns each as one bool array of shape `(num_units,)`."""
    predictions = _as_documents(predictions, "predictions")
    references = _as_documents(references, "references")
    if len(predictions) != len(references):
        raise ValueError(
            f"`predictions` and `references` must have the same number of documents, got {len(predictions)} and "
            f"{len(references)}"
        )
    for i, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        if len(prediction) != len(reference):
            raise ValueError(
                f"document {i} has {len(prediction)} units in `predictions` and {len(reference)} in `references`"
            )
    if sum(map(len, references)) == 0:
        raise ValueError("`predictions` and `references` are empty: there is no unit to score")
    return _concatenate(predictions, "predictions"), _concatenate(references, "references")


def rationale_f1(predictions: Sequence, references: Sequence) -> dict[str, float]:
    """
    Agreement of selected and human-marked units, counted over all units of all documents together (micro average, as
    in the papers on selective rationalization), with the best agreement that the same number of units allows.

    Args:
        predictions (`Sequence` of shape `(num_documents, num_units)`, ragged):
            The selection: one list or array of 0/1 (ints, bools or floats) per document. Cut padding off first.
        references (`Sequence` of shape `(num_documents, num_units)`, ragged):
            The human annotation, in the same units. A document may be empty or have nothing marked.

    Returns:
        `dict[str, float]`: fractions in [0, 1]. A fraction whose denominator is zero is 0.0.

        - **precision**: the share of the selected units that are marked; 0.0 where nothing is selected.
        - **recall**: the share of the marked units that are selected; 0.0 where nothing is marked.
        - **f1**: their harmonic mean; 0.0 where nothing is selected and nothing is marked.
        - **sparsity**: the share S of all units that is selected.
        - **gold_sparsity**: the share g of all units that is marked.
        - **oracle_f1**: 2·min(S, g) / (S + g), the highest f1 of any selection with this sparsity.
        - **f1_over_oracle**: f1 / oracle_f1, which compares selections of different sparsity; 0.0 where nothing is
          selected or nothing is marked.

    Raises:
        `TypeError`: if an argument is not a sequence.
        `ValueError`: if the two sides differ in the number of documents or in the length of a document, if a value is
            neither 0 nor 1 (NaN included), if a flat list is given in place of a list of documents, or if there is no
            unit at all.

    Example:

    ```python
    >>> from hf_rationale.metrics import rationale_f1

    >>> rationale_f1(predictions=[[0, 1, 1], [0, 1]], references=[[0, 1, 0], [1, 1]])["precision"]
    0.6666666666666666
    ```
    """
    selected, gold = _join_documents(predictions, references)
    num_selected = int(selected.sum())
    num_gold = int(gold.sum())
    num_both = int((selected & gold).sum())
    num_at_best = min(num_selected, num_gold)  # an oracle's hits with as many units
    return {
        "precision": num_both / max(num_selected, 1),
        "recall": num_both / max(num_gold, 1),
        "f1": 2 * num_both / max(num_selected + num_gold, 1),
        "sparsity": num_selected / selected.size,
        "gold_sparsity": num_gold / gold.size,
        "oracle_f1": 2 * num_at_best / max(num_selected + num_gold, 1),
        # The two F1 have one denominator, so their ratio is that of the hits.
        "f1_over_oracle": num_both / max(num_at_best, 1),
    }
