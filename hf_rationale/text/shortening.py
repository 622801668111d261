"""Shortening at inference: an encoder runs on the visible tokens only."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from transformers import PreTrainedModel

from ..compat import MPNetEncoder, attention_implementation, create_bidirectional_mask
from .encoder_traits import traits_of


# The cost of a call, expressed in tokens of padding. It is higher on a GPU, which computes many tokens at once.
_CALL_COST = {"cpu": 32}
_CALL_COST_ELSEWHERE = 4096


# The places (rows, length) of the tokens of the call that runs in this thread.
_place: ContextVar[torch.LongTensor | None] = ContextVar("place", default=None)


class _PlacedMPNetEncoder(MPNetEncoder):
    """MPNet's layers, whose attention bias depends on the distances of tokens in their text."""

    def compute_position_bias(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if torch.compiler.is_compiling() or (place := _place.get()) is None:
            return super().compute_position_bias(x, *args, **kwargs)
        distance = self.relative_position_bucket(place[:, None, :] - place[:, :, None])
        return self.relative_attention_bias(distance).permute(0, 3, 1, 2)


def make_shortenable(encoder: PreTrainedModel):
    """Make `encoder` take the places of tokens from [`encode_shortened`]. Call it once, when the model is made."""
    if traits_of(encoder.config).positions == "relative":
        for module in encoder.modules():
            if type(module) is MPNetEncoder:
                module.__class__ = _PlacedMPNetEncoder


def can_shorten(encoder: PreTrainedModel, inputs: dict[str, Any]) -> bool:
    """Whether [`encode_shortened`] gives the result of an attention mask. Shapes must stay while a graph is traced."""
    positions = traits_of(encoder.config).positions
    return (
        not encoder.training
        and positions is not None
        # Flash attention counts the sliding window over the remaining tokens, so distances would be lost.
        and not (positions == "windowed" and "flash" in attention_implementation(encoder))
        and all(isinstance(value, torch.Tensor) for value in inputs.values())  # no states or weights to be returned
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def encode_shortened(encoder: PreTrainedModel, visible: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    r"""
    The encoder's last states (batch, seq, hidden) at the tokens with `visible` (batch, seq) = 1. They are computed
    from these tokens only, at the positions that the tokens have in their text. The states elsewhere are zero.

    Rows of similar length are computed together, to avoid padding.

    Args:
        inputs: the encoder's inputs, each of shape (batch, seq) or (batch, seq, hidden).
    """
    lengths = visible.bool().sum(1).tolist()  # a sum in half precision would be rounded
    batch, seq = visible.shape
    if min(lengths) == seq:
        return encoder(attention_mask=visible.long(), **inputs).last_hidden_state
    # Places in the text, those of visible tokens first.
    places = visible.bool().int().argsort(dim=1, descending=True, stable=True)
    hidden = None
    for rows in group_by_length(lengths, _CALL_COST.get(visible.device.type, _CALL_COST_ELSEWHERE)):
        length = max(lengths[row] for row in rows)
        row = torch.tensor(rows, device=visible.device).unsqueeze(1)
        place = places[row, torch.arange(length, device=visible.device)]
        real = visible[row, place].bool()
        short = {name: value[row, place] for name, value in inputs.items()}
        states = _encode(encoder, short, real, place)
        if hidden is None:
            hidden = states.new_zeros(batch, seq, states.shape[-1])
        hidden[row, place] = states * real.unsqueeze(-1)
    if hidden is None:  # no token is visible
        return torch.zeros(batch, seq, encoder.config.hidden_size, dtype=encoder.dtype, device=visible.device)
    return hidden


def group_by_length(lengths: list[int], call_cost: float) -> list[list[int]]:
    r"""
    Group rows so that the sum over groups of `call_cost` + number of rows × longest row is minimal. Rows of length 0
    belong to no group.
    """
    order = sorted((row for row, length in enumerate(lengths) if length), key=lengths.__getitem__)
    # Rows of equal length stay together, so a group can end only where the length changes.
    count = len(order)
    ends = [end for end in range(1, count + 1) if end == count or lengths[order[end]] > lengths[order[end - 1]]]
    # cost[i] is the cost of the first i rows in this order. start[i] is where the last group among them begins.
    cost, start = {0: 0.0}, {}
    for end in ends:
        costs = {begin: so_far + call_cost + (end - begin) * lengths[order[end - 1]] for begin, so_far in cost.items()}
        start[end] = min(costs, key=costs.get)
        cost[end] = costs[start[end]]
    groups, end = [], count
    while end:
        groups.append(order[start[end] : end])
        end = start[end]
    return groups


def _encode(
    encoder: PreTrainedModel, inputs: dict[str, torch.Tensor], real: torch.Tensor, place: torch.LongTensor
) -> torch.Tensor:
    """The last states of the tokens that stood at `place` (rows, length) of their text, where they are `real`."""
    masks: Any = real.long()
    if traits_of(encoder.config).positions == "windowed":
        inputs |= {"position_ids": place}
        masks = _window_masks(encoder, inputs, real, place)
    token = _place.set(place)
    try:
        return encoder(attention_mask=masks, **inputs).last_hidden_state
    finally:
        _place.reset(token)


def _window_masks(encoder, inputs, real, place) -> dict[str, torch.Tensor | None]:
    """ModernBERT's attention masks by type of layer. The window is as wide as in the whole text."""
    window = encoder.config.sliding_window

    def within(batch, head, query, key):
        return (place[batch, query] - place[batch, key]).abs() <= window

    options = {
        "config": encoder.config,
        "inputs_embeds": inputs.get("inputs_embeds", real.unsqueeze(-1).to(encoder.dtype)),  # for its shape and dtype
        "attention_mask": real.long(),
    }
    return {
        "full_attention": create_bidirectional_mask(**options),
        "sliding_attention": create_bidirectional_mask(**options, and_mask_function=within),
    }
