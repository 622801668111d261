"""Faithfulness: how much a decision rests on the words that an explanation names (ERASER, section 4.2)."""

from collections.abc import Sequence

import numpy as np


AOPC_RATIOS = (0.01, 0.05, 0.1, 0.2, 0.5)  # ERASER's bins

# The measures that a model card shows.
LABELS = {
    "comprehensiveness aopc": "comprehensiveness (AOPC)",
    "sufficiency aopc": "sufficiency (AOPC)",
}


def faithfulness_scores(
    probabilities: np.ndarray, without: np.ndarray, alone: np.ndarray, ratios: Sequence[float] = AOPC_RATIOS
) -> dict[str, float | dict[str, float]]:
    """
    Comprehensiveness and sufficiency, averaged over documents, and over `ratios` (AOPC: the area over the perturbation
    curve, Samek et al. 2017).

    Args:
        probabilities (`np.ndarray` of shape `(num_documents, num_labels)`):
            What the classifier makes of the whole text. The label that it predicts here is the one that counts.
        without (`np.ndarray` of shape `(num_ratios, num_documents, num_labels)`):
            What it makes of the text without its best-scored words, for each share of them.
        alone (`np.ndarray` of shape `(num_ratios, num_documents, num_labels)`):
            What it makes of these words alone.
        ratios (`Sequence[float]`, *optional*): the shares; they name the results.

    Returns:
        `dict`: differences of probabilities, in [-1, 1].

        - **comprehensiveness_aopc**: how far the predicted label's probability falls without the words; higher is
          better.
        - **sufficiency_aopc**: how far it falls with the words alone; lower is better.
        - **comprehensiveness**, **sufficiency**: the same at each ratio.

    Raises:
        `ValueError`: if the shapes do not fit each other, or there is no document.
    """
    probabilities, without, alone = (np.asarray(values, dtype=float) for values in (probabilities, without, alone))
    expected = (len(ratios), *probabilities.shape)
    if probabilities.ndim != 2 or not probabilities.size or without.shape != expected or alone.shape != expected:
        raise ValueError(
            f"With {len(ratios)} ratios, probabilities are of shape (documents, labels), without and alone of shape "
            f"({len(ratios)}, documents, labels); got {probabilities.shape}, {without.shape}, {alone.shape}"
        )
    predicted = probabilities.argmax(-1)[:, None]
    before = np.take_along_axis(probabilities, predicted, -1)
    scores = {}
    for name, after in {"comprehensiveness": without, "sufficiency": alone}.items():
        falls = (before - np.take_along_axis(after, predicted[None], -1)).mean((1, 2))
        scores[f"{name}_aopc"] = float(falls.mean())
        scores[name] = dict(zip(map(str, ratios), falls.tolist(), strict=True))
    return scores
