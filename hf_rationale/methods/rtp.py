"""RTP: smooth spans that a fixed copy of the predictor judges (Brinner and Zarrieß 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ..modeling.objective import cross_entropy, regularize
from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.selection import Units, cut_off, through
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class RTPArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] in which the full-text term is switched on, with the number of [`RTPTrainer`].

    Args:
        judge_weight (`float`, *optional*, defaults to 2.5): weight of both judgements in the extractor's objective.
    """

    full_text_weight: float = field(
        default=1.0, metadata={"help": "Weight of the cross-entropy of the predictor on the full text."}
    )
    judge_weight: float = field(default=2.5, metadata={"help": "RTP: weight of the judgements of the predictor."})

    def __post_init__(self):
        self.check_weights("judge_weight")
        super().__post_init__()


class RTPTrainer(RationaleTrainer):
    r"""
    The extractor gives every word a weight and a width, so that its scores p rise and fall smoothly. The predictor,
    fixed, judges the softly weighted text and its complement: the label should follow from the one, and be no more
    likely than chance with the other.

        extractor: min_E γ CE(P(p ⊙ x), y) + γ max(0, P(y | (1 − p) ⊙ x) − 1/K) + Ω(p), the predictor fixed
        predictor: min_P CE(P(sg(z)), y) + w CE(P(x), y)

    The paper has one encoder, which says the label from the full text, and a mask for each class. Here the label is
    said from the selection alone, so that there is one mask, and the predictor is trained on it as well. Ω holds the
    share at s, where the paper penalizes the size.

    Raises:
        ValueError: if the model's mask head does not give spans, or if the two players share trained
            weights.
    """

    name = "rtp"
    description = "RTP: the extractor scores smooth spans, which the predictor judges together with their complement."
    paper = "Brinner and Zarrieß, EMNLP 2024"
    arguments_class = RTPArguments
    model_options = {"mask_head": "spans", "share_encoder": False}
    replaces_game = separates_players = True

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        prediction = self.read(model, inputs, cut_off(selection.mask))
        p = selection.scores.to(selection.mask.dtype)
        rest = inputs.units.selectable.to(p.dtype) - p
        kept, left = cut_off(p), cut_off(rest)
        sufficiency = cross_entropy(model.predict(inputs, kept).logits, inputs).mean()
        chances = model.predict(inputs, left).logits.float().softmax(-1).gather(1, inputs.labels.unsqueeze(1))
        comprehensiveness = (chances - 1 / model.num_labels).clamp_min(0).mean()
        return prediction, {
            "cross_entropy": cross_entropy(prediction.logits, inputs).mean(),
            "sufficiency": self.args.judge_weight * through(sufficiency, kept, p),
            "comprehensiveness": self.args.judge_weight * through(comprehensiveness, left, rest),
        }

    def penalties(
        self, model: PreTrainedModel, selection: Selection, units: Units, shares: list[float]
    ) -> dict[str, torch.Tensor]:
        return regularize(model, selection._replace(masks=selection.probabilities), units, shares)
