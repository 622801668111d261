"""The shared plumbing of every method: a transformers Trainer that selects, measures and calibrates."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import EvalPrediction, Trainer
from transformers.utils import CONFIG_NAME, logging

from .data.collator import RationaleDataCollator
from .data.encoding import NO_WORD, encode_rationale_dataset
from .masking import calibrate_threshold, word_values
from .methods.rnp import rnp
from .metrics import classification_scores, rationale_f1
from .modeling_base import ADAPTER_CONFIG_NAME, RationalePreTrainedModel
from .modeling_outputs import Prediction, RationaleClassifierOutput, RationaleInputs
from .training_args import RationaleTrainingArguments


logger = logging.get_logger(__name__)

# In a checkpoint: the weights that are left out of the model itself.
TRAINING_MODULES_NAME = "training_modules.safetensors"


class RationaleTrainer(Trainer):
    r"""
    Trains a rationale classifier with the objective of RNP (Lei et al. 2016), and is the base of the other methods:
    each changes what the predictor reads (`read`), what the two players pay for it (`game`), or adds to the whole
    (`objective`), and calls `super()`, so that methods combine by inheritance (see [`compose`]).

    - Datasets of [`load_rationale_dataset`]'s schema are tokenized here; encoded ones are taken as they are.
    - Every evaluation on the validation set first calibrates the model's selection threshold to the asked sparsity;
      the rationales that people marked are never used for it, nor for choosing the checkpoint.
    - Logged with every loss: its components, and the sparsity that was measured in training.
    - Losses and gradients are means over the examples of an optimizer step, however these are cut into micro-batches
      and, evenly, over devices (with `sparsity_level="example"`).

    Args:
        model ([`RationaleForSequenceClassification`] or [`PlmrForSequenceClassification`]): the model.
        args ([`RationaleTrainingArguments`]): the arguments.
        kwargs: as of [`~transformers.Trainer`]; `processing_class` is the tokenizer.
    """

    description = (
        "RNP (Lei et al. 2016): cross-entropy on the rationale, compactness and coherence."  # for model cards
    )
    model_options: dict[str, Any] = {}  # the fields of the model's configuration that the method asks for

    def __init__(
        self,
        model: RationalePreTrainedModel,
        args: RationaleTrainingArguments,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        processing_class=None,
        data_collator=None,
        compute_metrics=None,
        **kwargs,
    ):
        if processing_class is None and data_collator is None:
            raise ValueError("Pass the tokenizer as processing_class: it tokenizes and pads.")
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func has no effect here; override RationaleTrainer.objective instead.")
        if args.n_gpu > 1:
            raise ValueError(
                f"One process sees {args.n_gpu} GPUs, which torch.nn.DataParallel would share; these models need a "
                "process for each: `accelerate launch --multi_gpu …`, or `torchrun --nproc_per_node … …`, or set "
                "CUDA_VISIBLE_DEVICES to one of them."
            )
        for name, value in self.model_options.items():
            if getattr(model.config, name) != value:
                split = name == "model_type"
                raise ValueError(
                    f"{type(self).__name__} trains models with {name}={value}, and this one has "
                    f"{getattr(model.config, name)}. Make it with {'Plmr' if split else 'Rationale'}"
                    f"ForSequenceClassification.from_encoder_pretrained(…{'' if split else f', {name}={value}'})."
                )
        limit = model.max_length
        if args.max_length is not None and limit is not None and args.max_length > limit:
            raise ValueError(f"max_length is {args.max_length}, but the encoder has positions for {limit} tokens.")
        self._max_length = args.max_length or limit
        self.processing_class = processing_class
        self.add_players(model)
        super().__init__(
            model=model,
            args=args,
            train_dataset=self._encoded(train_dataset, model.config.num_labels),
            eval_dataset=self._encoded(eval_dataset, model.config.num_labels),
            processing_class=processing_class,
            data_collator=data_collator or RationaleDataCollator(processing_class),
            compute_metrics=compute_metrics or rationale_metrics,
            **kwargs,
        )
        if isinstance(self.train_dataset, Dataset) and "labels" not in self.train_dataset.column_names:
            raise ValueError("The training set has no column 'label'.")
        self._components: dict[str, torch.Tensor] = defaultdict(float)
        self._component_weight = 0.0

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        # The Trainer divides by the accumulation steps, and transformers 5.4 lets accelerate do so a second time.
        self.accelerator.gradient_accumulation_steps = 1

    def add_players(self, model: RationalePreTrainedModel) -> None:
        """Give the model what this method trains beside it; another method's is taken away."""
        model.drop_training_modules()

    @classmethod
    def method_options(cls) -> dict[str, Any]:
        """The method's own numbers and their defaults: the keyword-only arguments of its constructors."""
        return {
            name: parameter.default
            for base in reversed(cls.__mro__)
            if issubclass(base, RationaleTrainer) and "__init__" in vars(base)
            for name, parameter in inspect.signature(base.__init__).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    # --- The objective -----------------------------------------------------------------------------------------------

    def objective(self, model: RationalePreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        """What one forward call of the wrapped module computes in training: the game, Ω, and the full-text terms of
        the model's config."""
        return rnp(model, inputs, sparsity=self.target_sparsity(model.config.sparsity), game=self.game)

    def game(
        self, model: RationalePreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        """What the predictor makes of the rationale, and what the two players pay for it, by name."""
        prediction = self.read(model, inputs, mask)
        return prediction, {"cross_entropy": F.cross_entropy(prediction.logits.float(), inputs.labels)}

    def read(self, model: RationalePreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> Prediction:
        """The predictor reads, in training, what `mask` (batch, seq) selects."""
        return model.predict(inputs, mask)

    def target_sparsity(self, final: float) -> float:
        """s at this step: the model's `final` one, or on the way to it from `initial_sparsity`."""
        start = self.args.initial_sparsity
        if start is None:
            return final
        progress = self.state.global_step / max(1, self.args.sparsity_warmup_ratio * self.state.max_steps)
        return start + (final - start) * min(1.0, progress)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch=None
    ) -> torch.Tensor | tuple[torch.Tensor, RationaleClassifierOutput]:
        output, share = self._run_objective(model, inputs)
        # The Trainer divides by the number of micro-batches.
        share *= len(self._micro_batches)
        for name, value in {**output.losses, "loss": output.loss}.items():
            self._components[name] += value.detach() * share
        self._component_weight += 1
        loss = output.loss * share
        return (loss, output) if return_outputs else loss

    def _run_objective(
        self, model: nn.Module, inputs: dict[str, torch.Tensor]
    ) -> tuple[RationaleClassifierOutput, float]:
        """The objective on a micro-batch, and the share of it in the step: the last one may be smaller."""
        inputs = {name: value for name, value in inputs.items() if name != "rationale"}
        return model(**inputs, objective=self.objective), len(inputs["labels"]) / self._examples

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        self._micro_batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._examples = sum(len(batch["labels"]) for batch in self._micro_batches)
        return self._micro_batches, None

    def step_alone(self, model: nn.Module, player: nn.Module) -> None:
        """An optimizer step of one player on the micro-batches of this step; all others stand exactly still."""
        model.train()
        with self.accelerator.no_sync(model):
            for batch in self._micro_batches:
                with self.compute_loss_context_manager():
                    output, share = self._run_objective(model, self._prepare_inputs(batch))
                self.accelerator.backward(output.loss * share)
        gradients = {parameter: parameter.grad for parameter in player.parameters()}
        model.zero_grad()  # an optimizer passes over what has no gradient, momentum and decay included
        for parameter, gradient in gradients.items():
            parameter.grad = None if gradient is None else self.accelerator.reduce(gradient, reduction="mean")
        last = self.accelerator.sync_gradients
        self.accelerator.gradient_state._set_sync_gradients(True)  # or the optimizer waits for the last micro-batch
        if self.args.max_grad_norm:
            self.accelerator.clip_grad_norm_(player.parameters(), self.args.max_grad_norm)
        self.optimizer.step()
        self.accelerator.gradient_state._set_sync_gradients(last)
        model.zero_grad()

    # --- Optimizer ---------------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.args.learning_rate_mapping:
            model = self.model if model is None else model
            decay = set(self.get_decay_parameter_names(model))
            groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
            matched = set()
            for name, parameter in model.named_parameters():
                if not parameter.requires_grad:
                    continue
                rate = self.args.learning_rate
                for pattern, mapped in self.args.learning_rate_mapping.items():
                    if re.search(pattern, name):
                        rate = mapped
                        matched.add(pattern)
                        break
                groups[rate, self.args.weight_decay if name in decay else 0.0].append(parameter)
            if unmatched := set(self.args.learning_rate_mapping) - matched:
                raise ValueError(f"learning_rate_mapping: no trainable parameter's name matches {sorted(unmatched)}")
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(
                [
                    {"params": parameters, "lr": rate, "weight_decay": weight_decay}
                    for (rate, weight_decay), parameters in groups.items()
                ],
                **options,
            )
        return super().create_optimizer(model)

    # --- Logging -----------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._component_weight:
            means = self._component_means()
            self._components.clear()
            self._component_weight = 0.0
            del means["loss"]
            logs |= means
            if "sparsity" in logs:
                self._warn_of_collapse(logs["sparsity"])
        super().log(logs, start_time)

    def _component_means(self) -> dict[str, float]:
        """The loss and its components since the last log, on all devices. Raises where one is not finite."""
        names = sorted(self._components)
        means = torch.stack([self._components[name] for name in names]) / self._component_weight
        means = dict(zip(names, self.accelerator.reduce(means, reduction="mean").tolist(), strict=True))
        if not np.isfinite(list(means.values())).all():
            raise FloatingPointError(
                f"The loss is not finite at step {self.state.global_step}: {means}. Lower the learning rate, or "
                "resume from the last checkpoint with another seed."
            )
        return means

    def _warn_of_collapse(self, sparsity: float):
        if not 0.01 < sparsity < 0.99 and self.is_world_process_zero():
            what = "nothing" if sparsity <= 0.01 else "everything"
            logger.warning(
                f"Selection has collapsed at step {self.state.global_step}: {sparsity:.1%} of the tokens are "
                f"selected, which is next to {what}. Raise sparsity_weight, lower coherence_weight, or lower the "
                "extractor's learning rate (learning_rate_mapping)."
            )

    # --- Evaluation --------------------------------------------------------------------------------------------------

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Evaluate. On the validation set (no `eval_dataset` given) the threshold is calibrated first."""
        if self._component_weight:
            self._component_means()  # a broken model is not evaluated, nor saved over a good one
        if eval_dataset is None:
            self.calibrate()
        eval_dataset = self._encoded(eval_dataset, self.model.config.num_labels)
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        accuracy, chance = metrics.get(f"{metric_key_prefix}_balanced_accuracy"), 1 / self.model.config.num_labels
        if accuracy is not None and accuracy <= chance and self.is_world_process_zero():
            logger.warning(
                f"Accuracy is at chance (balanced over the labels {accuracy:.3f}, of {chance:.3f}): the predictor has "
                "learned nothing from what is selected yet. Where that lasts, train longer, with another learning "
                "rate, or ease the start (full_text_weight, initial_sparsity)."
            )
        return metrics

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix: str = "test"):
        test_dataset = self._encoded(test_dataset, self.model.config.num_labels)
        return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    @torch.no_grad()
    def calibrate(self) -> float:
        """Set the model's `rationale_threshold` so that `sparsity` of the validation set's units is selected."""
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        scores = []
        for batch in self.get_eval_dataloader():
            batch = self._prepare_inputs(batch)
            inputs = model.prepare(**{k: v for k, v in batch.items() if k not in ("rationale", "labels")})
            with self.accelerator.autocast():  # scores as evaluation has them: autocast wraps forward, not this half
                selection = model.select(inputs)
            batch_scores = selection.scores.masked_fill(~inputs.units.first, -1.0)
            batch_scores = self.accelerator.pad_across_processes(batch_scores, dim=1, pad_index=-1.0)
            batch_scores = self.accelerator.gather_for_metrics(batch_scores)
            scores.append(batch_scores[batch_scores >= 0].cpu())
        model.train(training)
        scores = torch.cat(scores)
        if not len(scores):
            raise ValueError(
                "No score to calibrate the threshold with: the validation set has no word that can be selected, or "
                "the model's weights are not finite."
            )
        model.config.rationale_threshold = calibrate_threshold(scores, model.config.sparsity)
        return model.config.rationale_threshold

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        rationale = inputs.pop("rationale")
        with torch.no_grad(), self.compute_loss_context_manager():
            output = model(**inputs)
        loss = None if output.loss is None else output.loss.detach()
        if prediction_loss_only:
            return loss, None, None
        words = word_values(output.rationale_mask, inputs["word_ids"], rationale.shape[1]).long()
        return loss, (output.logits, words), (inputs["labels"], rationale) if "labels" in inputs else None

    # --- Checkpoints -------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save and not (folder / CONFIG_NAME).exists():
            self.model.config.to_json_file(folder / ADAPTER_CONFIG_NAME)

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save and (state := self._training_modules_state()):
            save_file(state, Path(output_dir, TRAINING_MODULES_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint):
        state = self._training_modules_state() if checkpoint is not None else {}
        if state and not (path := Path(checkpoint, TRAINING_MODULES_NAME)).exists():
            raise ValueError(
                f"{checkpoint} has no {path.name}: it is a checkpoint of another method than {type(self).__name__}'s, "
                "which has more to train than the model."
            )
        super()._load_optimizer_and_scheduler(checkpoint)
        if state:
            for name, saved in load_file(path).items():
                state[name].copy_(saved)

    def _training_modules_state(self) -> dict[str, torch.Tensor]:
        """What is trained but left out of the saved model, such as A2I's attacker."""
        model = self.accelerator.unwrap_model(self.model)
        return {
            f"{name}.{key}": weight.data
            for name in model.training_modules
            for key, weight in model.get_submodule(name).named_parameters()
            if weight.requires_grad
        }

    def _save_checkpoint(self, model, trial):
        if self._component_weight:
            self._component_means()
        super()._save_checkpoint(model, trial)

    def _load_best_model(self):
        super()._load_best_model()
        folder = Path(self.state.best_model_checkpoint)
        name = CONFIG_NAME if (folder / CONFIG_NAME).exists() else ADAPTER_CONFIG_NAME
        best = type(self.model.config).from_json_file(folder / name)
        self.model.config.rationale_threshold = best.rationale_threshold

    # --- Data --------------------------------------------------------------------------------------------------------

    def _encoded(self, dataset, num_labels: int):
        if isinstance(dataset, dict | IterableDataset):
            raise ValueError(f"Pass one datasets.Dataset for a split; got a {type(dataset).__name__}.")
        if not isinstance(dataset, Dataset):
            return dataset
        if "input_ids" not in dataset.column_names:
            dataset = encode_rationale_dataset(dataset, self.processing_class, self._max_length)
        if missing := {"word_ids", "rationale"} - set(dataset.column_names):
            raise ValueError(f"An encoded dataset lacks {sorted(missing)}; encode it with encode_rationale_dataset.")
        if "labels" in dataset.column_names:
            labels = dataset["labels"][:]
            if not all(isinstance(label, int) for label in labels):
                raise ValueError("The labels are class indices, whole numbers; some are not.")
            if labels and (min(labels) < 0 or max(labels) >= num_labels):
                raise ValueError(
                    f"The labels run from {min(labels)} to {max(labels)}, but the model has {num_labels} classes."
                )
        return dataset


def rationale_metrics(prediction: EvalPrediction) -> dict[str, Any]:
    r"""
    Those of [`~metrics.classification_scores`]; the selected share of the words; and, over the texts in which people
    marked a rationale, those of [`rationale_f1`].

    Args:
        prediction: `predictions` are logits (texts, labels) and selected words (texts, words) 0/1; `label_ids` are
            labels (texts,) and the gold words (texts, words) 0/1, -1 where nobody marked one, -100 where there is no
            word.
    """
    logits, selected = prediction.predictions
    labels, gold = prediction.label_ids
    metrics = classification_scores(logits.argmax(-1), labels)
    words = gold != NO_WORD
    metrics["rationale_sparsity"] = float(selected[words].mean())
    marked = (gold >= 0).any(1)
    if marked.any():
        scores = rationale_f1(
            [row[keep] for row, keep in zip(selected[marked], words[marked], strict=True)],
            [row[keep] for row, keep in zip(gold[marked], words[marked], strict=True)],
        )
        metrics |= {f"rationale_{name}": value for name, value in scores.items()}
    return metrics
