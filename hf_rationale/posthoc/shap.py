"""SHAP (Lundberg and Lee 2017), by its own package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .classifier import Classifier, Placeholders


EVALUATIONS = 500  # changed texts, at most


def shap(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """The Owen values of the words, in a hierarchy of neighbouring words (the explainer *partition*). Words that are
    left out become one mask token."""
    import shap as package

    token = classifier.tokenizer.mask_token or "..."
    stand_ins = Placeholders(words)

    def probability(texts: Sequence[str]) -> np.ndarray:
        return classifier.probabilities(stand_ins.texts(texts), query)[:, label]

    if len(words) == 1:  # there is no hierarchy, and the package fails
        whole, without = probability([stand_ins.text, token])
        return np.array([whole - without])
    masker = package.maskers.Text(r"\s+", mask_token=token, collapse_mask_token=True)
    explainer = package.explainers.PartitionExplainer(probability, masker)
    values = explainer([stand_ins.text], max_evals=EVALUATIONS, batch_size=classifier.batch_size, silent=True)
    return np.asarray(values.values[0], dtype=float)
