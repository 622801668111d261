"""What the configurations of all rationale classifiers have in common: what to select, and what to pay for it."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, PreTrainedConfig


@strict
class RationaleBaseConfig(PreTrainedConfig):
    r"""
    Base of [`RationaleConfig`] and [`PlmrConfig`].

    Args:
        sparsity (`float`, *optional*, defaults to 0.2):
            The share of real tokens (of words, with `selection_level="word"`) to select, in (0, 1).
        sparsity_weight (`float`, *optional*, defaults to 10.0):
            λ1, the weight of compactness.
        coherence_weight (`float`, *optional*, defaults to 1.0):
            λ2, the weight of coherence.
        full_text_weight (`float`, *optional*, defaults to 0.0, in [`PlmrConfig`] to 2.0):
            Weight of a further term of training, the cross-entropy L_x of the predictor on the full text. It gives a
            pretrained encoder a predictor that understands text before the selection is any good.
        match_weight (`float`, *optional*, defaults to 0.0, in [`PlmrConfig`] to 1.0):
            λ of L_match = λ h(L_r − L_x): how much more the rationale's cross-entropy L_r costs where it exceeds the
            full text's (PLMR, equation 16).
        match_base (`float`, *optional*):
            h(x) = a^x with this a, above 1; h(x) = x without it.
        sparsity_level (`str`, *optional*, defaults to `"example"`):
            `"example"`: every text is held to `sparsity`; exact under gradient accumulation and on several devices.
            `"batch"`: only the mean over a device's batch is, as in the papers' public code.
        selection_level (`str`, *optional*, defaults to `"token"`):
            `"token"`: every token is in or out by itself; `"word"`: the tokens of a word go together. Words are given
            by the input `word_ids`, which [`RationaleDataCollator`] and the pipeline supply.
        pooling (`str`, *optional*):
            `"mean"`, `"max"` or `"cls"`. Defaults to `"max"` for a GRU, as in the papers, else to `"mean"`.
        temperature (`float`, *optional*, defaults to 1.0):
            Temperature of the Gumbel-softmax.
        rationale_threshold (`float`, *optional*, defaults to 0.5):
            At evaluation a token is selected where its score reaches this threshold. 0.5 is argmax where there is one
            stage of extraction; a score of PLMR is the product of its stages' probabilities, so that 0.5 is far more
            than argmax. [`RationaleTrainer`] calibrates it on the validation set.
        classifier_dropout (`float`, *optional*, defaults to 0.2):
            Dropout before the heads of both players.
        special_token_ids (`list[int]`, *optional*):
            Tokens that can never be selected: `[CLS]`, `[SEP]`, padding and their like.
        pad_token_id (`int`, *optional*):
            The padding token.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the freshly initialised heads.
    """

    sparsity: float = 0.2
    sparsity_weight: float | int = 10.0
    coherence_weight: float | int = 1.0
    full_text_weight: float | int = 0.0
    match_weight: float | int = 0.0
    match_base: float | int | None = None
    sparsity_level: str = "example"
    selection_level: str = "token"
    pooling: str | None = None
    temperature: float | int = 1.0
    rationale_threshold: float | int = 0.5
    classifier_dropout: float | int = 0.2
    special_token_ids: list[int] | None = None
    pad_token_id: int | None = None
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        for key in self.sub_configs:
            value = getattr(self, key)
            if isinstance(value, dict):
                if value.get("model_type") not in CONFIG_MAPPING:
                    raise ValueError(f"{key} names no known model_type: {value.get('model_type')!r}")
                setattr(self, key, CONFIG_MAPPING[value["model_type"]](**value))
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"This is a checkpoint of type {model_type!r}, not {cls.model_type!r}. A plain encoder becomes a "
                "rationale classifier with from_encoder_pretrained(path_or_hub_id); any rationale classifier loads "
                "with AutoModelForSequenceClassification."
            )
        return super().from_dict(config_dict, **kwargs)

    def validate_selection_choices(self):
        """Raises `ValueError` where a named choice does not exist."""
        self.check_choices(
            sparsity_level=("example", "batch"),
            selection_level=("token", "word"),
            pooling=(None, "mean", "max", "cls"),
            problem_type=(None, "single_label_classification"),
        )

    def check_choices(self, **choices):
        """Raises `ValueError` where a field has none of the values that it may have."""
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {allowed}; got {getattr(self, name)!r}")

    def validate_ranges(self):
        """Raises `ValueError` where a number makes no sense (NaN included)."""
        if self.num_labels < 2:
            raise ValueError(f"A classifier chooses among at least 2 labels; num_labels is {self.num_labels}")
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity is the share of tokens to select, between 0 and 1; got {self.sparsity}")
        for name in ("sparsity_weight", "coherence_weight", "full_text_weight", "match_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a finite weight of at least 0; got {getattr(self, name)}")
        if self.match_base is not None and not 1 < self.match_base < float("inf"):
            raise ValueError(f"match_base is a finite number above 1, so that a^x increases; got {self.match_base}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is above 0 and finite; got {self.temperature}")
        if not 0 <= self.rationale_threshold <= 1:
            raise ValueError(f"rationale_threshold is in [0, 1]; got {self.rationale_threshold}")
        if not 0 <= self.classifier_dropout < 1:
            raise ValueError(f"classifier_dropout is in [0, 1); got {self.classifier_dropout}")
