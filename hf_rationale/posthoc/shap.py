"""SHAP (Lundberg and Lee 2017), by its own package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .classifier import Classifier


EVALUATIONS = 500  # changed texts, at most


def shap(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """The Owen values of the words, in a hierarchy of neighbouring words (the explainer *partition*). Words that are
    left out become one mask token."""
    import shap as package

    masker = package.maskers.Text(
        r"\s+", mask_token=classifier.tokenizer.mask_token or "...", collapse_mask_token=True
    )
    explainer = package.explainers.PartitionExplainer(
        lambda texts: classifier.probabilities(texts, query)[:, label], masker
    )
    values = explainer([" ".join(words)], max_evals=EVALUATIONS, batch_size=classifier.batch_size, silent=True)
    return np.asarray(values.values[0], dtype=float)
