"""What the predictor makes of gold rationales that give way to random words (N2R, section 4.1, figures 3 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from ..modeling.base import RationalePreTrainedModel
from ..reading import MarkedBatch, NotMeasurableError, encode_labelled, read_batches
from .figures import curves, panels


@dataclass(frozen=True)
class GoldReplacement:
    r"""
    Means over the texts in which people marked a rationale that the model reads.

    Args:
        kept (`list[float]`): the shares of the gold words that have not been replaced.
        accuracy, loss, norm (`list[float]`): at each of them, the predictor's accuracy, its cross-entropy in nats, and
            the norm ‖Enc(Z)‖₂ of its representation.
        texts (`int`): how many there were.
    """

    kept: list[float]
    accuracy: list[float]
    loss: list[float]
    norm: list[float]
    texts: int

    def figure(self) -> Figure:
        """N2R's figure 3."""
        figure, axes = panels(3)
        for one, name in zip(axes, ("accuracy", "loss", "norm"), strict=True):
            curves(one, self.kept, {name: getattr(self, name)}, "share of gold words", name)
        return figure


@torch.no_grad()
def gold_replacement(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    kept: Sequence[float] = tuple(np.linspace(0, 1, 11).round(2).tolist()),
    seed: int = 0,
    batch_size: int = 32,
    max_length: int | None = None,
) -> GoldReplacement:
    r"""
    Have the predictor read the words that people marked, a share of which has been replaced by as many random words of
    the same text that nobody marked (all there are, where these are fewer). With less kept, the words that were
    replaced before stay replaced.

    Args:
        model: a rationale model; it stays as it is.
        dataset: labelled texts with marked rationales.
        tokenizer: the model's.
        kept: the shares to measure at, in [0, 1].
        seed: of the random words; the same for every model.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        ValueError: where a share is not in [0, 1].
        NotMeasurableError: (a `ValueError`) where there are no labels, or no marked rationale that the model reads.
    """
    if not all(0 <= share <= 1 for share in kept):
        raise ValueError(f"kept are shares in [0, 1]; got {kept}")
    dataset = encode_labelled(dataset, tokenizer, model, max_length, marked=True)
    sums, texts = np.zeros((3, len(kept))), 0
    for batch in read_batches(model, dataset, tokenizer, batch_size, "replacing gold words"):
        marked = (batch.gold & batch.readable).any(1)
        if not marked.any():
            continue
        texts += int(marked.sum())
        for i, words in enumerate(_replaced(batch, kept, seed)):
            prediction = model.predict(batch.inputs, batch.positions_of(words))
            logits, labels = prediction.logits[marked].float(), batch.inputs.labels[marked]
            sums[0, i] += (logits.argmax(-1) == labels).sum()
            sums[1, i] += F.cross_entropy(logits, labels, reduction="sum")
            sums[2, i] += prediction.representation[marked].float().norm(dim=-1).sum()
    if not texts:
        raise NotMeasurableError("Every rationale that people marked lies beyond max_length.")
    return GoldReplacement(list(kept), *(sums / texts).tolist(), texts)


def _replaced(batch: MarkedBatch, kept: Sequence[float], seed: int) -> list[torch.Tensor]:
    """For every share the words (batch, words) that are read."""
    gold = (batch.gold & batch.readable).cpu().numpy()
    others = (~batch.gold & batch.readable).cpu().numpy()
    masks = np.zeros((len(kept), *gold.shape), dtype=np.int64)
    for i, row in enumerate(batch.rows):
        rng = np.random.default_rng([seed, row])  # a text has its own, whatever batch it is in
        marked, unmarked = (rng.permutation(np.flatnonzero(words[i])) for words in (gold, others))
        for mask, share in zip(masks, kept, strict=True):
            count = round(share * len(marked))
            mask[i, marked[:count]] = 1
            mask[i, unmarked[: len(marked) - count]] = 1
    return list(torch.from_numpy(masks).to(batch.readable.device))
