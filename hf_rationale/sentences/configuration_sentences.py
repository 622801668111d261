"""Configuration of the rationale classifier over sentences."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ..compat import INFERRED_TASK
from ..modeling.configuration import RationaleBaseConfig


@strict
class SentenceRationaleConfig(RationaleBaseConfig):
    r"""
    Configuration of [`SentenceRationaleForSequenceClassification`]. In addition to the fields of
    [`RationaleBaseConfig`]:

    Args:
        encoder_config (`PreTrainedConfig`):
            The encoder that turns each sentence into one vector, the mean of its last states.
        train_encoder (`bool`, *optional*, defaults to `False`):
            Whether the encoder is trained. Otherwise the vectors of a dataset are computed once and kept on disk.
        compare_query (`bool`, *optional*, defaults to `False`):
            Whether every text has a query, with which the sentences are compared: the players read a frozen encoder's
            vector of a sentence, its product with that of the query, and the absolute difference. The extractor also
            reads how many words the sentence and the query share, and the cosine of their vectors, both relative to
            the other sentences. A trained encoder needs no comparison, because it reads the sentence and the query
            together.
        selection_level (`str`, *optional*, defaults to `"sentence"`):
            What has one vector: `"sentence"` or `"clause"`. `sparsity` is a share of the words.
        hidden_size (`int`, *optional*, defaults to 200):
            The width of both players' states.
        share_encoder (`bool`, *optional*, defaults to `False`):
            Whether both players read the vectors through the same layer (FR).
    """

    model_type = "rationale_sentences"
    sub_configs = {"encoder_config": AutoConfig}
    auto_classes = {
        "AutoConfig": "SentenceRationaleConfig",
        "AutoModelForSequenceClassification": "SentenceRationaleForSequenceClassification",
    }
    custom_pipelines = INFERRED_TASK

    encoder_config: dict | PreTrainedConfig | None = None
    train_encoder: bool = False
    compare_query: bool = False
    selection_level: str = "sentence"
    hidden_size: int = 200
    share_encoder: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.pooling = self.pooling or "mean"

    @property
    def vector_size(self) -> int:
        """The width of what both players read of a sentence."""
        return self.encoder_config.hidden_size * (3 if self.compare_query else 1)

    def validate_encoder(self):
        """Raises `ValueError` if a trained encoder is asked for a comparison."""
        if self.train_encoder and self.compare_query:
            raise ValueError("compare_query needs a frozen encoder: leave out compare_query, or train_encoder.")

    def validate_selection_level(self):
        """Raises `ValueError` if there is no such level, or if pooling has no gradient with respect to the mask."""
        self.check_choices(selection_level=("clause", "sentence"), pooling=("mean",))
