"""The configuration fields that all text models share: what the units of selection are, and the special tokens."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict

from ..modeling.configuration import RationaleBaseConfig
from .segmentation import LEVELS


# Model types of earlier versions. Configurations with these encoders still load.
RENAMED_MODEL_TYPES = {"gru": "rationale_gru"}


@strict
class RationaleTextConfig(RationaleBaseConfig):
    r"""
    Base of [`RationaleConfig`] and [`PlmrConfig`]. In addition to the fields of [`RationaleBaseConfig`]:

    Args:
        selection_level (`str`, *optional*, defaults to `"token"`):
            The units that are selected as a whole: `"token"`, `"word"`, `"clause"` or `"sentence"`. Tokens are
            mapped to words by the input `word_ids`, and to clauses and sentences by `unit_ids`. Trainers and the
            pipeline supply both. `sparsity` is a share of the words, whatever the level. A clause or a sentence has
            the mean probability of its words.
        special_token_ids (`list[int]`, *optional*):
            Tokens that can never be selected, such as `[CLS]`, `[SEP]` and padding.
        pad_token_id (`int`, *optional*):
            The padding token.
    """

    selection_level: str = "token"
    special_token_ids: list[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs):
        for key in self.sub_configs:
            value = getattr(self, key)
            if isinstance(value, dict) and (model_type := value.get("model_type")) in RENAMED_MODEL_TYPES:
                setattr(self, key, {**value, "model_type": RENAMED_MODEL_TYPES[model_type]})
        super().__post_init__(**kwargs)

    def validate_selection_level(self):
        """Raises `ValueError` if there is no such level."""
        self.check_choices(selection_level=LEVELS)
