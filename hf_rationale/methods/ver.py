"""VER: vicinal perturbation of what the predictor reads (Liu et al., equation 8)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ..modeling.outputs import Prediction, RationaleInputs
from ..modeling.selection import Units, uniform_noise
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class VERArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the number of [`VERTrainer`].

    Args:
        perturbation_rate (`float`, *optional*, defaults to 0.3): p, the probability that a selected unit leaves the
            rationale. The paper uses 0.3 in all its comparisons and finds 0.5 better on beer reviews.
    """

    perturbation_rate: float = field(
        default=0.3, metadata={"help": "VER: probability that a selected unit leaves the rationale."}
    )

    def __post_init__(self):
        self.check_probabilities("perturbation_rate")
        super().__post_init__()


class VERTrainer(RationaleTrainer):
    r"""
    RNP, but in training the predictor reads a perturbed rationale, so that it also learns to judge selections close to
    the extractor's:

        m'_i = 1(ε_i > p) where m_i = 1;  m'_j = 1(ε_j among the top k) where m_j = 0, k = Σ_i |m_i − m'_i|   (8)

    Ω is computed from the unperturbed m. The gradient reaches the extractor as if the mask were not perturbed
    (straight-through). There is no perturbation at evaluation.
    """

    name = "ver"
    description = "VER: RNP whose predictor reads a randomly perturbed rationale in training."
    paper = "Liu et al., TACL 2025"
    arguments_class = VERArguments

    def read(self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> Prediction:
        return super().read(model, inputs, perturb(mask, inputs.units, self.args.perturbation_rate))


def perturb(mask: torch.Tensor, units: Units, rate: float) -> torch.Tensor:
    r"""
    Swap selected units for unselected ones of the same input. Each selected unit leaves with probability `rate`, and
    as many others, drawn uniformly, enter. If there are fewer others, only that many units leave. (The paper does not
    treat this case.) If nothing is selected, nothing happens.

    Args:
        mask (`torch.FloatTensor` of shape `(batch, positions)`): m, 0/1.

    Returns:
        `torch.FloatTensor` of shape `(batch, positions)`: m', 0/1, with the gradient of m.
    """
    noise = uniform_noise(mask.detach())
    chosen = mask.detach() > 0
    selected, unselected = units.first & chosen, units.first & ~chosen
    count = (selected & (noise < rate)).sum(1, keepdim=True).minimum(unselected.sum(1, keepdim=True))
    swapped = units.spread(_lowest(noise, selected, count) | _lowest(noise, unselected, count))
    perturbed = torch.where(swapped, (~chosen & units.selectable).to(mask.dtype), mask.detach())
    return mask + (perturbed - mask.detach())


def _lowest(noise: torch.Tensor, among: torch.BoolTensor, count: torch.LongTensor) -> torch.BoolTensor:
    """The `count` (batch, 1) entries of each row with the lowest noise (batch, positions) `among` the given ones."""
    rank = noise.masked_fill(~among, torch.inf).argsort(1).argsort(1)
    return among & (rank < count)
