"""Configuration of the two-player rationale classifier."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ..compat import INFERRED_TASK
from .configuration_base import RationaleTextConfig
from .encoder_traits import traits_of


@strict
class RationaleConfig(RationaleTextConfig):
    r"""
    Configuration of a [`RationaleForSequenceClassification`]. In addition to the fields of [`RationaleTextConfig`]:

    Args:
        extractor_config (`PreTrainedConfig` or `dict`):
            Configuration of the encoder that selects: any transformers encoder, or [`GruConfig`].
        predictor_config (`PreTrainedConfig` or `dict`):
            Configuration of the encoder that reads the rationale. Both encoders read the same token indices.
        share_encoder (`bool`, *optional*, defaults to `False`):
            Whether both players use one encoder with two heads, as in FR (Liu et al. 2022).
        masking (`str`, *optional*):
            How tokens that are not selected are hidden from the predictor: `"attention"` (the mask multiplies the
            attention weights) or `"zero"` (the mask multiplies the input embeddings). Defaults to `"zero"` for a GRU,
            and to `"attention"` otherwise.
        tie_word_embeddings (`bool`, *optional*, defaults to `False`):
            Whether the two encoders share one embedding matrix. Use it for frozen word vectors, which would otherwise
            be stored twice.

    Example:

    ```python
    >>> from hf_rationale import GruConfig, RationaleConfig, RationaleForSequenceClassification

    >>> config = RationaleConfig(extractor_config=GruConfig(), predictor_config=GruConfig(), sparsity=0.15)
    >>> model = RationaleForSequenceClassification(config)
    ```
    """

    model_type = "rationale"
    sub_configs = {"extractor_config": AutoConfig, "predictor_config": AutoConfig}
    auto_classes = {
        "AutoConfig": "RationaleConfig",
        "AutoModelForSequenceClassification": "RationaleForSequenceClassification",
    }
    custom_pipelines = INFERRED_TASK

    extractor_config: PreTrainedConfig | dict | None = None
    predictor_config: PreTrainedConfig | dict | None = None
    share_encoder: bool = False
    masking: str | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.share_encoder:
            given = self.predictor_config
            if given is not None and given.to_dict() != self.extractor_config.to_dict():
                raise ValueError(
                    "With share_encoder=True both players use one encoder, but extractor_config and predictor_config "
                    "differ. Leave predictor_config out."
                )
            self.predictor_config = self.extractor_config
        if self.predictor_config is not None:
            traits = traits_of(self.predictor_config)
            self.masking = self.masking or traits.masking
            self.pooling = self.pooling or traits.pooling

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

    def validate_masking(self):
        """Raises `ValueError` if a field has a value that does not exist."""
        self.check_choices(masking=(None, "attention", "zero"))

    def validate_encoders(self):
        """Raises `ValueError` if the two encoders cannot be used together."""
        extractor, predictor = self.extractor_config, self.predictor_config
        if extractor is None or predictor is None:
            return  # transformers builds a default config to find out what differs from it
        if extractor.vocab_size != predictor.vocab_size:
            raise ValueError(
                "Extractor and predictor read the same token indices, so they need the same tokenizer. Their "
                f"vocabularies have {extractor.vocab_size} and {predictor.vocab_size} entries."
            )
        if traits_of(predictor).masking == "zero" and self.masking == "attention":
            raise ValueError(
                f"An encoder of type {predictor.model_type} has no attention to mask: use masking='zero'."
            )
