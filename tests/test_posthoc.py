"""Explainers of plain classifiers: scores for the words that decide, in the forms of this package."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from training_common import tiny_bert, toy_reviews
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2ForSequenceClassification

from hf_rationale.faithfulness import faithfulness
from hf_rationale.metrics import rationale_scores
from hf_rationale.posthoc import EXPLAINERS, results, select_words, word_scores
from hf_rationale.visualization import render_html
from hf_rationale.yardsticks import marked_by


# Gradient × input and attention say little of a transformer: that is not this package's doing.
WEAK = ("gradient_x_input", "attention")
OF_A_PACKAGE = {"lime": "lime", "shap": "shap", "attention": "torch"}  # the others are captum's


@pytest.fixture(scope="module")
def classifier():
    """A small classifier that has learned which words are good and which are bad."""
    torch.manual_seed(0)
    encoder, tokenizer = tiny_bert(0.0)
    model = AutoModelForSequenceClassification.from_config(encoder.config)
    reviews = toy_reviews(256)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    texts = [" ".join(words) for words in reviews["tokens"]]
    for _ in range(40):
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        loss = model(**inputs, labels=torch.tensor(reviews["label"][:])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    return model.eval(), tokenizer


@pytest.fixture(params=EXPLAINERS)
def explainer(request) -> str:
    pytest.importorskip(OF_A_PACKAGE.get(request.param, "captum"))
    return request.param


def test_the_words_that_decide_have_the_highest_scores(classifier, explainer):
    model, tokenizer = classifier
    reviews = toy_reviews(12, seed=1)
    before = copy.deepcopy(model.state_dict()), tokenizer.backend_tokenizer.to_str()
    scores = word_scores(model, reviews, tokenizer, explainer)
    assert [len(own) for own in scores] == [len(words) for words in reviews["tokens"]]
    masks = select_words(reviews, scores, top_k=1)
    precision = rationale_scores(masks, reviews["rationale"][:])["token_micro"]["precision"]
    assert explainer in WEAK or precision >= 0.4  # of random words, a tenth is marked
    assert model.config._attn_implementation != "eager" and tokenizer.backend_tokenizer.to_str() == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    if explainer not in WEAK:
        assert faithfulness(model, reviews, tokenizer, scores)["comprehensiveness_aopc"] > 0


def test_gradient_x_input_is_that_of_the_logit(classifier):
    pytest.importorskip("captum")
    model, tokenizer = classifier
    words = ["the", "beer", "was", "lovely"]
    (found,) = word_scores(model, Dataset.from_list([{"tokens": words}]), tokenizer, "gradient_x_input")
    inputs = tokenizer(" ".join(words), return_tensors="pt")
    embeddings = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, **inputs).logits[0]
    logits.max().backward()
    by_token = (embeddings.grad * embeddings).sum(-1)[0].tolist()[1:-1]
    assert len(by_token) == 5  # "lovely" has two pieces
    assert found.tolist() == pytest.approx([*by_token[:3], by_token[3] + by_token[4]], abs=1e-5)


def test_words_of_a_query_and_words_that_are_cut_off_have_no_score(classifier, explainer):
    model, tokenizer = classifier
    pairs = Dataset.from_list([{"tokens": ["the", "lovely", "beer"] * 6, "query": ["was", "awful"]}])
    (scores,) = word_scores(model, pairs, tokenizer, explainer, max_length=12)
    assert len(scores) == 18 and scores.any()
    if explainer not in ("lime", "shap"):  # these see the text only through the classifier
        assert not scores[8:].any()


def test_selections_are_made_and_shown_as_those_of_rationale_models(classifier):
    model, tokenizer = classifier
    words = [*["the", "beer", "was", "lovely", "."], *["it", "was", "served", ",", "by", "someone", "."]]
    reviews = Dataset.from_list([{"tokens": words, "label": 1}])
    scores = [np.array([0, 0, 0, 3.0, 0, 0, 0, 0, 0, 0, 0, 0])]
    (mask,) = select_words(reviews, scores, level="sentence", top_k=1)
    assert mask.tolist() == [1] * 5 + [0] * 7
    assert marked_by(reviews, [mask])["rationale"][0] == mask.tolist()
    (result,) = results(model, reviews, tokenizer, scores, [mask])
    assert [span["text"] for span in result["rationale"]] == ["the beer was lovely ."]
    assert result["rationale"][0]["score"] == pytest.approx(1 / 5) and result["label"] == "LABEL_1"
    assert not result["truncated"]
    (cut,) = results(model, reviews, tokenizer, scores, [mask], max_length=8)
    assert cut["truncated"]
    assert "lovely" in render_html([" ".join(reviews["tokens"][0])], [result])


def test_attention_of_a_causal_model_raises(classifier):
    _, tokenizer = classifier
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=2, pad_token_id=0)
    model = GPT2ForSequenceClassification(config).eval()
    with pytest.raises(ValueError, match="GPT2ForSequenceClassification attends to no other"):
        word_scores(model, toy_reviews(1), tokenizer, "attention")


@pytest.mark.parametrize("words", [["lovely"], ["the", "awful\u00a0beer", "was"], ["the", "", "beer"]])
def test_every_word_has_a_score_whatever_it_is(classifier, explainer, words):
    model, tokenizer = classifier
    (scores,) = word_scores(model, Dataset.from_list([{"tokens": words}]), tokenizer, explainer)
    assert len(scores) == len(words) and np.isfinite(scores).all()


def test_an_unknown_explainer_raises(classifier):
    with pytest.raises(ValueError, match="no explainer 'tea leaves'"):
        word_scores(classifier[0], toy_reviews(1), classifier[1], "tea leaves")
