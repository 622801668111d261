"""An attacker against a trained model: how often it changes the prediction (A2I, section 5.2, figure 6)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import EvalPrediction, set_seed

from ..methods.a2i import add_attacker, attack, attacked_labels
from ..modeling.base import RationalePreTrainedModel
from ..modeling.outputs import RationaleClassifierOutput, RationaleInputs
from ..modeling.selection import budget_mask
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass(frozen=True)
class AttackReport:
    r"""
    The result of an attack on a model (A2I, section 5.2, figure 6). All rates are shares of the evaluated examples.

    Args:
        success_rate (`float`): the share for which the attack rationale makes the predictor choose the attacked label.
        by_class (`dict[str, float]`): the success rate for the examples of each label.
        random_rate (`float`): the baseline: the success rate of the same number of random words.
        over_steps (`list[dict[str, float]]`): `step`, and the `success_rate` in training since the previous entry.
    """

    success_rate: float
    by_class: dict[str, float]
    random_rate: float
    over_steps: list[dict[str, float]]


class AttackTrainer(RationaleTrainer):
    r"""
    Trains an attacker against a trained model: A2I's equation 6, with everything except the attacker fixed. It works
    on a copy of the model, of which only the attacker changes. The predictor reads without dropout.

    At evaluation, the attacker selects the share `sparsity` of each example that has the highest scores.
    """

    description = "The attacker of A2I alone, against a trained model."

    def __init__(self, model: RationalePreTrainedModel, args: RationaleTrainingArguments, *rest, **kwargs):
        if args.load_best_model_at_end:
            raise ValueError("The attacker is trained to the end: set load_best_model_at_end=False.")
        args = copy.copy(args)
        args.metric_for_best_model = None
        set_seed(args.seed)  # for the attacker's head
        super().__init__(copy.deepcopy(model), args, *rest, **kwargs)
        if kwargs.get("compute_metrics") is None:
            self.compute_metrics = self._attack_metrics
        if isinstance(self.eval_dataset, Dataset) and "labels" not in self.eval_dataset.column_names:
            raise ValueError("The evaluation set has no column 'label', and an attack needs the true labels.")

    def add_players(self, model: RationalePreTrainedModel) -> None:
        super().add_players(model)
        model.requires_grad_(True)  # a finished model may be frozen
        model.freeze_as_configured()
        add_attacker(model)
        for name, weight in model.named_parameters():
            weight.requires_grad_(weight.requires_grad and name.startswith("attacker."))

    def training_objective(
        self, model: RationalePreTrainedModel, inputs: RationaleInputs
    ) -> RationaleClassifierOutput:
        for player in (model.extractor, model.predictor):
            player.eval()
            for module in player.modules():
                if isinstance(module, nn.RNNBase):
                    module.train()  # it has no dropout, and cuDNN needs this for a backward pass
        losses, success_rate = attack(model, inputs, model.config.sparsity)
        del losses["instruction"]
        return RationaleClassifierOutput(
            loss=sum(losses.values()), losses={**losses, "attack_success_rate": success_rate}
        )

    def calibrate(self) -> float:
        """The model keeps its threshold. The attacker has a budget instead."""
        return self.model.config.rationale_threshold

    def evaluation_loop(self, *args, **kwargs):
        with torch.random.fork_rng():
            torch.manual_seed(self.args.seed)  # evaluations agree, and do not change the random numbers of training
            return super().evaluation_loop(*args, **kwargs)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        model = self.accelerator.unwrap_model(model)
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.accelerator.autocast():
            batch = model.prepare(**{name: value for name, value in inputs.items() if name != "rationale"})
            attacked = model.select(batch, rationale_ratio=model.config.sparsity, extractor=model.attacker).mask
            random = budget_mask(torch.rand_like(attacked), batch.units, ratio=model.config.sparsity)
            logits = [model.predict(batch, mask).logits for mask in (attacked, random)]
            target = attacked_labels(batch.labels, model.num_labels)
        return None, tuple(logits), (batch.labels, target)

    def _attack_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        attacked, random = (logits.argmax(-1) for logits in prediction.predictions)
        labels, target = prediction.label_ids
        success = attacked == target
        names = self.model.config.id2label
        return {
            "attack_success_rate": float(success.mean()),
            "random_success_rate": float((random == target).mean()),
            **{
                f"attack_success_rate_{names[int(label)]}": float(success[labels == label].mean())
                for label in np.unique(labels)
            },
        }


def audit(
    model: RationalePreTrainedModel,
    args: RationaleTrainingArguments,
    train_dataset: Dataset,
    eval_dataset: Dataset,
    processing_class,
) -> AttackReport:
    r"""
    Train an attacker against `model`, and report how often it succeeds. If the rate is close to that of random words,
    the predictor has learned few patterns that can be used against it. If the rate is close to one, the predictor
    relies on trivial patterns (A2I, section 5.2). The model itself is not changed.

    Args:
        model: a trained model. An adapter has to be merged first.
        args: the training arguments of the attacker, with `load_best_model_at_end=False`. The full-text term and the
            annealed sparsity have no effect. An interrupted attack continues with `resume_from_checkpoint`.
        train_dataset: examples to train the attacker on, such as the model's own training set.
        eval_dataset: examples to measure on.
        processing_class: the model's tokenizer.
    """
    trainer = AttackTrainer(
        model=model,
        args=args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=processing_class,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    metrics = trainer.evaluate()
    prefix = "eval_attack_success_rate_"
    return AttackReport(
        success_rate=metrics["eval_attack_success_rate"],
        by_class={name.removeprefix(prefix): rate for name, rate in metrics.items() if name.startswith(prefix)},
        random_rate=metrics["eval_random_success_rate"],
        over_steps=[
            {"step": entry["step"], "success_rate": entry["attack_success_rate"]}
            for entry in trainer.state.log_history
            if "attack_success_rate" in entry
        ],
    )
