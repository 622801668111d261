"""Clauses and sentences: exact offsets, whole words, known sentences, and functions of one's own."""

import pytest
from datasets import Dataset
from training_common import word_piece_tokenizer

from hf_rationale import encode_rationale_dataset
from hf_rationale.text.segmentation import clauses, sentences, units_of_words


TEXTS = {
    "plain": ("Mr. Smith likes it. “It’s great!” he said, e.g. on Mondays; not (ever) at 4,500 - or so.", 2, 7),
    "tokenized": ("pours a clear gold . smells of nothing , but hops ; taste is n't good ! the head stays .", 3, 5),
    "emoji": ("So good 😀😀! Really, 👩‍👩‍👧 loved it. Buy.", 3, 4),
    "other scripts": ("नमस्ते दुनिया। यह ठीक है। 你好。世界！", 4, 4),
    "combining": ("Cafe\u0301 was nice... Ok?\nNew line, here.", 3, 4),
    "none": ("no end", 1, 1),
}


@pytest.mark.parametrize("text, sentence_count, clause_count", TEXTS.values(), ids=TEXTS)
def test_segments_cover_the_text(text, sentence_count, clause_count):
    found = {segment: segment(text) for segment in (sentences, clauses)}
    for spans in found.values():
        assert "".join(text[start:end] for start, end in spans) == text
        assert all(start < end for start, end in spans)
    assert len(found[sentences]) == sentence_count
    assert len(found[clauses]) == clause_count
    assert {end for _, end in found[sentences]} <= {end for _, end in found[clauses]}


def test_words_keep_together():
    words = ["it", "'s", "good", ",", "not", "great", ".", "buy", "it", "!"]
    assert units_of_words(words, "word") == list(range(10))
    assert units_of_words(words, "clause") == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert units_of_words(words, "sentence") == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_known_sentences_come_first():
    words = ["it", "'s", "good", ",", "not", "great", ".", "buy", "it", "!"]
    known = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert units_of_words(words, "sentence", known) == known
    assert units_of_words(words, "clause", known) == [0, 0, 0, 0, 1, 2, 2, 3, 3, 3]


def test_a_function_of_ones_own_replaces_the_level():
    words = ["a", "b", "c", "d"]
    assert units_of_words(words, "sentence", segment=lambda text: [(0, 3), (3, len(text))]) == [0, 0, 1, 1]


@pytest.mark.parametrize("source", ["tokens", "text"])
def test_units_of_a_dataset_are_those_of_its_words(source):
    text = "the beer was served , lovely . someone else served today"
    dataset = Dataset.from_dict({source: [text.split() if source == "tokens" else text]})
    for level, numbers in (
        ("token", None),
        ("word", list(range(11))),
        ("clause", [0] * 5 + [1] * 2 + [2] * 4),
        ("sentence", [0] * 7 + [1] * 4),
    ):
        row = encode_rationale_dataset(dataset, word_piece_tokenizer(), level=level)[0]
        for place, (word, unit) in enumerate(zip(row["word_ids"], row["unit_ids"], strict=True)):
            assert unit == (-1 if word < 0 else place if numbers is None else numbers[word])


def test_a_wrong_level_raises():
    dataset = Dataset.from_dict({"text": ["the beer"]})
    with pytest.raises(ValueError, match=r"must be one of .* but is 'paragraph'"):
        encode_rationale_dataset(dataset, word_piece_tokenizer(), level="paragraph")
