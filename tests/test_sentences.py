"""What only the model of sentences has: raw texts, pairs, cached vectors, a trained encoder."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from huggingface_hub.errors import StrictDataclassError
from training_common import SENTENCES, examples, make_model, make_trainer
from transformers import AutoModelForSequenceClassification, pipeline

from hf_rationale.sentences import encoding


TEXT = "The beer was lovely. It was served in a tall glass! Someone else was awful today."
PARTS = ["The beer was lovely.", "It was served in a tall glass!", "Someone else was awful today."]


@pytest.fixture
def pipe():
    model, tokenizer = make_model("rnp", SENTENCES)
    return pipeline("rationale-classification", model=model.eval(), tokenizer=tokenizer)


def test_spans_are_sentences(pipe):
    for count in range(4):
        result = pipe(TEXT, rationale_top_k=count)
        assert len(result["rationale"]) == count
        for span in result["rationale"]:
            assert span["text"] in PARTS
            assert TEXT[span["start"] : span["end"]] == span["text"]
    assert result["sparsity"] == 1
    assert not result["truncated"]
    clauses = pipe("lovely, served today; awful", rationale_level="clause", rationale_top_k=3)["rationale"]
    assert [span["text"] for span in clauses] == ["lovely,", "served today;", "awful"]


def test_a_document_of_any_length(pipe):
    result = pipe(TEXT * 300, rationale_ratio=0.2)
    assert result["sparsity"] == pytest.approx(0.2, abs=0.01)
    assert not result["truncated"]


def test_a_sentence_that_is_too_long_is_read_in_pieces(pipe):
    start = "the beer " * 40
    scores = {pipe(start + end, rationale_ratio=1.0)["score"] for end in ("was lovely", "was awful")}
    assert len(scores) == 2


def test_a_batch(pipe):
    texts = [TEXT, "lovely.", TEXT * 3]
    for text, result in zip(texts, pipe(texts, batch_size=3), strict=True):
        alone = pipe(text)
        assert result["score"] == pytest.approx(alone["score"], abs=1e-5)
        assert [span["text"] for span in result["rationale"]] == [span["text"] for span in alone["rationale"]]


@pytest.mark.parametrize("option", ["compare_query", "train_encoder"])
def test_pairs(option):
    """The prediction depends on the query, in a batch as alone, and in a dataset as in the pipeline."""
    model, tokenizer = make_model("rnp", SENTENCES, **{option: True})
    pipe = pipeline("rationale-classification", model=model.eval(), tokenizer=tokenizer)
    pairs = [{"text": query, "text_pair": text} for query in ("awful", "lovely") for text in (TEXT, "lovely beer .")]
    results = pipe(pairs, batch_size=4, rationale_ratio=1.0)
    assert results[0]["score"] != pytest.approx(results[2]["score"], abs=1e-6)
    words = [{"tokens": pair["text_pair"].split(), "query": pair["text"].split(), "label": 0} for pair in pairs]
    encoded = model.encode_dataset(Dataset.from_list(words), tokenizer)
    batch = model.data_collator(tokenizer)(list(encoded))
    del batch["rationale"], batch["labels"]
    probabilities = model(**batch, rationale_ratio=1.0).logits.softmax(-1).amax(-1)
    for pair, result, probability in zip(pairs, results, probabilities, strict=True):
        assert result["score"] == pytest.approx(pipe(pair, rationale_ratio=1.0)["score"], abs=1e-5)
        if pair["text_pair"] != TEXT:  # of which the words are the same, however it is split
            assert result["score"] == pytest.approx(probability.item(), abs=1e-5)


def test_only_the_extractor_reads_what_depends_on_the_other_sentences():
    """Whether a sentence is more relevant than the others must not reach the prediction from a given selection."""
    model, tokenizer = make_model("rnp", SENTENCES, compare_query=True)
    words = {
        "tokens": [PARTS[0].split() + PARTS[1].split()],
        "query": [["beer."]],
        "sentence_ids": [[0] * 4 + [1] * 7],
    }
    batch = model.data_collator(tokenizer)(list(model.encode_dataset(Dataset.from_dict(words), tokenizer)))
    del batch["rationale"]
    assert batch["relevance"][0, :, 0].tolist() == pytest.approx([1, -1], abs=1e-4)  # only the first has "beer"
    other = batch | {"relevance": -batch["relevance"]}
    mask = torch.tensor([[1.0, 0.0]])
    assert torch.equal(model(**batch, rationale_mask=mask).logits, model(**other, rationale_mask=mask).logits)
    assert not torch.equal(model(**batch).rationale_scores, model(**other).rationale_scores)
    del batch["relevance"]
    with pytest.raises(ValueError, match="needs the input relevance"):
        model(**batch)


def test_a_query_that_the_model_does_not_expect_raises(pipe):
    with pytest.raises(ValueError, match=r"made for texts with no query.*compare_query=True"):
        pipe({"text": "awful", "text_pair": TEXT})
    model, tokenizer = make_model("rnp", SENTENCES, compare_query=True)
    with pytest.raises(ValueError, match=r"made for texts with a query.*compare_query=False"):
        model.encode_dataset(examples(SENTENCES, 2), tokenizer)
    with pytest.raises(StrictDataclassError, match="compare_query needs a frozen encoder"):
        make_model("rnp", SENTENCES, compare_query=True, train_encoder=True)


def test_the_pipeline_and_a_dataset_agree(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    words = ["the", "beer", "was", "lovely", ".", "it", "was", "served", "in", "a", "tall", "glass", "!"]
    dataset = loaded.encode_dataset(Dataset.from_dict({"tokens": [words]}), pipe.tokenizer)
    batch = loaded.data_collator(pipe.tokenizer)(list(dataset))
    del batch["rationale"]
    logits = loaded(**batch, rationale_ratio=0.5).logits
    result = pipe(" ".join(words), rationale_ratio=0.5)
    assert logits.softmax(-1).max().item() == pytest.approx(result["score"], abs=1e-5)


@pytest.mark.parametrize("query", [False, True])
def test_texts_are_split_at_blanks(query):
    model, tokenizer = make_model("rnp", SENTENCES, compare_query=query)
    texts = Dataset.from_dict({"text": [TEXT], "label": [1], **({"query": ["the  tall beer"]} if query else {})})
    words = Dataset.from_dict(
        {"tokens": [TEXT.split()], "label": [1], **({"query": [["the", "tall", "beer"]]} if query else {})}
    )
    encoded, expected = (encoding.encode_documents(model, dataset, tokenizer) for dataset in (texts, words))
    assert encoded.column_names == expected.column_names
    for name in encoded.column_names:
        assert repr(encoded[name][:]) == repr(expected[name][:])
    for bad in (None, " "):
        with pytest.raises(ValueError, match="Row 1 of the dataset has the text"):
            encoding.encode_documents(model, Dataset.from_dict({"text": [TEXT, bad]}), tokenizer)


def test_vectors_are_computed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "CACHE", tmp_path)
    model, tokenizer = make_model("rnp", SENTENCES)
    dataset = examples(SENTENCES, 6)
    first = model.encode_dataset(dataset, tokenizer)
    assert len(list(tmp_path.glob("*.arrow"))) == 1
    monkeypatch.setattr(type(model), "sentence_vectors", None)  # is not called again
    assert model.encode_dataset(dataset, tokenizer)[:]["sizes"] == first[:]["sizes"]
    with pytest.raises(TypeError):
        model.encode_dataset(examples(SENTENCES, 6, seed=1), tokenizer)


def test_a_trained_encoder_learns_from_what_the_predictor_reads(tmp_path):
    trainer = make_trainer(tmp_path, "n2r", SENTENCES, config={"train_encoder": True})
    assert "vectors" not in trainer.train_dataset.column_names
    before = {name: value.clone() for name, value in trainer.model.encoder.named_parameters()}
    trainer.train()
    moved = [name for name, value in trainer.model.encoder.named_parameters() if not torch.equal(value, before[name])]
    assert any(name.startswith("embeddings") for name in moved)
    frozen = make_trainer(tmp_path, "n2r", SENTENCES)
    assert not any(value.requires_grad for value in frozen.model.encoder.parameters())
    assert not frozen.model.train().encoder.training


def test_errors_name_the_cure():
    model, tokenizer = make_model("rnp", SENTENCES)
    with pytest.raises(ValueError, match="Row 1 of the dataset has the tokens"):
        model.encode_dataset(Dataset.from_dict({"tokens": [["a"], [" "]]}), tokenizer)
    with pytest.raises(ValueError, match="Leave max_length out"):
        model.encode_dataset(examples(SENTENCES, 2), tokenizer, max_length=8)
    with pytest.raises(ValueError, match=r"needs the columns \['tokens'\]"):
        model.encode_dataset(Dataset.from_dict({"label": [0]}), tokenizer)
    with pytest.raises(ValueError, match="exactly one of vectors and input_ids"):
        model()
    with pytest.raises(ValueError, match="has no sentence"):
        model(vectors=torch.zeros(1, 2, 16), sizes=torch.zeros(1, 2))
