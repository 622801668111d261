"""Splitting a transformers encoder by depth into parts that are encoders themselves."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from transformers import PreTrainedModel


class Borrowed(nn.Module):
    """
    The embeddings of the first part, with which a later part can read token indices. Hidden states, given as
    `inputs_embeds`, pass through unchanged.

    The embeddings belong to the first part, `owner`. They are not a submodule here, so they are not saved or counted
    twice. They are looked up in every call, because an adapter may have replaced them.
    """

    def __init__(self, owner: PreTrainedModel):
        super().__init__()
        self.__dict__["owner"] = owner

    def forward(self, input_ids=None, inputs_embeds=None, position_ids=None, **kwargs):
        if inputs_embeds is not None:
            return inputs_embeds
        if position_ids is not None:
            kwargs["position_ids"] = position_ids
        embedded = self.owner.embeddings(input_ids=input_ids, **kwargs)
        projection = getattr(self.owner, "embeddings_project", None)  # ELECTRA's
        return embedded if projection is None else projection(embedded)

    def __getattr__(self, name: str):
        # Attributes of an encoder's embeddings, such as the word vectors and the positions.
        return getattr(self.__dict__["owner"].embeddings, name)


def split_encoder(encoder: PreTrainedModel, ends: list[int]) -> list[PreTrainedModel]:
    r"""
    Split `encoder` after each of the layers `ends` (ascending, counted from 1). Its type must be splittable (see
    [`EncoderTraits`]). The layers are moved to the parts and not copied. The first part has the embeddings, which the
    others borrow, and the last part has what follows the layers.

    A part takes token indices or, as `inputs_embeds`, the output states of the part before it. Run one after the
    other, the parts compute what the encoder computes. `encoder` itself becomes the first part.
    """
    depth = encoder.config.num_hidden_layers
    place, layers = next(
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    )
    parent, _, name = place.rpartition(".")
    owned = [module for name in ("embeddings", "embeddings_project") if (module := getattr(encoder, name, None))]
    # Each part has its own copy of what surrounds the layers (a norm, MPNet's position bias). The config is shared.
    shared = [*layers, encoder.config, *owned]
    parts = [encoder, *(copy.deepcopy(encoder, {id(one): one for one in shared}) for _ in ends)]
    for part, (start, end) in zip(parts, pairwise([0, *ends, depth]), strict=True):
        setattr(part.get_submodule(parent), name, nn.ModuleList(layers[start:end]))
        if start:
            part.embeddings = Borrowed(encoder)
            if hasattr(part, "embeddings_project"):
                del part.embeddings_project
        if end < depth and hasattr(part, "final_norm"):
            part.final_norm = nn.Identity()
    return parts
