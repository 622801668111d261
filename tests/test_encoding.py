"""From words to padded tensors: what the models read is what the texts say, and bad texts are named."""

import pytest
import torch
from datasets import Dataset
from training_common import BACKBONES, make_model, toy_reviews

from hf_rationale import RationaleDataCollator, encode_rationale_dataset


def encoded(tokenizer, max_length=None, **columns) -> Dataset:
    return encode_rationale_dataset(Dataset.from_dict(columns), tokenizer, max_length)


@pytest.fixture(params=BACKBONES)
def tokenizer(request):
    return make_model("rnp", request.param)[1]


@pytest.fixture
def word_pieces():
    return make_model("rnp", "bert")[1]


def test_words_and_pieces(word_pieces):
    row = encoded(word_pieces, tokens=[["the", "lovely", "beer"]], label=[1], rationale=[[0, 1, 0]])[0]
    assert word_pieces.convert_ids_to_tokens(row["input_ids"]) == ["[CLS]", "the", "love", "##ly", "beer", "[SEP]"]
    assert row["word_ids"] == [-1, 0, 1, 1, 2, -1]
    assert (row["length"], row["labels"], row["rationale"]) == (6, 1, [0, 1, 0])


def test_a_column_of_texts_reads_as_one_of_words(tokenizer):
    words = [["the", "lovely", "beer"], ["awful"]]
    as_words = encoded(tokenizer, tokens=words, label=[1, 0])
    as_text = encoded(tokenizer, text=[" ".join(text) for text in words], labels=[1, 0])
    assert as_text.to_dict() == as_words.to_dict()
    assert as_text["rationale"][:] == [[-1] * 3, [-1]]


def test_of_pairs_only_the_second_segment_has_words(word_pieces):
    row = encoded(word_pieces, tokens=[["lovely", "beer"]], query=[["was", "the", "beer", "fresh"]])[0]
    assert row["word_ids"] == [-1] * 6 + [0, 0, 1, -1]
    assert row["rationale"] == [-1, -1]


def test_over_long_texts_are_cut_with_a_warning(word_pieces, caplog):
    words = [["the"] * 10, ["the"] * 4, ["the"] * 5]
    query = [["was", "the", "beer", "fresh"]] * 3
    alone = encoded(word_pieces, 6, tokens=words, rationale=[[1] * 10, [1] * 4, [1] * 5])
    assert "2 of 3 texts are longer than 6 tokens and were cut" in caplog.text
    assert alone["length"][:] == [6, 6, 6]
    assert [len(rationale) for rationale in alone["rationale"]] == [10, 4, 5]  # gold is never cut
    caplog.clear()
    pairs = encoded(word_pieces, 11, tokens=words, query=query)
    assert "2 of 3 texts are longer than 11 tokens" in caplog.text
    assert pairs["word_ids"][0] == [-1] * 6 + [0, 1, 2, 3, -1]
    caplog.clear()
    encoded(word_pieces, 12, tokens=words[:2])
    encoded(word_pieces, tokens=words)
    assert not caplog.records


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"tokens": [["the"], []]}, r"Row 1 of the dataset has the tokens \[\], which is blank"),
        ({"tokens": [["the"], ["", " "]]}, "which is blank. Remove the row"),
        ({"tokens": [["the"], None]}, "Row 1 of the dataset has the tokens None. Remove the row"),
        ({"text": ["the", " \n"]}, "which is blank. Remove the row"),
        ({"text": ["the", None]}, "Row 1 of the dataset has the text None. Remove the row"),
        ({"tokens": [["the"], ["a", None]]}, "in which None is not a string"),
        ({"tokens": [["the"], ["a"]], "rationale": [None, [1, 0]]}, "Row 1 .* 2 entries for 1 words"),
        ({"tokens": [["the"], ["a"]], "rationale": [None, [2]]}, "Row 1 .* other than 0 and 1"),
        ({"words": [["the"]]}, "needs a column 'tokens' or 'text'"),
        ({"tokens": ["the beer"]}, "Row 0 of the dataset has the tokens 'the beer', a string.*Rename it"),
        ({"text": [["the", "beer"]]}, "Row 0 of the dataset has the text .*, a list.*Rename it"),
        ({"text": [1, 2]}, "Row 0 of the dataset has the text 1, in which 1 is not a string"),
        ({"text": ["the", "a"], "query": ["what", None]}, "Row 1 of the dataset has the query None. Remove the row"),
        ({"text": ["the"], "query": [" "]}, "Row 0 of the dataset has the query ' ', which is blank"),
        ({"tokens": [["the"]], "rationale": [1]}, "Row 0 of the dataset has the rationale 1, which is not a list"),
        ({"tokens": []}, "dataset is empty"),
        ({"tokens": [["the"]], "query": [["a"] * 9]}, "A query leaves no room for the text within 8 tokens"),
    ],
)
def test_bad_texts_are_named(tokenizer, columns, message):
    with pytest.raises(ValueError, match=message):
        encoded(tokenizer, 8, **columns)


@pytest.mark.parametrize("format", ["numpy", "torch", "pandas"])
def test_formatted_datasets_are_read_as_others(tokenizer, format):
    plain = Dataset.from_dict({"text": ["the beer", "a beer"], "label": [1, 0]})
    expected = encode_rationale_dataset(plain, tokenizer)[:]
    assert encode_rationale_dataset(plain.with_format(format), tokenizer)[:] == expected


def test_rows_are_counted_over_all_batches(tokenizer):
    with pytest.raises(ValueError, match="Row 1500 of the dataset has the text"):
        encoded(tokenizer, text=["the"] * 1500 + [""])


# --- The collator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("multiple", [None, 8])
def test_the_collator_pads_on_either_side(tokenizer, side, multiple):
    tokenizer.padding_side = side
    dataset = encode_rationale_dataset(toy_reviews(6), tokenizer)
    batch = RationaleDataCollator(tokenizer, pad_to_multiple_of=multiple)(list(dataset))
    length = batch["input_ids"].shape[1]
    longest = max(dataset["length"])
    assert length == (longest if multiple is None else -(-longest // multiple) * multiple)
    assert batch["labels"].tolist() == dataset["labels"][:]
    for row, example in enumerate(dataset):
        count = example["length"]
        place = slice(0, count) if side == "right" else slice(length - count, length)
        padding = torch.ones(length, dtype=torch.bool)
        padding[place] = False
        assert batch["input_ids"][row, place].tolist() == example["input_ids"]
        assert batch["word_ids"][row, place].tolist() == example["word_ids"]
        assert (batch["word_ids"][row, padding] == -1).all()
        assert (batch["input_ids"][row, padding] == tokenizer.pad_token_id).all()
        assert batch["attention_mask"][row].tolist() == (~padding).long().tolist()
        # Words are not tokens: their row begins at the left in any case.
        words = len(example["rationale"])
        assert batch["rationale"][row].tolist() == example["rationale"] + [-100] * (
            batch["rationale"].shape[1] - words
        )


def test_the_collator_marks_padding_where_the_texts_have_no_attention_mask():
    tokenizer = BACKBONES["gru"](0.0)[1]
    dataset = encode_rationale_dataset(toy_reviews(6), tokenizer)
    collate = RationaleDataCollator(tokenizer)
    expected = collate(list(dataset))["attention_mask"]
    assert torch.equal(collate(list(dataset.remove_columns("attention_mask")))["attention_mask"], expected)


def test_a_tokenizer_without_padding_raises():
    tokenizer = BACKBONES["gru"](0.0)[1]
    dataset = encode_rationale_dataset(toy_reviews(2), tokenizer)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no padding token"):
        RationaleDataCollator(tokenizer)(list(dataset))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_padding_side_changes_nothing(backbone):
    model, tokenizer = make_model("rnp", backbone)
    dataset = encode_rationale_dataset(toy_reviews(6), tokenizer)
    outputs = []
    for side in ("right", "left"):
        tokenizer.padding_side = side
        batch = RationaleDataCollator(tokenizer)(list(dataset))
        del batch["rationale"]
        output = model(**batch)
        outputs.append((output, batch["attention_mask"].bool()))
    (right, at_right), (left, at_left) = outputs
    torch.testing.assert_close(left.rationale_scores[at_left], right.rationale_scores[at_right], rtol=0, atol=1e-5)
    torch.testing.assert_close(left.logits, right.logits, rtol=0, atol=1e-5)


def test_examples_without_labels_or_words(tokenizer):
    dataset = encode_rationale_dataset(toy_reviews(2).remove_columns("label"), tokenizer)
    assert "labels" not in RationaleDataCollator(tokenizer)(list(dataset))
    bare = RationaleDataCollator(tokenizer)(list(dataset.select_columns(["input_ids", "attention_mask"])))
    assert set(bare) == {"input_ids", "attention_mask"}


def test_encoding_leaves_the_tokenizer_as_it_was(word_pieces):
    """Even if a user has set truncation and padding."""
    texts = Dataset.from_dict({"tokens": [["the", "beer", "was", "served"]], "query": [["was", "it"]]})
    for prepare in (lambda backend: None, lambda backend: (backend.enable_truncation(5), backend.enable_padding())):
        prepare(word_pieces.backend_tokenizer)
        before = word_pieces.backend_tokenizer.to_str()
        encoded = encode_rationale_dataset(texts, word_pieces, max_length=8)
        assert word_pieces.backend_tokenizer.to_str() == before
        assert len(encoded["input_ids"][0]) == 8
