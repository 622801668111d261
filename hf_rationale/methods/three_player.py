"""3PLAYER: a predictor of the complement controls what is left unselected (Yu et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ..modeling.objective import cross_entropy
from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.players import add_copy
from ..modeling.selection import cut_off, through_excess
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class ThreePlayerArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the numbers of [`ThreePlayerTrainer`].

    Args:
        complement_weight (`float`, *optional*, defaults to 1.0): λ_g, weight of the complement's term.
        complement_margin (`float`, *optional*, defaults to 0.0): h, how much worse, in nats, the complement should be
            than the rationale.
    """

    complement_weight: float = field(default=1.0, metadata={"help": "3PLAYER: weight of the complement's term."})
    complement_margin: float = field(
        default=0.0, metadata={"help": "3PLAYER: how much worse the complement should be, in nats."}
    )

    def __post_init__(self):
        self.check_weights("complement_weight", "complement_margin")
        super().__post_init__()


class ThreePlayerTrainer(RationaleTrainer):
    r"""
    A third player, the complement predictor, learns the label from what is *not* selected. The extractor leaves it
    nothing to learn from, so that the rationale is comprehensive:

        extractor:            min_E CE(P(z), y) + λ_g max(0, CE(P(z), y) − CE(P_c(x − z), y) + h) + Ω(m)
        predictor:            min_P CE(P(z), y)
        complement predictor: min_{P_c} CE(P_c(sg(x − z)), y)

    In the term with λ_g both predictors are fixed, and the cross-entropies are means over a batch. All players step at
    once, after one sample of the mask. (The public code rewards the extractor by the two predictors' accuracies
    instead, with REINFORCE.) The complement predictor starts as a copy of the predictor with a fresh classifier. It is
    saved in checkpoints, but not in the model.

    Raises:
        ValueError: if the two players share one encoder.
    """

    name = "3player"
    description = "3PLAYER: the extractor leaves nothing from which a second predictor could tell the label."
    paper = "Yu et al., EMNLP 2019"
    arguments_class = ThreePlayerArguments
    model_options = {"share_encoder": False}

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        add_copy(model, "complement_predictor", model.predictor)

    def further_players_first(
        self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        rest = inputs.units.selectable.to(mask.dtype) - mask
        logits = model.predict(inputs, rest, predictor=model.complement_predictor).logits
        losses = super().further_players_first(model, inputs, mask)
        return losses | {"complement": cross_entropy(logits, inputs).mean()}

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        prediction, losses = super().game(model, inputs, selection)
        rest = inputs.units.selectable.to(selection.mask.dtype) - selection.mask
        read = cut_off(rest)
        logits = model.predict(inputs, read, predictor=model.complement_predictor).logits
        of_rationale, of_rest = cross_entropy(prediction.logits, inputs), cross_entropy(logits, inputs)
        control = through_excess(
            of_rationale, prediction.read, selection.mask, of_rest, read, rest, self.args.complement_margin
        )
        return prediction, losses | {
            "complement": of_rest.mean(),
            "complement_control": self.args.complement_weight * control,
        }
