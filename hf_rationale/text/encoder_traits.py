"""What has to be known of each type of encoder. Types that are not in the table have the default traits."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedConfig


@dataclass(frozen=True)
class EncoderTraits:
    r"""
    Args:
        positions (`str`, *optional*):
            How the encoder learns the places of the tokens if it runs on the visible tokens only: `"absolute"` by
            `position_ids`, `"windowed"` by `position_ids` and attention masks, `"relative"` by a bias of the attention
            weights. None if it cannot run on a part of the tokens with the result of masked attention.
        splits (`bool`, *optional*, defaults to `False`):
            Whether the encoder can be split by depth (PLMR): its layers stand in one list, and its forward does
            nothing between them.
        attention_class (`str`, *optional*):
            For an encoder whose attention does not go through transformers' attention interface: the module whose
            `dropout` is applied to the attention weights.
        masking (`str`, *optional*, defaults to `"attention"`):
            The default way to hide what is not selected: `"attention"` or `"zero"`. An encoder without attention has
            `"zero"`.
        pooling (`str`, *optional*, defaults to `"mean"`):
            The default pooling of the predictor.
    """

    positions: str | None = None
    splits: bool = False
    attention_class: str | None = None
    masking: str = "attention"
    pooling: str = "mean"


ENCODER_TRAITS = {
    "bert": EncoderTraits("absolute", splits=True),
    "roberta": EncoderTraits("absolute", splits=True),
    "electra": EncoderTraits("absolute", splits=True),
    "distilbert": EncoderTraits("absolute", splits=True),
    "modernbert": EncoderTraits("windowed", splits=True),
    "mpnet": EncoderTraits("relative", splits=True, attention_class="MPNetSelfAttention"),
    "deberta-v2": EncoderTraits(attention_class="DisentangledSelfAttention"),
    "rationale_gru": EncoderTraits(masking="zero", pooling="max"),
}


def traits_of(config: PreTrainedConfig) -> EncoderTraits:
    """The traits of an encoder with this configuration."""
    return ENCODER_TRAITS.get(config.model_type, EncoderTraits())
