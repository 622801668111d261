"""The parts of the two players that do not depend on the kind of input: scoring positions, and pooling."""

from __future__ import annotations

import torch
from torch import nn

from .configuration import RationaleBaseConfig
from .selection import Units, mean_over_parts


class MaskPredictor(nn.Module):
    """The head that scores every position: leave out or select."""

    def __init__(self, config: RationaleBaseConfig, hidden_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.selector = nn.Linear(hidden_size, 2)

    def forward(self, hidden: torch.Tensor, units: Units) -> torch.Tensor:
        """Logits (batch, positions, 2) of states (batch, positions, hidden), equal within a part of a unit."""
        # In float32, because padding is a part as well: the sum over a long one would overflow in float16.
        return mean_over_parts(self.selector(self.dropout(self.norm(hidden))).float(), units)

    def reset_parameters(self):
        self.norm.reset_parameters()
        self.selector.reset_parameters()


def pool(hidden: torch.Tensor, weights: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool states (batch, positions, hidden) over the positions with `weights` (batch, positions) = 1. If there are
    none, the result is zero.

    `"cls"` takes the first of them, because [CLS] is not at index 0 if padding is on the left.
    """
    if pooling == "cls":
        first = (weights > 0).long().argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), first] * (weights > 0).any(1, keepdim=True)
    if pooling == "mean":
        return (hidden * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True).clamp_min(1)
    outside = (weights == 0).unsqueeze(-1)
    largest = hidden.masked_fill(outside, torch.finfo(hidden.dtype).min).amax(1)
    return largest.masked_fill(outside.all(1), 0.0)
