"""Attention weights as scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .classifier import Classifier, by_word


@torch.no_grad()
def attention(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """The attention of the first position in the last layer, the mean over the heads, whatever the label. Raises
    `ValueError` if the model is no encoder whose first position sees all others, such as BERT."""
    encoded = classifier.encode(words, query)
    output = classifier.with_attentions(**encoded.inputs, output_attentions=True)
    if not output.get("attentions") or not output.attentions[-1][0, :, 0, 1:].any():
        raise ValueError(
            f"The first position of a {type(classifier.model).__name__} attends to no other, so that its attention "
            "says nothing. Choose another explainer."
        )
    return by_word(output.attentions[-1][0, :, 0].mean(0).float().cpu().numpy(), encoded, len(words))
