"""Making, loading and calling the encoders of text models."""

from __future__ import annotations

import inspect
import os
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..modeling.configuration import RationaleBaseConfig
from ..modeling.outputs import RationaleInputs
from .shortening import make_shortenable


logger = logging.get_logger(__name__)


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder with fresh weights, without a pooler."""
    # In the dtype in which the whole model is made, whatever dtype the encoder's checkpoint had.
    encoder = AutoModel.from_config(config, dtype=torch.get_default_dtype())
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # it is never used, and DDP refuses parameters without a gradient
    make_shortenable(encoder)
    return encoder


def load_encoder(encoder: str | os.PathLike | PreTrainedModel) -> PreTrainedModel:
    """The encoder of a folder or Hub id, in float32; of a model its base model."""
    given = isinstance(encoder, PreTrainedModel)
    config = encoder.config if given else AutoConfig.from_pretrained(encoder)
    if isinstance(config, RationaleBaseConfig):
        name = type(encoder).__name__ if given else encoder
        raise ValueError(f"{name} is already a rationale model. Load it with from_pretrained.")
    if given:
        base = encoder.base_model
        return base if isinstance(base, PreTrainedModel) else encoder  # inside is a model of timm
    return AutoModel.from_pretrained(encoder, dtype=torch.float32)


def load_weights(encoder: PreTrainedModel, source: PreTrainedModel):
    """Copy the weights of `source`, except its pooler, into `encoder`."""
    encoder.load_state_dict(
        {key: value for key, value in source.state_dict().items() if not key.startswith("pooler.")}
    )


def encoder_inputs(encoder: PreTrainedModel, inputs: RationaleInputs) -> dict[str, torch.Tensor]:
    """The arguments of `encoder` for a batch: segments if it knows them, and positions that count only real tokens.

    By default most encoders count positions from the first column, so that padding on the left would move a text.
    """
    tokens = dict(inputs.features)
    accepted = inspect.signature(encoder.forward).parameters
    if "token_type_ids" not in accepted or getattr(encoder.config, "type_vocab_size", 2) < 2:
        tokens.pop("token_type_ids", None)
    embeddings = getattr(encoder, "embeddings", None)
    if "position_ids" in accepted and getattr(embeddings, "position_embeddings", None) is not None:
        count = (inputs.real.cumsum(1) - 1).clamp_min(0)
        if (padding_index := embeddings.position_embeddings.padding_idx) is not None:
            tokens["position_ids"] = count + padding_index + 1  # RoBERTa and MPNet count from the padding index on
        elif (positions := getattr(embeddings, "position_ids", None)) is not None:
            tokens["position_ids"] = positions[0][count]
    return tokens


def count_positions(encoder: PreTrainedModel) -> int | None:
    """The number of tokens that `encoder` has positions for; None if there is no limit."""
    limit = getattr(encoder.config, "max_position_embeddings", None)
    if not limit or limit < 0:
        return None
    embeddings = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if getattr(embeddings, "padding_idx", None) is not None:
        limit -= embeddings.padding_idx + 1  # RoBERTa and MPNet count from the padding index on
    return limit


def find_special_token_ids(encoder: Any, config: PreTrainedConfig, tokenizer: Any) -> list[int]:
    """The tokens without content. [UNK] is not one of them, because an unknown word is a word like others.

    Args:
        encoder: the folder or Hub id of the encoder, or the encoder.
        config: its configuration.
        tokenizer: its tokenizer; None to look for it next to the encoder.
    """
    if tokenizer is None:
        try:
            if isinstance(encoder, PreTrainedModel):
                raise ValueError("a model has no tokenizer")
            tokenizer = AutoTokenizer.from_pretrained(encoder)
            # Without tokenizer files, transformers makes a tokenizer of special tokens only, with other indices.
            if tokenizer.vocab_size <= len(tokenizer.all_special_ids):
                raise ValueError("no vocabulary")
        except (ImportError, OSError, ValueError):  # which one depends on the version and on what is installed
            tokenizer = None
            logger.warning(
                "No tokenizer was given or found, so the special tokens are taken from the encoder's config. It may "
                "not list all of them, and the others could be selected. Pass tokenizer=… or special_token_ids=[…]."
            )
    if tokenizer is not None:
        return sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    return sorted({token for name in names if isinstance(token := getattr(config, name, None), int)})
