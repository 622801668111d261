"""LIME (Ribeiro et al. 2016), by its own package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .classifier import Classifier, Placeholders


SAMPLES = 500  # changed texts


def lime(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """The weights of a linear model of which words are left in the text."""
    from lime.lime_text import LimeTextExplainer

    explainer = LimeTextExplainer(bow=False, split_expression=str.split, mask_string="", random_state=0)
    stand_ins = Placeholders(words)
    explanation = explainer.explain_instance(
        stand_ins.text,
        lambda texts: classifier.probabilities(stand_ins.texts(texts), query),
        labels=(label,),
        num_features=len(words),
        num_samples=SAMPLES,
    )
    scores = np.zeros(len(words))
    for place, weight in explanation.as_map()[label]:
        scores[place] = weight
    return scores
