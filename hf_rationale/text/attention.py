"""Masked attention: the predictor's encoder attends to selected tokens only, and the mask gets a gradient."""

from __future__ import annotations

from contextvars import ContextVar

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ..compat import (
    ALL_ATTENTION_FUNCTIONS,
    AttentionInterface,
    AttentionMaskInterface,
    sdpa_mask,
    supports_attention_functions,
)
from .encoder_traits import traits_of
from .shortening import can_shorten, encode_shortened


MASKED_ATTENTION = "rationale"  # the name of the attention implementation


class _MaskedSoftmax(torch.autograd.Function):
    """p_j = e^{s_j} m_j / Σ_k e^{s_k} m_k over the last dimension, with one saved tensor of the size of s.

    Let u_j = e^{s_j} / Σ_k e^{s_k} m_k, so that p = u m, and let g be the gradient that arrives at p. The gradient of
    s_j is p_j (g_j − Σ_k g_k p_k), and the slope of m_j is u_j (g_j − Σ_k g_k p_k). At a hidden token (m_j = 0), this
    slope has no bound: the scores of pretrained encoders differ so much that u_j exceeds 10^4, although a token can
    receive no more than all of the attention. If the token were visible as well, it would receive u_j / (1 + u_j).
    That takes the place of u_j, so that the gradient is that of the change from m_j = 0 to 1.
    """

    @staticmethod
    def forward(ctx, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # The largest visible score is subtracted, so that visible weights cannot underflow. Hidden ones are capped, so
        # that they cannot overflow.
        outside = torch.finfo(scores.dtype).min  # also the score of what may not be attended to
        largest = scores.masked_fill(mask == 0, outside).amax(-1, keepdim=True)
        weights = (scores - largest).clamp_(max=50.0).exp_()
        total = (weights * mask).sum(-1, keepdim=True)
        weights /= total.masked_fill(largest == outside, torch.inf)  # if nothing is visible, nothing is read
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
    output_attentions: bool | None = None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    r"""
    An attention function of transformers in which a mask multiplies the attention weights:
    p_ij = e^{s_ij} m_j / Σ_k e^{s_ik} m_k. With 0/1 values the forward pass is attention over the visible tokens only.
    The backward pass gives every m_j its gradient, and at m_j = 0 that of the change to 1. (An additive mask log m
    cannot do this, because its gradient is lost at 0.)

    Args:
        query, key, value (`torch.FloatTensor` of shape `(batch, heads, seq, head_size)`).
        attention_mask (`torch.BoolTensor`, *optional*): what may be attended to, broadcastable to
            `(batch, heads, seq, seq)`.
        visible (`torch.FloatTensor` of shape `(batch, seq)`, *optional*): m. Without it, this is sdpa attention.
        output_attentions (`bool`, *optional*): whether to return the attention weights even without `visible`.
    """
    if visible is None and not output_attentions:
        return ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=False, **kwargs
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query @ key.transpose(-1, -2)).float() * scaling
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    if visible is None:
        weights = scores.softmax(-1)
    else:
        weights = _MaskedSoftmax.apply(scores, visible[:, None, None, :].float())
    weights = F.dropout(weights.to(value.dtype), p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(MASKED_ATTENTION, masked_attention)
AttentionMaskInterface.register(MASKED_ATTENTION, sdpa_mask)


# The mask of the call that runs in this thread, for encoders whose attention does not take arguments.
_visible: ContextVar[torch.Tensor | None] = ContextVar("visible", default=None)


def _renormalize(dropout: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
    """Multiply attention weights by the mask before dropout, and normalize them again: Σ_k e^{s_ik} cancels."""
    if torch.compiler.is_compiling() or (visible := _visible.get()) is None:
        return None
    scores = args[0].clamp_min(torch.finfo(args[0].dtype).tiny).float().log()
    return (_MaskedSoftmax.apply(scores, visible[:, None, None, :].float()).to(args[0].dtype),)


def make_maskable(encoder: PreTrainedModel):
    """Give `encoder` the attention that [`encode_visible`] needs. This is done once, when the model is made."""
    name = traits_of(encoder.config).attention_class
    if name is None:
        encoder.set_attn_implementation(MASKED_ATTENTION)
        return
    for module in encoder.modules():
        if type(module).__name__ == name and _renormalize not in module.dropout._forward_pre_hooks.values():
            module.dropout.register_forward_pre_hook(_renormalize)


def supports_masked_attention(encoder: PreTrainedModel) -> bool:
    """Whether [`encode_visible`] can mask the attention of this encoder."""
    if any(getattr(module, "is_causal", False) for module in encoder.modules()):
        return False
    if getattr(encoder.config, "conv_kernel_size", 0) and encoder.config.model_type == "deberta-v2":
        return False  # the xlarge models have a convolution over neighbouring tokens beside the attention
    return traits_of(encoder.config).attention_class is not None or supports_attention_functions(encoder)


def encode_visible(
    encoder: PreTrainedModel, visible: torch.Tensor, attention_mask: torch.Tensor, **inputs
) -> BaseModelOutput:
    r"""
    The encoder's output if every token attends only to the tokens with `visible` (batch, seq) = 1. These are among the
    real tokens, which have `attention_mask` (batch, seq) = 1.

    If `visible` needs a gradient, it multiplies the attention weights (see [`masked_attention`]). Otherwise it serves
    as the attention mask, and outside of training the encoder runs on the visible tokens only, if it can (see
    [`encode_shortened`]).
    """
    if not visible.requires_grad:
        if can_shorten(encoder, inputs):
            return BaseModelOutput(encode_shortened(encoder, visible, **inputs))
        return encoder(attention_mask=visible.long(), **inputs)
    if traits_of(encoder.config).attention_class is None:
        return encoder(visible=visible, attention_mask=attention_mask, **inputs)
    token = _visible.set(visible)
    try:
        return encoder(attention_mask=attention_mask, **inputs)
    finally:
        _visible.reset(token)
