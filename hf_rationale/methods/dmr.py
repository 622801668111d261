"""DMR: distribution matching for rationalization (Huang et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..modeling.objective import cross_entropy, weighted
from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.players import add_copy
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


MOMENTS = 5  # of the central moment discrepancy
TEMPERATURE = 3.0  # of the teacher


@dataclass
class DMRArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the numbers of [`DMRTrainer`].

    Args:
        output_weight (`float`, *optional*, defaults to 0.9): weight of the match with the teacher's predictions.
        feature_weight (`float`, *optional*, defaults to 0.01): weight of the match of the representations.
    """

    output_weight: float = field(
        default=0.9, metadata={"help": "DMR: weight of the match with the teacher's predictions."}
    )
    feature_weight: float = field(default=0.01, metadata={"help": "DMR: weight of the match of the representations."})

    def __post_init__(self):
        self.check_weights("output_weight", "feature_weight")
        super().__post_init__()


class DMRTrainer(RationaleTrainer):
    r"""
    The predictor's outputs and features on the rationale should be distributed like those on the full text. A teacher,
    which reads everything, gives the outputs to match:

        players: min_{E,P} CE(P(z), y) + λ_o CE(P(z), softmax(T(x) / 3)) + λ_f CMD(Enc(z), Enc(x)) + Ω(m)
        teacher: min_T CE(T(x), y)

    CMD is the central moment discrepancy of five moments over the batch. It is the one loss of this package that
    depends on how the texts of a step are divided into micro-batches, because moments are not sums over texts. The
    paper trains the teacher first. Here it starts as a copy of the predictor with a fresh classifier, and is trained
    together with the players. (In the public code the two matches train the predictor only, and the higher moments
    vanish.)

    Raises:
        ValueError: if the two players share one encoder.
    """

    name = "dmr"
    description = "DMR: predictions and representations of the rationale match those of the full text."
    paper = "Huang et al., AAAI 2021"
    arguments_class = DMRArguments
    model_options = {"share_encoder": False}

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        add_copy(model, "teacher_predictor", model.predictor)

    def further_players_first(
        self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        everything = inputs.units.selectable.to(mask.dtype)
        teacher = model.predict(inputs, everything, predictor=model.teacher_predictor).logits
        losses = super().further_players_first(model, inputs, mask)
        return losses | {"teacher": cross_entropy(teacher, inputs).mean()}

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        prediction, losses = super().game(model, inputs, selection)
        everything = inputs.units.selectable.to(selection.mask.dtype)
        teacher = model.predict(inputs, everything, predictor=model.teacher_predictor).logits
        full_text = model.predict(inputs, everything, selection.full_text).representation
        target = (teacher.detach().float() / TEMPERATURE).softmax(-1)
        match = F.cross_entropy(prediction.logits.float(), target, reduction="none")
        return prediction, losses | {
            "teacher": cross_entropy(teacher, inputs).mean(),
            "output_match": self.args.output_weight * weighted(match, inputs).mean(),
            "feature_match": self.args.feature_weight
            * central_moment_discrepancy(prediction.representation.float(), full_text.float()),
        }


def central_moment_discrepancy(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    r"""
    ‖E[x] − E[y]‖₂ + Σ_{k=2..5} ‖E[(x − E[x])^k] − E[(y − E[y])^k]‖₂ (Zellinger et al. 2017, who divide each term by a
    power of the length of the features' interval).

    Args:
        one, other (`torch.FloatTensor` of shape `(batch, hidden)`): samples of x and of y.

    Returns:
        a scalar.
    """
    means = [one.mean(0), other.mean(0)]
    centered = [one - means[0], other - means[1]]
    distances = [distance(*means)]
    for order in range(2, MOMENTS + 1):
        distances.append(distance(*(values.pow(order).mean(0) for values in centered)))
    return torch.stack(distances).sum()


def distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """‖x − y‖₂, with a finite gradient if they are equal."""
    return ((one - other).square().sum() + 1e-12).sqrt()
