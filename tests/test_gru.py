"""The GRU encoder against torch's own bidirectional GRU over packed sequences, and its word vectors."""

import gzip

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoModel

from hf_rationale import GruConfig, GruModel
from hf_rationale.encoders.word_vectors import read_word_vectors


LENGTHS = (7, 1, 12, 4)
EXACT = {"atol": 0, "rtol": 0}


@pytest.fixture
def model() -> GruModel:
    return GruModel(GruConfig(vocab_size=50, embedding_size=6, hidden_size=10)).eval()


def packed_states(model: GruModel, input_ids: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The states of `nn.GRU(bidirectional=True)` with the model's weights; padding is on the right."""
    gru = nn.GRU(6, 5, batch_first=True, bidirectional=True)
    weights = dict(model.forward_gru.named_parameters())
    weights |= {f"{name}_reverse": value for name, value in model.backward_gru.named_parameters()}
    packed = pack_padded_sequence(model.embeddings(input_ids), lengths, batch_first=True, enforce_sorted=False)
    states, _ = torch.func.functional_call(gru, weights, (packed,))
    return pad_packed_sequence(states, batch_first=True, total_length=input_ids.shape[1])[0]


def batch(side: str, lengths: tuple[int, ...] = LENGTHS, width: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    input_ids, attention_mask = torch.zeros(2, len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        place = slice(length) if side == "right" else slice(width - length, width)
        input_ids[row, place] = torch.randint(1, 50, (length,), generator=generator)
        attention_mask[row, place] = 1
    return input_ids, attention_mask


@pytest.mark.parametrize("side", ["right", "left"])
def test_states_are_those_of_a_packed_gru(model, side: str):
    input_ids, attention_mask = batch(side)
    hidden = model(input_ids, attention_mask).last_hidden_state
    assert (hidden[attention_mask == 0] == 0).all()
    expected = packed_states(model, batch("right")[0], LENGTHS)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(hidden[row, attention_mask[row].bool()], expected[row, :length], atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", ["right", "left"])
def test_gradients_are_those_of_a_packed_gru(model, side: str):
    # Weighted so that places cannot be mistaken for each other: by the count of the token in its text.
    gradients = []
    for states, mask in (
        (model(*batch(side)).last_hidden_state, batch(side)[1]),
        (packed_states(model, batch("right")[0], LENGTHS), batch("right")[1]),
    ):
        count = (mask.cumsum(1) * mask).unsqueeze(-1)
        model.zero_grad()
        (states * count * torch.linspace(-1, 1, 10)).sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-5)
    assert (gradients[0]["embeddings.weight"][0] == 0).all()  # padding


def test_without_attention_mask_everything_is_real(model):
    input_ids, _ = batch("right", lengths=(14, 14))
    states = model(input_ids).last_hidden_state
    torch.testing.assert_close(states, packed_states(model, input_ids, [14, 14]), atol=1e-6, rtol=0)


def test_word_vectors_instead_of_indices(model):
    input_ids, attention_mask = batch("right")
    by_vector = model(inputs_embeds=model.embeddings(input_ids), attention_mask=attention_mask)
    torch.testing.assert_close(
        by_vector.last_hidden_state, model(input_ids, attention_mask).last_hidden_state, **EXACT
    )
    for both_or_none in ({}, {"input_ids": input_ids, "inputs_embeds": model.embeddings(input_ids)}):
        with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
            model(**both_or_none)


def test_padding_inside_a_text_and_a_text_of_nothing_but_padding(model):
    input_ids, _ = batch("right", lengths=(6, 3), width=6)
    attention_mask = torch.tensor([[1, 0, 1, 1, 0, 1], [0] * 6])
    hidden = model(input_ids, attention_mask).last_hidden_state
    shorter = model(input_ids[:1, [0, 2, 3, 5]]).last_hidden_state
    torch.testing.assert_close(hidden[:1, [0, 2, 3, 5]], shorter, atol=1e-6, rtol=0)
    assert (hidden[1] == 0).all()


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_word_vectors_stay_frozen(frozen: bool, tmp_path):
    model = GruModel(GruConfig(vocab_size=50, embedding_size=6, hidden_size=10, freeze_embeddings=frozen))
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, GruModel)
    for each in (model, loaded, loaded.train(), loaded.eval()):
        assert each.embeddings.weight.requires_grad == (not frozen)
        assert all(parameter.requires_grad for parameter in each.forward_gru.parameters())
    torch.testing.assert_close(loaded.embeddings.weight, model.embeddings.weight, **EXACT)


def test_what_a_user_froze_stays_frozen():
    model = GruModel(GruConfig(vocab_size=50, embedding_size=6, hidden_size=10)).requires_grad_(False)
    for each in (model.train(), model.eval()):
        assert not any(parameter.requires_grad for parameter in each.parameters())


# --- Word vectors --------------------------------------------------------------------------------------------------

GLOVE = "the 0.1 0.2 0.3\ncat -1 2e-1 3.5\nsat 4 5 6\n"
VECTORS = np.array([[0.1, 0.2, 0.3], [-1, 0.2, 3.5], [4, 5, 6]], dtype=np.float32)


def write(path, text: str | bytes):
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
@pytest.mark.parametrize(
    "text",
    [GLOVE, "3 3\n" + GLOVE, GLOVE.replace("\n", "\r\n"), GLOVE.replace("\n", " \n"), GLOVE.rstrip("\n")],
    ids=["glove", "word2vec header", "Windows line ends", "trailing blanks", "no last line end"],
)
def test_word_vectors_are_read(name: str, text: str, tmp_path):
    words, vectors = read_word_vectors(write(tmp_path / name, text))
    assert words == ["the", "cat", "sat"]
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, VECTORS)


def test_the_first_of_two_vectors_of_a_word_counts(tmp_path):
    words, vectors = read_word_vectors(write(tmp_path / "v.txt", GLOVE + "cat 9 9 9\n"))
    assert words == ["the", "cat", "sat"]
    np.testing.assert_array_equal(vectors, VECTORS)


def test_unusual_words(tmp_path):
    # A no-break space, an Unicode line separator and a number are words like others.
    words, _ = read_word_vectors(write(tmp_path / "v.txt", "a\u00a0b 1 2\n\u2028 3 4\n7 5 6\n½ 7 8\n"))
    assert words == ["a\u00a0b", "\u2028", "7", "½"]


@pytest.mark.parametrize("name", ["bad.txt", "bad.txt.gz"])
@pytest.mark.parametrize(
    "text, message",
    {
        "too few numbers": ("the 1 2 3\ncat 1 2\n", r"line 2: 2 numbers, expected 3"),
        "too many numbers": ("the 1 2 3\ncat 1 2 3 4\n", r"line 2: 4 numbers, expected 3"),
        "a word where a number should be": ("the 1 2 3\ncat 1 two 3\n", r"line 2: not a word and its numbers"),
        "NaN": ("the 1 2 3\ncat 1 nan 3\n", r"line 2: a number is not finite"),
        "a blank line": ("the 1 2 3\n\ncat 1 2 3\n", r"line 2: 0 numbers, expected 3"),
        "a word alone": ("the\n", r"line 1: 0 numbers, expected at least one"),
        "not UTF-8": (b"the 1 2 3\ncaf\xe9 1 2 3\n", r"line 2: not UTF-8"),
        "an empty file": ("", r"holds no word vectors"),
        "a header alone": ("3 3\n", r"holds no word vectors"),
    }.values(),
)
def test_malformed_word_vectors_are_named(name: str, text: str | bytes, message: str, tmp_path):
    with pytest.raises(ValueError, match=rf"{name}\W.*{message}|{name} {message}"):
        read_word_vectors(write(tmp_path / name, text))


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "vectors.txt.gz"
    path.write_bytes(gzip.compress(GLOVE.encode() * 100)[:-20])
    with pytest.raises(ValueError, match=r"vectors.txt.gz.* damaged"):
        read_word_vectors(path)
    path.write_text(GLOVE)
    with pytest.raises(ValueError, match=r"vectors.txt.gz.* damaged"):
        read_word_vectors(path)


def test_missing_word_vectors_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No word vectors at .*glove\.txt\. Give a GloVe text file"):
        read_word_vectors(tmp_path / "glove.txt")


@pytest.mark.parametrize("freeze", [True, False])
def test_from_word_vectors(freeze: bool, tmp_path):
    path = write(tmp_path / "vectors.txt", GLOVE)
    model, tokenizer = GruModel.from_word_vectors(path, hidden_size=8, freeze_embeddings=freeze)
    assert model.config.hidden_size == 8
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.embeddings.weight.requires_grad == (not freeze)
    ids = tokenizer("the cat SAT zebra")["input_ids"]
    assert ids[-1] == tokenizer.unk_token_id
    looked_up = model.embeddings(torch.tensor(ids)).detach()
    torch.testing.assert_close(looked_up[:3], torch.from_numpy(VECTORS), **EXACT)
    torch.testing.assert_close(looked_up[3], torch.from_numpy(VECTORS.mean(0)))
    assert (model.embeddings.weight[tokenizer.pad_token_id] == 0).all()


def test_special_tokens_among_the_word_vectors(tmp_path):
    path = write(tmp_path / "vectors.txt", "the 1 2 3\n[UNK] 7 7 7\n[PAD] 8 8 8\ncat 4 5 6\n")
    model, tokenizer = GruModel.from_word_vectors(path, hidden_size=8)
    looked_up = model.embeddings(torch.tensor(tokenizer("the cat")["input_ids"]))
    assert looked_up.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert model.embeddings.weight[tokenizer.pad_token_id].tolist() == [0, 0, 0]


def test_a_folder_with_the_old_model_type_loads(tmp_path):
    model = GruModel(GruConfig(vocab_size=20, embedding_size=4, hidden_size=6)).eval()
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("rationale_gru", "gru"))
    loaded = GruModel.from_pretrained(tmp_path)
    assert loaded.config.model_type == "rationale_gru"
    ids = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(loaded(ids).last_hidden_state, model(ids).last_hidden_state)
