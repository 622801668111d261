"""The Trainer that all methods share: it computes their objectives, evaluates, and calibrates the threshold."""

from __future__ import annotations

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
from transformers import EvalPrediction
from transformers.utils import CONFIG_NAME, logging

from .compat import LengthGroupingTrainer
from .metrics import classification_scores, rationale_f1
from .model_card import ModelCardCallback
from .modeling.base import ADAPTER_CONFIG_NAME, RationalePreTrainedModel
from .modeling.guidance import attributions, imitation, marks_loss, random_subset
from .modeling.objective import full_text_terms, objective, selected_share
from .modeling.outputs import NO_MARK, Prediction, RationaleClassifierOutput, RationaleInputs, Selection
from .modeling.selection import calibrate_threshold
from .reading import evaluation_mode
from .training_args import RationaleTrainingArguments


logger = logging.get_logger(__name__)

# The file of a checkpoint with the trained weights that are not part of the saved model.
TRAINING_MODULES_NAME = "training_modules.safetensors"


class RationaleTrainer(LengthGroupingTrainer):
    r"""
    Trains a rationale classifier with the objective of RNP (Lei et al. 2016). It is the base class of all methods. A
    method changes what the predictor reads (`read`) or what the two players pay for it (`game`), or adds a term to the
    whole (`objective`). Each calls `super()`, so that methods can be combined by inheritance (see [`compose`]).

    - Datasets are encoded by the model (for text, see [`encode_rationale_dataset`]). Encoded datasets are used as they
      are.
    - Every evaluation on the validation set first calibrates the model's selection threshold, so that the share
      `sparsity` is selected. Rationales that people marked are used neither for this nor to choose the checkpoint.
    - The components of the loss, and the share that was selected in training, are logged with the loss.
    - Losses and gradients are means over the examples of an optimizer step. With `sparsity_level="example"` they do
      not depend on how the examples are divided into micro-batches and, evenly, over devices.

    Args:
        model ([`RationalePreTrainedModel`]): the model.
        args ([`RationaleTrainingArguments`]): the arguments, of the trainer's `arguments_class`.
        kwargs: as of [`~transformers.Trainer`]. `processing_class` is the tokenizer.

    Raises:
        ValueError: if the model, the arguments or the datasets do not fit the method.
    """

    name = "rnp"  # on the command line and on model cards
    description = "RNP: extractor and predictor minimize the cross-entropy on the rationale."
    paper = "Lei et al., EMNLP 2016"
    arguments_class: type[RationaleTrainingArguments] = RationaleTrainingArguments
    model_options: dict[str, Any] = {}  # fields of the model's configuration that the method needs
    columns: tuple[str, ...] = ()  # further columns of the training set that the objective reads (`inputs.columns`)

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
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func has no effect here. Override RationaleTrainer.objective instead.")
        if not isinstance(args, self.arguments_class):
            raise ValueError(
                f"{type(self).__name__} needs arguments of the class {self.arguments_class.__name__}, but args is a "
                f"{type(args).__name__}. Pass args={type(self).__name__}.arguments_class(…)."
            )
        if args.n_gpu > 1:
            raise ValueError(
                f"This process sees {args.n_gpu} GPUs, and torch.nn.DataParallel cannot train these models. Start one "
                "process for each GPU (`accelerate launch --multi_gpu …` or `torchrun --nproc_per_node … …`), or set "
                "CUDA_VISIBLE_DEVICES to one of them."
            )
        for name, value in self.model_options.items():
            if getattr(model.config, name, False) != value:
                raise ValueError(
                    f"{type(self).__name__} needs a model with {name}={value}, but {type(model).__name__} has "
                    f"{name}={getattr(model.config, name, False)}. "
                    + (
                        "Make the model with PlmrForSequenceClassification.from_encoder_pretrained(…)."
                        if name == "split_by_depth"
                        else f"Make the model with from_encoder_pretrained(…, {name}={value})."
                    )
                )
        self._max_length = args.max_length
        self.processing_class = processing_class
        self.add_players(model)
        super().__init__(
            model=model,
            args=args,
            train_dataset=self._encoded(train_dataset, model, self.columns),
            eval_dataset=self._encoded(eval_dataset, model),
            processing_class=processing_class,
            data_collator=data_collator or model.data_collator(processing_class, self.columns),
            compute_metrics=compute_metrics or rationale_metrics,
            **kwargs,
        )
        if isinstance(self.train_dataset, Dataset) and "labels" not in self.train_dataset.column_names:
            raise ValueError("The training set has no column 'label'.")
        if args.marks_weight and isinstance(self.train_dataset, Dataset) and not has_marks(self.train_dataset):
            raise ValueError("marks_weight needs rationales that people marked, but the training set has none.")
        self._components: dict[str, torch.Tensor] = defaultdict(float)
        self._component_weight = 0.0
        self.model_card = ModelCardCallback(self)
        self.add_callback(self.model_card)

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        # The Trainer divides by the accumulation steps, and transformers 5.4 lets accelerate do so a second time.
        self.accelerator.gradient_accumulation_steps = 1

    def add_players(self, model: RationalePreTrainedModel) -> None:
        """Add the modules that this method trains in addition to the model. Those of another method are removed."""
        model.drop_training_modules()

    # --- The objective -----------------------------------------------------------------------------------------------

    def curriculum(self, model: RationalePreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        """The objective at this step of the training: at first, units may be selected in parts, and at random."""
        if self.is_before(self.args.parts_first_ratio):
            inputs = inputs._replace(units=inputs.units.separate())
        if self.is_before(self.args.predictor_first_ratio):
            return self.predictor_first(model, inputs)
        return self.objective(model, inputs)

    def predictor_first(self, model: RationalePreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        """Before the game: the predictor reads random units, and the extractor imitates its attributions."""
        mask = random_subset(inputs.units, model.config.sparsity)
        prediction = model.predict(inputs, mask)
        losses = {"cross_entropy": F.cross_entropy(prediction.logits.float(), inputs.labels)}
        if self.args.distillation_weight or self.args.marks_weight:
            scores = model.select(inputs).scores
            losses |= self.guidance(model, inputs, scores)
        if self.args.distillation_weight:
            with evaluation_mode(model):
                importance = attributions(model, inputs)
            loss = imitation(scores, importance, inputs.units, model.config.sparsity)
            losses["distillation"] = self.args.distillation_weight * loss
        return RationaleClassifierOutput(
            loss=sum(losses.values()),
            logits=prediction.logits,
            rationale_mask=mask,
            losses=losses | {"sparsity": selected_share(mask, inputs.units).mean()},
        )

    def objective(self, model: RationalePreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        """What one forward call of the wrapped module computes in training: the game, Ω, and the full-text term if it
        has a weight."""
        selection = self.select(model, inputs)
        output = objective(model, inputs, selection, self.target_sparsity(model.config.sparsity), self.game)
        args = self.args
        if self.is_before(1 - args.predictor_tuning_ratio):
            output.add_losses(self.guidance(model, inputs, selection.scores))
        output.add_losses(
            full_text_terms(
                model, inputs, selection, output.logits, args.full_text_weight, args.match_weight, args.match_base
            )
        )
        return output

    def guidance(
        self, model: RationalePreTrainedModel, inputs: RationaleInputs, scores: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """What the extractor's scores (batch, positions) cost where people marked a rationale."""
        if not self.args.marks_weight:
            return {}
        return {"marks": self.args.marks_weight * marks_loss(scores, inputs, inputs.columns["rationale"])}

    def select(self, model: RationalePreTrainedModel, inputs: RationaleInputs) -> Selection:
        """What the predictor is trained on: a sample, or at last what it is given at evaluation."""
        if self.is_before(1 - self.args.predictor_tuning_ratio):
            return model.select(inputs)
        with evaluation_mode(model.extractor), torch.no_grad():
            selection = model.select(inputs, sample=False)
        return selection._replace(masks=tuple(mask.requires_grad_() for mask in selection.masks))

    def is_before(self, share: float) -> bool:
        """Whether fewer than this share of the training steps have been made."""
        return self.state.global_step < round(share * max(1, self.state.max_steps))

    def game(
        self, model: RationalePreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        """The predictor's output from the rationale, and what the two players pay for it, by name."""
        prediction = self.read(model, inputs, selection.mask)
        return prediction, {"cross_entropy": F.cross_entropy(prediction.logits.float(), inputs.labels)}

    def read(self, model: RationalePreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> Prediction:
        """In training, the predictor reads what `mask` (batch, positions) selects."""
        return model.predict(inputs, mask)

    def target_sparsity(self, final: float) -> float:
        """s at this step: the model's `final` one, or a value between `initial_sparsity` and it."""
        start = self.args.initial_sparsity
        if start is None:
            return final
        progress = self.state.global_step / max(1, self.args.sparsity_warmup_ratio * self.state.max_steps)
        return start + (final - start) * min(1.0, progress)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch=None
    ) -> torch.Tensor | tuple[torch.Tensor, RationaleClassifierOutput]:
        inputs = dict(inputs)
        marks = inputs.pop("rationale", None)
        if self.args.marks_weight:
            inputs["columns"] = {**inputs.get("columns", {}), "rationale": marks}
        output = model(**inputs, objective=self.curriculum)
        # The micro-batch's share of the step, because the last one may be smaller. The Trainer divides by their
        # number.
        share = len(inputs["labels"]) / self._examples * len(self._micro_batches)
        for name, value in {**output.losses, "loss": output.loss}.items():
            self._components[name] += value.detach() * share
        self._component_weight += 1
        loss = output.loss * share
        return (loss, output) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        self._micro_batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._examples = sum(len(batch["labels"]) for batch in self._micro_batches)
        return self._micro_batches, None

    # --- Optimizer ---------------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None and (self.args.learning_rate_mapping or self.args.scale_predictor_rate):
            model = self.model if model is None else model
            decay = set(self.get_decay_parameter_names(model))
            groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
            matched = set()
            for name, parameter in model.named_parameters():
                if not parameter.requires_grad:
                    continue
                rate = self.args.learning_rate
                for pattern, mapped in (self.args.learning_rate_mapping or {}).items():
                    if re.search(pattern, name):
                        rate = mapped
                        matched.add(pattern)
                        break
                if self.args.scale_predictor_rate and name.startswith("predictor."):
                    rate *= self.model.config.sparsity
                groups[rate, self.args.weight_decay if name in decay else 0.0].append(parameter)
            if unmatched := set(self.args.learning_rate_mapping or {}) - matched:
                raise ValueError(
                    f"learning_rate_mapping: no trainable parameter has a name that matches {sorted(unmatched)}"
                )
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
        """The loss and its components since the last log, on all devices. Raises if one is not finite."""
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
                f"The selection has collapsed at step {self.state.global_step}: a share of {sparsity:.1%} is "
                f"selected, which is almost {what}. Raise sparsity_weight, lower coherence_weight, or lower "
                "the extractor's learning rate (learning_rate_mapping)."
            )

    # --- Evaluation --------------------------------------------------------------------------------------------------

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Evaluate. On the validation set (no `eval_dataset` given) the threshold is calibrated first."""
        if self._component_weight:
            self._component_means()  # raises, so that a broken model is not evaluated and saved over a good one
        if eval_dataset is None:
            self.calibrate()
        eval_dataset = self._encoded(eval_dataset, self.model)
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        accuracy, chance = metrics.get(f"{metric_key_prefix}_balanced_accuracy"), 1 / self.model.config.num_labels
        if accuracy is not None and accuracy <= chance and self.is_world_process_zero():
            logger.warning(
                f"The balanced accuracy is {accuracy:.3f}, which is no better than chance ({chance:.3f}): the "
                "predictor has not learned anything from the selection yet. If this continues, train longer, change "
                "the learning rate, or make the start easier (full_text_weight, initial_sparsity)."
            )
        return metrics

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix: str = "test"):
        test_dataset = self._encoded(test_dataset, self.model)
        return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    @torch.no_grad()
    def calibrate(self) -> float:
        """Set the model's `rationale_threshold` so that the share `sparsity` of the validation set is selected."""
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        examples = []
        for batch in self.get_eval_dataloader():
            batch = self._prepare_inputs(batch)
            inputs = model.prepare(**{k: v for k, v in batch.items() if k not in ("rationale", "labels")})
            with self.accelerator.autocast():  # for the scores of evaluation: autocast wraps forward, and not `select`
                scores = model.select(inputs).scores
            # On several devices, every process calibrates on all examples.
            gathered = {
                "scores": scores,
                **{name: part.to(scores.dtype) for name, part in inputs.units._asdict().items() if part is not None},
            }
            gathered = self.accelerator.pad_across_processes(gathered, dim=1)
            gathered = {name: part.cpu() for name, part in self.accelerator.gather_for_metrics(gathered).items()}
            scores = gathered.pop("scores")
            units = {name: values.to(getattr(inputs.units, name).dtype) for name, values in gathered.items()}
            examples.append((scores, inputs.units._replace(**units)))
        model.train(training)
        if not all(scores.isfinite().all() for scores, _ in examples):
            raise ValueError("The threshold cannot be calibrated, because the model's scores are not finite.")
        model.config.rationale_threshold = calibrate_threshold(examples, model.config.sparsity, model.decode)
        return model.config.rationale_threshold

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        rationale = inputs.pop("rationale")
        with torch.no_grad(), self.compute_loss_context_manager():
            output = model(**inputs)
        loss = None if output.loss is None else output.loss.detach()
        if prediction_loss_only:
            return loss, None, None
        marks = self.accelerator.unwrap_model(self.model).marks(**inputs)
        marks = marks.values(output.rationale_mask, rationale.shape[1]).long()
        return loss, (output.logits, marks), (inputs["labels"], rationale) if "labels" in inputs else None

    # --- Checkpoints -------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        if not self.args.should_save:
            return
        if (folder / CONFIG_NAME).exists():
            self.model_card.write(folder)
        else:  # an adapter, for which PEFT writes the card
            self.model.config.to_json_file(folder / ADAPTER_CONFIG_NAME)

    def create_model_card(self, **metadata) -> None:
        """Write the model card into `args.output_dir`. `push_to_hub` calls this. `metadata` are further fields of the
        card's header, such as `license` and `tags`."""
        if self.is_world_process_zero():
            header = {
                name: value for name, value in metadata.items() if name in ("license", "language", "tags") and value
            }
            self.model_card.write(self.args.output_dir, **header)

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save and (state := self._training_modules_state()):
            save_file(state, Path(output_dir, TRAINING_MODULES_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint):
        state = self._training_modules_state() if checkpoint is not None else {}
        if state and not (path := Path(checkpoint, TRAINING_MODULES_NAME)).exists():
            raise ValueError(
                f"{checkpoint} has no {path.name}, in which {type(self).__name__} saves the modules that it trains in "
                "addition to the model. It is a checkpoint of another method."
            )
        super()._load_optimizer_and_scheduler(checkpoint)
        if state:
            for name, saved in load_file(path).items():
                state[name].copy_(saved)

    def _training_modules_state(self) -> dict[str, torch.Tensor]:
        """The trained weights that are not part of the saved model, such as A2I's attacker."""
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

    def _encoded(self, dataset, model: RationalePreTrainedModel, columns: tuple[str, ...] = ()):
        if isinstance(dataset, dict | IterableDataset):
            raise ValueError(f"A split must be one datasets.Dataset, but is a {type(dataset).__name__}.")
        if not isinstance(dataset, Dataset):
            return dataset
        if not model.is_encoded(dataset):
            dataset = model.encode_dataset(dataset, self.processing_class, self._max_length, columns)
        if missing := {"rationale", *model.encoded_columns, *columns} - set(dataset.column_names):
            raise ValueError(
                f"The encoded dataset lacks the columns {sorted(missing)}. Encode it with encode_dataset."
            )
        if "labels" in dataset.column_names:
            labels, num_labels = dataset["labels"][:], model.config.num_labels
            if not all(isinstance(label, int) for label in labels):
                raise ValueError("Labels must be class indices, which are integers, but some are not.")
            if labels and (min(labels) < 0 or max(labels) >= num_labels):
                raise ValueError(
                    f"The labels run from {min(labels)} to {max(labels)}, but the model has {num_labels} classes."
                )
        return dataset


def has_marks(dataset: Dataset) -> bool:
    """Whether people marked any of the examples of an encoded dataset."""
    return any(max(marks, default=-1) >= 0 for marks in dataset["rationale"])


def rationale_metrics(prediction: EvalPrediction) -> dict[str, Any]:
    r"""
    The scores of [`~metrics.classification_scores`], the selected share, and the scores of [`rationale_f1`] over the
    examples in which people marked a rationale.

    Args:
        prediction: `predictions` are logits (examples, labels) and the selection (examples, marks) as 0/1. `label_ids`
            are labels (examples,) and what people marked (examples, marks) as 0/1, -1 if nobody marked the example,
            and -100 at padding. For text, a mark belongs to a word.
    """
    logits, selected = prediction.predictions
    labels, gold = prediction.label_ids
    metrics = classification_scores(logits.argmax(-1), labels)
    exists = gold != NO_MARK
    metrics["rationale_sparsity"] = float(selected[exists].mean())
    marked = (gold >= 0).any(1)
    if marked.any():
        scores = rationale_f1(
            [row[keep] for row, keep in zip(selected[marked], exists[marked], strict=True)],
            [row[keep] for row, keep in zip(gold[marked], exists[marked], strict=True)],
        )
        metrics |= {f"rationale_{name}": value for name, value in scores.items()}
    return metrics
