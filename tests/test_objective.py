"""Ω(m) against loops that say the same in plain Python."""

from itertools import pairwise

import pytest
import torch
from test_selection import members, random_units

from hf_rationale.modeling.objective import coherence, compactness, selected_share
from hf_rationale.modeling.selection import Units, grouped_units, single_units


SPARSITY = 0.3

all_units = pytest.mark.parametrize("by_word", [False, True], ids=["token", "word"])
seeds = pytest.mark.parametrize("seed", range(20))


def random_mask(units: Units, seed: int) -> torch.Tensor:
    drawn = torch.rand(units.index.shape, generator=torch.Generator().manual_seed(seed)).round()
    return drawn.gather(1, units.index) * units.selectable


def chosen(mask: torch.Tensor, units: Units, row: int) -> list[float]:
    """Of every unit that can be selected, whether it is."""
    return [mask[row, tokens[0]].item() for tokens in members(units, row)]


@all_units
@seeds
def test_selected_share_and_compactness(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    mask = random_mask(units, seed)
    texts = [chosen(mask, units, row) for row in range(len(mask))]
    shares = [sum(text) / max(len(text), 1) for text in texts]
    assert selected_share(mask, units).tolist() == pytest.approx(shares)
    example = sum(abs(share - SPARSITY) for share in shares) / len(shares)
    assert compactness(mask, units, SPARSITY).item() == pytest.approx(example)
    batch = abs(sum(map(sum, texts)) / max(sum(map(len, texts)), 1) - SPARSITY)
    assert compactness(mask, units, SPARSITY, "batch").item() == pytest.approx(batch, abs=1e-6)


@all_units
@seeds
def test_every_text_can_have_a_target_of_its_own(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    mask, wanted = random_mask(units, seed), random_mask(units, seed + 1)
    shares = selected_share(wanted, units)
    distances = [abs(a - b) for a, b in zip(selected_share(mask, units).tolist(), shares.tolist(), strict=True)]
    assert compactness(mask, units, shares).item() == pytest.approx(sum(distances) / len(distances), abs=1e-6)
    texts = [(chosen(mask, units, row), chosen(wanted, units, row)) for row in range(len(mask))]
    counts = [sum(map(sum, side)) for side in zip(*texts, strict=True)]
    batch = abs(counts[0] - counts[1]) / max(sum(len(text) for text, _ in texts), 1)
    assert compactness(mask, units, shares, "batch").item() == pytest.approx(batch, abs=1e-6)


@all_units
@seeds
def test_coherence(seed: int, by_word: bool):
    units = random_units(seed, by_word)
    mask = random_mask(units, seed)
    expected = 0.0
    for row in range(len(mask)):
        groups = members(units, row)
        changes = sum(
            abs(mask[row, left[-1]].item() - mask[row, right[0]].item())
            for left, right in pairwise(groups)
            if left[-1] + 1 == right[0]  # neighbours: with no special token in between
        )
        expected += changes / max(len(groups), 1) / len(mask)
    assert coherence(mask, units).item() == pytest.approx(expected)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("padding", [1, 50])
def test_padding_and_its_length_are_irrelevant(padding: int, side: str):
    selectable = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1]]).bool()
    mask = torch.tensor([[0, 1, 1, 0, 1, 0], [0, 0, 1, 0, 0, 0]]).float()
    # Whatever a mask says at padding: it is not part of the text.
    filler = torch.arange(padding).expand(2, padding) % 2
    parts = ([selectable, torch.zeros(2, padding).bool()], [mask, filler.float()])
    long_selectable, long_mask = (torch.cat(pair if side == "right" else pair[::-1], 1) for pair in parts)
    short, long = single_units(selectable), single_units(long_selectable)
    for level in ("example", "batch"):
        torch.testing.assert_close(
            compactness(long_mask, long, SPARSITY, level), compactness(mask, short, SPARSITY, level)
        )
    torch.testing.assert_close(coherence(long_mask, long), coherence(mask, short))


def test_example_level_adds_up_over_splits():
    # The mean over 6 texts is the mean of the means over 2 of them: what gradient accumulation and devices rely on.
    units = random_units(0, by_word=True, rows=6)
    mask = random_mask(units, 0)
    whole = compactness(mask, units, SPARSITY), coherence(mask, units)
    parts = [
        (mask[i : i + 2], Units(*(field if field is None else field[i : i + 2] for field in units)))
        for i in range(0, 6, 2)
    ]
    split = (
        torch.stack([compactness(m, u, SPARSITY) for m, u in parts]).mean(),
        torch.stack([coherence(m, u) for m, u in parts]).mean(),
    )
    torch.testing.assert_close(whole, split)


def test_a_word_counts_once_however_many_tokens_it_has():
    selectable = torch.ones(1, 6).bool()
    units = grouped_units(torch.tensor([[0, 0, 0, 0, 1, 2]]), selectable)
    mask = torch.tensor([[1.0, 1, 1, 1, 0, 0]])
    assert selected_share(mask, units).item() == pytest.approx(1 / 3)
    assert coherence(mask, units).item() == pytest.approx(1 / 3)


def test_gradients():
    units = single_units(torch.tensor([[False, True, True, True, True, False]]))
    mask = torch.tensor([[0.0, 1, 0, 0, 1, 0]], requires_grad=True)
    compactness(mask, units, sparsity=0.3).backward()
    # Too much is selected: every real token is pressed down alike, and nothing else.
    torch.testing.assert_close(mask.grad, torch.tensor([[0, 0.25, 0.25, 0.25, 0.25, 0]]))


@pytest.mark.parametrize("level", ["example", "batch"])
def test_nothing_to_select_is_finite(level: str):
    units = single_units(torch.zeros(2, 4).bool())
    mask = torch.zeros(2, 4, requires_grad=True)
    loss = compactness(mask, units, SPARSITY, level) + coherence(mask, units)
    loss.backward()
    assert loss.item() == pytest.approx(SPARSITY)
    assert (mask.grad == 0).all()
