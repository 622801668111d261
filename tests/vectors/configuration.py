"""Configuration of the classifier of sets of vectors."""

from huggingface_hub.dataclasses import strict

from hf_rationale.modeling.configuration import RationaleBaseConfig


@strict
class VectorsConfig(RationaleBaseConfig):
    """Sets of vectors of the width `size`, encoded with the width `hidden_size`: by two encoders, by one that both
    players share, or by one of three layers that is split by depth."""

    model_type = "rationale_vectors"

    size: int = 4
    hidden_size: int = 12
    share_encoder: bool = False
    split_by_depth: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.pooling = self.pooling or "mean"
