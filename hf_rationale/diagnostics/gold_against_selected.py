"""The predictor on marked words and on selected words (VER, figures 3 and 10, appendix A.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from ..modeling.base import RationalePreTrainedModel
from ..reading import NotMeasurableError, encode_labelled, read_batches
from .figures import bars, panels


READ = ("selected", "gold")


@dataclass(frozen=True)
class GoldAgainstSelected:
    r"""
    Scores of the predictor by what it reads: `selected` or `gold` words. They are computed over the texts with a
    marked rationale that has not been cut off.

    Args:
        accuracy (`dict[str, float]`): the accuracy.
        median_loss (`dict[str, float]`): the cross-entropy in nats. It is the median, as in the paper, because a few
            texts can have a very large one.
        texts (`int`): the number of texts.
    """

    accuracy: dict[str, float]
    median_loss: dict[str, float]
    texts: int

    def figure(self) -> Figure:
        """VER's figure 3, for one corpus."""
        figure, axes = panels(2)
        for one, name in zip(axes, ("accuracy", "median_loss"), strict=True):
            values = getattr(self, name)
            bars(one, READ, {name: [values[read] for read in READ]}, name.replace("_", " "))
        return figure


@torch.no_grad()
def gold_against_selected(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> GoldAgainstSelected:
    r"""
    Let the predictor read the selected words, and then the words that people marked. A predictor that is much worse on
    the marked words has learned to read its own extractor, and not the text.

    Args:
        model: a rationale model. It is not changed.
        dataset: labelled texts with marked rationales.
        tokenizer: the model's tokenizer.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        NotMeasurableError: (a `ValueError`) if there are no labels, or if no marked rationale can be read.
    """
    dataset = encode_labelled(dataset, tokenizer, model, max_length, marked=True)
    correct, losses = {read: [] for read in READ}, {read: [] for read in READ}
    for batch in read_batches(model, dataset, tokenizer, batch_size, "reading gold and selected words"):
        gold = batch.gold & batch.readable
        marked = gold.any(1)
        masks = {"selected": model.select(batch.inputs).mask, "gold": batch.positions_of(gold.long())}
        for read, mask in masks.items():
            logits, labels = model.predict(batch.inputs, mask).logits[marked].float(), batch.inputs.labels[marked]
            correct[read] += (logits.argmax(-1) == labels).tolist()
            losses[read] += F.cross_entropy(logits, labels, reduction="none").tolist()
    texts = len(correct["gold"])
    if not texts:
        raise NotMeasurableError("All marked rationales lie beyond max_length.")
    return GoldAgainstSelected(
        accuracy={read: float(np.mean(values)) for read, values in correct.items()},
        median_loss={read: float(np.median(values)) for read, values in losses.items()},
        texts=texts,
    )
