"""The training arguments of all methods, in addition to those of transformers' Trainer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from .modeling.guidance import ATTRIBUTIONS


@dataclass
class RationaleTrainingArguments(TrainingArguments):
    r"""
    [`~transformers.TrainingArguments`] for rationale models. A method with numbers of its own has a subclass with
    these as fields, such as [`N2RArguments`].

    Some defaults differ. The model is evaluated and saved after every epoch. The checkpoint with the best validation
    accuracy is kept, together with the last one, and is loaded at the end. Batches are grouped by length. No column is
    dropped. On several devices, players may rest at a step, also with gradient checkpointing.

    Args:
        max_length (`int`, *optional*):
            Cut texts to this number of tokens. By default they are not cut: a text that is longer than the encoder's
            positions is read in windows.
        learning_rate_mapping (`dict[str, float]` or JSON, *optional*):
            Learning rates by regular expressions for parameter names. The first match counts, and other parameters
            have `learning_rate`. Example: `{"selector|classifier": 1e-3}`. The names of the players' parameters begin
            with `extractor.` and `predictor.`, and those of further players with their names, such as `attacker.` in
            A2I and `soft_predictor.` in A2R. Write `^predictor` for the predictor alone.
        initial_sparsity (`float`, *optional*):
            Start with this target share and anneal it linearly to the model's `sparsity`. This is not from the papers.
        sparsity_warmup_ratio (`float`, *optional*, defaults to 0.5):
            The share of the training steps over which the target is annealed.
        parts_first_ratio (`float`, *optional*, defaults to 0.0):
            The share of the training steps, from the start on, in which the parts of the units are selected one by
            one: words, if the model selects clauses or sentences.
        predictor_tuning_ratio (`float`, *optional*, defaults to 0.0):
            The share of the training steps, up to the end, in which the extractor is fixed, and the predictor reads
            exactly what it is given at evaluation.
        predictor_first_ratio (`float`, *optional*, defaults to 0.0):
            The share of the training steps, from the start on, in which the predictor reads random units. The
            extractor does not select yet, and no checkpoint of these steps can be the best one.
        predictor_first_share (`float`, *optional*):
            The smallest share of the units that the predictor reads in these first steps. By default it is as small as
            the share that the model selects. The largest share is everything. Choose a large one, such as 0.8, where a
            random selection destroys the input, as in graphs.
        distillation_weight (`float`, *optional*, defaults to 0.0):
            The weight of a cross-entropy that teaches the extractor, in these first steps, to select what the
            predictor's decision depends on most. Together with `predictor_first_ratio` and `predictor_tuning_ratio`
            that add up to 1, there is no game (FRESH, Jain et al. 2020).
        distillation_from (`str`, *optional*, defaults to `"gradient"`):
            How this dependence is measured: by the `"gradient"` (× input), or by `"occlusion"`, which leaves out one
            unit after the other and calls the predictor for each.
        marks_weight (`float`, *optional*, defaults to 0.0):
            The weight of the cross-entropy of the extractor's scores and the rationales that people marked in the
            training set. Some of the texts may have no marks. Validation does not use marks.
        scale_predictor_rate (`bool`, *optional*, defaults to `False`):
            Multiply the learning rates of the predictor by the model's `sparsity` (DR, Liu et al., KDD 2023), so that
            the predictor does not follow the first, random selections too fast.
        full_text_weight (`float`, *optional*, defaults to 0.0, in [`PLMRArguments`] to 2.0):
            w, the weight of the cross-entropy L_x of the predictor on the full text (PLMR, equation 17). With it, the
            predictor of a pretrained encoder understands text before the selection is any good.
        match_weight (`float`, *optional*, defaults to 0.0, in [`PLMRArguments`] to 1.0):
            λ, the weight of L_match = h(L_r − L_x): the cost of a rationale whose cross-entropy L_r exceeds that of
            the full text (PLMR, equation 16).
        match_base (`float`, *optional*):
            a > 1 in h(x) = a^x. Without it, h(x) = x.
        class_weights (`list[float]` or JSON, or `"balanced"`, *optional*):
            The weight of the cross-entropy of the examples of every class. `"balanced"` gives every class the same
            share of the loss: examples / (classes · examples of the class). Validation is not weighted.

    Raises:
        ValueError: if a field is out of range.
    """

    max_length: int | None = field(default=None, metadata={"help": "Cut texts to so many tokens."})
    learning_rate_mapping: dict | str | None = field(
        default=None, metadata={"help": "JSON: learning rates by regular expression over parameter names."}
    )
    initial_sparsity: float | None = field(
        default=None, metadata={"help": "Anneal the target sparsity from this share to the model's."}
    )
    sparsity_warmup_ratio: float = field(
        default=0.5, metadata={"help": "Share of the training steps over which the target sparsity is annealed."}
    )
    parts_first_ratio: float = field(
        default=0.0, metadata={"help": "Share of the training steps, at first, in which units are selected in parts."}
    )
    predictor_tuning_ratio: float = field(
        default=0.0, metadata={"help": "Share of the training steps, at last, in which only the predictor is trained."}
    )
    predictor_first_ratio: float = field(
        default=0.0, metadata={"help": "Share of the training steps, at first, in which only the predictor decides."}
    )
    predictor_first_share: float | None = field(
        default=None, metadata={"help": "Smallest share that it reads then (default: the share to select)."}
    )
    distillation_weight: float = field(
        default=0.0, metadata={"help": "In these steps, weight of imitating what the predictor depends on."}
    )
    distillation_from: str = field(
        default="gradient", metadata={"help": "Measure of this dependence.", "choices": list(ATTRIBUTIONS)}
    )
    marks_weight: float = field(default=0.0, metadata={"help": "Weight of the marks of people in the training set."})
    scale_predictor_rate: bool = field(
        default=False, metadata={"help": "Multiply the predictor's learning rates by the share to select (DR)."}
    )
    full_text_weight: float = field(
        default=0.0, metadata={"help": "Weight of the cross-entropy of the predictor on the full text."}
    )
    match_weight: float = field(
        default=0.0, metadata={"help": "Weight of the excess of the rationale's cross-entropy over the full text's."}
    )
    match_base: float | None = field(
        default=None, metadata={"help": "a in h(x) = a^x, which is applied to this excess. By default h(x) = x."}
    )
    class_weights: list | str | None = field(
        default=None, metadata={"help": 'JSON: the weight of the examples of each class, or "balanced".'}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate on the validation set."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints to keep besides the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint."})
    metric_for_best_model: str | None = field(default="accuracy", metadata={"help": "On the validation set."})
    train_sampling_strategy: str = field(default="group_by_length", metadata={"help": "Order of training texts."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin memory if there is a device to copy to."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=True, metadata={"help": "On several devices, allow for players that rest at a step."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "The data collator selects the columns that it needs."}
    )

    def __post_init__(self):
        if isinstance(self.learning_rate_mapping, str):
            try:
                self.learning_rate_mapping = json.loads(self.learning_rate_mapping)
            except json.JSONDecodeError as error:
                raise ValueError(f"learning_rate_mapping is not JSON: {error}") from None
        if not isinstance(self.learning_rate_mapping, dict | None):
            raise ValueError(
                f"learning_rate_mapping must map patterns to rates, but is {self.learning_rate_mapping!r}"
            )
        for pattern, rate in (self.learning_rate_mapping or {}).items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"learning_rate_mapping: {pattern!r} is no regular expression: {error}") from None
            if not isinstance(rate, int | float) or not rate >= 0:
                raise ValueError(f"learning_rate_mapping: the rate of {pattern!r} must be a number, but is {rate!r}")
        if isinstance(self.class_weights, str) and self.class_weights != "balanced":
            try:
                self.class_weights = json.loads(self.class_weights)
            except json.JSONDecodeError as error:
                raise ValueError(f'class_weights is neither "balanced" nor JSON: {error}') from None
        if isinstance(self.class_weights, list) and not all(
            isinstance(weight, int | float) and 0 <= weight < float("inf") for weight in self.class_weights
        ):
            raise ValueError(f"class_weights must be finite and at least 0, but are {self.class_weights}")
        if not isinstance(self.class_weights, list | None) and self.class_weights != "balanced":
            raise ValueError(f'class_weights must be a list or "balanced", but is {self.class_weights!r}')
        if not self.eval_do_concat_batches:
            raise ValueError("eval_do_concat_batches=False is not supported: scores need all examples. Leave it out.")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, but is {self.max_length}")
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor has no effect on the objectives of rationale models.")
        if self.initial_sparsity is not None and not 0 < self.initial_sparsity <= 1:
            raise ValueError(f"initial_sparsity must lie in (0, 1], but is {self.initial_sparsity}")
        if not 0 < self.sparsity_warmup_ratio <= 1:
            raise ValueError(f"sparsity_warmup_ratio must lie in (0, 1], but is {self.sparsity_warmup_ratio}")
        self.check_probabilities("parts_first_ratio", "predictor_tuning_ratio", "predictor_first_ratio")
        if self.predictor_first_ratio + self.predictor_tuning_ratio > 1:
            raise ValueError("predictor_first_ratio and predictor_tuning_ratio add up to more than 1.")
        if self.predictor_first_share is not None:
            self.check_probabilities("predictor_first_share")
            if not self.predictor_first_ratio:
                raise ValueError("predictor_first_share has an effect only with predictor_first_ratio above 0.")
        if self.distillation_from not in ATTRIBUTIONS:
            raise ValueError(
                f"distillation_from must be one of {', '.join(ATTRIBUTIONS)}, but is {self.distillation_from!r}"
            )
        self.check_weights("full_text_weight", "match_weight", "distillation_weight", "marks_weight")
        if self.distillation_weight and not self.predictor_first_ratio:
            raise ValueError("distillation_weight has an effect only with predictor_first_ratio above 0.")
        if self.match_base is not None and not 1 < self.match_base < float("inf"):
            raise ValueError(f"match_base must be finite and above 1, so that a^x increases, but is {self.match_base}")
        if (self.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError(
                "use_reentrant=True allows only one backward pass, and some methods make two. Leave it out."
            )
        super().__post_init__()

    def check_weights(self, *names: str):
        """Raises `ValueError` if one of these fields is not a finite weight."""
        for name in names:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and at least 0, but is {getattr(self, name)}")

    def check_probabilities(self, *names: str):
        """Raises `ValueError` if one of these fields is not a probability."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability in [0, 1], but is {getattr(self, name)}")
