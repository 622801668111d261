"""MCD: minimum conditional dependence of the label and the text, given the rationale (Liu et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..modeling.objective import cross_entropy
from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.selection import cut_off, through
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class MCDArguments(RationaleTrainingArguments):
    """[`RationaleTrainingArguments`] in which the full-text term is switched on: the predictor has to know P(y|x)."""

    full_text_weight: float = field(
        default=1.0, metadata={"help": "Weight of the cross-entropy of the predictor on the full text."}
    )


class MCDTrainer(RationaleTrainer):
    r"""
    The extractor makes the label and the text independent, given the rationale, instead of lowering the predictor's
    loss. What is d-separated from the label by its causes, such as a spurious correlation, adds nothing then:

        extractor: min_E KL(P(y|x) ‖ P(y|z)) + Ω(m), the predictor fixed
        predictor: min_P CE(P(z), y) + w CE(P(x), y)

    Both players step at once, while the paper alternates. w is `full_text_weight`, 1 by default.

    Raises:
        ValueError: if the two players share trained weights, which cannot be trained and fixed at once.
    """

    name = "mcd"
    description = "MCD: the extractor makes the label independent of the text, given the rationale."
    paper = "Liu et al., NeurIPS 2023"
    arguments_class = MCDArguments
    model_options = {"share_encoder": False}
    replaces_game = separates_players = True

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        z = cut_off(selection.mask)
        prediction = self.read(model, inputs, z)
        with torch.no_grad():
            everything = inputs.units.selectable.to(z.dtype)
            full_text = model.predict(inputs, everything, selection.full_text)
        return prediction, {
            "cross_entropy": cross_entropy(prediction.logits, inputs).mean(),
            "dependence": through(dependence(full_text.logits, prediction.logits), z, selection.mask),
        }


def dependence(full_text: torch.Tensor, rationale: torch.Tensor) -> torch.Tensor:
    """KL(P(y|x) ‖ P(y|z)), the mean over the batch, of two logits (batch, labels). A scalar, in nats."""
    p, q = full_text.float().log_softmax(-1), rationale.float().log_softmax(-1)
    return F.kl_div(q, p, log_target=True, reduction="batchmean")
