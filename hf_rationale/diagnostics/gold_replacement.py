"""The predictor on gold rationales that are replaced by random words (N2R, section 4.1, figures 3 and 7)."""

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
    Means over the texts with a marked rationale that has not been cut off.

    Args:
        kept (`list[float]`): the shares of the gold words that are kept.
        accuracy, loss, norm (`list[float]`): for each of these shares, the predictor's accuracy, its cross-entropy in
            nats, and the norm ‖Enc(Z)‖₂ of its representation.
        texts (`int`): the number of texts.
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
    Let the predictor read the words that people marked, of which a part is replaced by the same number of random
    unmarked words of the text (or by all unmarked words, if there are fewer). Words that are replaced at one share are
    also replaced at all smaller shares.

    Args:
        model: a rationale model. It is not changed.
        dataset: labelled texts with marked rationales.
        tokenizer: the model's tokenizer.
        kept: the shares of gold words to keep, in [0, 1].
        seed: the seed of the random words, which are the same for every model.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        ValueError: if a share is not in [0, 1].
        NotMeasurableError: (a `ValueError`) if there are no labels, or if no marked rationale can be read.
    """
    if not all(0 <= share <= 1 for share in kept):
        raise ValueError(f"kept must be shares in [0, 1], but is {kept}")
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
        raise NotMeasurableError("All marked rationales lie beyond max_length.")
    return GoldReplacement(list(kept), *(sums / texts).tolist(), texts)


def _replaced(batch: MarkedBatch, kept: Sequence[float], seed: int) -> list[torch.Tensor]:
    """The words (batch, words) that are read, for every share."""
    gold = (batch.gold & batch.readable).cpu().numpy()
    others = (~batch.gold & batch.readable).cpu().numpy()
    masks = np.zeros((len(kept), *gold.shape), dtype=np.int64)
    for i, row in enumerate(batch.rows):
        rng = np.random.default_rng([seed, row])  # the random words of a text do not depend on its batch
        marked, unmarked = (rng.permutation(np.flatnonzero(words[i])) for words in (gold, others))
        for mask, share in zip(masks, kept, strict=True):
            count = round(share * len(marked))
            mask[i, marked[:count]] = 1
            mask[i, unmarked[: len(marked) - count]] = 1
    return list(torch.from_numpy(masks).to(batch.readable.device))
