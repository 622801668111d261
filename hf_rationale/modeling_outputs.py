"""What the rationale models return."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


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
            The extractor's probability that a token belongs to the rationale; 0 at special tokens and padding.
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
