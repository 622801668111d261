"""What can teach the players besides the game: random subsets, a classifier's attributions, and marks of people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from .outputs import RationaleInputs
from .selection import Units, budget_mask, mean_over_units, uniform_noise


def random_subset(units: Units, lowest: float) -> torch.Tensor:
    """A random mask (batch, positions). The share of each input is drawn uniformly between `lowest` and 1."""
    noise = uniform_noise(units.weights)
    ratio = lowest + (1 - lowest) * uniform_noise(units.weights[:, :1])
    return budget_mask(noise, units, ratio=ratio)


def attributions(model: PreTrainedModel, inputs: RationaleInputs) -> torch.Tensor:
    r"""
    How much each position speaks for the label: ∂ log P(y | x) / ∂m at m = 1, where m is the mask that the predictor
    reads. If the mask multiplies embeddings, this is gradient × input (Shrikumar et al. 2017). Nothing else gets a
    gradient.

    Returns:
        `torch.FloatTensor` of shape `(batch, positions)`: the sums over units, divided by the weights of the units.
    """
    everything = inputs.units.selectable.float().requires_grad_()
    with differentiable(model):
        logits = model.predict(inputs, everything).logits.float()
        likelihood = -F.cross_entropy(logits, inputs.labels, reduction="sum")
        (slope,) = torch.autograd.grad(likelihood, everything)
    index, sizes = inputs.units.index, inputs.units.sizes
    total, weight = (torch.zeros_like(slope).scatter_add(1, index, values) for values in (slope, sizes))
    return (total / weight.masked_fill(weight == 0, 1)).gather(1, index)


@contextmanager
def differentiable(module: nn.Module) -> Iterator[None]:
    """With its recurrent layers in training mode, because cuDNN has no backward pass for them in evaluation mode. They
    have no dropout, so that nothing else changes."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.RNNBase) and not layer.training]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


@torch.no_grad()
def occlusion(model: PreTrainedModel, inputs: RationaleInputs) -> torch.Tensor:
    r"""
    How much each unit speaks for the label: log P(y | x) − log P(y | x without the unit) (Zeiler and Fergus, ECCV
    2014). The predictor is called once for every unit, so this is for inputs of few units, such as the nodes of a
    small graph. There it says more than a gradient, because a node that is removed takes its edges along.

    Returns:
        `torch.FloatTensor` of shape `(batch, positions)`: the differences, divided by the weights of the units.
    """
    units = inputs.units
    everything = units.selectable.float()

    def likelihood(mask: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(model.predict(inputs, mask).logits.float(), inputs.labels, reduction="none")

    whole = likelihood(everything)
    lost = [whole - likelihood(everything * (units.index != unit)) for unit in range(units.index.shape[1])]
    weight = torch.zeros_like(everything).scatter_add(1, units.index, units.sizes.float())
    return (torch.stack(lost, 1) / weight.masked_fill(weight == 0, 1)).gather(1, units.index)


# What `distillation_from` names.
ATTRIBUTIONS = {"gradient": attributions, "occlusion": occlusion}


def imitation(scores: torch.Tensor, importance: torch.Tensor, units: Units, sparsity: float) -> torch.Tensor:
    """The cross-entropy of the extractor's `scores` (batch, positions) and the best units by `importance` (batch,
    positions), up to the share `sparsity`."""
    return agreement(scores, budget_mask(importance, units, ratio=sparsity), units).mean()


def marks_loss(scores: torch.Tensor, inputs: RationaleInputs, marks: torch.LongTensor) -> torch.Tensor:
    r"""
    The cross-entropy of the extractor's `scores` (batch, positions) and what people marked, over all inputs. Inputs
    that nobody marked cost nothing. The target of a unit is the share of it that is marked.

    Args:
        marks (`torch.LongTensor` of shape `(batch, marks)`): 0 or 1, and below 0 if there is no mark.
    """
    marked = (marks >= 0).any(1)
    shares = inputs.marks.shares(marks.clamp_min(0).float(), scores.shape[1])
    losses = agreement(scores, mean_over_units(shares, inputs.units), inputs.units)
    return torch.where(marked, losses, 0.0).mean()


def agreement(scores: torch.Tensor, target: torch.Tensor, units: Units) -> torch.Tensor:
    """The mean binary cross-entropy over the units of each input, by their weights: (batch,)."""
    losses = F.binary_cross_entropy(scores.float().clamp(1e-6, 1 - 1e-6), target.float(), reduction="none")
    return (losses * units.weights).sum(1) / units.weights.sum(1).clamp_min(1)
