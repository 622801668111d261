"""What the rationale models return, and what the steps of the core pass to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers.utils import ModelOutput

from .selection import Marks, Units


UNMARKED = -1  # in a column of marks: nobody marked this example
NO_MARK = -100  # in a batch of marks: padding, with the value that the Trainer pads with


@dataclass
class RationaleClassifierOutput(ModelOutput):
    r"""
    Output of the rationale classifiers. A position is a token of a text, or whatever else the model selects from.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is given):
            The objective: cross-entropy and the penalties on the selection.
        logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
            Classification scores before the softmax, computed from the rationale alone.
        rationale_mask (`torch.FloatTensor` of shape `(batch_size, positions)`):
            1 for selected positions and 0 otherwise. Special tokens and padding are always 0.
        rationale_scores (`torch.FloatTensor` of shape `(batch_size, positions)`):
            The extractor's probability that a position belongs to the rationale. If there are several stages (PLMR),
            it is the product of their probabilities, and 0 for a position that an earlier stage has pruned, which no
            threshold can bring back. It is 0 at special tokens and padding.
        losses (`dict[str, torch.FloatTensor]`, *optional*, returned when `labels` is given):
            The components of `loss` by name, weights included, and the measured `sparsity`.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
            The predictor's states, of shape `(batch_size, positions, hidden_size)`: the embeddings, and the output of
            each layer.
        attentions (`tuple(torch.FloatTensor)`, *optional*, returned when `output_attentions=True`):
            The predictor's attention weights, of shape `(batch_size, num_heads, positions, positions)`, one tensor
            for each layer.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    rationale_mask: torch.FloatTensor | None = None
    rationale_scores: torch.FloatTensor | None = None
    losses: dict[str, torch.FloatTensor] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None

    def add_losses(self, losses: dict[str, torch.Tensor]):
        """Add further terms to the loss."""
        self.loss = self.loss + sum(losses.values())
        self.losses |= losses


class RationaleInputs(NamedTuple):
    """A batch as the two players see it."""

    features: dict[str, torch.Tensor]  # what the players read: for text input_ids, and token_type_ids if given
    real: torch.Tensor  # (batch, positions): 1 for positions of the input, 0 for padding
    units: Units  # what can be selected, and what is selected together
    context: torch.Tensor  # (batch, positions): 1 for what the predictor always reads, such as [CLS] and a query
    marks: Marks | None  # which positions belong to which word (node, pixel) of those that people mark
    labels: torch.LongTensor | None  # (batch,)
    columns: dict[str, torch.Tensor]  # (batch,) each: further columns of the dataset that a method asks for
    options: dict[str, Any]  # of the predictor's encoder: output_hidden_states and output_attentions if asked for
    weights: torch.Tensor | None = None  # (batch,): of the examples in the cross-entropy


class Selection(NamedTuple):
    """What the extractor selects from a batch."""

    probabilities: tuple[torch.Tensor, ...]  # (batch, positions) each: of being kept by each stage and those before
    masks: tuple[torch.Tensor, ...]  # (batch, positions) each: 1 for what each stage keeps; the last is the rationale
    full_text: torch.Tensor | None  # (batch, positions, hidden): states of everything (PLMR), for `predict`

    @property
    def scores(self) -> torch.Tensor:
        """The probability (batch, positions) of being selected."""
        return self.probabilities[-1]

    @property
    def mask(self) -> torch.Tensor:
        """The rationale (batch, positions): 1 for selected positions."""
        return self.masks[-1]


class Prediction(NamedTuple):
    """What the predictor computes from a rationale."""

    logits: torch.Tensor  # (batch, labels)
    representation: torch.Tensor  # (batch, hidden): Enc(z), the pooled states before the classifier
    hidden_states: tuple[torch.Tensor, ...] | None  # of every layer, if asked for
    attentions: tuple[torch.Tensor, ...] | None  # of every layer, if asked for
    read: torch.Tensor | None = None  # (batch, positions): the mask that was read
