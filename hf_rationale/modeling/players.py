"""The parts of the two players that do not depend on the kind of input: scoring positions, and pooling."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from .configuration import RationaleBaseConfig
from .selection import Units, mean_over_parts


class MaskPredictor(nn.Module):
    """The head that scores every position: leave out or select."""

    def __init__(self, config: RationaleBaseConfig, hidden_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.selector = make_head(config, hidden_size, 2)
        self.spans = config.mask_head == "spans"

    def forward(self, hidden: torch.Tensor, units: Units) -> torch.Tensor:
        """Logits (batch, positions, 2) of states (batch, positions, hidden), equal within a part of a unit."""
        # In float32, because padding is a part as well: the sum over a long one would overflow in float16.
        outputs = mean_over_parts(self.selector(self.dropout(self.norm(hidden))).float(), units)
        return mean_over_parts(span_logits(outputs, units.selectable), units) if self.spans else outputs

    def reset_parameters(self):
        self.norm.reset_parameters()
        self.selector.reset_parameters()


REACH = 15  # positions to each side that a weight reaches; the width starts near 3


def span_logits(outputs: torch.Tensor, selectable: torch.BoolTensor) -> torch.Tensor:
    r"""
    Logits of leaving out and of selecting that are smooth over neighbours: position i has the log-odds

        Σ_j w_j exp(−(i − j)² / s_i)

    with a weight w and a width s for each position (RTP, Brinner and Zarrieß 2024), over the positions that can be
    selected and are at most 15 away.

    Args:
        outputs (`torch.FloatTensor` of shape `(batch, positions, 2)`): log(s / 3) and w.
        selectable (`torch.BoolTensor` of shape `(batch, positions)`): what has a weight.

    Returns:
        `torch.FloatTensor` of shape `(batch, positions, 2)`.
    """
    log_width, weight = outputs.unbind(-1)
    width = 3 * log_width.clamp(-5, 5).exp()
    near = F.pad(weight * selectable, (REACH, REACH)).unfold(1, 2 * REACH + 1, 1)  # (batch, positions, neighbours)
    squares = torch.arange(-REACH, REACH + 1, device=outputs.device).square()
    odds = (near * (-squares / width.unsqueeze(-1)).exp()).sum(-1)
    return torch.stack([-odds / 2, odds / 2], dim=-1)


def make_head(config: RationaleBaseConfig, hidden_size: int, outputs: int) -> nn.Module:
    """A linear layer, or one with a backdoor adjustment if the configuration says so."""
    if config.backdoor_adjustment:
        return BackdoorLinear(config.num_labels, hidden_size, outputs)
    return nn.Linear(hidden_size, outputs)


class BackdoorLinear(nn.Module):
    r"""
    A linear layer that also reads what a dictionary of confounders c_k says of its input h (Inter_RAT, Yue et al.
    2023):

        Linear([h ; Σ_k P(c_k) a_k c_k]),    a = softmax_k(h · c_k),    P(c_k) = 1/K
    """

    def __init__(self, confounders: int, hidden_size: int, outputs: int):
        super().__init__()
        self.in_features = hidden_size
        self.confounders = nn.Embedding(confounders, hidden_size)
        self.linear = nn.Linear(2 * hidden_size, outputs)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Outputs (…, outputs) of states (…, hidden)."""
        dictionary = self.confounders.weight
        weights = (hidden @ dictionary.T).softmax(-1) / len(dictionary)
        return self.linear(torch.cat([hidden, weights @ dictionary], dim=-1))

    def reset_parameters(self):
        nn.init.normal_(self.confounders.weight, std=0.02)  # as in a new model
        self.linear.reset_parameters()


def add_copy(model: PreTrainedModel, name: str, player: nn.Module) -> None:
    """Add another extractor or predictor to `model`, for training only: a copy of a `player` of the model with fresh
    heads, which shares the player's frozen weights.

    Raises:
        ValueError: if `model` is an adapter around a model.
    """
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"This method trains a further module ({name}), which can be added to a rationale model, but not to a "
            f"{type(model).__name__} around it. Train without an adapter, and merge a finished adapter first "
            "(merge_and_unload)."
        )
    fresh = {id(weight) for head in heads(player) for weight in head.parameters()}
    frozen = [weight for weight in player.parameters() if not weight.requires_grad and id(weight) not in fresh]
    copied = copy.deepcopy(player, {id(weight): weight for weight in frozen})
    for head in heads(copied):
        head.reset_parameters()
        head.requires_grad_(True)
    model.add_training_module(name, copied)


def heads(player: nn.Module) -> list[nn.Module]:
    """The parts of an extractor or a predictor that are new when a model is made of encoders."""
    return [
        module for name, module in player.named_modules() if isinstance(module, MaskPredictor) or name == "classifier"
    ]


def pool(hidden: torch.Tensor, weights: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool states (batch, positions, hidden) over the positions with `weights` (batch, positions) = 1. If there are
    none, the result is zero.

    `"cls"` takes the first of them, because [CLS] is not at index 0 if padding is on the left.
    """
    if pooling == "cls":
        first = (weights > 0).long().argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), first] * (weights > 0).any(1, keepdim=True)
    if pooling == "mean":
        total = weights.sum(1, keepdim=True)
        return (hidden * weights.unsqueeze(-1)).sum(1) / total.masked_fill(total == 0, 1)
    outside = (weights == 0).unsqueeze(-1)
    largest = hidden.masked_fill(outside, torch.finfo(hidden.dtype).min).amax(1)
    return largest.masked_fill(outside.all(1), 0.0)
