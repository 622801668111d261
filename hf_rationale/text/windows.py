"""Reading texts that are longer than an encoder, in overlapping windows."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ..modeling.outputs import RationaleInputs
from .attention import encode_visible
from .encoders import encoder_inputs


OVERLAP = 4  # a window shares a quarter of its text with the next one


class Windows(NamedTuple):
    """The windows of a batch of texts. Each has the tokens before the text ([CLS], and the query of a pair), a piece
    of the text, and the tokens behind it ([SEP])."""

    rows: torch.LongTensor  # (windows,): the text that a window is taken from
    places: torch.LongTensor  # (windows, length): the positions of its tokens in the text
    real: torch.BoolTensor  # (windows, length): false at padding
    before: torch.BoolTensor  # (windows, length): the tokens before the text
    own: torch.BoolTensor  # (windows, length): where the window gives the state; each position has one such window


def make_windows(inputs: RationaleInputs, limit: int) -> Windows:
    r"""
    Cut texts into windows of at most `limit` tokens.

    A position takes its state from the window in which it is farthest from where the text was cut.

    Raises:
        ValueError: if a query leaves no room for the text.
    """
    pieces = []
    for row, (real, context) in enumerate(zip(inputs.real.bool(), inputs.context.bool(), strict=True)):
        before = context.nonzero().flatten().tolist()
        selectable = inputs.units.selectable[row].nonzero().flatten()
        last = int(selectable[-1]) if len(selectable) else -1
        others = (real & ~context).nonzero().flatten().tolist()
        text, behind = [place for place in others if place <= last], [place for place in others if place > last]
        room = limit - len(before) - len(behind)
        if room < 0 or (len(text) > room and room < OVERLAP):
            raise ValueError(f"A query leaves no room for its text within {limit} tokens. Shorten it.")
        stride = room - room // OVERLAP
        count = 1 if len(text) <= room else 1 + -(-(len(text) - room) // stride)
        starts = [min(index * stride, max(len(text) - room, 0)) for index in range(count)]
        # Where one window hands over to the next: in the middle of what both have.
        borders = [0, *((a + room + b) // 2 for a, b in itertools.pairwise(starts)), len(text)]
        for index, start in enumerate(starts):
            piece = text[start : start + room]
            own = [borders[index] <= start + place < borders[index + 1] for place in range(len(piece))]
            pieces.append((row, before, piece, behind, [*own, *[index == count - 1] * len(behind)]))
    length = max(len(before) + len(piece) + len(behind) for _, before, piece, behind, _ in pieces)
    shape = len(pieces), length
    places = torch.zeros(shape, dtype=torch.long)
    real, first, owned = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    for window, (_, before, piece, behind, own) in enumerate(pieces):
        tokens = [*before, *piece, *behind]
        places[window, : len(tokens)] = torch.tensor(tokens)
        real[window, : len(tokens)] = True
        first[window, : len(before)] = True
        owned[window, len(before) : len(tokens)] = torch.tensor(own, dtype=torch.bool)
    rows = torch.tensor([row for row, *_ in pieces])
    return Windows(*(part.to(inputs.real.device) for part in (rows, places, real, first, owned)))


def read(
    encoder: PreTrainedModel,
    inputs: RationaleInputs,
    visible: torch.Tensor,
    limit: int | None,
    hidden: torch.Tensor | None = None,
    zero: bool = False,
    **options,
) -> BaseModelOutput:
    r"""
    The encoder's output if it reads only what is `visible` (batch, seq). A text of more than `limit` tokens is read in
    windows. The tokens before the text then have the mean of their states in the windows that have visible text.

    Args:
        limit: the number of positions of the encoder; None if there is no limit.
        hidden (`torch.Tensor` of shape `(batch, seq, hidden)`, *optional*): states to read instead of the tokens.
        zero: hide what is not visible by zeros in the embeddings, instead of in the attention.
        options: `output_attentions` and `output_hidden_states`, for texts of one window.
    """
    if limit is None or inputs.real.shape[1] <= limit:
        return _read(encoder, inputs, visible, hidden, zero, options)
    if options:
        raise ValueError(
            f"{', '.join(options)}: a text of more than {limit} tokens is read in windows, which have no common "
            "attention weights and hidden states. Pass a shorter text."
        )
    windows = make_windows(inputs, limit)
    rows = windows.rows.unsqueeze(1)
    parts = inputs._replace(
        features={name: values[rows, windows.places] for name, values in inputs.features.items()},
        real=windows.real.long(),
    )
    seen = visible[rows, windows.places] * windows.real
    states = None if hidden is None else hidden[rows, windows.places]
    states = _read(encoder, parts, seen, states, zero, {}).last_hidden_state

    used = ((seen > 0) & ~windows.before).any(1) | zero  # with zeros, every token is read
    count = torch.zeros(len(inputs.real), device=used.device).index_add(0, windows.rows, used.float())
    used = used | (count == 0)[windows.rows]
    count = torch.zeros_like(count).index_add(0, windows.rows, used.float())
    weights = windows.own.float() + windows.before * (used / count[windows.rows]).unsqueeze(1)
    places = windows.rows.unsqueeze(1) * inputs.real.shape[1] + windows.places
    merged = states.new_zeros(inputs.real.numel(), states.shape[-1])
    merged = merged.index_add(0, places.flatten(), (states * weights.unsqueeze(-1).to(states.dtype)).flatten(0, 1))
    return BaseModelOutput(merged.view(*inputs.real.shape, -1))


def _read(encoder, inputs: RationaleInputs, visible, hidden, zero: bool, options) -> BaseModelOutput:
    tokens = encoder_inputs(encoder, inputs) if hidden is None else {"inputs_embeds": hidden}
    if not zero:
        return encode_visible(encoder, visible, inputs.real, **tokens, **options)
    embeddings = encoder.get_input_embeddings()(tokens.pop("input_ids"))
    embeddings = embeddings * visible.unsqueeze(-1).to(embeddings.dtype)
    return encoder(inputs_embeds=embeddings, attention_mask=inputs.real, **tokens, **options)
