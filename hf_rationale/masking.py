"""Masks: sampling one, spending a budget, calibrating a threshold, and keeping the predictor from the rest.

Shapes: `batch` texts of `seq` tokens. A *unit* is what is selected as a whole: a token, or all the tokens of a word.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .compat import AttentionInterface, AttentionMaskInterface, sdpa_mask
from .shortening import can_shorten, counts_windows_by_index, encode_shortened


class Units(NamedTuple):
    """Which tokens are selected together, and which can be selected at all."""

    index: torch.LongTensor  # (batch, seq): number of the unit that a token belongs to, from 0, never decreasing
    selectable: torch.BoolTensor  # (batch, seq): real tokens that are neither special nor of a first segment
    first: torch.BoolTensor  # (batch, seq): the first token of every selectable unit, so that units are counted once


def token_units(selectable: torch.BoolTensor) -> Units:
    """Every token is a unit of its own."""
    index = torch.arange(selectable.shape[1], device=selectable.device).expand_as(selectable)
    return Units(index, selectable, selectable)


def word_units(word_ids: torch.LongTensor, selectable: torch.BoolTensor) -> Units:
    """Neighbouring tokens with the same entry of `word_ids` (batch, seq) are one unit."""
    start = torch.ones_like(selectable)
    start[:, 1:] = (word_ids[:, 1:] != word_ids[:, :-1]) | (selectable[:, 1:] != selectable[:, :-1])
    return Units(start.long().cumsum(1) - 1, selectable, start & selectable)


def mean_over_units(values: torch.Tensor, units: Units) -> torch.Tensor:
    """Give every token the mean of `values` (batch, seq, width) over the tokens of its unit."""
    index = units.index.unsqueeze(-1).expand_as(values)
    total = torch.zeros_like(values).scatter_add(1, index, values)
    count = torch.zeros_like(values).scatter_add(1, index, torch.ones_like(values))
    return (total / count.clamp_min(1)).gather(1, index)


def word_values(values: torch.Tensor, word_ids: torch.LongTensor, count: int) -> torch.Tensor:
    """The largest of the `values` (batch, seq), at least 0, of the tokens of each of `count` words: (batch, words).

    `word_ids` (batch, seq) is -1 for what is no word; a word that has no token, because it was cut off, gets 0."""
    values = torch.where(word_ids >= 0, values, 0)
    return values.new_zeros(len(values), count).scatter_reduce(1, word_ids.clamp_min(0), values, reduce="amax")


def gumbel_noise(logits: torch.Tensor) -> torch.Tensor:
    """Independent standard Gumbel noise of the shape of `logits`."""
    return -torch.empty_like(logits).exponential_().log()


def sample_mask(logits: torch.Tensor, units: Units, temperature: float) -> torch.Tensor:
    r"""
    Straight-through Gumbel-softmax (Jang et al. 2017): 0/1 in the forward pass, the gradient of the relaxed sample in
    the backward pass. One draw per unit; what cannot be selected is 0 before anything is counted, so that padding
    never fills the quota.

    Args:
        logits (`torch.FloatTensor` of shape `(batch, seq, 2)`): scores of leaving out and of selecting, equal within
            a unit.

    Returns:
        `torch.FloatTensor` of shape `(batch, seq)`.
    """
    noise = gumbel_noise(logits).gather(1, units.index.unsqueeze(-1).expand_as(logits))
    soft = ((logits + noise) / temperature).softmax(-1)[..., 1]
    hard = (soft > 0.5).to(soft.dtype)
    # Written so that the forward value is exactly 0 or 1: soft - soft is 0 whatever the rounding.
    return (hard + (soft - soft.detach())) * units.selectable


def cut_off(mask: torch.Tensor) -> torch.Tensor:
    """sg(m): the same mask, from which no gradient goes back to whoever selected it (see [`through`])."""
    return mask.detach().requires_grad_()


def through(loss: torch.Tensor, read: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    r"""
    `loss`, with the predictor's parameters fixed: its gradient goes through `mask` alone, to whoever selected it.

    One pass of the predictor serves two players: the graph stays, for the losses that are the predictor's own. Only
    the gradient with respect to `read` is taken here, which visits no parameter. (In float16 it is taken before the
    loss is scaled up, so that small slopes lose digits; bfloat16 has no such limit.)

    Args:
        loss (`torch.FloatTensor`, a scalar): what the player pays for its selection.
        read (`torch.FloatTensor` of shape `(batch, seq)`): the mask as the predictor has read it, `mask` itself or
            `cut_off(mask)`.
        mask (`torch.FloatTensor` of shape `(batch, seq)`): the player's mask.
    """
    (slope,) = torch.autograd.grad(loss, read, retain_graph=True)
    return loss.detach() + (slope * (mask - mask.detach())).sum()


def threshold_mask(scores: torch.Tensor, units: Units, threshold: float) -> torch.Tensor:
    """Select the units whose score (batch, seq) reaches `threshold`."""
    return ((scores >= threshold) & units.selectable).to(scores.dtype)


def budget_mask(
    scores: torch.Tensor, units: Units, ratio: float | torch.Tensor | None = None, top_k: int | None = None
) -> torch.Tensor:
    r"""
    Select the best-scored units of each text: `top_k` of them, or the share `ratio` (for all, or (batch, 1)), rounded
    to the nearest number and at least one (none at a ratio of 0). Of equal scores the first wins.
    """
    available = units.first.sum(1, keepdim=True)
    if ratio is not None:
        ratio = torch.as_tensor(ratio, device=available.device)
        budget = (ratio * available + 0.5).floor().maximum((ratio > 0).float())
    else:
        budget = torch.full_like(available, top_k)
    order = scores.masked_fill(~units.first, -1.0).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    chosen = units.first & (rank < budget)
    # From a unit's first token to all of them.
    chosen = torch.zeros_like(order).scatter_add(1, units.index, chosen.long()).gather(1, units.index) > 0
    return (chosen & units.selectable).to(scores.dtype)


def calibrate_threshold(scores: torch.Tensor, sparsity: float) -> float:
    r"""
    The threshold at which the share `sparsity` of all the units in `scores` (a flat tensor, the units of many texts)
    is selected; texts may differ. It lies midway between two scores, so that rounding does not move a unit across.
    """
    if not scores.numel():
        raise ValueError("There are no scores to calibrate a threshold on: no text has anything that can be selected.")
    scores = scores.flatten().sort(descending=True).values.double()
    count = min(max(round(sparsity * len(scores)), 1), len(scores))
    below = scores[count] if count < len(scores) else scores[-1]
    return float((scores[count - 1] + below) / 2)


# --- Masked attention ------------------------------------------------------------------------------------------

MASKED_ATTENTION = "rationale"


class _MaskedSoftmax(torch.autograd.Function):
    """p_j = e^{s_j} m_j / Σ_k e^{s_k} m_k over the last dimension, with one saved tensor of the size of s.

    With u_j = e^{s_j} / Σ_k e^{s_k} m_k, so that p = u m, and g the gradient that arrives at p: the gradient of s_j is
    p_j (g_j − Σ_k g_k p_k), the slope of m_j is u_j (g_j − Σ_k g_k p_k). Where a token is hidden, m_j = 0, the latter
    has no bound: the scores of pretrained encoders lie so far apart that u_j passes 10^4, while no more than all of
    the attention can go to a token. What would go to it, were it visible as well, is u_j / (1 + u_j): that takes the
    place of u_j, so that the gradient is that of the change from m_j = 0 to 1.
    """

    @staticmethod
    def forward(ctx, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # The largest visible score is taken off, so that visible weights cannot underflow; hidden ones are capped, so
        # that they cannot overflow.
        outside = torch.finfo(scores.dtype).min  # also the score of what may not be attended to
        largest = scores.masked_fill(mask == 0, outside).amax(-1, keepdim=True)
        weights = (scores - largest).clamp_(max=50.0).exp_()
        total = (weights * mask).sum(-1, keepdim=True)
        weights /= total.masked_fill(largest == outside, torch.inf)  # where nothing is visible, nothing is read
        ctx.save_for_backward(weights, mask)
        return weights * mask

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights, mask = ctx.saved_tensors
        centred = gradient - (gradient * weights * mask).sum(-1, keepdim=True)
        centred *= weights
        of_mask = centred / torch.where(mask == 0, 1 + weights, 1)
        return centred * mask, of_mask.sum_to_size(mask.shape)


def masked_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    visible: torch.Tensor | None = None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    r"""
    An attention function of transformers in which a mask multiplies the attention weights,
    p_ij = e^{s_ij} m_j / Σ_k e^{s_ik} m_k. With 0/1 values the forward pass is attention over the visible tokens
    alone; the backward pass still gives every m_j its gradient, where m_j = 0 that of the change to 1. (An additive
    mask log m cannot: its gradient is lost at 0.)

    Args:
        query, key, value (`torch.FloatTensor` of shape `(batch, heads, seq, head_size)`).
        attention_mask (`torch.BoolTensor`, *optional*): what may be attended to, broadcastable to
            `(batch, heads, seq, seq)`.
        visible (`torch.FloatTensor` of shape `(batch, seq)`, *optional*): m; without it this is plain attention.
    """
    if visible is None:
        return ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=False, **kwargs
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query @ key.transpose(-1, -2)).float() * scaling
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = _MaskedSoftmax.apply(scores, visible[:, None, None, :].float())
    weights = F.dropout(weights.to(value.dtype), p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(MASKED_ATTENTION, masked_attention)
AttentionMaskInterface.register(MASKED_ATTENTION, sdpa_mask)


# Encoders whose attention does not go through the interface: the class whose `dropout` is applied to the weights.
_WEIGHTS_PASS_DROPOUT = {"mpnet": "MPNetSelfAttention", "deberta-v2": "DisentangledSelfAttention"}


def masks_by_hooks(encoder: nn.Module) -> bool:
    """Whether the attention of this encoder is masked during the call alone, not when it is recomputed."""
    return encoder.config.model_type in _WEIGHTS_PASS_DROPOUT


def supports_masked_attention(encoder: nn.Module) -> bool:
    """Whether [`encode_visible`] can mask the attention of this encoder."""
    if any(getattr(module, "is_causal", False) for module in encoder.modules()):
        return False
    if getattr(encoder.config, "conv_kernel_size", 0) and encoder.config.model_type == "deberta-v2":
        return False  # the xlarge models: a convolution over neighbours, beside the attention
    return masks_by_hooks(encoder) or bool(encoder._supports_attention_backend)


def encode_visible(
    encoder: nn.Module, visible: torch.Tensor, attention_mask: torch.Tensor, **inputs
) -> BaseModelOutput:
    r"""
    The encoder's output, where every token attends to the tokens with `visible` (batch, seq) = 1 alone; they are
    among the real ones, `attention_mask` (batch, seq) = 1.

    Without a gradient to carry, this is what an attention mask does; outside of training, the encoder runs on the
    visible tokens alone where that can be done (see [`encode_shortened`]). With one, the mask multiplies the attention
    weights (see [`masked_attention`]).
    """
    if not visible.requires_grad:
        if counts_windows_by_index(encoder) and visible is not attention_mask:
            mask_attention_in_training(encoder)  # or a window would be as many visible tokens, however far apart
        if can_shorten(encoder, inputs):
            return BaseModelOutput(encode_shortened(encoder, visible, **inputs))
        return encoder(attention_mask=visible.long(), **inputs)
    if masks_by_hooks(encoder):
        with _weights_multiplied(encoder, visible):
            return encoder(attention_mask=attention_mask, **inputs)
    mask_attention_in_training(encoder)
    return encoder(visible=visible, attention_mask=attention_mask, **inputs)


def mask_attention_in_training(encoder: nn.Module):
    """Make `encoder`, and what shares its config, ready for masks that carry a gradient.

    It stays so: gradient checkpointing runs the layers again after the call, and has to find the same attention, also
    in layers that ran before anything was masked. Without a mask it is plain sdpa.
    """
    if not masks_by_hooks(encoder):
        encoder.config._attn_implementation = MASKED_ATTENTION


@contextmanager
def _weights_multiplied(encoder: nn.Module, visible: torch.Tensor):
    """Multiply and renormalize the attention weights on their way into dropout: Σ_k e^{s_ik} cancels."""

    def renormalize(dropout: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        scores = args[0].clamp_min(torch.finfo(args[0].dtype).tiny).float().log()
        return (_MaskedSoftmax.apply(scores, visible[:, None, None, :].float()).to(args[0].dtype),)

    name = _WEIGHTS_PASS_DROPOUT[encoder.config.model_type]
    hooks = [
        module.dropout.register_forward_pre_hook(renormalize)
        for module in encoder.modules()
        if type(module).__name__ == name
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
