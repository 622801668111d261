"""The arguments of rationale training, on top of those of transformers' Trainer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments


@dataclass
class RationaleTrainingArguments(TrainingArguments):
    r"""
    [`~transformers.TrainingArguments`] with what selecting needs. Other defaults that differ: the model is evaluated
    and saved after every epoch, and the checkpoint with the best validation accuracy is kept and loaded at the end;
    one checkpoint is kept beside it; batches are grouped by length; no column is dropped.

    Args:
        max_length (`int`, *optional*):
            Cut texts to so many tokens. Defaults to what the encoder has positions for.
        learning_rate_mapping (`dict[str, float]` or JSON, *optional*):
            Learning rates by regular expression over parameter names, the first match counts; the others have
            `learning_rate`. Example: `{"selector|classifier": 1e-3}`. The players are the prefixes `extractor.`,
            `predictor.` and, in A2I, `attacker.`.
        initial_sparsity (`float`, *optional*):
            Start from this share, and anneal the target linearly to the model's `sparsity`; ours, not the papers'.
        sparsity_warmup_ratio (`float`, *optional*, defaults to 0.5):
            The share of the training steps over which the target is annealed.
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
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate on the validation set."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints to keep besides the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint."})
    metric_for_best_model: str | None = field(default="accuracy", metadata={"help": "On the validation set."})
    train_sampling_strategy: str = field(default="group_by_length", metadata={"help": "Order of training texts."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Pin memory, where there is a device to copy to."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator takes what it needs."})

    def __post_init__(self):
        if isinstance(self.learning_rate_mapping, str):
            try:
                self.learning_rate_mapping = json.loads(self.learning_rate_mapping)
            except json.JSONDecodeError as error:
                raise ValueError(f"learning_rate_mapping is not JSON: {error}") from None
        if not isinstance(self.learning_rate_mapping, dict | None):
            raise ValueError(f"learning_rate_mapping maps patterns to rates; got {self.learning_rate_mapping!r}")
        for pattern, rate in (self.learning_rate_mapping or {}).items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"learning_rate_mapping: {pattern!r} is no regular expression: {error}") from None
            if not isinstance(rate, int | float) or not rate >= 0:
                raise ValueError(f"learning_rate_mapping: the rate of {pattern!r} is a number; got {rate!r}")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length is at least 1; got {self.max_length}")
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor has no effect on the objectives here.")
        if self.initial_sparsity is not None and not 0 < self.initial_sparsity <= 1:
            raise ValueError(f"initial_sparsity is in (0, 1]; got {self.initial_sparsity}")
        if not 0 < self.sparsity_warmup_ratio <= 1:
            raise ValueError(f"sparsity_warmup_ratio is in (0, 1]; got {self.sparsity_warmup_ratio}")
        if (self.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError("use_reentrant=True allows one backward pass, and some methods make two; leave it out.")
        super().__post_init__()
