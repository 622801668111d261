"""Attention weights as scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .classifier import Classifier, by_word


@torch.no_grad()
def attention(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """The attention of the first position in the last layer, the mean over the heads, whatever the label."""
    encoded = classifier.encode(words, query)
    weights = classifier.with_attentions(**encoded.inputs, output_attentions=True).attentions[-1]
    return by_word(weights[0, :, 0].mean(0).float().cpu().numpy(), encoded, len(words))
