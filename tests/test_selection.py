"""Units, samplers, budgets, decoding and calibration, against plain loops."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from hf_rationale.modeling.objective import selected_share
from hf_rationale.modeling.selection import (
    GumbelSampler,
    KumaraswamySampler,
    Units,
    budget_mask,
    calibrate_threshold,
    grouped_units,
    marks_of_positions,
    mean_over_parts,
    single_units,
    spans_mask,
    threshold_mask,
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
        return single_units(selectable)
    word_ids = (torch.rand(rows, length, generator=generator) > 0.5).long().cumsum(1)
    return grouped_units(word_ids.masked_fill(~selectable, -1), selectable)


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


def test_grouped_units():
    selectable = torch.tensor([[0, 1, 1, 1, 0, 1, 1, 0]]).bool()
    word_ids = torch.tensor([[-1, 0, 0, 1, -1, 1, 2, -1]])
    units = grouped_units(word_ids, selectable)
    assert units.index.tolist() == [[0, 1, 1, 2, 3, 4, 5, 6]]  # what a special token parts is not one word
    assert units.first.tolist() == [[False, True, False, True, False, True, True, False]]


def test_single_units():
    selectable = torch.tensor([[0, 1, 1, 0]]).bool()
    units = single_units(selectable)
    assert units.index.tolist() == [[0, 1, 2, 3]]
    assert units.first.tolist() == selectable.tolist()


@all_units
@seeds
def test_mean_over_parts(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    values = torch.randn(*units.index.shape, 2, generator=torch.Generator().manual_seed(seed))
    means = mean_over_parts(values, units)
    for row in range(len(values)):
        for tokens in members(units, row):
            expected = values[row, tokens].mean(0)
            torch.testing.assert_close(means[row, tokens], expected.expand(len(tokens), 2))


# --- Sampling ------------------------------------------------------------------------------------------------------


@all_units
@seeds
def test_samples_are_0_or_1_and_whole(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    logits = mean_over_parts(5 * torch.randn(*units.index.shape, 2), units).requires_grad_()
    mask = GumbelSampler.sample(logits, units, temperature=0.7)
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
    units = single_units(torch.ones(1, 20000, dtype=torch.bool))
    logits = torch.tensor([0.3, -0.9]).expand(1, 20000, 2)
    expected = math.exp(-0.9) / (math.exp(0.3) + math.exp(-0.9))
    assert GumbelSampler.sample(logits, units, temperature).mean().item() == pytest.approx(expected, abs=0.015)


def test_samples_gradient_is_that_of_the_relaxed_sample():
    units = single_units(torch.ones(1, 6, dtype=torch.bool))
    logits = torch.randn(1, 6, 2, requires_grad=True)
    torch.manual_seed(5)
    GumbelSampler.sample(logits, units, temperature=2.0)[0, 3].backward()
    torch.manual_seed(5)
    noise = -torch.empty_like(logits).exponential_().log()
    soft = ((logits.detach() + noise) / 2).softmax(-1)[0, 3]
    slope = (soft[0] * soft[1] / 2).item()
    expected = torch.zeros(1, 6, 2)
    expected[0, 3] = torch.tensor([-slope, slope])
    torch.testing.assert_close(logits.grad, expected)


def test_extreme_logits_sample_finitely():
    logits = torch.tensor([[[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]]], requires_grad=True)
    mask = GumbelSampler.sample(logits, single_units(torch.ones(1, 3, dtype=torch.bool)), temperature=0.01)
    mask.sum().backward()
    assert mask[0, :2].tolist() == [0, 1]
    assert logits.grad.isfinite().all()


# --- Units of parts -------------------------------------------------------------------------------------------------


def sentence_units(seed: int) -> Units:
    """Sentences of words of tokens."""
    generator = torch.Generator().manual_seed(seed)
    words = random_units(seed, by_word=True)
    sentences = (torch.rand(words.index.shape, generator=generator) > 0.7).long().cumsum(1)
    first_of_word = torch.zeros_like(words.index).scatter_reduce(1, words.index, sentences, "amax")
    return grouped_units(first_of_word.gather(1, words.index), words.selectable, words.first, part_ids=words.index)


@seeds
def test_a_unit_has_the_mean_probability_of_its_parts(seed: int):
    units = sentence_units(seed)
    logits = mean_over_parts(torch.randn(*units.index.shape, 2), units)
    probability = GumbelSampler.probability(logits)
    joined = GumbelSampler.probability(GumbelSampler.join(logits, units))
    for row in range(len(logits)):
        for tokens in members(units, row):
            words = [token for token in tokens if units.sizes[row, token]]
            assert units.weights[row, tokens[0]] == len(words)
            expected = probability[row, words].mean()
            torch.testing.assert_close(joined[row, tokens], expected.expand(len(tokens)))


@seeds
def test_separate_units_are_the_parts(seed: int):
    units = sentence_units(seed)
    words = grouped_units(units.parts, units.selectable)
    for one, other in zip(units.separate(), words, strict=True):
        assert one is other is None or torch.equal(one, other)
    assert words.separate() is words


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


def value_of_spans(groups: list[list[int]], gains: list[float], switch_cost: float, chosen: set[int]) -> float:
    selected = {token for group in chosen for token in groups[group]}
    inside = [token in selected for token in range(-1, max(itertools.chain([0], *groups)) + 2)]
    switches = sum(one != other for one, other in itertools.pairwise(inside))
    return sum(gains[group] for group in chosen) - switch_cost * switches


@pytest.mark.parametrize("switch_cost", [0.01, 0.1, 0.4])
@seeds
def test_spans_are_the_best_of_all_selections(seed: int, switch_cost: float):
    units = random_units(seed, by_word=seed % 2 == 0, length=9)
    scores, previous = unit_scores(units, seed, 1000), None
    for threshold in (0.2, 0.5, 0.8):
        mask = spans_mask(scores, units, threshold, switch_cost)
        for row in range(len(mask)):
            groups, best = members(units, row), 0.0
            gains = [float(scores[row, group[0]]) - threshold for group in groups]
            value = partial(value_of_spans, groups, gains, switch_cost)
            for chosen in itertools.product([False, True], repeat=len(groups)):
                best = max(best, value({place for place, taken in enumerate(chosen) if taken}))
            selected = {place for place, group in enumerate(groups) if mask[row, group[0]]}
            assert value(selected) == pytest.approx(best, abs=1e-6)
        assert previous is None or (mask <= previous).all()
        previous = mask


@pytest.mark.parametrize("ratio", ["0.05", "0.1", "0.145", "0.15", "0.25", "0.35", "0.55", "0.7", "0.999"])
def test_budgets_round_half_up_and_exactly(ratio: str):
    lengths = range(1, 513)
    selectable = torch.arange(512).expand(512, 512) < torch.tensor(lengths).unsqueeze(1)
    mask = budget_mask(torch.rand(512, 512), single_units(selectable), ratio=float(ratio))
    expected = [max(math.floor(Fraction(ratio) * length + Fraction(1, 2)), 1) for length in lengths]
    assert mask.sum(1).int().tolist() == expected


def test_a_budget_by_weight_takes_whole_units():
    """Sentences of 2, 5 and 3 words: a sentence is taken as long as half of it fits into the share."""
    sentence_ids = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 2, 2, 2]])
    selectable = torch.ones(1, 10, dtype=torch.bool)
    units = grouped_units(sentence_ids, selectable, sizes=selectable)
    assert units.weights.tolist() == [[2, 0, 5, 0, 0, 0, 0, 3, 0, 0]]
    scores = torch.tensor([[0.9] * 2 + [0.2] * 5 + [0.5] * 3])
    for ratio, taken in ((0.01, 2), (0.2, 2), (0.34, 2), (0.35, 5), (0.7, 5), (0.75, 10), (1.0, 10)):
        mask = budget_mask(scores, units, ratio=ratio)
        assert mask.sum() == taken, ratio
    assert selected_share(budget_mask(scores, units, ratio=0.5), units).item() == pytest.approx(0.5)
    assert budget_mask(scores, units, top_k=2).tolist() == [[1, 1, 0, 0, 0, 0, 0, 1, 1, 1]]


# --- Kumaraswamy -----------------------------------------------------------------------------------------------------


def test_kumaraswamy_gates_are_nonzero_with_their_probability():
    units = single_units(torch.ones(1, 20000, dtype=torch.bool))
    for one in ((0.3, -0.9), (-1.0, 2.0), (2.0, -1.0)):
        logits = torch.tensor(one).expand(1, 20000, 2)
        gates = KumaraswamySampler.sample(logits, units, temperature=1.0)
        assert gates.amin() >= 0 and gates.amax() <= 1
        expected = KumaraswamySampler.probability(logits)[0, 0].item()
        assert (gates > 0).float().mean().item() == pytest.approx(expected, abs=0.015)
        assert ((gates > 0) & (gates < 1)).any()


def test_kumaraswamy_samples_are_those_of_its_distribution():
    """The inverse of F(x) = 1 - (1 - x^a)^b, stretched to (-0.1, 1.1): the share of gates below x is F."""
    units = single_units(torch.ones(1, 20000, dtype=torch.bool))
    logits = torch.tensor((0.3, 1.2)).expand(1, 20000, 2)
    b, a = F.softplus(torch.tensor((0.3, 1.2))).tolist()
    gates = KumaraswamySampler.sample(logits, units, temperature=1.0)
    for x in (0.2, 0.5, 0.8):
        expected = 1 - (1 - ((x + 0.1) / 1.2) ** a) ** b
        assert (gates <= x).float().mean().item() == pytest.approx(expected, abs=0.015)


@all_units
def test_kumaraswamy_samples_are_whole_and_have_a_gradient(by_word: bool):
    units = random_units(3, by_word)
    logits = mean_over_parts(torch.randn(*units.index.shape, 2), units).requires_grad_()
    mask = KumaraswamySampler.sample(logits, units, temperature=1.0)
    assert (mask[~units.selectable] == 0).all()
    for row in range(len(mask)):
        assert all(len(mask[row, tokens].unique()) == 1 for tokens in members(units, row))
    mask.sum().backward()
    between = (mask > 0) & (mask < 1)
    assert (logits.grad[between] != 0).any(1).all() and logits.grad.isfinite().all()


# --- Calibration -----------------------------------------------------------------------------------------------------


def flat(scores: torch.Tensor, rows: int = 1) -> list[tuple[torch.Tensor, Units]]:
    """`scores` as those of inputs without padding."""
    scores = scores.reshape(rows, -1)
    return [(scores, single_units(torch.ones_like(scores, dtype=torch.bool)))]


@seeds
@pytest.mark.parametrize("sparsity", [0.01, 0.15, 0.5, 0.99])
def test_calibrated_threshold_hits_the_share(seed: int, sparsity: float):
    scores = torch.rand(997, generator=torch.Generator().manual_seed(seed))
    threshold = calibrate_threshold(flat(scores), sparsity)
    assert (scores >= threshold).sum().item() == round(sparsity * 997)
    # It lies midway between two scores, so that rounding of a score does not matter.
    assert (scores - threshold).abs().min() > 0
    halves = [*flat(scores[:500], rows=5), *flat(scores[500:])]
    assert calibrate_threshold(halves, sparsity) == threshold


@all_units
@seeds
def test_calibration_counts_units_and_not_padding(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    scores = unit_scores(units, seed, levels=10000)
    threshold = calibrate_threshold([(scores, units)], 0.3)
    count = int(units.first.sum())
    assert int((threshold_mask(scores, units, threshold) * units.first).sum()) == max(round(0.3 * count), 1)


def smoothed(scores: torch.Tensor, units: Units, threshold: float) -> torch.Tensor:
    """A decoder that looks at the neighbours of a unit: it compares the mean score of three units."""
    padded = F.pad(scores * units.selectable, (1, 1))
    return threshold_mask((padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3, units, threshold)


@seeds
def test_calibration_with_a_decoder_that_looks_at_neighbours(seed: int):
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for length in (40, 25, 60):
        selectable = torch.arange(60).expand(4, -1) < length
        inputs.append((torch.rand(4, 60, generator=generator) * selectable, single_units(selectable)))
    threshold = calibrate_threshold(inputs, 0.2, decode=smoothed)
    shares = [(smoothed(scores, units, threshold) * units.weights).sum() for scores, units in inputs]
    # Means of three lie closer together than scores, between which the threshold is sought.
    assert sum(shares) / (4 * 125) == pytest.approx(0.2, abs=0.02)
    assert calibrate_threshold(inputs, 0.2) != threshold


def test_calibration_of_few_scores():
    assert calibrate_threshold(flat(torch.tensor([0.3])), 0.1) == pytest.approx(0.3)
    threshold = calibrate_threshold(flat(torch.tensor([0.2, 0.8])), 0.01)
    assert threshold == pytest.approx(0.5)  # at least one is selected


def test_calibration_of_equal_scores_selects_them_all():
    # No threshold selects 20 % of equal scores; a budget can.
    scores = torch.full((50,), 0.25)
    assert (scores >= calibrate_threshold(flat(scores), 0.2)).all()


def test_calibration_without_scores_raises():
    for inputs in ([], [(torch.zeros(2, 3), single_units(torch.zeros(2, 3, dtype=torch.bool)))]):
        with pytest.raises(ValueError, match="no input has a unit"):
            calibrate_threshold(inputs, 0.2)


def test_mark_values_are_the_largest_of_their_tokens():
    word_ids = torch.tensor([[-1, 0, 0, 1, 2, -1], [-1, 3, 3, 4, -1, -1]])
    values = torch.tensor([[1.0, 0.0, 0.7, 0.0, 1.0, 1.0], [0.0, 0.2, 0.1, 1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.7, 0, 1, 0, 0, 0], [0, 0, 0, 0.2, 1, 0]])
    assert torch.equal(marks_of_positions(word_ids).values(values, 6), expected)
