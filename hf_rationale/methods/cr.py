"""CR: causal rationalization, by the necessity of what is selected (Zhang et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.selection import Units, uniform_noise
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class CRArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the number of [`CRTrainer`].

    Args:
        necessity_weight (`float`, *optional*, defaults to 0.1): μ, weight of the necessity of what is selected.
    """

    necessity_weight: float = field(default=0.1, metadata={"help": "CR: weight of the necessity of what is selected."})

    def __post_init__(self):
        self.check_weights("necessity_weight")
        super().__post_init__()


class CRTrainer(RationaleTrainer):
    r"""
    RNP whose selected words should all be needed: without one of them, the label should become less probable. The
    lower bound of the probability that word j is necessary and sufficient is (CPNS)

        max(0, P(y | z) − P(y | z without j))

    and both players also minimize

        −μ E_j log(1 + max(0, sg(P(y | z)) − P(y | z without j)))

    The paper removes several selected words of each text in a step. Here it is one, drawn uniformly, which has the
    same expectation and costs one more pass of the predictor. The paper's prior of the selection is
    `sparsity_level="unit"`.
    """

    name = "cr"
    description = "CR: RNP whose selected words should all be necessary for the label."
    paper = "Zhang et al., ICML 2023"
    arguments_class = CRArguments

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        prediction, losses = super().game(model, inputs, selection)
        read = prediction.read
        removed = one_selected_unit(read.detach(), inputs.units)
        without = model.predict(inputs, read * ~removed).logits
        full, left = (probability_of_label(logits, inputs.labels) for logits in (prediction.logits.detach(), without))
        necessity = (full - left).clamp_min(0).log1p() * removed.any(1)
        return prediction, losses | {"necessity": -self.args.necessity_weight * necessity.mean()}


def one_selected_unit(mask: torch.Tensor, units: Units) -> torch.BoolTensor:
    """The positions (batch, positions) of one unit of each input, drawn from those that `mask` (batch, positions)
    selects; none if nothing is selected."""
    noise = uniform_noise(mask).masked_fill(~(units.first & (mask > 0)), -1)
    drawn = torch.zeros_like(units.first).scatter(1, noise.argmax(1, keepdim=True), True)
    return units.spread(drawn & (noise >= 0))


def probability_of_label(logits: torch.Tensor, labels: torch.LongTensor) -> torch.Tensor:
    """P(y) (batch,) of logits (batch, labels)."""
    return logits.float().softmax(-1).gather(1, labels.unsqueeze(1)).squeeze(1)
