"""The Trainer that all methods share: it computes their objectives, evaluates, and calibrates the threshold."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset, disable_progress_bars, enable_progress_bars
from datasets.utils import are_progress_bars_disabled
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import CONFIG_NAME, logging

from .checkpoints import last_checkpoint
from .compat import LengthGroupingTrainer
from .learning_rates import parameter_groups
from .model_card import ModelCardCallback
from .modeling.base import ADAPTER_CONFIG_NAME, RationalePreTrainedModel
from .modeling.guidance import ATTRIBUTIONS, imitation, marks_loss, random_subset
from .modeling.labels import class_weights, with_class_indices
from .modeling.objective import cross_entropy, full_text_terms, objective, regularize, selected_share
from .modeling.outputs import Prediction, RationaleClassifierOutput, RationaleInputs, Selection
from .modeling.selection import Units, calibrate_threshold
from .reading import evaluation_mode
from .trainer_checks import check_collator, check_metrics
from .trainer_metrics import rationale_metrics
from .training_args import RationaleTrainingArguments


logger = logging.get_logger(__name__)

# The file of a checkpoint with the trained weights that are not part of the saved model.
TRAINING_MODULES_NAME = "training_modules.safetensors"
STREAMED = 1000  # the examples of a stream that are encoded at a time


class RationaleTrainer(LengthGroupingTrainer):
    r"""
    Trains a rationale classifier with the objective of RNP (Lei et al. 2016). It is the base class of all methods. A
    method changes what the predictor reads (`read`) or what the two players pay for it (`game`), or adds a term to the
    whole (`training_objective`). Each calls `super()`, so that methods can be combined by inheritance (see
    [`compose`]).

    - Datasets are encoded by the model (for text, see [`encode_rationale_dataset`]). Encoded datasets are used as they
      are.
    - Every evaluation on the validation set first calibrates the model's selection threshold, so that the share
      `sparsity` is selected. Rationales that people marked are used neither for this nor to choose the checkpoint.
    - The components of the loss, and the share that was selected in training, are logged with the loss.
    - Losses and gradients are means over the examples of an optimizer step. With `sparsity_level="example"` they do
      not depend on how the examples are divided into micro-batches and, evenly, over devices.

    Args:
        model ([`RationalePreTrainedModel`], *optional*): the model. `model_init` can be given instead.
        args ([`RationaleTrainingArguments`], *optional*): of the trainer's `arguments_class`. By default the folder is
            `tmp_trainer`.
        train_dataset, eval_dataset (*optional*): the datasets. The training set can be an `IterableDataset` (with
            `max_steps`). With a dict of validation sets, the first one calibrates the threshold and chooses the
            checkpoint. Without any, the threshold is calibrated on the training set, when training is finished.
        processing_class (*optional*): the tokenizer.
        data_collator, compute_metrics (*optional*): as of [`~transformers.Trainer`]. By default those of the model,
            and [`rationale_metrics`].
        kwargs: as of [`~transformers.Trainer`].

    Raises:
        ValueError: if the model, the arguments, the datasets or one of the functions do not fit the method.
    """

    name = "rnp"  # on the command line and on model cards
    description = "RNP: extractor and predictor minimize the cross-entropy on the rationale."
    paper = "Lei et al., EMNLP 2016"
    arguments_class: type[RationaleTrainingArguments] = RationaleTrainingArguments
    model_options: dict[str, Any] = {}  # fields of the model's configuration that the method needs
    replaces_game = False  # whether `game` does not call that of the method before it
    separates_players = False  # whether the predictor's loss must not reach the extractor
    columns: tuple[str, ...] = ()  # further columns of the training set that the objective reads (`inputs.columns`)

    def __init__(
        self,
        model: RationalePreTrainedModel | None = None,
        args: RationaleTrainingArguments | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        processing_class=None,
        data_collator=None,
        compute_metrics=None,
        **kwargs,
    ):
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError(
                "compute_loss_func has no effect here. Override RationaleTrainer.training_objective instead."
            )
        args = self.arguments_class("tmp_trainer") if args is None else args  # as transformers' Trainer does
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
        if model is None and "model_init" not in kwargs:
            raise ValueError("Pass a model, or a function model_init that makes one.")
        if isinstance(eval_dataset, dict) and args.metric_for_best_model == "accuracy":
            args = copy.copy(args)  # the caller's stay as they are
            args.metric_for_best_model = f"{next(iter(eval_dataset))}_accuracy"
        self.args = args  # `add_players` reads them before the Trainer does
        self._max_length = args.max_length
        self.processing_class = processing_class
        if model is None:
            self.model_init = kwargs["model_init"]
            reader = super().call_model_init()  # encodes the datasets, as every model of model_init reads them
        else:
            reader = model
            self.prepare_model(model)
        if not (args.fsdp or args.deepspeed or getattr(reader, "is_quantized", False)):
            reader.to(args.device)  # where the Trainer would put it, but before a frozen encoder encodes the datasets
        train_dataset = self._encoded(train_dataset, reader, self.columns)
        if isinstance(eval_dataset, dict):
            eval_dataset = {name: self._encoded(dataset, reader) for name, dataset in eval_dataset.items()}
        else:
            eval_dataset = self._encoded(eval_dataset, reader)
        if isinstance(train_dataset, Dataset) and "labels" not in train_dataset.column_names:
            raise ValueError("The training set has no column 'label'.")
        if args.marks_weight and isinstance(train_dataset, Dataset) and not has_marks(train_dataset):
            raise ValueError("marks_weight needs rationales that people marked, but the training set has none.")
        if data_collator is not None and isinstance(train_dataset, Dataset):
            check_collator(data_collator, train_dataset)
        if compute_metrics is not None:
            check_metrics(compute_metrics, reader.config.num_labels)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            data_collator=data_collator or reader.data_collator(processing_class, self.columns),
            compute_metrics=compute_metrics or rationale_metrics,
            **kwargs,
        )
        self.class_weights = class_weights(args.class_weights, self.train_dataset, reader.config.num_labels)
        self._components: dict[str, torch.Tensor] = defaultdict(float)
        self._component_weight = 0.0
        self.model_card = ModelCardCallback(self)
        self.add_callback(self.model_card)

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        # The Trainer divides by the accumulation steps, and transformers 5.4 lets accelerate do so a second time.
        self.accelerator.gradient_accumulation_steps = 1

    def call_model_init(self, trial=None) -> RationalePreTrainedModel:
        model = super().call_model_init(trial)
        self.prepare_model(model)
        return model

    def prepare_model(self, model: RationalePreTrainedModel) -> None:
        """Add the players of the method. Raises `ValueError` if the model does not fit the method, or if it is an
        adapter that nobody could load."""
        for name, value in self.model_options.items():
            if getattr(model.config, name, False) != value:
                raise ValueError(
                    f"{type(self).__name__} needs a model with {name}={value}, but {type(model).__name__} has "
                    f"{name}={getattr(model.config, name, False)}. {self._cure(model, name, value)}"
                )
        if self.separates_players and model.shared_weights and not getattr(model.config, "share_encoder", False):
            raise ValueError(
                f"{type(self).__name__} trains the extractor with the predictor fixed, but the two players share "
                "embeddings that are trained. Freeze them, or make the model without tie_word_embeddings (PLMR: with "
                "freeze_embeddings)."
            )
        self.add_players(model)
        adapters = getattr(model, "peft_config", {})
        if any(not adapter.base_model_name_or_path for adapter in adapters.values()):
            raise ValueError(
                "The adapter's base model is in no folder, so that nobody could load the adapter. Before "
                "get_peft_model, save the model with its tokenizer (save_pretrained), and load it from there."
            )

    @staticmethod
    def _cure(model: RationalePreTrainedModel, option: str, value: Any) -> str:
        if option != "split_by_depth":
            return f"Make the model with {option}={value!r}."
        if model.main_input_name == "input_ids":
            return "Make the model with PlmrForSequenceClassification.from_encoder_pretrained(…)."
        return "Choose another method: only a transformer that reads tokens can be split."

    def add_players(self, model: RationalePreTrainedModel) -> None:
        """Add the modules that this method trains in addition to the model. Those of another method are removed."""
        model.drop_training_modules()

    # --- The objective -----------------------------------------------------------------------------------------------

    def curriculum(self, model: RationalePreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        """The objective at this step of the training: at first, units may be selected in parts, and at random."""
        if self.class_weights is not None:
            inputs = inputs._replace(weights=self.class_weights.to(inputs.labels.device)[inputs.labels])
        if self.is_before(self.args.parts_first_ratio):
            inputs = inputs._replace(units=inputs.units.separate())
        if self.is_before(self.args.predictor_first_ratio):
            return self.predictor_first(model, inputs)
        return self.training_objective(model, inputs)

    def predictor_first(self, model: RationalePreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        """Before the game: the predictor reads random units, and the extractor imitates its attributions."""
        share = self.args.predictor_first_share
        mask = random_subset(inputs.units, model.config.sparsity if share is None else share)
        prediction = model.predict(inputs, mask)
        losses = {"cross_entropy": cross_entropy(prediction.logits, inputs).mean()}
        losses |= self.further_players_first(model, inputs, mask)
        if self.args.distillation_weight or self.args.marks_weight:
            scores = model.select(inputs).scores
            losses |= self.guidance(model, inputs, scores)
        if self.args.distillation_weight:
            with evaluation_mode(model):
                importance = ATTRIBUTIONS[self.args.distillation_from](model, inputs)
            loss = imitation(scores, importance, inputs.units, model.config.sparsity)
            losses["distillation"] = self.args.distillation_weight * loss
        return RationaleClassifierOutput(
            loss=sum(losses.values()),
            logits=prediction.logits,
            rationale_mask=mask,
            losses=losses | {"sparsity": selected_share(mask, inputs.units).mean()},
        )

    def further_players_first(
        self, model: RationalePreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """What the players that a method adds learn before the game, while the predictor reads `mask` (batch,
        positions). In the game they then say something from the start."""
        return {}

    def training_objective(
        self, model: RationalePreTrainedModel, inputs: RationaleInputs
    ) -> RationaleClassifierOutput:
        """What one forward call of the wrapped module computes in training: the game, Ω, and the full-text term if it
        has a weight."""
        selection = self.select(model, inputs)
        sparsity = self.target_sparsity(model.config.sparsity)
        output = objective(model, inputs, selection, sparsity, self.game, self.penalties)
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
        return prediction, {"cross_entropy": cross_entropy(prediction.logits, inputs).mean()}

    def penalties(
        self, model: RationalePreTrainedModel, selection: Selection, units: Units, shares: list[float]
    ) -> dict[str, torch.Tensor]:
        """Ω: what the extractor pays for the size and the shape of the selection, by name. `shares` are the shares
        that every stage of extraction should keep."""
        return regularize(model, selection, units, shares)

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

    # --- Training ----------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As transformers', but `True` resumes from the last checkpoint that is complete, and a threshold that no
        evaluation has calibrated is calibrated at the end."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"There is no complete checkpoint in {self.args.output_dir} to resume from.")
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        if self.eval_dataset is None or self.args.eval_strategy == "no":
            dataset = self.train_dataset if self.eval_dataset is None else self.eval_dataset
            if isinstance(dataset, IterableDataset):
                logger.warning(
                    "There is no validation set, and a stream cannot be used instead: the threshold "
                    f"({self.model.config.rationale_threshold}) is not calibrated. Pass eval_dataset, or select "
                    'by decoding="budget".'
                )
            else:
                if self.eval_dataset is None:
                    logger.info("There is no validation set: the threshold is calibrated on the training set.")
                self.calibrate()
        return result

    def _remove_unused_columns(self, dataset, description: str | None = None):
        return dataset  # an encoded dataset has only columns that are used

    # --- Optimizer ---------------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            groups = parameter_groups(
                model,
                self.args.learning_rate,
                self.args.learning_rate_mapping or {},
                self.rate_factor,
                self.args.weight_decay,
                set(self.get_decay_parameter_names(model)),
            )
            if {group["lr"] for group in groups} - {self.args.learning_rate}:  # transformers knows one rate
                optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
                self.optimizer = optimizer_class(groups, **options)
        return super().create_optimizer(model)

    def rate_factor(self, name: str) -> float:
        """By how much the learning rate of the parameter `name` is multiplied."""
        if self.args.scale_predictor_rate and name.startswith("predictor."):
            return self.model.config.sparsity
        return 1.0

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
        if not isinstance(eval_dataset, dict | str):
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
        """Set the model's `rationale_threshold` so that the share `sparsity` of the validation set is selected: of the
        first, if there are several, and of the training set, if there is none."""
        dataset = self.train_dataset if self.eval_dataset is None else self.eval_dataset
        if isinstance(dataset, dict):
            dataset = next(iter(dataset.values()))
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        examples = []
        for batch in self.get_eval_dataloader(dataset):
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
        if not (folder / CONFIG_NAME).exists():  # an adapter, whose configuration is PEFT's
            self.model.config.to_json_file(folder / ADAPTER_CONFIG_NAME)
        self.model_card.write(folder)

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
        """The trained weights that are not part of the saved model, such as A2I's attacker, and the statistics of its
        layers."""
        model = self.accelerator.unwrap_model(self.model)
        players = {name: model.get_submodule(name) for name in model.training_modules}
        frozen = {
            f"{name}.{key}"
            for name, player in players.items()
            for key, weight in player.named_parameters()
            if not weight.requires_grad
        }
        return {
            f"{name}.{key}": value
            for name, player in players.items()
            for key, value in player.state_dict().items()
            if f"{name}.{key}" not in frozen
        }

    def _save_checkpoint(self, model, trial):
        if self._component_weight:
            self._component_means()
        super()._save_checkpoint(model, trial)

    def _determine_best_metric(self, metrics, trial) -> bool:
        """A model from before the game does not count: nobody has taught its extractor to select for its predictor."""
        first = self.args.predictor_first_ratio
        if first and self.state.global_step <= round(first * self.state.max_steps):
            return False
        return super()._determine_best_metric(metrics, trial)

    def _load_best_model(self):
        super()._load_best_model()
        folder = Path(self.state.best_model_checkpoint)
        name = CONFIG_NAME if (folder / CONFIG_NAME).exists() else ADAPTER_CONFIG_NAME
        best = type(self.model.config).from_json_file(folder / name)
        self.model.config.rationale_threshold = best.rationale_threshold

    # --- Data --------------------------------------------------------------------------------------------------------

    def _encoded(self, dataset, model: RationalePreTrainedModel, columns: tuple[str, ...] = ()):
        if isinstance(dataset, dict):
            raise ValueError(f"Pass one datasets.Dataset, not several: {list(dataset)}")
        if isinstance(dataset, IterableDataset):
            return self._encoded_stream(dataset, model, columns)
        if not isinstance(dataset, Dataset):
            return dataset
        dataset = with_class_indices(dataset, model.config)
        if not model.is_encoded(dataset):
            dataset = model.encode_dataset(dataset, self.processing_class, self._max_length, columns)
        if missing := {"rationale", *model.encoded_columns, *columns} - set(dataset.column_names):
            raise ValueError(
                f"The encoded dataset lacks the columns {sorted(missing)}. Encode it with encode_dataset."
            )
        return dataset

    def _encoded_stream(self, dataset: IterableDataset, model: RationalePreTrainedModel, columns: tuple[str, ...]):
        def rows() -> Iterator[dict[str, Any]]:
            for batch in dataset.iter(STREAMED):
                with silenced_progress_bars():
                    encoded = self._encoded(Dataset.from_dict(batch), model, columns)
                yield from encoded

        return IterableDataset.from_generator(rows)


@contextmanager
def silenced_progress_bars() -> Iterator[None]:
    """Without the bars of datasets, of which a stream would show one for every thousand examples."""
    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            enable_progress_bars()


def has_marks(dataset: Dataset) -> bool:
    """Whether people marked any of the examples of an encoded dataset."""
    return any(max(marks, default=-1) >= 0 for marks in dataset["rationale"])
