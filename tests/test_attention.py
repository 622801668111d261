"""Masked attention: its formula, its gradient, and what it does with extreme scores."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from common import ENCODERS, plmr_model, rationale_model
from torch import nn
from transformers import AutoModel

from hf_rationale.compat import ALL_ATTENTION_FUNCTIONS, attention_implementation
from hf_rationale.text.attention import MASKED_ATTENTION, _visible, make_maskable, masked_attention


def formula(query, key, value, visible, allowed=None) -> torch.Tensor:
    """p_ij = e^{s_ij} m_j / Σ_k e^{s_ik} m_k as it is written: autograd differentiates it."""
    weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).exp() * visible[:, None, None, :]
    if allowed is not None:
        weights = weights * allowed
    return (weights / weights.sum(-1, keepdim=True).clamp_min(1e-200) @ value).transpose(1, 2)


@pytest.fixture
def attention_inputs() -> tuple[torch.Tensor, ...]:
    query, key, value = (torch.randn(2, 3, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    visible = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0]], dtype=torch.float64)
    return query, key, value, visible.requires_grad_()


def attend(query, key, value, visible, attention_mask=None, dropout=0.0):
    module = SimpleNamespace(training=dropout > 0)
    return masked_attention(module, query, key, value, attention_mask, dropout=dropout, visible=visible)[0]


@pytest.mark.parametrize("windowed", [False, True])
def test_masked_attention_is_its_formula(attention_inputs, windowed: bool):
    allowed = None
    if windowed:
        # The window of every visible token contains a visible token. Those of the others may contain none; then the
        # token reads nothing and has no gradient.
        distance = torch.arange(9)[:, None] - torch.arange(9)
        allowed = (distance.abs() <= 2)[None, None]
    rows = attention_inputs[3].detach().bool()
    outputs = {
        "attend": attend(*attention_inputs, attention_mask=allowed),
        "formula": formula(*attention_inputs, allowed),
    }
    gradients = {}
    for name, output in outputs.items():
        output = output[rows] if windowed else output
        loss = (output * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)).sum()
        gradients[name] = torch.autograd.grad(loss, attention_inputs)
    # The scores are in single precision, whatever the inputs are.
    torch.testing.assert_close(outputs["attend"], outputs["formula"], atol=1e-5, rtol=1e-5)
    *ours, of_mask = gradients["attend"]
    *expected, slope = gradients["formula"]
    for gradient, other in zip((*ours, of_mask[rows]), (*expected, slope[rows]), strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)
    if not windowed:
        assert (of_mask[~rows] != 0).all()


def test_gradient_of_a_hidden_token_is_that_of_showing_it(attention_inputs):
    # The loss is linear in the output, so the gradient is the whole change, from m = 0 to 1; at m = 1, the slope.
    query, key, value, visible = attention_inputs
    weights = torch.randn(2, 9, 3, 4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((attend(*attention_inputs) * weights).sum(), visible)

    def loss(row: int, token: int, change: float) -> float:
        changed = visible.detach().clone()
        changed[row, token] += change
        return (formula(query, key, value, changed) * weights).sum().item()

    for row, token in (visible == 0).nonzero().tolist():
        assert gradient[row, token].item() == pytest.approx(loss(row, token, 1) - loss(row, token, 0), rel=1e-4)
    step = 1e-5
    for row, token in (visible == 1).nonzero().tolist():
        slope = (loss(row, token, step) - loss(row, token, -step)) / (2 * step)
        assert gradient[row, token].item() == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_gradient_of_a_hidden_token_where_attention_is_masked_at_its_weights():
    encoder = AutoModel.from_config(ENCODERS["mpnet"].config()).eval()
    make_maskable(encoder)
    make_maskable(encoder)  # a second time has no effect
    attention = encoder.encoder.layer[0].attention.attn
    with torch.no_grad():
        attention.k.weight.mul_(30)  # scores far apart, as pretrained encoders have them
    hidden_states = torch.randn(2, 9, encoder.config.hidden_size)
    visible = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0]]).float().requires_grad_()
    weights = torch.randn_like(hidden_states)

    def loss(visible: torch.Tensor) -> torch.Tensor:
        token = _visible.set(visible)
        try:
            return (attention(hidden_states)[0] * weights).sum()
        finally:
            _visible.reset(token)

    (gradient,) = torch.autograd.grad(loss(visible), visible)
    for row, token in (visible == 0).nonzero().tolist():
        shown = visible.detach().clone()
        shown[row, token] = 1
        assert gradient[row, token].item() == pytest.approx((loss(shown) - loss(visible)).item(), rel=1e-3, abs=1e-3)


def test_masked_attention_is_attention_among_the_visible(attention_inputs):
    query, key, value, visible = (tensor.detach().float() for tensor in attention_inputs)
    output = attend(query, key, value, visible)
    keep = visible[0].nonzero().flatten()
    plain = nn.functional.scaled_dot_product_attention(query[:1], key[:1, :, keep], value[:1, :, keep])
    torch.testing.assert_close(output[:1], plain.transpose(1, 2), atol=1e-6, rtol=0)


def test_without_a_mask_it_is_plain_attention(attention_inputs):
    module = nn.Module().eval()
    output, _ = masked_attention(module, *attention_inputs[:3], None)
    plain, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](module, *attention_inputs[:3], None, is_causal=False)
    torch.testing.assert_close(output, plain, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gap", [30.0, 300.0, 3000.0])
@pytest.mark.parametrize("largest_is_visible", [False, True])
def test_large_score_gaps_stay_finite(gap: float, largest_is_visible: bool, dtype: torch.dtype):
    # A hidden token that outscores all visible ones by far, or a visible one that outscores all others.
    key = torch.zeros(1, 1, 4, 2, dtype=dtype)
    key[0, 0, 1] = gap
    query, value = torch.ones(1, 1, 4, 2, dtype=dtype), torch.randn(1, 1, 4, 2).to(dtype)
    visible = torch.tensor([[1.0, float(largest_is_visible), 1.0, 0.0]], dtype=dtype)
    inputs = [tensor.requires_grad_() for tensor in (query, key, value, visible)]
    output = attend(*inputs)
    output.sum().backward()
    assert output.isfinite().all()
    assert all(tensor.grad.isfinite().all() for tensor in inputs)
    # The bound is all of the attention of four tokens, in two dimensions, whatever the scores.
    assert visible.grad.abs().max() <= 4 * 2 * (value.max() - value.min())
    expected = value[0, 0, 1] if largest_is_visible else value[0, 0, [0, 2]].float().mean(0).to(dtype)
    torch.testing.assert_close(output[0, 0, 0], expected, atol=1e-2, rtol=0)


def test_the_reader_keeps_its_attention_whatever_is_set():
    model = rationale_model("bert")
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        assert attention_implementation(model.reader) == MASKED_ATTENTION
        assert attention_implementation(model.extractor.encoder) == implementation


def test_where_nothing_is_visible_nothing_is_read(attention_inputs):
    query, key, value, _ = attention_inputs
    visible = torch.zeros(2, 9, dtype=torch.float64, requires_grad=True)
    output = attend(query, key, value, visible)
    output.sum().backward()
    assert (output == 0).all()
    assert visible.grad.isfinite().all()


def test_attention_dropout_keeps_hidden_tokens_hidden(attention_inputs):
    query, key, value, visible = attention_inputs
    other = value.detach().clone().transpose(1, 2)
    other[visible == 0] += 1
    outputs = []
    for values in (value, other.transpose(1, 2)):
        torch.manual_seed(0)
        outputs.append(attend(query, key, values, visible, dropout=0.5))
    torch.testing.assert_close(*outputs, atol=0, rtol=0)
    assert (outputs[0] != attend(query, key, value, visible)).any()


@pytest.mark.parametrize("make", [rationale_model, plmr_model], ids=["two players", "plmr"])
@pytest.mark.parametrize("encoder", ["bert", "modernbert", "mpnet"])
def test_attention_weights_are_returned_before_and_after_training(encoder: str, make):
    model = make(encoder, special_token_ids=[0, 1, 2]).eval()
    ids = torch.randint(5, 20, (2, 8))
    mask = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0], [0, 1, 0, 0, 1, 1, 0, 0]])

    def weights() -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return model(ids, rationale_mask=mask, output_attentions=True).attentions

    before = weights()
    assert len(before) == model.reader.config.num_hidden_layers or make is plmr_model
    for layer in before:
        assert layer.shape == (2, 2, 8, 8)
        hidden = (mask == 0)[:, None, None, :].expand_as(layer)
        assert not layer[hidden].any()
        seen = layer.sum(-1)[mask.bool()[:, None, :].expand(2, 2, 8)]
        torch.testing.assert_close(seen, torch.ones_like(seen))
    model.train()
    model(ids, labels=torch.tensor([0, 1])).loss.backward()
    model.eval()
    for one, other in zip(weights(), before, strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    with torch.no_grad():
        with_weights = model(ids, rationale_mask=mask, output_attentions=True).logits
        torch.testing.assert_close(with_weights, model(ids, rationale_mask=mask).logits, atol=1e-5, rtol=0)
