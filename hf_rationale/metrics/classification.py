"""How good the labels are."""

import numpy as np


# The measures that a model card shows.
LABELS = {"accuracy": "accuracy", "balanced accuracy": "balanced accuracy"}


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
