"""Taking words away: the arithmetic, and what models read."""

import math
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import processors
from training_common import make_trainer, tiny_bert, toy_reviews
from transformers import BertForSequenceClassification

from hf_rationale.faithfulness import classify, faithfulness
from hf_rationale.metrics import AOPC_RATIOS, faithfulness_scores
from hf_rationale.reading import read_rationales


def a_model(tmp_path, backbone):
    method = "plmr" if backbone == "plmr" else "rnp"
    trainer = make_trainer(tmp_path, method, backbone, config={"selection_level": "word"})
    trainer.calibrate()
    return trainer.model, trainer.processing_class


def a_plain_classifier():
    torch.manual_seed(0)
    encoder, tokenizer = tiny_bert(0.1)
    model = BertForSequenceClassification(encoder.config)
    model.bert.load_state_dict(encoder.state_dict(), strict=False)
    return model, tokenizer


def test_hand_computed():
    probabilities = [[0.9, 0.1], [0.2, 0.8]]
    without = [[[0.6, 0.4], [0.2, 0.8]], [[0.1, 0.9], [0.5, 0.5]]]
    alone = [[[0.5, 0.5], [0.9, 0.1]], [[1.0, 0.0], [0.2, 0.8]]]
    scores = faithfulness_scores(probabilities, without, alone, ratios=(0.1, 0.5))
    assert scores == {
        "comprehensiveness": pytest.approx({"0.1": (0.3 + 0.0) / 2, "0.5": (0.8 + 0.3) / 2}),
        "comprehensiveness_aopc": pytest.approx((0.3 + 0.0 + 0.8 + 0.3) / 4),
        "sufficiency": pytest.approx({"0.1": (0.4 + 0.7) / 2, "0.5": (-0.1 + 0.0) / 2}),
        "sufficiency_aopc": pytest.approx((0.4 + 0.7 - 0.1 + 0.0) / 4),
    }


@pytest.mark.parametrize("shape", [(4, 3, 2), (5, 2, 2), (5, 3, 3)])
def test_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=re.escape(f"(5, documents, labels); got (3, 2), (5, 3, 2), {shape}")):
        faithfulness_scores(np.ones((3, 2)), np.ones((5, 3, 2)), np.ones(shape))


@pytest.mark.parametrize("backbone", ["gru", "bert", "plmr"])
def test_a_rationale_model_s_predictor_reads_what_is_left(tmp_path, backbone):
    model, tokenizer = a_model(tmp_path, backbone)
    texts = toy_reviews(10, seed=1)
    rng = np.random.default_rng(0)
    given = [rng.integers(0, 3, size=len(words)).tolist() for words in texts["tokens"]]
    for scores in (None, given):
        result = faithfulness(model, texts, tokenizer, scores, batch_size=4)
        own = read_rationales(model, texts, tokenizer).scores if scores is None else scores
        readings = []
        for ratio in (None, *AOPC_RATIOS):
            parts = [[], []]
            for row in range(len(texts)):
                words, importance = texts[row]["tokens"], own[row]
                order = sorted(range(len(words)), key=lambda i, importance=importance: (-importance[i], i))
                best = set(range(len(words)) if ratio is None else order[: math.ceil(ratio * len(words))])
                for part, kept in zip(parts, (set(range(len(words))) - best, best), strict=True):
                    part.append(reads(model, tokenizer, words, kept))
            readings.append(parts)
        full, rest = np.array(readings[0][1]), np.array(readings[1:])
        assert flat(result) == pytest.approx(flat(faithfulness_scores(full, rest[:, 0], rest[:, 1])), abs=1e-5)


def reads(model, tokenizer, words: list[str], kept: set[int]) -> list[float]:
    """The probabilities when the predictor reads the words `kept` of one text."""
    encoded = tokenizer(" ".join(words), return_tensors="pt", return_offsets_mapping=True)
    ends = np.cumsum([len(word) + 1 for word in words])
    starts = encoded.pop("offset_mapping")[0, :, 0].numpy()
    word_of = np.searchsorted(ends, starts, side="right").tolist()
    special = tokenizer.get_special_tokens_mask(encoded["input_ids"][0], already_has_special_tokens=True)
    mask = torch.tensor([[float(word in kept and not out) for word, out in zip(word_of, special, strict=True)]])
    with torch.no_grad():
        model.eval()
        return model(**encoded, rationale_mask=mask).logits.softmax(-1)[0].tolist()


def flat(scores: dict) -> dict[str, float]:
    return {f"{name} {key}": value for name, part in scores.items()
            for key, value in (part.items() if isinstance(part, dict) else [("", part)])}  # fmt: skip


def test_a_plain_classifier_reads_the_words_that_are_left():
    model, tokenizer = a_plain_classifier()
    texts = toy_reviews(6, seed=2)
    scores = [list(range(len(words))) for words in texts["tokens"]]  # the last words are the best
    result = faithfulness(model, texts, tokenizer, scores, ratios=(0.2,), batch_size=4)

    def probabilities(texts: list[list[str]]) -> np.ndarray:
        return classify(model, Dataset.from_dict({"tokens": texts}), tokenizer)

    def count(words: list[str]) -> int:
        return math.ceil(0.2 * len(words))

    expected = faithfulness_scores(
        probabilities(texts["tokens"]),
        [probabilities([words[: -count(words)] for words in texts["tokens"]])],
        [probabilities([words[-count(words) :] for words in texts["tokens"]])],
        ratios=(0.2,),
    )
    assert flat(result) == pytest.approx(flat(expected), abs=1e-6)
    model.eval()
    with torch.no_grad():
        first = model(**tokenizer(" ".join(texts[0]["tokens"]), return_tensors="pt")).logits.softmax(-1)[0]
    assert probabilities(texts["tokens"])[0] == pytest.approx(first.numpy(), abs=1e-6)


@pytest.mark.parametrize("plain", [True, False])
def test_words_that_are_cut_off_count_for_nothing(tmp_path, plain):
    model, tokenizer = a_plain_classifier() if plain else a_model(tmp_path, "bert")
    words = ["the", "awful", "glass", "today", "in"]
    whole, cut = (Dataset.from_dict({"tokens": [words[:count]]}) for count in (5, 3))
    length = len(tokenizer(" ".join(words[:3]))["input_ids"])
    scores = [0.1, 0.3, 0.2, 0.9, 0.8]  # the best are beyond
    expected = faithfulness(model, cut, tokenizer, [scores[:3]])
    assert flat(faithfulness(model, whole, tokenizer, [scores], max_length=length)) == pytest.approx(flat(expected))


def test_a_classifier_without_special_tokens_makes_nothing_of_nothing():
    model, tokenizer = a_plain_classifier()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    texts = Dataset.from_dict({"tokens": [["lovely"], ["awful"]]})
    result = faithfulness(model, texts, tokenizer, [[1.0], [1.0]], ratios=(0.5,), batch_size=2)
    top = classify(model, texts, tokenizer).max(1)
    assert result["comprehensiveness_aopc"] == pytest.approx(np.mean(top - 0.5), abs=1e-6)


def test_a_single_label_is_refused():
    model, tokenizer = a_plain_classifier()
    model.config.num_labels = 1
    with pytest.raises(ValueError, match="The model has only one label"):
        classify(model, toy_reviews(2), tokenizer)


def test_a_text_of_one_word_has_nothing_left():
    model, tokenizer = a_plain_classifier()
    result = faithfulness(model, Dataset.from_dict({"tokens": [["lovely"]]}), tokenizer, [[1.0]], ratios=(0.01, 0.5))
    assert set(result["sufficiency"].values()) == {0.0}
    assert result["comprehensiveness"]["0.01"] == result["comprehensiveness"]["0.5"]


def test_a_pair_s_query_stays():
    model, tokenizer = a_plain_classifier()
    pairs = Dataset.from_dict({"tokens": [["lovely", "head"]], "query": [["awful"]]})
    swapped = Dataset.from_dict({"tokens": [["lovely", "head"]], "query": [["someone"]]})
    assert not np.allclose(*(classify(model, dataset, tokenizer) for dataset in (pairs, swapped)))
    assert faithfulness(model, pairs, tokenizer, [[1.0, 0.0]]) != faithfulness(model, swapped, tokenizer, [[1.0, 0.0]])


def test_models_stay_as_they_are(tmp_path):
    for model, tokenizer in (a_model(tmp_path, "bert"), a_plain_classifier()):
        model.train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        texts = toy_reviews(4)
        faithfulness(model, texts, tokenizer, [[1.0] * len(words) for words in texts["tokens"]])
        assert all(module.training for module in model.modules())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (None, "A plain classifier has no scores of its own"),
        ([[1.0]], "scores must have an entry for each of the 2 texts, but has 1"),
        ([[1.0], [1.0, 2.0, 3.0]], "Text 1 has 2 words, but 3 scores, or scores that are not finite"),
        ([[1.0], [1.0, math.nan]], "Text 1 has 2 words, but 2 scores, or scores that are not finite"),
    ],
)
def test_errors(scores, message):
    model, tokenizer = a_plain_classifier()
    with pytest.raises(ValueError, match=re.escape(message)):
        faithfulness(model, Dataset.from_dict({"tokens": [["lovely"], ["awful", "head"]]}), tokenizer, scores)


def test_texts_need_words():
    model, tokenizer = a_plain_classifier()
    with pytest.raises(ValueError, match="needs a column 'tokens'"):
        faithfulness(model, Dataset.from_dict({"text": ["lovely"]}), tokenizer, [[1.0]])
