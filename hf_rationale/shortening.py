"""Really leaving tokens out: an encoder runs on those that can be seen, and on nothing else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .compat import create_bidirectional_mask


# Encoders that are told positions from outside, or (ModernBERT, MPNet) can be made to count them as before.
SHORTENABLE = ("bert", "roberta", "electra", "distilbert", "modernbert", "mpnet")

# What a call costs beside the padding that it avoids, in tokens: on a GPU, where many tokens are done at once, more.
_CALL_COST = {"cpu": 32}
_CALL_COST_ELSEWHERE = 4096


def can_shorten(encoder: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether [`encode_shortened`] does what an attention mask would. While a graph is traced, shapes stay."""
    return (
        not encoder.training
        and encoder.config.model_type in SHORTENABLE
        and not counts_windows_by_index(encoder)
        and all(isinstance(value, torch.Tensor) for value in inputs.values())  # no states or weights to be returned
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def counts_windows_by_index(encoder: nn.Module) -> bool:
    """Whether the attention's windows are counted among the tokens that are left, not by their places in the text."""
    return encoder.config.model_type == "modernbert" and "flash" in encoder.config._attn_implementation


def encode_shortened(encoder: nn.Module, visible: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    r"""
    The encoder's last states (batch, seq, hidden) at the tokens with `visible` (batch, seq) = 1, computed from these
    tokens alone, at the positions that they have in their text; zero elsewhere.

    Rows of similar length run together, so that none pays for the padding of a much longer one.

    Args:
        inputs: what the encoder takes, each of shape (batch, seq) or (batch, seq, hidden).
    """
    lengths = visible.bool().sum(1).tolist()  # a sum in half precision would be rounded
    batch, seq = visible.shape
    if min(lengths) == seq:
        return encoder(attention_mask=visible.long(), **inputs).last_hidden_state
    # The places of the visible tokens first, in the order of the text.
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
    if hidden is None:  # nothing at all can be seen
        return torch.zeros(batch, seq, encoder.config.hidden_size, dtype=encoder.dtype, device=visible.device)
    return hidden


def group_by_length(lengths: list[int], call_cost: float) -> list[list[int]]:
    r"""
    Rows in groups, such that the sum over groups of `call_cost` + rows × the longest of them is least. Rows of length
    0 are in none.
    """
    order = sorted((row for row, length in enumerate(lengths) if length), key=lengths.__getitem__)
    # Rows of one length are never parted, so that groups begin and end where the length changes.
    count = len(order)
    ends = [end for end in range(1, count + 1) if end == count or lengths[order[end]] > lengths[order[end - 1]]]
    # cost[i]: of the first i rows in this order; start[i]: where the last group among them begins.
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
    encoder: nn.Module, inputs: dict[str, torch.Tensor], real: torch.Tensor, place: torch.LongTensor
) -> torch.Tensor:
    """The last states at the tokens that stood at `place` (rows, length) of their text, where they are `real`."""
    model_type = encoder.config.model_type
    if model_type == "modernbert":
        inputs |= {"position_ids": place, "attention_mask": _modernbert_masks(encoder, inputs, real, place)}
        return encoder(**inputs).last_hidden_state
    if model_type == "mpnet":
        with _mpnet_places(encoder.encoder, place):
            return encoder(attention_mask=real.long(), **inputs).last_hidden_state
    return encoder(attention_mask=real.long(), **inputs).last_hidden_state


def _modernbert_masks(encoder, inputs, real, place) -> dict[str, torch.Tensor | None]:
    """By kind of layer; a window is as wide as it was before tokens were left out."""
    window = encoder.config.sliding_window

    def within(batch, head, query, key):
        return (place[batch, query] - place[batch, key]).abs() <= window

    options = {
        "config": encoder.config,
        "inputs_embeds": inputs.get("inputs_embeds", real.unsqueeze(-1).to(encoder.dtype)),  # for its shape and type
        "attention_mask": real.long(),
    }
    return {
        "full_attention": create_bidirectional_mask(**options),
        "sliding_attention": create_bidirectional_mask(**options, and_mask_function=within),
    }


@contextmanager
def _mpnet_places(layers: nn.Module, place: torch.LongTensor):
    """MPNet's bias of attention weights by distance, where `place` (rows, length) says how far tokens are apart."""

    def position_bias(hidden: torch.Tensor) -> torch.Tensor:
        distance = layers.relative_position_bucket(place[:, None, :] - place[:, :, None])
        return layers.relative_attention_bias(distance).permute(0, 3, 1, 2)

    layers.compute_position_bias = position_bias
    try:
        yield
    finally:
        del layers.compute_position_bias
