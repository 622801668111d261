"""VER: vicinal perturbation of what the predictor reads (Liu et al., equation 8)."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from ..masking import Units
from ..modeling_outputs import Prediction, RationaleInputs
from ..trainer import RationaleTrainer


class VERTrainer(RationaleTrainer):
    r"""
    RNP, but in training the predictor reads a perturbed rationale, so that it learns to judge the neighbours of what
    the extractor has settled on:

        m'_i = 1(ε_i > p) where m_i = 1;  m'_j = 1(ε_j among the top k) where m_j = 0, k = Σ_i |m_i − m'_i|   (8)

    Ω is taken on the unperturbed m; gradients reach the extractor straight through, as though unperturbed; evaluation
    is unperturbed.

    Args:
        perturbation_rate (`float`, *optional*, defaults to 0.3): p. The paper has 0.3 in all its comparisons, and
            finds 0.5 better on beer reviews.
    """

    description = "VER: RNP whose predictor reads, in training, a randomly perturbed rationale."

    def __init__(self, *args, perturbation_rate: float = 0.3, **kwargs):
        if not 0 <= perturbation_rate <= 1:
            raise ValueError(f"perturbation_rate is a probability, in [0, 1]; got {perturbation_rate}")
        self.perturbation_rate = perturbation_rate
        super().__init__(*args, **kwargs)

    def read(self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> Prediction:
        return super().read(model, inputs, perturb(mask, inputs.units, self.perturbation_rate))


def uniform_noise(mask: torch.Tensor) -> torch.Tensor:
    """Independent noise, uniform in [0, 1), of the shape of `mask`."""
    return torch.rand_like(mask)


def perturb(mask: torch.Tensor, units: Units, rate: float) -> torch.Tensor:
    r"""
    Swap selected units for unselected ones of the same text: each selected one leaves with probability `rate`, and as
    many enter, drawn uniformly. Where fewer than that are left to enter, so many fewer leave (the paper does not say);
    where nothing is selected, nothing happens.

    Args:
        mask (`torch.FloatTensor` of shape `(batch, seq)`): m, 0/1.

    Returns:
        `torch.FloatTensor` of shape `(batch, seq)`: m', 0/1, with the gradient of m.
    """
    noise = uniform_noise(mask.detach())
    chosen = mask.detach() > 0
    selected, unselected = units.first & chosen, units.first & ~chosen
    count = (selected & (noise < rate)).sum(1, keepdim=True).minimum(unselected.sum(1, keepdim=True))
    swapped = _lowest(noise, selected, count) | _lowest(noise, unselected, count)
    # From a unit's first token to all of them.
    swapped = torch.zeros_like(units.index).scatter_add(1, units.index, swapped.long()).gather(1, units.index) > 0
    perturbed = ((chosen ^ swapped) & units.selectable).to(mask.dtype)
    return mask + (perturbed - mask.detach())


def _lowest(noise: torch.Tensor, among: torch.BoolTensor, count: torch.LongTensor) -> torch.BoolTensor:
    """The `count` (batch, 1) entries of each row with the lowest noise (batch, seq) `among` the given ones."""
    rank = noise.masked_fill(~among, torch.inf).argsort(1).argsort(1)
    return among & (rank < count)
