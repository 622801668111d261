"""Configuration of the two-player rationale classifier."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig


@strict
class RationaleConfig(PreTrainedConfig):
    r"""
    Configuration of a [`RationaleForSequenceClassification`].

    Args:
        extractor_config (`PreTrainedConfig` or `dict`):
            Configuration of the encoder that selects. Any transformers encoder, or [`GruConfig`].
        predictor_config (`PreTrainedConfig` or `dict`):
            Configuration of the encoder that reads the rationale. Both read the same token indices.
        share_encoder (`bool`, *optional*, defaults to `False`):
            Whether one encoder serves both players, as in FR (Liu et al. 2022): one module, two heads.
        sparsity (`float`, *optional*, defaults to 0.2):
            The share of real tokens (of words, with `selection_level="word"`) to select, in (0, 1).
        sparsity_weight (`float`, *optional*, defaults to 10.0):
            λ1, the weight of compactness.
        coherence_weight (`float`, *optional*, defaults to 1.0):
            λ2, the weight of coherence.
        sparsity_level (`str`, *optional*, defaults to `"example"`):
            `"example"`: every text is held to `sparsity`; exact under gradient accumulation and on several devices.
            `"batch"`: only the mean over a device's batch is, as in the papers' public code.
        selection_level (`str`, *optional*, defaults to `"token"`):
            `"token"`: every token is in or out by itself; `"word"`: the tokens of a word go together. Words are given
            by the input `word_ids`, which [`RationaleDataCollator`] and the pipeline supply.
        masking (`str`, *optional*):
            How the predictor is kept from reading what is not selected: `"attention"` (the mask multiplies the
            attention weights) or `"zero"` (the mask multiplies the input embeddings). Defaults to `"zero"` for a GRU,
            else to `"attention"`.
        pooling (`str`, *optional*):
            `"mean"`, `"max"` or `"cls"`. Defaults to `"max"` for a GRU, as in the papers, else to `"mean"`.
        temperature (`float`, *optional*, defaults to 1.0):
            Temperature of the Gumbel-softmax.
        rationale_threshold (`float`, *optional*, defaults to 0.5):
            At evaluation a token is selected where its score reaches this threshold. 0.5 is argmax;
            [`RationaleTrainer`] calibrates it on the validation set.
        classifier_dropout (`float`, *optional*, defaults to 0.2):
            Dropout before both heads.
        special_token_ids (`list[int]`, *optional*):
            Tokens that can never be selected: `[CLS]`, `[SEP]`, padding and their like.
        pad_token_id (`int`, *optional*):
            The padding token.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the freshly initialised heads.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`):
            Whether the two encoders share one embedding matrix; for frozen word vectors, which are the same twice.

    Example:

    ```python
    >>> from hf_rationale import GruConfig, RationaleConfig, RationaleForSequenceClassification

    >>> config = RationaleConfig(extractor_config=GruConfig(), predictor_config=GruConfig(), sparsity=0.15)
    >>> model = RationaleForSequenceClassification(config)
    ```
    """

    model_type = "rationale"
    sub_configs = {"extractor_config": AutoConfig, "predictor_config": AutoConfig}

    extractor_config: PreTrainedConfig | dict | None = None
    predictor_config: PreTrainedConfig | dict | None = None
    share_encoder: bool = False
    sparsity: float = 0.2
    sparsity_weight: float | int = 10.0
    coherence_weight: float | int = 1.0
    sparsity_level: str = "example"
    selection_level: str = "token"
    masking: str | None = None
    pooling: str | None = None
    temperature: float | int = 1.0
    rationale_threshold: float | int = 0.5
    classifier_dropout: float | int = 0.2
    special_token_ids: list[int] | None = None
    pad_token_id: int | None = None
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        for key in self.sub_configs:
            value = getattr(self, key)
            if isinstance(value, dict):
                if value.get("model_type") not in CONFIG_MAPPING:
                    raise ValueError(f"{key} names no known model_type: {value.get('model_type')!r}")
                setattr(self, key, CONFIG_MAPPING[value["model_type"]](**value))
        if self.share_encoder:
            given = self.predictor_config
            if given is not None and given.to_dict() != self.extractor_config.to_dict():
                raise ValueError(
                    "share_encoder means one encoder for both players, but extractor_config and predictor_config "
                    "differ. Leave predictor_config out."
                )
            self.predictor_config = self.extractor_config
        if self.predictor_config is not None:
            recurrent = self.predictor_config.model_type == "gru"
            self.masking = self.masking or ("zero" if recurrent else "attention")
            self.pooling = self.pooling or ("max" if recurrent else "mean")
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"This is a checkpoint of type {model_type!r}, not {cls.model_type!r}. A plain encoder becomes a "
                "rationale classifier with RationaleForSequenceClassification.from_encoder_pretrained(path_or_hub_id);"
                " any rationale classifier loads with AutoModelForSequenceClassification."
            )
        return super().from_dict(config_dict, **kwargs)

    @property
    def vocab_size(self) -> int:
        """Number of token indices that both encoders know."""
        return self.extractor_config.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int):
        self.extractor_config.vocab_size = value
        self.predictor_config.vocab_size = value

    @property
    def hidden_size(self) -> int:
        """Width of the predictor's states."""
        return self.predictor_config.hidden_size

    def validate_choices(self):
        """Raises `ValueError` where a named choice does not exist."""
        choices = {
            "sparsity_level": ("example", "batch"),
            "selection_level": ("token", "word"),
            "masking": (None, "attention", "zero"),
            "pooling": (None, "mean", "max", "cls"),
            "problem_type": (None, "single_label_classification"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {allowed}; got {getattr(self, name)!r}")

    def validate_ranges(self):
        """Raises `ValueError` where a number makes no sense (NaN included)."""
        if self.num_labels < 2:
            raise ValueError(f"A classifier chooses among at least 2 labels; num_labels is {self.num_labels}")
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity is the share of tokens to select, between 0 and 1; got {self.sparsity}")
        for name in ("sparsity_weight", "coherence_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a finite weight of at least 0; got {getattr(self, name)}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is above 0 and finite; got {self.temperature}")
        if not 0 <= self.rationale_threshold <= 1:
            raise ValueError(f"rationale_threshold is in [0, 1]; got {self.rationale_threshold}")
        if not 0 <= self.classifier_dropout < 1:
            raise ValueError(f"classifier_dropout is in [0, 1); got {self.classifier_dropout}")

    def validate_encoders(self):
        """Raises `ValueError` where the two encoders cannot work together."""
        extractor, predictor = self.extractor_config, self.predictor_config
        if extractor is None or predictor is None:
            return  # transformers builds a default config to find out what differs from it
        if extractor.vocab_size != predictor.vocab_size:
            raise ValueError(
                "Extractor and predictor read the same token indices, so they need one tokenizer; their vocabularies "
                f"have {extractor.vocab_size} and {predictor.vocab_size} entries."
            )
        if predictor.model_type == "gru" and self.masking == "attention":
            raise ValueError("A GRU has no attention to mask: use masking='zero'.")
