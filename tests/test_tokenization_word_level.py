import random
import sys
import unicodedata

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_rationale import word_level_tokenizer


WORDS = ["the", "beer", "do", "n't", "it", "'s", "is", "good", ".", ",", "!", "3.5", "café", "i", "'m", "ca", "..."]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return word_level_tokenizer(WORDS)


def pieces(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    """The pieces of `text` that its tokens cover."""
    return [text[start:end] for start, end in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The beer is good.", ["The", "beer", "is", "good", "."]),
        ("don't", ["do", "n't"]),
        ("do n't", ["do", "n't"]),
        ("DON'T", ["DO", "N'T"]),
        ("It's, I'm, they'll've", ["It", "'s", ",", "I", "'m", ",", "they", "'ll", "'ve"]),
        ("can't won't", ["ca", "n't", "wo", "n't"]),
        ("costs 3.5 or 1,000.50!", ["costs", "3.5", "or", "1,000.50", "!"]),
        ("well... no -- yes", ["well", "...", "no", "--", "yes"]),
        ("``quoted'' text", ["``", "quoted", "''", "text"]),
        ("a/b (c)", ["a", "/", "b", "(", "c", ")"]),
        ("\tbeer\n\n good\u00a0beer ", ["beer", "good", "beer"]),
        ("Cafe\u0301s CAFÉ", ["Cafe\u0301s", "CAFÉ"]),
        ("beer\x1c\x1fbeer", ["beer", "beer"]),  # blanks for Python, not for regular expressions
        ("'tis rock'n'roll", ["'", "tis", "rock", "'", "n", "'", "roll"]),
    ],
)
def test_words(tokenizer, text: str, expected: list[str]):
    assert pieces(tokenizer, text) == expected


def test_indices(tokenizer):
    assert tokenizer("The ZEBRA is good")["input_ids"] == [3, 1, 9, 10]
    assert tokenizer("Cafe\u0301 café CAFÉ")["input_ids"] == [15, 15, 15]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.sep_token_id) == (0, 1, 2)
    assert len(tokenizer) == len(WORDS) + 3


def test_an_unknown_word_is_not_padding(tokenizer):
    batch = tokenizer(["zebra beer", "beer"], padding=True)
    assert batch["input_ids"] == [[1, 4], [4, 0]]
    assert batch["attention_mask"] == [[1, 1], [1, 0]]
    assert set(batch) == {"input_ids", "attention_mask"}


def test_pairs(tokenizer):
    encoded = tokenizer("is it good", "the beer!")
    assert encoded["input_ids"] == [9, 7, 10, 2, 3, 4, 13]
    assert encoded.sequence_ids(0) == [0, 0, 0, None, 1, 1, 1]


def test_doublets_are_dropped():
    tokenizer = word_level_tokenizer(["a", "b", "a", "[SEP]", "c"])
    assert tokenizer("a b c")["input_ids"] == [3, 4, 5]


@pytest.mark.parametrize("words", [[], ["[PAD]", "[UNK]"]])
def test_a_vocabulary_has_words(words: list[str]):
    with pytest.raises(ValueError, match="at least one word; the vocabulary is empty"):
        word_level_tokenizer(words)


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.is_fast
    assert loaded.all_special_ids == tokenizer.all_special_ids
    assert loaded.padding_side == tokenizer.padding_side
    for text in (["The beer is n't it? [SEP] zebra."], ["it's", "good"], ["don't", "3.5"]):
        ours, theirs = (
            t(*text, return_offsets_mapping=True, truncation=True, max_length=4) for t in (tokenizer, loaded)
        )
        assert dict(ours) == dict(theirs)


def test_truncation_says_so(tokenizer):
    encoded = tokenizer("the beer is good .", truncation=True, max_length=3)
    assert encoded["input_ids"] == [3, 4, 9]
    assert encoded.encodings[0].overflowing


@pytest.mark.parametrize("seed", range(10))
def test_any_unicode_has_exact_offsets(tokenizer, seed: int):
    # In order, without overlap, never empty, never a blank; and nothing that can be seen is left out.
    rng = random.Random(seed)
    ranges = [(0, 0x80), (0, 0x800), (0x300, 0x370), (0x590, 0x700), (0x3040, 0xA000), (0x1F300, 0x1FAFF)]
    for _ in range(40):
        low, high = rng.choice([*ranges, (0, sys.maxunicode + 1)])
        points = [rng.randrange(low, high) for _ in range(rng.randrange(1, 30))]
        text = "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
        offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        end = 0
        for start, stop in offsets:
            assert end <= start < stop <= len(text), (text, offsets)
            assert text[start:stop].strip(), (text, offsets)
            end = stop
        covered = {index for start, stop in offsets for index in range(start, stop)}
        missed = [character for index, character in enumerate(text) if index not in covered]
        # A mark at the end of a word is part of the letter before it, which composition has made one character.
        assert all(c.isspace() or unicodedata.category(c)[0] == "M" for c in missed), (text, missed)
