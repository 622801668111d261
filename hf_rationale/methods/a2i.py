"""A2I: attack to inspection and instruction (equations 6 to 8, appendix A.3)."""

from __future__ import annotations

import copy

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..masking import cut_off, through
from ..modeling_outputs import RationaleClassifierOutput, RationaleInputs
from ..players import MaskPredictor
from ..regularizers import regularize
from ..trainer import RationaleTrainer


class A2ITrainer(RationaleTrainer):
    r"""
    A third player, the attacker, looks for what makes the predictor say something else than the label. Where it finds
    that, the predictor has learned trivial patterns, and is told to make nothing of them:

        attacker:  min_A CE(P(z_A), y_A) + λ1 | mean(m_A) − s |, the predictor fixed     (6)
        game:      min_{E,P} CE(P(z), y) + Ω(m), or another method's                     (7, first term)
        predictor: min_P CE(P(sg(z_A)), uniform over the classes)                        (7, second term)
        y_A uniform over the classes other than y                                        (8)

    One pass of the predictor over z_A serves both players; all three step at once, where the paper alternates.
    `attack_success_rate` is logged: the share of texts whose z_A makes the predictor say y_A. Near chance is good.

    The attacker starts as a copy of the extractor with a fresh head. It is saved in checkpoints, not in the model.
    """

    description = "A2I: an attacker looks for patterns that mislead the predictor, which is told to ignore them."

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        add_attacker(model)

    def objective(self, model: PreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        output = super().objective(model, inputs)
        losses, attack_success_rate = attack(model, inputs, self.target_sparsity(model.config.sparsity))
        output.loss = output.loss + sum(losses.values())
        output.losses |= losses | {"attack_success_rate": attack_success_rate}
        return output


def add_attacker(model: PreTrainedModel):
    """Give `model` an attacker: the extractor's layers as they are, under fresh heads. Frozen ones are shared."""
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"An attacker is added to the model itself, and cannot be to a {type(model).__name__} around it. Train "
            "without an adapter; merge a finished one first (merge_and_unload)."
        )
    frozen = {
        id(weight): weight
        for name, weight in model.extractor.named_parameters()
        if not weight.requires_grad and "mask_predictor" not in name
    }
    attacker = copy.deepcopy(model.extractor, frozen)
    for module in attacker.modules():
        if isinstance(module, MaskPredictor):
            module.reset_parameters()
            module.requires_grad_(True)
    model.add_training_module("attacker", attacker)


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
        "attack_compactness": regularize(model.config, selection.masks, inputs.units, model.shares(sparsity))[
            "compactness"
        ],
        "instruction": -logits.log_softmax(-1).mean(),
    }
    return losses, (logits.detach().argmax(-1) == target).float().mean()


def attacked_labels(labels: torch.LongTensor, num_labels: int) -> torch.LongTensor:
    """y_A (batch,): drawn uniformly from the classes other than `labels` (batch,); with two, the other one."""
    return (labels + torch.randint_like(labels, 1, num_labels)) % num_labels
