"""The configuration fields that all rationale classifiers share: what to select and how the selection is penalized."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

import os
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, PreTrainedConfig

from .selection import SAMPLERS


# Fields of earlier versions that are training arguments now. Configurations that hold them still load.
MOVED_TO_TRAINING_ARGUMENTS = ("full_text_weight", "match_weight", "match_base")

# A file in every saved folder. With trust_remote_code=True, transformers runs it where this package is not imported,
# and says what to install where it is missing.
STUB = "rationale_model"
STUB_CODE = """\"\"\"This model needs the package hf_rationale (`pip install hf_rationale`), which has its code.\"\"\"

from hf_rationale import {names}
"""


@strict
class RationaleBaseConfig(PreTrainedConfig):
    r"""
    Base of the configurations of all rationale classifiers.

    Args:
        sparsity (`float`, *optional*, defaults to 0.2):
            The share of each input to select, in (0, 1). Units count by their weight.
        sparsity_weight (`float`, *optional*, defaults to 10.0):
            λ1, the weight of compactness.
        coherence_weight (`float`, *optional*, defaults to 1.0):
            λ2, the weight of coherence.
        sparsity_level (`str`, *optional*, defaults to `"example"`):
            `"example"` compares the selected share of every example with `sparsity`. This is exact under gradient
            accumulation and on several devices. `"batch"` compares the mean share of a device's batch, as the papers'
            public code does. `"unit"` compares the probability of every unit with the prior `sparsity` (KL
            divergence, as GSAT), which asks for a smaller `sparsity_weight`.
        pooling (`str`, *optional*):
            How the predictor pools the states of what it reads: `"mean"`, `"max"` or `"cls"` (the first position).
            The default depends on the kind of input and on the encoder.
        sampler (`str`, *optional*, defaults to `"gumbel"`):
            How masks are sampled in training: `"gumbel"` (straight-through Gumbel-softmax) or `"kumaraswamy"` (the
            stretched and rectified Kumaraswamy distribution, whose gates can lie between 0 and 1).
        temperature (`float`, *optional*, defaults to 1.0):
            Temperature of the Gumbel-softmax. The Kumaraswamy sampler does not use it.
        mask_head (`str`, *optional*, defaults to `"positions"`):
            What the extractor's head says of each position: `"positions"` whether it is selected, or `"spans"` a
            weight and a width, from which neighbours get similar scores (RTP).
        backdoor_adjustment (`bool`, *optional*, defaults to `False`):
            Whether the heads of both players also read a learned dictionary of confounders, one for each class
            (Inter_RAT).
        decoding (`str`, *optional*, defaults to `"budget"`):
            What is selected at evaluation: `"budget"` takes the best units of each input, up to the share `sparsity`.
            `"threshold"` takes the units whose score reaches `rationale_threshold`, so that the share may differ from
            input to input, and drifts if inputs are longer than those for which it was calibrated. `"top_k"` takes the
            `rationale_top_k` best units of each input, however long it is.
        rationale_top_k (`int`, *optional*):
            The number of units that `decoding="top_k"` selects.
        rationale_threshold (`float`, *optional*, defaults to 0.5):
            The score from which on units are selected. With one stage of extraction, 0.5 is argmax. A score of PLMR is
            the product of the probabilities of its stages, so that 0.5 selects far less than argmax.
            [`RationaleTrainer`] calibrates the threshold on the validation set.
        switch_cost (`float`, *optional*, defaults to 0.0):
            With `decoding="threshold"`, what every start and every stop of the selection costs, in units of the
            scores. Above 0, the selection is the best one at this cost, and has fewer and longer spans.
        classifier_dropout (`float`, *optional*, defaults to 0.2):
            Dropout before the heads of both players.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the newly initialized heads.
    """

    sparsity: float = 0.2
    sparsity_weight: float | int = 10.0
    coherence_weight: float | int = 1.0
    sparsity_level: str = "example"
    pooling: str | None = None
    sampler: str = "gumbel"
    temperature: float | int = 1.0
    mask_head: str = "positions"
    backdoor_adjustment: bool = False
    decoding: str = "budget"
    rationale_top_k: int | None = None
    rationale_threshold: float | int = 0.5
    switch_cost: float | int = 0.0
    classifier_dropout: float | int = 0.2
    initializer_range: float = 0.02

    auto_classes: ClassVar[dict[str, str]] = {}  # the class of this package for every Auto class that loads it

    def __post_init__(self, **kwargs):
        for name in MOVED_TO_TRAINING_ARGUMENTS:
            kwargs.pop(name, None)
        for key in self.sub_configs:
            value = getattr(self, key)
            if isinstance(value, dict):
                if (model_type := value.get("model_type")) not in CONFIG_MAPPING:
                    raise ValueError(f"{key} has an unknown model_type: {model_type!r}")
                setattr(self, key, CONFIG_MAPPING[model_type](**value))
        super().__post_init__(**kwargs)
        if self.label2id is None and self.id2label is not None:  # transformers does not derive one from the other
            self.label2id = {name: index for index, name in self.id2label.items()}

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"This checkpoint has the model type {model_type!r}, not {cls.model_type!r}. To make a rationale "
                "classifier from a plain encoder, call from_encoder_pretrained(path_or_hub_id). "
                "AutoModelForSequenceClassification loads any rationale classifier."
            )
        return super().from_dict(config_dict, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        auto_map = {auto_class: f"{STUB}.{name}" for auto_class, name in self.auto_classes.items()}
        return super().to_dict() | ({"auto_map": auto_map} if auto_map else {})

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs):
        """As transformers', and a file that imports this package for those who load the folder without it."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if not self.auto_classes:
            return
        names = ", ".join(self.auto_classes.values())
        Path(save_directory, f"{STUB}.py").write_text(STUB_CODE.format(names=names), encoding="utf-8")

    @classmethod
    def register_for_auto_class(cls, *args, **kwargs):
        """Nothing: transformers would copy this module into every folder. The stub stands for it."""

    def validate_choices(self):
        """Raises `ValueError` if a field has a value that does not exist."""
        self.check_choices(
            sparsity_level=("example", "batch", "unit"),
            pooling=(None, "mean", "max", "cls"),
            sampler=tuple(SAMPLERS),
            mask_head=("positions", "spans"),
            decoding=("budget", "threshold", "top_k"),
            problem_type=(None, "single_label_classification"),
        )

    def check_choices(self, **choices):
        """Raises `ValueError` if a field has none of its allowed values."""
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, but is {getattr(self, name)!r}")

    def validate_ranges(self):
        """Raises `ValueError` if a numeric field is out of range or NaN."""
        if self.num_labels < 2:
            raise ValueError(f"A classifier needs at least 2 labels, but num_labels is {self.num_labels}")
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity is the share to select and must lie between 0 and 1, but is {self.sparsity}")
        for name in ("sparsity_weight", "coherence_weight", "switch_cost"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and at least 0, but is {getattr(self, name)}")
        if self.switch_cost and self.decoding != "threshold":
            raise ValueError(f"switch_cost needs decoding='threshold', but decoding is {self.decoding!r}")
        if (self.decoding == "top_k") != (self.rationale_top_k is not None):
            raise ValueError(
                f"decoding='top_k' and rationale_top_k need each other, but decoding is {self.decoding!r} and "
                f"rationale_top_k is {self.rationale_top_k}"
            )
        if self.rationale_top_k is not None and self.rationale_top_k < 1:
            raise ValueError(f"rationale_top_k must be at least 1, but is {self.rationale_top_k}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be finite and above 0, but is {self.temperature}")
        if not 0 <= self.rationale_threshold <= 1:
            raise ValueError(f"rationale_threshold must lie in [0, 1], but is {self.rationale_threshold}")
        if not 0 <= self.initializer_range < float("inf"):
            raise ValueError(f"initializer_range must be finite and at least 0, but is {self.initializer_range}")
        if not 0 <= self.classifier_dropout < 1:
            raise ValueError(f"classifier_dropout must lie in [0, 1), but is {self.classifier_dropout}")
