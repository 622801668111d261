"""A2R: attention to rationalization, a second predictor that reads softly (Yu et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..modeling.objective import cross_entropy
from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.players import add_copy
from ..modeling.selection import cut_off
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class A2RArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the number of [`A2RTrainer`].

    Args:
        divergence_weight (`float`, *optional*, defaults to 1.0): λ, weight of the divergence of the two predictors.
    """

    divergence_weight: float = field(
        default=1.0, metadata={"help": "A2R: weight of the divergence of the two predictors."}
    )

    def __post_init__(self):
        self.check_weights("divergence_weight")
        super().__post_init__()


class A2RTrainer(RationaleTrainer):
    r"""
    A second predictor reads the whole text, weighted by the extractor's scores p. The extractor learns from this one,
    which sees every word at every step, so that it is not locked into what it has selected first:

        extractor:      min_E CE(P_s(p ⊙ x), y) + λ JS(P(z), P_s(p ⊙ x)) + Ω(m)
        predictor:      min_P CE(P(sg(z)), y) + λ JS(P(z), P_s(p ⊙ x))
        soft predictor: min_{P_s} CE(P_s(p ⊙ x), y) + λ JS(P(z), P_s(p ⊙ x))

    The divergence reaches the extractor through p only. (In the public code the weights are a softmax over the text,
    the divergence is a symmetric Kullback-Leibler one, and the two predictors share their encoder.) The soft predictor
    starts as a copy of the predictor with a fresh classifier. It is saved in checkpoints, but not in the model.

    Raises:
        ValueError: if the two players share trained weights.
    """

    name = "a2r"
    description = "A2R: the extractor learns from a second predictor, which reads the softly weighted text."
    paper = "Yu et al., NeurIPS 2021"
    arguments_class = A2RArguments
    model_options = {"share_encoder": False}
    replaces_game = separates_players = True

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        add_copy(model, "soft_predictor", model.predictor)

    def further_players_first(
        self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            scores = model.select(inputs).scores
        soft = self.soft_logits(model, inputs, scores.to(mask.dtype))
        return super().further_players_first(model, inputs, mask) | {"soft": cross_entropy(soft, inputs).mean()}

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        prediction = self.read(model, inputs, cut_off(selection.mask))
        soft = self.soft_logits(model, inputs, selection.scores.to(selection.mask.dtype))
        return prediction, {
            "cross_entropy": cross_entropy(prediction.logits, inputs).mean(),
            "soft": cross_entropy(soft, inputs).mean(),
            "divergence": self.args.divergence_weight * jensen_shannon(prediction.logits, soft),
        }

    def soft_logits(self, model: PreTrainedModel, inputs: RationaleInputs, scores: torch.Tensor) -> torch.Tensor:
        """P_s(p ⊙ x) (batch, labels), with the `scores` p (batch, positions)."""
        return model.predict(inputs, scores, predictor=model.soft_predictor).logits


def jensen_shannon(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The Jensen-Shannon divergence of the distributions of two logits (batch, labels), the mean over the batch. A
    scalar, in nats."""
    logs = [logits.float().log_softmax(-1) for logits in (one, other)]
    middle = torch.stack(logs).logsumexp(0) - math.log(2)
    return sum(F.kl_div(middle, log, log_target=True, reduction="batchmean") for log in logs) / 2
