"""Masks against loops that say the same in plain Python."""

import math
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from common import ENCODERS
from torch import nn
from transformers import AutoModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_rationale.masking import (
    Units,
    _weights_multiplied,
    budget_mask,
    calibrate_threshold,
    encode_visible,
    masked_attention,
    mean_over_units,
    sample_mask,
    threshold_mask,
    token_units,
    word_units,
    word_values,
)


SEEDS = range(20)


def random_units(seed: int, by_word: bool, rows: int = 4, length: int = 23) -> Units:
    """Texts with special tokens here and there, padding on either side, and words of one to four tokens."""
    generator = torch.Generator().manual_seed(seed)
    selectable = torch.rand(rows, length, generator=generator) > 0.15
    for row in range(rows):
        start, end = sorted(torch.randint(0, length + 1, (2,), generator=generator).tolist())
        selectable[row, :start] = selectable[row, end:] = False
    selectable[0] = False  # a text with nothing to select
    if not by_word:
        return token_units(selectable)
    word_ids = (torch.rand(rows, length, generator=generator) > 0.5).long().cumsum(1)
    return word_units(word_ids.masked_fill(~selectable, -1), selectable)


def members(units: Units, row: int) -> list[list[int]]:
    """The tokens of every unit of a text that can be selected, in order."""
    groups: dict[int, list[int]] = {}
    for token, index in enumerate(units.index[row].tolist()):
        if units.selectable[row, token]:
            groups.setdefault(index, []).append(token)
    return list(groups.values())


def unit_scores(units: Units, seed: int, levels: int) -> torch.Tensor:
    """Scores, equal within a unit, of which many are equal where there are few `levels`."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, levels + 1, units.index.shape, generator=generator) / levels
    return scores.gather(1, units.index) * units.selectable


all_units = pytest.mark.parametrize("by_word", [False, True], ids=["token", "word"])
seeds = pytest.mark.parametrize("seed", SEEDS)


# --- Units ---------------------------------------------------------------------------------------------------------


def test_word_units():
    selectable = torch.tensor([[0, 1, 1, 1, 0, 1, 1, 0]]).bool()
    word_ids = torch.tensor([[-1, 0, 0, 1, -1, 1, 2, -1]])
    units = word_units(word_ids, selectable)
    assert units.index.tolist() == [[0, 1, 1, 2, 3, 4, 5, 6]]  # what a special token parts is not one word
    assert units.first.tolist() == [[False, True, False, True, False, True, True, False]]


def test_token_units():
    selectable = torch.tensor([[0, 1, 1, 0]]).bool()
    units = token_units(selectable)
    assert units.index.tolist() == [[0, 1, 2, 3]]
    assert units.first.tolist() == selectable.tolist()


@all_units
@seeds
def test_mean_over_units(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    values = torch.randn(*units.index.shape, 2, generator=torch.Generator().manual_seed(seed))
    means = mean_over_units(values, units)
    for row in range(len(values)):
        for tokens in members(units, row):
            expected = values[row, tokens].mean(0)
            torch.testing.assert_close(means[row, tokens], expected.expand(len(tokens), 2))


# --- Sampling ------------------------------------------------------------------------------------------------------


@all_units
@seeds
def test_samples_are_0_or_1_and_whole(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    logits = mean_over_units(5 * torch.randn(*units.index.shape, 2), units).requires_grad_()
    mask = sample_mask(logits, units, temperature=0.7)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert (mask[~units.selectable] == 0).all()
    for row in range(len(mask)):
        assert all(len(mask[row, tokens].unique()) == 1 for tokens in members(units, row))
    (mask * torch.randn_like(mask)).sum().backward()
    assert (logits.grad[~units.selectable] == 0).all()
    assert (logits.grad[units.selectable] != 0).any(1).float().mean() > 0.95


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_samples_have_the_extractors_probability(temperature: float):
    # A Gumbel draw takes the larger logit with softmax's probability, whatever the temperature.
    units = token_units(torch.ones(1, 20000, dtype=torch.bool))
    logits = torch.tensor([0.3, -0.9]).expand(1, 20000, 2)
    expected = math.exp(-0.9) / (math.exp(0.3) + math.exp(-0.9))
    assert sample_mask(logits, units, temperature).mean().item() == pytest.approx(expected, abs=0.015)


def test_samples_gradient_is_that_of_the_relaxed_sample():
    units = token_units(torch.ones(1, 6, dtype=torch.bool))
    logits = torch.randn(1, 6, 2, requires_grad=True)
    torch.manual_seed(5)
    sample_mask(logits, units, temperature=2.0)[0, 3].backward()
    torch.manual_seed(5)
    noise = -torch.empty_like(logits).exponential_().log()
    soft = ((logits.detach() + noise) / 2).softmax(-1)[0, 3]
    slope = (soft[0] * soft[1] / 2).item()
    expected = torch.zeros(1, 6, 2)
    expected[0, 3] = torch.tensor([-slope, slope])
    torch.testing.assert_close(logits.grad, expected)


def test_extreme_logits_sample_finitely():
    logits = torch.tensor([[[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]]], requires_grad=True)
    mask = sample_mask(logits, token_units(torch.ones(1, 3, dtype=torch.bool)), temperature=0.01)
    mask.sum().backward()
    assert mask[0, :2].tolist() == [0, 1]
    assert logits.grad.isfinite().all()


# --- Thresholds and budgets ----------------------------------------------------------------------------------------


@all_units
@seeds
def test_threshold_mask(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    scores = unit_scores(units, seed, levels=10)
    for threshold in (0.0, 0.5, 1.0):
        mask = threshold_mask(scores, units, threshold)
        for row in range(len(mask)):
            for token in range(mask.shape[1]):
                chosen = bool(units.selectable[row, token]) and scores[row, token].item() >= threshold
                assert mask[row, token] == chosen


@all_units
@seeds
def test_budget_mask(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    for levels in (2, 1000):  # with ties, and next to none
        scores = unit_scores(units, seed, levels)
        for budget in ({"ratio": 0.0}, {"ratio": 0.1}, {"ratio": 0.5}, {"ratio": 1.0}, {"top_k": 0}, {"top_k": 4}):
            mask = budget_mask(scores, units, **budget)
            assert mask.dtype == scores.dtype
            for row in range(len(mask)):
                groups = members(units, row)
                if "top_k" in budget:
                    count = budget["top_k"]
                else:
                    count = max(math.floor(budget["ratio"] * len(groups) + 0.5), int(budget["ratio"] > 0))
                # Python's sort is stable: of equal scores the first in the text wins.
                best = sorted(groups, key=lambda tokens: -scores[row, tokens[0]].item())[:count]
                assert mask[row].nonzero().flatten().tolist() == sorted(token for group in best for token in group)


@pytest.mark.parametrize("ratio", ["0.05", "0.1", "0.145", "0.15", "0.25", "0.35", "0.55", "0.7", "0.999"])
def test_budgets_round_half_up_and_exactly(ratio: str):
    lengths = range(1, 513)
    selectable = torch.arange(512).expand(512, 512) < torch.tensor(lengths).unsqueeze(1)
    mask = budget_mask(torch.rand(512, 512), token_units(selectable), ratio=float(ratio))
    expected = [max(math.floor(Fraction(ratio) * length + Fraction(1, 2)), 1) for length in lengths]
    assert mask.sum(1).int().tolist() == expected


# --- Calibration ---------------------------------------------------------------------------------------------------


@seeds
@pytest.mark.parametrize("sparsity", [0.01, 0.15, 0.5, 0.99])
def test_calibrated_threshold_hits_the_share(seed: int, sparsity: float):
    scores = torch.rand(997, generator=torch.Generator().manual_seed(seed))
    threshold = calibrate_threshold(scores, sparsity)
    assert (scores >= threshold).sum().item() == round(sparsity * 997)
    # Midway between two scores: no rounding of a score moves it across.
    assert (scores - threshold).abs().min() > 0
    assert calibrate_threshold(scores.reshape(1, -1), sparsity) == threshold


def test_calibration_of_few_scores():
    assert calibrate_threshold(torch.tensor([0.3]), 0.1) == pytest.approx(0.3)
    threshold = calibrate_threshold(torch.tensor([0.2, 0.8]), 0.01)
    assert threshold == pytest.approx(0.5)  # at least one is selected


def test_calibration_of_equal_scores_selects_them_all():
    # No threshold selects 20 % of equal scores; a budget can.
    scores = torch.full((50,), 0.25)
    assert (scores >= calibrate_threshold(scores, 0.2)).all()


def test_calibration_needs_scores():
    with pytest.raises(ValueError, match="no scores"):
        calibrate_threshold(torch.tensor([]), 0.2)


# --- Masked attention ----------------------------------------------------------------------------------------------


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
        # Every window has something visible in it, at the tokens whose states matter: the visible ones. Others may see
        # nothing, read nothing, and have no slope.
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
    attention = encoder.encoder.layer[0].attention.attn
    with torch.no_grad():
        attention.k.weight.mul_(30)  # scores far apart, as pretrained encoders have them
    hidden_states = torch.randn(2, 9, encoder.config.hidden_size)
    visible = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0]]).float().requires_grad_()
    weights = torch.randn_like(hidden_states)

    def loss(visible: torch.Tensor) -> torch.Tensor:
        with _weights_multiplied(encoder, visible):
            return (attention(hidden_states)[0] * weights).sum()

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
    # However much a hidden token outscores the others: all of the attention of four tokens, in two dimensions.
    assert visible.grad.abs().max() <= 4 * 2 * (value.max() - value.min())
    expected = value[0, 0, 1] if largest_is_visible else value[0, 0, [0, 2]].float().mean(0).to(dtype)
    torch.testing.assert_close(output[0, 0, 0], expected, atol=1e-2, rtol=0)


def test_windows_are_counted_by_place_under_flash_attention_too():
    # Its kernels are told which tokens are left, and not where these stood. None runs here: what hides tokens is not
    # left to them.
    encoder = AutoModel.from_config(ENCODERS["modernbert"].config(), attn_implementation="sdpa").eval()
    ids = torch.randint(5, 20, (2, 12))
    everything, visible = torch.ones(2, 12), torch.zeros(2, 12)
    visible[:, [0, 1, 4, 9]] = 1
    expected = encode_visible(encoder, visible, everything, input_ids=ids).last_hidden_state
    encoder.config._attn_implementation = "flash_attention_2"
    found = encode_visible(encoder, visible, everything, input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


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


def test_word_values_are_the_largest_of_their_tokens():
    word_ids = torch.tensor([[-1, 0, 0, 1, 2, -1], [-1, 3, 3, 4, -1, -1]])
    values = torch.tensor([[1.0, 0.0, 0.7, 0.0, 1.0, 1.0], [0.0, 0.2, 0.1, 1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.7, 0, 1, 0, 0, 0], [0, 0, 0, 0.2, 1, 0]])
    assert torch.equal(word_values(values, word_ids, 6), expected)
