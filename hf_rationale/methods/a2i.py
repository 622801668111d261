"""A2I: attack to inspection and instruction (equations 6 to 8, appendix A.3)."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..modeling.objective import regularize
from ..modeling.outputs import RationaleClassifierOutput, RationaleInputs
from ..modeling.players import add_copy
from ..modeling.selection import cut_off, through
from ..trainer import RationaleTrainer


class A2ITrainer(RationaleTrainer):
    r"""
    A third player, the attacker, selects what makes the predictor choose another class than the label. If it succeeds,
    the predictor has learned trivial patterns, and it is trained to predict nothing from them:

        attacker:  min_A CE(P(z_A), y_A) + λ1 | mean(m_A) − s |, the predictor fixed     (6)
        game:      min_{E,P} CE(P(z), y) + Ω(m), or that of another method               (7, first term)
        predictor: min_P CE(P(sg(z_A)), uniform over the classes)                        (7, second term)
        y_A uniform over the classes other than y                                        (8)

    One pass of the predictor over z_A serves both players. All three players step at once, while the paper alternates.
    `attack_success_rate` is logged: the share of inputs for which z_A makes the predictor choose y_A. A value close to
    chance is good.

    The attacker starts as a copy of the extractor with a fresh head. It is saved in checkpoints, but not in the model.
    """

    name = "a2i"
    description = "A2I: an attacker selects patterns that mislead the predictor, which learns to ignore them."
    paper = "Liu et al., ICML 2025"

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        add_attacker(model)

    def training_objective(self, model: PreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        output = super().training_objective(model, inputs)
        losses, attack_success_rate = attack(model, inputs, self.target_sparsity(model.config.sparsity))
        output.add_losses(losses)
        output.losses["attack_success_rate"] = attack_success_rate
        return output


def add_attacker(model: PreTrainedModel) -> None:
    """Add an attacker to `model`: a copy of the extractor with fresh heads, which shares its frozen weights."""
    add_copy(model, "attacker", model.extractor)


def attack(
    model: PreTrainedModel, inputs: RationaleInputs, sparsity: float
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The attacker's two terms and the predictor's instruction, weights included; and the attack success rate."""
    selection = model.select(inputs, extractor=model.attacker)
    z = cut_off(selection.mask)
    logits = model.predict(inputs, z).logits.float()
    target = attacked_labels(inputs.labels, model.num_labels)
    losses = {
        "attack": through(F.cross_entropy(logits, target), z, selection.mask),
        "attack_compactness": regularize(model, selection, inputs.units, model.shares(sparsity))["compactness"],
        "instruction": -logits.log_softmax(-1).mean(),
    }
    return losses, (logits.detach().argmax(-1) == target).float().mean()


def attacked_labels(labels: torch.LongTensor, num_labels: int) -> torch.LongTensor:
    """y_A (batch,): drawn uniformly from the classes other than `labels` (batch,); with two, the other one."""
    return (labels + torch.randint_like(labels, 1, num_labels)) % num_labels
