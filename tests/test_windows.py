"""Texts that are longer than the encoder: what holds for one window holds for many."""

from __future__ import annotations

import pytest
import torch
from common import CASES_BY_NAME, MAX_LENGTH, random_texts

from hf_rationale.text.windows import make_windows
from hf_rationale.text.windows import read as read_in_windows


TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
CASES = [
    name
    for name, case in CASES_BY_NAME.items()
    if case.name.startswith(("bert-", "roberta-", "modernbert-", "mpnet-", "plmr-"))
]
LONG = 3 * MAX_LENGTH
every_case = pytest.mark.parametrize("name", CASES)


def long_model(name: str):
    """A model and a batch of a text of several windows and one of a single window."""
    case = CASES_BY_NAME[name]
    return case, case.model()


@every_case
@torch.no_grad()
def test_unselected_content_never_matters_in_any_window(name):
    case, model = long_model(name)
    batch = case.batch(random_texts(LONG, 9))
    mask = (torch.rand(batch["input_ids"].shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    inputs = model.prepare(**batch)
    hidden = inputs.units.selectable & (mask == 0)
    other = batch | {"input_ids": torch.where(hidden, 5 + (batch["input_ids"] + 3) % 20, batch["input_ids"])}
    read, changed = (model(**one, rationale_mask=mask).logits for one in (batch, other))
    torch.testing.assert_close(read, changed, **TOLERANCE)
    assert not torch.allclose(read, model(**batch, rationale_mask=1 - mask).logits, atol=1e-3)


@every_case
@torch.no_grad()
def test_a_text_alone_is_the_same_beside_a_longer_one(name):
    case, model = long_model(name)
    long, short = random_texts(LONG, 9)
    for side in ("right", "left"):
        together = model(**case.batch([long, short], side=side), rationale_ratio=0.3).logits
        for row, text in enumerate((long, short)):
            alone = model(**case.batch([text]), rationale_ratio=0.3).logits
            torch.testing.assert_close(together[row : row + 1], alone, **TOLERANCE)


@every_case
def test_shortened_is_masked_and_every_window_gets_a_gradient(name):
    case, model = long_model(name)
    batch = case.batch(random_texts(LONG))
    inputs = model.prepare(**batch)
    mask = (torch.rand(batch["input_ids"].shape, generator=torch.Generator().manual_seed(2)) < 0.3).float()
    mask = mask * inputs.units.selectable
    with torch.no_grad():
        shortened = model.predict(inputs, mask).logits
    mask.requires_grad_()
    logits = model.predict(inputs, mask).logits
    torch.testing.assert_close(logits, shortened, **TOLERANCE)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), mask)
    places = (gradient[0] != 0).nonzero().flatten()
    if model.config.pooling == "mean":
        assert set((places // MAX_LENGTH).tolist()) == set(range(-(-batch["input_ids"].shape[1] // MAX_LENGTH)))


@pytest.mark.parametrize("length", [MAX_LENGTH - 2, MAX_LENGTH - 1, 50, 77, LONG])
def test_every_position_has_one_window_and_context_on_both_sides(length):
    case, model = long_model("bert-attention-word")
    inputs = model.prepare(**case.batch(random_texts(length, 5)))
    windows = make_windows(inputs, MAX_LENGTH)
    owned = torch.zeros(inputs.real.shape, dtype=torch.long)
    for row, places, own in zip(windows.rows, windows.places, windows.own, strict=True):
        owned[row].index_add_(0, places[own], torch.ones_like(places[own]))
    expected = inputs.real - inputs.context.long()
    assert torch.equal(owned, expected)
    assert windows.places.shape[1] <= MAX_LENGTH
    if length <= MAX_LENGTH - 2:
        assert len(windows.rows) == 2


@torch.no_grad()
def test_one_window_is_the_whole_text():
    case, model = long_model("bert-attention-word")
    encoder, inputs = model.reader, model.prepare(**case.batch(random_texts(20, 12)))
    whole = read_in_windows(encoder, inputs, inputs.real, None).last_hidden_state
    long = model.prepare(**case.batch([*random_texts(20, 12), random_texts(LONG, seed=3)[0]]))
    windows = read_in_windows(encoder, long, long.real, MAX_LENGTH).last_hidden_state
    torch.testing.assert_close(windows[:2, :22] * inputs.real[..., None], whole * inputs.real[..., None], **TOLERANCE)


@torch.no_grad()
def test_every_window_has_the_query():
    model = CASES_BY_NAME["bert-attention-word"].model()
    text = torch.randint(5, 20, (1, LONG), generator=torch.Generator().manual_seed(0))
    special = model.config.special_token_ids

    def batch(query: list[int]) -> dict[str, torch.Tensor]:
        first = torch.tensor([[special[-2], *query, special[-1]]])
        ids = torch.cat([first, text, torch.tensor([[special[-1]]])], 1)
        segments = (torch.arange(ids.shape[1]) >= first.shape[1]).long()[None]
        words = torch.where(segments > 0, torch.arange(ids.shape[1]) - first.shape[1], -1)
        words[:, -1] = -1
        return {"input_ids": ids, "token_type_ids": segments, "word_ids": words}

    scores = [model(**batch(query)).rationale_scores for query in ([6, 7, 8], [9, 10, 11])]
    assert ((scores[0] - scores[1]).abs()[0, 5:-1] > 0).float().mean() > 0.9
    with pytest.raises(ValueError, match="A query leaves no room for its text within 40 tokens"):
        model(**batch([6] * MAX_LENGTH))


def test_attention_weights_of_several_windows_raise():
    case, model = long_model("bert-attention-word")
    with pytest.raises(ValueError, match=r"output_attentions: a text of more than 40 tokens is read in windows"):
        model(**case.batch(random_texts(LONG)), output_attentions=True)
