"""A dataset of rationales: what the model selects, and nothing else."""

import pytest
from datasets import Dataset, load_dataset
from training_common import make_model, toy_reviews

from hf_rationale import cli
from hf_rationale.extract import extract_rationales
from hf_rationale.reading import read_rationales


@pytest.mark.parametrize("filler", [None, "[MASK]"])
def test_what_is_selected_is_kept(filler):
    model, tokenizer = make_model(selection_level="word")
    reviews = toy_reviews(20)
    masks = read_rationales(model, reviews, tokenizer).masks
    found = extract_rationales(model, reviews, tokenizer, filler=filler)
    assert set(found.column_names) == {"tokens", "label", "row"}
    assert found["row"][:] == [row for row, mask in enumerate(masks) if mask.any()]
    for kept, row in zip(found["tokens"], found["row"], strict=True):
        words, mask = reviews[row]["tokens"], masks[row]
        if filler is None:
            assert kept == [word for word, selected in zip(words, mask, strict=True) if selected]
        else:
            assert kept == [word if selected else filler for word, selected in zip(words, mask, strict=True)]


def test_texts_of_which_nothing_is_selected_are_left_out():
    model, tokenizer = make_model(decoding="threshold", rationale_threshold=1.0)
    assert len(extract_rationales(model, toy_reviews(5), tokenizer)) == 0
    with pytest.raises(ValueError, match="needs a column 'tokens'"):
        extract_rationales(model, Dataset.from_dict({"text": ["a"]}), tokenizer)


def test_the_command_writes_a_dataset_that_loads(tmp_path):
    model, tokenizer = make_model(selection_level="word")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    folder = tmp_path / "rationales"
    cli.main(["extract", str(tmp_path / "model"), "--dataset", "aspect_reviews", "--output_dir", str(folder)])
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation", "test"}
    assert set(loaded["test"].column_names) == {"tokens", "label", "row"}
    assert loaded["test"].features["label"].names == ["negative", "positive"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "# Rationales of aspect_reviews" in card and "| words kept |" in card
