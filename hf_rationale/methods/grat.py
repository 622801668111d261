"""G-RAT: a guidance module regularizes selection and prediction (Hu and Yu 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ..modeling.guidance import agreement
from ..modeling.objective import cross_entropy
from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.players import add_copy
from ..modeling.selection import Units, uniform_noise
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments
from .a2r import jensen_shannon


@dataclass
class GRATArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the numbers of [`GRATTrainer`].

    Args:
        guidance_weight (`float`, *optional*, defaults to 10.0): λ_g, weight of the guide's attention as a target.
        guide_match_weight (`float`, *optional*, defaults to 1.5): λ_m, weight of the divergence from the guide.
    """

    guidance_weight: float = field(default=10.0, metadata={"help": "G-RAT: weight of the guide's attention."})
    guide_match_weight: float = field(default=1.5, metadata={"help": "G-RAT: weight of the match with the guide."})

    def __post_init__(self):
        self.check_weights("guidance_weight", "guide_match_weight")
        super().__post_init__()


class GRATTrainer(RationaleTrainer):
    r"""
    A guide is an attentive classifier of the full text. At first its attention is a target for the extractor; later
    its prediction is a target for the predictor:

        players: min_{E,P} CE(P(z), y) + λ_g α BCE(p, sg(q)) + λ_m (1 − α) JS(P(z), sg(G(x))) + Ω(m)
        guide:   min_G CE(G(x), y)

    G reads every word with the weight q_i = min(1, n a_i), where n is the number of units and a the softmax of the
    guide's scores. To learn, it reads with noise |N(0, 1)| on its scores, so that it does not rely on single words. α
    falls from 1 to 0 over the training. (The public code trains the guide alone for ten epochs before.)

    The guide consists of a copy of the extractor and one of the predictor with fresh heads. They are saved in
    checkpoints, but not in the model.

    Raises:
        ValueError: if the two players share one encoder.
    """

    name = "grat"
    description = "G-RAT: an attentive classifier of the full text guides the extractor first and the predictor later."
    paper = "Hu and Yu, AAAI 2024"
    arguments_class = GRATArguments
    model_options = {"share_encoder": False}

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        add_copy(model, "guide_extractor", model.extractor)
        add_copy(model, "guide_predictor", model.predictor)

    def further_players_first(
        self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        guide = self.guide_loss(model, inputs, self.guide_scores(model, inputs))
        return super().further_players_first(model, inputs, mask) | {"guide": guide}

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        prediction, losses = super().game(model, inputs, selection)
        scores = self.guide_scores(model, inputs)
        q = attention(scores, inputs.units).to(selection.mask.dtype)
        with torch.no_grad():
            target = model.predict(inputs, q, predictor=model.guide_predictor).logits
        alpha = 1 - self.state.global_step / max(1, self.state.max_steps)
        guidance = agreement(selection.scores, q.detach(), inputs.units).mean()
        match = jensen_shannon(prediction.logits, target)
        return prediction, losses | {
            "guide": self.guide_loss(model, inputs, scores),
            "guidance": self.args.guidance_weight * alpha * guidance,
            "guide_match": self.args.guide_match_weight * (1 - alpha) * match,
        }

    def guide_scores(self, model: PreTrainedModel, inputs: RationaleInputs) -> torch.Tensor:
        """The scores (batch, positions) of the guide's extractor."""
        return model.select(inputs, extractor=model.guide_extractor, rationale_ratio=1.0).scores

    def guide_loss(self, model: PreTrainedModel, inputs: RationaleInputs, scores: torch.Tensor) -> torch.Tensor:
        """CE(G(x), y), with noise |N(0, 1)| on the guide's `scores` (batch, positions)."""
        noise = math.sqrt(2) * torch.erfinv(uniform_noise(scores))
        noisy = attention(scores, inputs.units, noise).to(model.dtype)
        guide = model.predict(inputs, noisy, predictor=model.guide_predictor).logits
        return cross_entropy(guide, inputs).mean()


def attention(scores: torch.Tensor, units: Units, noise: torch.Tensor | None = None) -> torch.Tensor:
    """q = min(1, n a) (batch, positions), equal within a unit, of the guide's scores (batch, positions), to whose
    log-odds `noise` (batch, positions) is added."""
    logits = torch.logit(scores.float(), eps=1e-6)
    logits = logits if noise is None else logits + noise.gather(1, units.index)
    weights = logits.masked_fill(~units.first, torch.finfo(logits.dtype).min).softmax(1) * units.first
    weights = (weights * units.first.sum(1, keepdim=True)).clamp_max(1)
    per_unit = torch.zeros_like(weights).scatter_add(1, units.index, weights)
    return per_unit.gather(1, units.index) * units.selectable
