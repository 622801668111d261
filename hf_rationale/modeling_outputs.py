"""What the rationale models return, and what their two halves pass to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers.utils import ModelOutput

from .masking import Units


@dataclass
class RationaleClassifierOutput(ModelOutput):
    r"""
    Output of the rationale classifiers.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is given):
            The objective: cross-entropy and regularizers.
        logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
            Classification scores before the softmax, from the rationale alone.
        rationale_mask (`torch.FloatTensor` of shape `(batch_size, sequence_length)`):
            1 for selected tokens, else 0; always 0 at special tokens and padding.
        rationale_scores (`torch.FloatTensor` of shape `(batch_size, sequence_length)`):
            The extractor's probability that a token belongs to the rationale: of several stages (PLMR), the product
            of theirs, and 0 for what an earlier one has pruned, which no threshold brings back. 0 at special tokens
            and padding.
        losses (`dict[str, torch.FloatTensor]`, *optional*, returned when `labels` is given):
            The components of `loss` by name, weights included, and the measured `sparsity`.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
            The predictor's states, of shape `(batch_size, sequence_length, hidden_size)`: the embeddings, and the
            output of each layer.
        attentions (`tuple(torch.FloatTensor)`, *optional*, returned when `output_attentions=True`):
            The predictor's attention weights, of shape `(batch_size, num_heads, sequence_length, sequence_length)`,
            one for each layer, where its attention implementation returns them: load with
            `attn_implementation="eager"`.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    rationale_mask: torch.FloatTensor | None = None
    rationale_scores: torch.FloatTensor | None = None
    losses: dict[str, torch.FloatTensor] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class RationaleInputs(NamedTuple):
    """A batch as the two players see it. All tensors are of shape (batch, seq) but `labels`, (batch,)."""

    tokens: dict[str, torch.Tensor]  # input_ids, and token_type_ids where given: see `encoder_inputs`
    attention_mask: torch.Tensor  # 1 for real tokens
    units: Units  # what can be selected, and what goes together
    context: torch.Tensor  # 1 for what the predictor always reads: [CLS] and a pair's first segment
    labels: torch.LongTensor | None
    options: dict[str, Any]  # of the predictor's encoder: output_hidden_states and output_attentions, where asked for


class Selection(NamedTuple):
    """What the extractor makes of a batch."""

    scores: torch.Tensor  # (batch, seq): probability of being selected
    masks: tuple[torch.Tensor, ...]  # (batch, seq) each: 1 for what every stage has left; the last is the rationale
    full_text: torch.Tensor | None  # (batch, seq, hidden): PLMR's states of the full text, for the predictor's layers

    @property
    def mask(self) -> torch.Tensor:
        """The rationale (batch, seq): 1 for selected tokens."""
        return self.masks[-1]


class Prediction(NamedTuple):
    """What the predictor makes of a rationale."""

    logits: torch.Tensor  # (batch, labels)
    representation: torch.Tensor  # (batch, hidden): Enc(z), the pooled states before the classifier
    hidden_states: tuple[torch.Tensor, ...] | None  # of every layer, where asked for
    attentions: tuple[torch.Tensor, ...] | None
