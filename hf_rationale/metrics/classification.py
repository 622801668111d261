"""How good the labels are."""

from collections.abc import Sequence
from typing import Any

import numpy as np


# The measures that a model card shows.
LABELS = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced accuracy",
    "worst group accuracy": "accuracy of the worst group",
}


def classification_scores(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """
    Args:
        predictions, labels (`np.ndarray` of shape `(num_documents,)`): class indices.

    Returns:
        `dict[str, float]`: fractions in [0, 1].

        - **accuracy**
        - **balanced_accuracy**: the mean over the classes that occur in `labels` of their recall.
        - **macro_f1**: the mean over the classes that occur in either of their F1.
        - **majority_share**: the share of the most frequent label, which a constant answer has for accuracy.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    correct = predictions == labels
    classes = np.union1d(labels, predictions)
    counts = np.array([(labels == label).sum() for label in classes])
    predicted = np.array([(predictions == label).sum() for label in classes])
    hits = np.array([correct[labels == label].sum() for label in classes])
    return {
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float((hits / np.maximum(counts, 1))[counts > 0].mean()),
        "macro_f1": float((2 * hits / (counts + predicted)).mean()),
        "majority_share": float(counts.max() / counts.sum()),
    }


def group_accuracy(predictions: np.ndarray, labels: np.ndarray, groups: Sequence[str | int]) -> dict[str, Any]:
    """
    The accuracy by groups, such as labels on backgrounds (Sagawa et al. 2020).

    Args:
        predictions, labels (`np.ndarray` of shape `(num_documents,)`): class indices.
        groups (`Sequence` of length `num_documents`): the name or number of the group of every document.

    Returns:
        `dict`: fractions in [0, 1].

        - **worst_group_accuracy**: the lowest accuracy of a group.
        - **group_accuracy**: the accuracy of every group, by its name or number.
    """
    right = np.asarray(predictions) == np.asarray(labels)
    of_groups: dict[str | int, list[bool]] = {}
    for group, one in zip(groups, right, strict=True):
        of_groups.setdefault(group, []).append(bool(one))
    accuracy = {group: sum(ones) / len(ones) for group, ones in sorted(of_groups.items())}
    return {"worst_group_accuracy": min(accuracy.values()), "group_accuracy": accuracy}
