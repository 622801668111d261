"""LIME (Ribeiro et al. 2016), by its own package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .classifier import Classifier


SAMPLES = 500  # changed texts


def lime(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """The weights of a linear model of which words are left in the text."""
    from lime.lime_text import LimeTextExplainer

    explainer = LimeTextExplainer(bow=False, split_expression=str.split, mask_string="", random_state=0)
    explanation = explainer.explain_instance(
        " ".join(words),
        lambda texts: classifier.probabilities(texts, query),
        labels=(label,),
        num_features=len(words),
        num_samples=SAMPLES,
    )
    scores = np.zeros(len(words))
    for place, weight in explanation.as_map()[label]:
        scores[place] = weight
    return scores
