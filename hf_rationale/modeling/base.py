"""The base of all rationale classifiers: an extractor selects positions, and a predictor reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import cached_file

from .configuration import MOVED_TO_TRAINING_ARGUMENTS, RationaleBaseConfig
from .objective import objective as rnp_objective
from .outputs import Prediction, RationaleClassifierOutput, RationaleInputs, Selection
from .selection import SAMPLERS, Marks, Units, budget_mask, check_budget, spans_mask, threshold_mask


# Saved next to a PEFT adapter. It cannot be called config.json, or transformers would look for full weights there.
ADAPTER_CONFIG_NAME = "rationale_config.json"

Objective = Callable[["RationalePreTrainedModel", RationaleInputs], RationaleClassifierOutput]


class RationalePreTrainedModel(PreTrainedModel):
    r"""
    Base of the rationale classifiers. It selects, reads and computes the objective over *positions*, and does not know
    what they are. A kind of input is a subclass with:

    - `extractor`: a module that is called as `extractor(inputs, stage, hidden, mask)` and returns the states
      (batch, positions, hidden) and the logits (batch, positions, 2) of one stage of extraction;
    - `predictor`: a module that is called as `predictor(reader, inputs, mask, full_text)`, hides what `mask` does not
      select, and returns a [`Prediction`];
    - `prepare`, which turns the arguments of `forward` into [`RationaleInputs`], and a `forward` that calls `prepare`
      and `rationalize`;
    - `marks`, which says which positions belong to what people mark;
    - `encode_dataset` and `data_collator`, with which trainers and measurements read datasets.
    """

    config_class = RationaleBaseConfig
    base_model_prefix = "rationale"
    extractor: nn.Module
    predictor: nn.Module
    # Whether the predictor's layers read the full text from the states of the extractor's first stage.
    reads_full_text_from_states = False
    # The Trainer would otherwise leave the division by accumulation steps to the model, as forward takes **kwargs.
    accepts_loss_kwargs = False

    # What the model card calls an example, and what people mark in it.
    example_name = "text"
    mark_name = "word"
    marks_form_spans = True  # whether what people mark follows each other, so that runs of it can be scored as spans
    # Loads what the model's inputs are encoded with from its folder: a tokenizer, or an image processor.
    processing_auto_class: type | None = None
    hub_task = "text-classification"  # among the tasks of the Hub
    usage: str | None = None  # code for the model card, of a model in {folder}
    training_modules: tuple[str, ...] = ()
    encoded_columns: tuple[str, ...] = ()  # what an encoded dataset must have, besides `rationale`

    # --- What a kind of input defines --------------------------------------------------------------------------------

    def prepare(self, **inputs) -> RationaleInputs:
        """Check the inputs, and find out what can be selected, what is selected together and what is always read."""
        raise NotImplementedError

    def marks(self, **inputs) -> Marks | None:
        """Which positions belong to which of the things that people mark, from the arguments of `prepare`; None if
        these do not say it."""
        raise NotImplementedError

    def encode_dataset(
        self, dataset: Dataset, processing_class: Any, max_length: int | None = None, columns: tuple[str, ...] = ()
    ) -> Dataset:
        """`dataset` with the columns that the collator reads: the model's inputs, `labels`, `rationale` (an entry for
        everything that people can mark: 0, 1, or -1 if nobody marked the example), `length`, and `columns`."""
        raise NotImplementedError

    def data_collator(self, processing_class: Any, columns: tuple[str, ...] = ()) -> Callable:
        """A function that makes a batch of examples of an encoded dataset."""
        raise NotImplementedError

    def is_encoded(self, dataset: Dataset) -> bool:
        """Whether `dataset` has been through `encode_dataset`."""
        raise NotImplementedError

    def yardsticks(self, dataset: Dataset, sparsity: float, processing_class: Any) -> dict[str, dict[str, float]]:
        """The scores of simple selectors of the share `sparsity` on the marked examples of a dataset; none if this
        kind of input has none."""
        return {}

    @property
    def reader(self) -> nn.Module:
        """The encoder with which the predictor reads."""
        return self.predictor.encoder

    def shares(self, sparsity: float | torch.Tensor) -> list[float | torch.Tensor]:
        """The share of each input that every stage of extraction should keep. The last one is `sparsity`."""
        return [sparsity]

    def decode(self, scores: torch.Tensor, units: Units, threshold: float) -> torch.Tensor:
        """The mask of scores (batch, positions) at a threshold, at evaluation and for its calibration."""
        if self.config.switch_cost:
            return spans_mask(scores, units, threshold, self.config.switch_cost)
        return threshold_mask(scores, units, threshold)

    # --- Select, read, and compute the objective ---------------------------------------------------------------------

    def rationalize(
        self,
        inputs: RationaleInputs,
        rationale_mask: torch.Tensor | None = None,
        rationale_ratio: float | None = None,
        rationale_top_k: int | None = None,
        rationale_threshold: float | None = None,
        objective: Objective | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> RationaleClassifierOutput | tuple:
        """The body of every `forward`: select from prepared inputs, predict, and compute the loss if there are labels.

        Args:
            rationale_mask (`torch.Tensor` of shape `(batch, positions)`, *optional*): read exactly this instead of the
                extractor's choice, as far as it can be selected.
            rationale_ratio, rationale_top_k, rationale_threshold (*optional*): a budget (see `select`).
            objective (*optional*): computes the output instead. Trainers pass theirs, so that everything that a method
                does happens inside one forward call of the wrapped module.
            output_attentions, output_hidden_states (*optional*): return those of the predictor.
            return_dict (*optional*): `False` to return a tuple.
        """
        if objective is not None:
            return objective(self, inputs)
        selection = self.select(inputs, rationale_ratio, rationale_top_k, rationale_threshold)
        if rationale_mask is not None:
            if any(value is not None for value in (rationale_ratio, rationale_top_k, rationale_threshold)):
                raise ValueError("Only a budget or a rationale_mask can be given, not both.")
            check_mask(rationale_mask, inputs.real.shape)
            forced = rationale_mask.to(selection.mask.dtype) * inputs.units.selectable
            selection = selection._replace(masks=(*selection.masks[:-1], forced))
        options = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        options = {
            name: True for name, value in options.items() if (getattr(self.config, name) if value is None else value)
        }
        output = rnp_objective(self, inputs._replace(options=options), selection)
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def select(
        self,
        inputs: RationaleInputs,
        rationale_ratio: float | None = None,
        rationale_top_k: int | None = None,
        rationale_threshold: float | None = None,
        extractor: nn.Module | None = None,
        sample: bool | None = None,
    ) -> Selection:
        """The extractor's half. With a budget, the best-scored units are selected. Without one, the mask is sampled in
        training, and decoded as the configuration says at evaluation.

        If there are several stages and nothing is sampled, all but the last keep their scheduled share of each input.

        Args:
            inputs: a prepared batch.
            rationale_ratio, rationale_top_k, rationale_threshold (*optional*): a budget: a share of each input, a
                number of units, or another threshold.
            extractor (*optional*): another module that selects, such as A2I's attacker.
            sample (*optional*): whether to sample. By default the mask is sampled in training without a budget.
        """
        check_budget(rationale_ratio, rationale_top_k, rationale_threshold)
        extractor, units = extractor or self.extractor, inputs.units
        free = all(budget is None for budget in (rationale_ratio, rationale_top_k, rationale_threshold))
        if sample is None:
            sample = self.training and free
        if free and not sample and self.config.decoding == "budget":
            rationale_ratio = self.config.sparsity
        if free and not sample and self.config.decoding == "top_k":
            rationale_top_k = self.config.rationale_top_k
        sampler = SAMPLERS[self.config.sampler]
        threshold = self.config.rationale_threshold if rationale_threshold is None else rationale_threshold
        target = self.config.sparsity if rationale_ratio is None else rationale_ratio
        if rationale_top_k is not None:
            target = (rationale_top_k / units.first.sum(1, keepdim=True).clamp_min(1)).clamp_max(1)

        mask = scores = units.selectable.float()
        hidden, states, masks, probabilities = None, [], [], []
        for stage, share in enumerate(shares := self.shares(target)):
            hidden, logits = extractor(inputs, stage, hidden, mask)
            logits, last = logits.float(), stage == len(shares) - 1
            if units.parts is not None:
                logits = sampler.join(logits, units)
            scores = scores * sampler.probability(logits)
            if sample:
                mask = mask * sampler.sample(logits, units, self.config.temperature)
            elif not last or rationale_ratio is not None:
                mask = budget_mask(scores, units, ratio=share)
            elif rationale_top_k is not None:
                mask = budget_mask(scores, units, top_k=rationale_top_k)
            else:
                mask = mask * self.decode(scores, units, threshold)
            probabilities.append(scores)
            if not last:
                scores = scores * mask.detach()  # what has been pruned cannot be selected any more
            states.append(hidden)
            masks.append(mask.to(hidden.dtype))
        return Selection(tuple(probabilities), tuple(masks), states[0] if self.reads_full_text_from_states else None)

    def predict(
        self,
        inputs: RationaleInputs,
        mask: torch.Tensor,
        full_text: torch.Tensor | None = None,
        predictor: nn.Module | None = None,
    ) -> Prediction:
        r"""
        The predictor's half: classify from what `mask` (batch, positions) selects.

        Args:
            inputs: a prepared batch.
            mask (`torch.FloatTensor` of shape `(batch, positions)`): 1 for what is read.
            full_text (*optional*): the states of a [`Selection`] to read instead of the inputs. They depend on all
                positions, so this is for the full text only.
            predictor (*optional*): another module that predicts, for methods with a second predictor.
        """
        if predictor is not None:  # an encoder that makes the features is trained by the model's own predictor alone
            inputs = inputs._replace(features={name: value.detach() for name, value in inputs.features.items()})
        return (predictor or self.predictor)(self.reader, inputs, mask, full_text)._replace(read=mask)

    @property
    def shared_weights(self) -> list[nn.Parameter]:
        """The trained weights that both players use."""
        extractor = {id(weight) for weight in self.extractor.parameters()}
        return [w for w in self.reader.parameters() if w.requires_grad and id(w) in extractor]

    # --- Parts that only training uses -------------------------------------------------------------------------------

    def add_training_module(self, name: str, module: nn.Module) -> None:
        """Add a part that only training uses. `save_pretrained` leaves it out; the Trainer's checkpoints have it."""
        self.add_module(name, module)
        self.training_modules += (name,)
        left_out = [f"{name}.{key}" for key in module.state_dict()]
        self._keys_to_ignore_on_save = [*(self._keys_to_ignore_on_save or ()), *left_out]

    def drop_training_modules(self) -> None:
        """Remove what `add_training_module` has added."""
        for name in self.training_modules:
            delattr(self, name)
            self._keys_to_ignore_on_save = [
                key for key in self._keys_to_ignore_on_save if not key.startswith(f"{name}.")
            ]
        self.training_modules = ()

    # --- Loading -----------------------------------------------------------------------------------------------------

    @classmethod
    def register_for_auto_class(cls, *args, **kwargs):
        """Nothing: transformers would copy the module into every folder ([`RationaleBaseConfig.save_pretrained`])."""

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_as_configured()
        return loaded

    def freeze_as_configured(self):
        """Freeze what the configurations of the model's parts say. Loading replaces parameters by trainable ones."""
        for module in self.modules():
            if module is not self and hasattr(module, "freeze_as_configured"):
                module.freeze_as_configured()

    def load_adapter(self, peft_model_id: str | None = None, *args, **kwargs):
        """Load an adapter, and with it the threshold that was calibrated for it."""
        loaded = super().load_adapter(peft_model_id, *args, **kwargs)
        if peft_model_id is not None:
            source = dict(kwargs.get("adapter_kwargs") or {}, local_files_only=kwargs.get("local_files_only", False))
            path = cached_file(
                peft_model_id, ADAPTER_CONFIG_NAME, _raise_exceptions_for_missing_entries=False, **source
            )
            if path is not None:
                self.config.rationale_threshold = type(self.config).from_json_file(path).rationale_threshold
        return loaded

    # --- Checks that every kind of input needs -----------------------------------------------------------------------

    @classmethod
    def check_fields(cls, given: Iterable[str]):
        """Raises `TypeError` if the model's configuration has no field of a name in `given`."""
        known = {field.name for field in fields(cls.config_class)} | {"num_labels"}
        if unknown := sorted(set(given) - known):
            moved = sorted(set(unknown) & set(MOVED_TO_TRAINING_ARGUMENTS))
            hint = f" {', '.join(moved)}: pass these to the training arguments." if moved else ""
            raise TypeError(f"{cls.config_class.__name__} has no field {', '.join(unknown)}.{hint}")

    def check_labels(self, labels: torch.Tensor | None, batch_size: int):
        """Raises `ValueError` if `labels` are not class indices of shape (batch,)."""
        if labels is None:
            return
        if labels.dtype != torch.int64 or labels.shape != (batch_size,):
            raise ValueError(
                f"labels must hold one class index for each example, torch.int64 of shape {(batch_size,)}, but are "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        if is_readable(labels) and labels.numel():
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_labels:
                raise ValueError(
                    f"labels contain {low if low < 0 else high}, but the model has {self.num_labels} classes, 0 to "
                    f"{self.num_labels - 1}. Set num_labels when you make the model."
                )


def is_readable(tensor: torch.Tensor) -> bool:
    """Whether values can be looked at for free. On an accelerator, the host would wait in every step, and
    `torch.compile` cannot trace it."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def check_mask(mask: torch.Tensor, shape: tuple[int, ...]):
    """Raises `ValueError` if `mask` does not hold 0 or 1 for every position."""
    if not isinstance(mask, torch.Tensor):
        raise ValueError(f"rationale_mask must be a tensor, but is of type {type(mask).__name__}")
    if mask.shape != shape:
        raise ValueError(
            f"rationale_mask must have an entry for every position, shape {tuple(shape)}, but has shape "
            f"{tuple(mask.shape)}"
        )
    if is_readable(mask) and not ((mask == 0) | (mask == 1)).all():  # NaN fails both
        raise ValueError("rationale_mask must contain only 0 and 1 (1 = the predictor reads the position)")
