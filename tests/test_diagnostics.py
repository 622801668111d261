"""The papers' diagnostics against loops over single texts, and their figures."""

import copy
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from test_faithfulness import a_model, a_plain_classifier, reads
from training_common import make_args, make_trainer, toy_reviews

from hf_rationale import diagnostics
from hf_rationale.diagnostics import (
    SelectionChange,
    cross_aspect,
    failure_rate,
    gold_against_selected,
    gold_replacement,
    homogeneity,
    lipschitz,
    random_patterns,
)
from hf_rationale.diagnostics.failure_rate import is_meaningless
from hf_rationale.diagnostics.random_patterns import RandomPatternTrainer
from hf_rationale.faithfulness import classify
from hf_rationale.metrics import classification_scores
from hf_rationale.reading import Rationales, encode, read_batches, read_rationales


BACKBONES = ["gru", "bert", "plmr"]
OPTIONS = {"batch_size": 3}


def marked(texts: Dataset) -> list[int]:
    return [row for row, rationale in enumerate(texts["rationale"]) if rationale is not None]


def with_unmarked(count: int, seed: int) -> Dataset:
    texts = toy_reviews(count, seed=seed).to_list()
    texts[1]["rationale"] = None
    return Dataset.from_list(texts, features=toy_reviews(1).features)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gold_against_selected_is_that_of_the_texts_one_by_one(tmp_path, backbone):
    model, tokenizer = a_model(tmp_path, backbone)
    texts = with_unmarked(8, seed=4)
    report = gold_against_selected(model, texts, tokenizer, **OPTIONS)
    masks = {"selected": read_rationales(model, texts, tokenizer).masks, "gold": texts["rationale"]}
    assert report.texts == len(marked(texts)) == 7
    for read, words in masks.items():
        right = []
        for row in marked(texts):
            kept = set(np.flatnonzero(words[row]))
            right.append(reads(model, tokenizer, texts[row]["tokens"], kept)[texts[row]["label"]])
        assert report.median_loss[read] == pytest.approx(np.median(-np.log(right)), abs=1e-5)
        assert report.accuracy[read] == pytest.approx(np.mean(np.array(right) > 0.5))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gold_replacement_ends_at_gold(tmp_path, backbone):
    model, tokenizer = a_model(tmp_path, backbone)
    texts = with_unmarked(8, seed=4)
    report = gold_replacement(model, texts, tokenizer, **OPTIONS)
    gold = gold_against_selected(model, texts, tokenizer)
    assert (report.texts, report.kept, report.accuracy[-1]) == (7, [i / 10 for i in range(11)], gold.accuracy["gold"])
    losses = [
        -math.log(
            reads(model, tokenizer, texts[row]["tokens"], set(np.flatnonzero(texts[row]["rationale"])))[
                texts[row]["label"]
            ]
        )
        for row in marked(texts)
    ]
    assert report.loss[-1] == pytest.approx(np.mean(losses), abs=1e-5)
    assert gold_replacement(model, texts, tokenizer, batch_size=8).loss == pytest.approx(report.loss, abs=1e-5)
    assert gold_replacement(model, texts, tokenizer, seed=1, **OPTIONS).loss[0] != report.loss[0]


def test_gold_replacement_reads_as_many_words_as_are_marked(tmp_path, monkeypatch):
    model, tokenizer = a_model(tmp_path, "bert")
    texts = toy_reviews(6, seed=4)
    read = []
    monkeypatch.setattr(
        model, "predict", lambda inputs, mask, predict=model.predict: (read.append(mask), predict(inputs, mask))[1]
    )
    kept = (0.0, 0.5, 1.0)
    gold_replacement(model, texts, tokenizer, kept=kept, batch_size=6)
    (batch,) = read_batches(model, encode(texts, tokenizer, model), tokenizer, 6, "")
    for share, mask in zip(kept, read, strict=True):
        words = batch.marks_of(mask) > 0
        assert torch.equal(words.sum(1), batch.gold.sum(1))
        assert torch.equal(
            (words & batch.gold).sum(1), torch.tensor([round(share * int(n)) for n in batch.gold.sum(1)])
        )


@pytest.mark.parametrize("diagnose", [gold_replacement, gold_against_selected, failure_rate])
def test_unmarked_texts_alone_are_refused(tmp_path, diagnose):
    model, tokenizer = a_model(tmp_path, "gru")
    with pytest.raises(ValueError, match="The dataset has no rationale that people marked"):
        diagnose(model, toy_reviews(4, marked=False), tokenizer)


@pytest.mark.parametrize("diagnose", [gold_replacement, gold_against_selected, failure_rate])
def test_unlabelled_texts_are_refused(tmp_path, diagnose):
    model, tokenizer = a_model(tmp_path, "gru")
    with pytest.raises(ValueError, match="The dataset has no labels"):
        diagnose(model, toy_reviews(4).remove_columns("label"), tokenizer)


def test_what_is_cut_off_is_not_read(tmp_path):
    model, tokenizer = a_model(tmp_path, "bert")
    texts = Dataset.from_dict(
        {
            "tokens": [["lovely"] * 3 + ["the"] * 3, ["awful", "the", "the", "lovely", "lovely", "lovely"]],
            "rationale": [[1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1]],
            "label": [1, 0],
        }
    )
    read = {"max_length": len(words_of_tokens(tokenizer, ["lovely"] * 3))}  # three words and the special tokens
    report = gold_replacement(model, texts, tokenizer, kept=(1.0,), **read)
    assert report.texts == gold_against_selected(model, texts, tokenizer, **read).texts == 1
    loss = -math.log(reads(model, tokenizer, ["lovely"] * 3, {0})[1])
    assert report.loss == [pytest.approx(loss, abs=1e-5)]
    with pytest.raises(ValueError, match="lie beyond max_length"):
        gold_replacement(model, texts.select([1]), tokenizer, **read)


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_shares_outside_of_the_unit_interval_are_refused(tmp_path, share):
    model, tokenizer = a_model(tmp_path, "gru")
    with pytest.raises(ValueError, match=r"kept must be shares in \[0, 1\]"):
        gold_replacement(model, toy_reviews(4), tokenizer, kept=(share,))


# --- Lipschitz -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_gradient_is_the_slope_along_each_direction(tmp_path, backbone):
    model, tokenizer = a_model(tmp_path, backbone)
    model = model.double()
    texts = toy_reviews(5, seed=6)
    report = lipschitz(model, texts, tokenizer, **OPTIONS)
    assert report.estimate == max(report.norms)
    masks = read_rationales(model, texts, tokenizer).masks
    slopes = []
    for row in range(len(texts)):
        if masks[row].any():
            slopes.append(slope(model, tokenizer, texts[row]["tokens"], set(np.flatnonzero(masks[row]))))
    assert report.norms == pytest.approx(sorted(slopes), rel=1e-3)


def test_the_gradient_is_taken_whatever_precision_cudnn_is_set_to(tmp_path, monkeypatch):
    model, tokenizer = a_model(tmp_path, "gru")
    monkeypatch.setattr(torch.backends, "fp32_precision", "ieee")  # what TrainingArguments(tf32=False) sets on a GPU
    assert lipschitz(model, toy_reviews(5, seed=6), tokenizer, **OPTIONS).norms
    assert not any(module.training for module in model.modules())


def slope(model, tokenizer, words, kept, step=1e-5) -> float:
    """‖mean over the rationale's tokens of ∇p‖, by moving all of these tokens' vectors along each direction."""
    special = torch.tensor(tokenizer.all_special_ids)
    embeddings = model.reader.get_input_embeddings()
    gradient = []
    label = int(np.argmax(reads(model, tokenizer, words, kept)))
    size = embeddings.weight.shape[1]
    count = sum(word in kept for word in words_of_tokens(tokenizer, words))
    for dimension in range(size):
        values = []
        for sign in (1, -1):
            shift = torch.zeros(size, dtype=torch.double)
            shift[dimension] = sign * step
            hook = embeddings.register_forward_hook(
                lambda module, args, output, shift=shift: output + shift * ~torch.isin(args[0], special).unsqueeze(-1)
            )
            values.append(reads(model, tokenizer, words, kept)[label])
            hook.remove()
        gradient.append((values[0] - values[1]) / (2 * step) / count)
    return float(np.linalg.norm(gradient))


def words_of_tokens(tokenizer, words) -> list[int | None]:
    return tokenizer([words], is_split_into_words=True).word_ids(0)


def test_texts_in_which_nothing_is_selected_have_no_slope(tmp_path):
    model, tokenizer = a_model(tmp_path, "bert")
    texts = toy_reviews(8, seed=6)
    scores = [document.max() for document in read_rationales(model, texts, tokenizer).scores]
    model.config.decoding, model.config.rationale_threshold = "threshold", float(np.median(scores))
    assert len(lipschitz(model, texts, tokenizer).norms) == np.sum(scores >= np.median(scores))
    model.config.rationale_threshold = 1.0
    with pytest.raises(ValueError, match="The model selects nothing in any text"):
        lipschitz(model, texts, tokenizer)
    assert not model.reader.get_input_embeddings()._forward_hooks


# --- Failure ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["the", "The", ",", "...", "``", "and", "of", "it", "“", "the,", "«", "(it)", "_"])
def test_words_without_a_meaning(word):
    assert is_meaningless(word)


@pytest.mark.parametrize("word", ["lovely", "not", "n't", "beer", "5", "is", "smell", "lovely,", "the-best"])
def test_words_with_a_meaning(word):
    assert not is_meaningless(word)


def test_failure_rate_by_hand(tmp_path, monkeypatch):
    words = ["the", "head", "of", "it", "lovely"]
    masks = [[1, 0, 1, 1, 1], [1, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 0, 1, 0, 0], [1, 1, 1, 1, 1]]
    gold = [[0, 0, 0, 0, 1]] * 4 + [None]
    sides = [[np.array(mask) if mask else None for mask in masks] for masks in (masks, gold)]
    rationales = Rationales(np.eye(2)[[0, 0, 0, 1, 0]], sides[0], sides[0], sides[1], np.zeros(5, dtype=int))
    module = sys.modules[failure_rate.__module__]  # the package has the function by that name
    monkeypatch.setattr(module, "read_rationales", lambda *args, **options: rationales)
    monkeypatch.setattr(module, "encode_labelled", lambda texts, *args, **options: texts)
    texts = Dataset.from_dict({"tokens": [words] * 5})
    # precision, share of function words: (1/4, 3/4), (1/3, 1/3), nothing selected, wrong label, unmarked
    report = failure_rate(None, texts, None, max_precision=(0.2, 0.25, 0.4), min_meaningless=(0.3, 0.5))
    assert report.texts == 4
    assert list(report.rates.values()) == [0, 0, 0.25, 0.25, 0.5, 0.25]
    assert next(iter(report.rates)) == "θ1=0.2, θ2=0.3"
    assert report.meaningless_share == pytest.approx((3 + 1 + 0 + 2) / (4 + 3 + 0 + 2))


# --- Homogeneity, aspects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_homogeneity_is_the_trace_of_the_covariance(side):
    classifier, tokenizer = a_plain_classifier()
    tokenizer.padding_side = side
    texts = toy_reviews(5, seed=2)
    report = homogeneity(classifier.bert, texts, tokenizer, **OPTIONS)
    traces = []
    classifier.eval()
    for words in texts["tokens"]:
        encoded = tokenizer(" ".join(words), return_tensors="pt")
        with torch.no_grad():
            states = classifier.bert(**encoded, output_hidden_states=True).hidden_states
        traces.append([np.trace(np.cov(layer[0].numpy(), rowvar=False)) for layer in states])
    assert report.trace == pytest.approx(np.mean(traces, axis=0), rel=1e-4)
    assert len(report.trace) == classifier.config.num_hidden_layers + 1
    assert report.texts == 5


def test_homogeneity_takes_the_encoders_of_rationale_models(tmp_path):
    for backbone in ("bert", "plmr"):
        model, tokenizer = a_model(tmp_path, backbone)
        report = homogeneity(model.encoders[0], toy_reviews(4), tokenizer)
        assert all(trace > 0 for trace in report.trace)


def test_cross_aspect_is_the_f1_of_every_pair(tmp_path):
    rationale_model, tokenizer = a_model(tmp_path, "bert")
    models = {"aroma": rationale_model, "palate": a_plain_classifier()[0]}
    texts = {"aroma": toy_reviews(12, seed=1), "palate": toy_reviews(12, seed=2)}
    report = cross_aspect(models, texts, tokenizer)
    for trained, model in models.items():
        for aspect, dataset in texts.items():
            predicted = classify(model, dataset, tokenizer).argmax(-1)
            assert report.f1[trained][aspect] == classification_scores(predicted, dataset["label"])["macro_f1"]


# --- In training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_measuring_change_does_not_change_training(tmp_path, backbone):
    runs = []
    for name in ("with", "without"):
        trainer = make_trainer(tmp_path / name, "rnp", backbone, dropout=0.1, train_dataset=toy_reviews(16))
        change = SelectionChange(toy_reviews(6, seed=1), trainer.processing_class, every=2)
        if name == "with":
            trainer.add_callback(change)
        trainer.train()
        runs.append((trainer, change))
    (trainer, change), (plain, _) = runs
    assert change.steps == list(range(1, trainer.state.global_step + 1, 2))
    assert all(0 <= value <= 1 for value in change.non_overlap)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name]), name


def test_change_is_zero_where_nothing_is_learned_and_one_where_all_is_other(tmp_path):
    for rate, expected in ((0.0, [0.0]), (1.0, None)):
        trainer = make_trainer(
            tmp_path / str(rate), "rnp", "gru", train_dataset=toy_reviews(16), learning_rate=rate, max_steps=1
        )
        change = SelectionChange(toy_reviews(6, seed=1), trainer.processing_class, every=1)
        trainer.add_callback(change)
        trainer.train()
        assert change.non_overlap == expected if expected else change.non_overlap[0] > 0


def test_change_is_the_share_of_both_selections(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "rnp", "gru", train_dataset=toy_reviews(8))
    change = SelectionChange(toy_reviews(2), trainer.processing_class, every=1)
    masks = iter([[[1.0, 1, 0, 0], [0, 0, 0, 0]], [[0.0, 1, 1, 1], [0, 0, 0, 0]]])
    monkeypatch.setattr(change, "_select", lambda model, args: [torch.tensor(next(masks))])
    state = SimpleNamespace(global_step=0)
    change.on_step_begin(trainer.args, state, None, model=trainer.model)
    state.global_step = 1
    change.on_step_end(trainer.args, state, None, model=trainer.model)
    assert (change.steps, change.non_overlap) == ([1], [pytest.approx((3 / 5 + 0) / 2)])


@pytest.mark.parametrize("backbone", ["gru", pytest.param("plmr", marks=pytest.mark.slow)])
def test_random_patterns_leave_the_model_and_know_less_than_the_text(tmp_path, backbone):
    trainer = make_trainer(tmp_path, "rnp", backbone, config={"sparsity": 0.2})
    model, tokenizer = trainer.model, trainer.processing_class
    before = copy.deepcopy(model.state_dict())
    args = make_args(tmp_path / "run", optim="adamw_torch", learning_rate=0.02, num_train_epochs=4)
    report = random_patterns(model, args, toy_reviews(128), toy_reviews(64, seed=1), tokenizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for accuracies in (report.train, report.validation):
        assert list(accuracies) == ["full text", "random patterns", "r2f"]
        assert [len(values) for values in accuracies.values()] == [4, 4, 4]
    assert report.validation["full text"][-1] > 0.75
    assert report.validation["full text"][-1] > report.validation["random patterns"][-1]
    assert isinstance(report.figure(), Figure)


def test_random_patterns_refuse_shared_weights_and_the_best_checkpoint(tmp_path):
    for options, message in (
        ({"method": "fr"}, "The players share trained weights"),
        ({"method": "rnp", "load_best_model_at_end": True}, "set load_best_model_at_end=False"),
    ):
        trainer = make_trainer(tmp_path, backbone="gru", **options)
        with pytest.raises(ValueError, match=message):
            random_patterns(trainer.model, trainer.args, toy_reviews(4), toy_reviews(4), trainer.processing_class)


def test_the_extractor_of_random_patterns_does_not_see_labels(tmp_path):
    config = {"sparsity": 0.3}
    gradients = []
    for flip in (False, True):
        trainer = make_trainer(tmp_path, "rnp", "gru", config=config)
        patterns = RandomPatternTrainer(
            model=trainer.model,
            args=trainer.args,
            train_dataset=toy_reviews(8),
            processing_class=trainer.processing_class,
        )
        (batch,) = read_batches(
            trainer.model,
            encode(toy_reviews(8), trainer.processing_class, trainer.model),
            trainer.processing_class,
            8,
            "",
        )
        inputs = batch.inputs._replace(labels=1 - batch.inputs.labels if flip else batch.inputs.labels)
        torch.manual_seed(0)
        trainer.model.train()
        patterns.training_objective(trainer.model, inputs).loss.backward()
        gradients.append([weight.grad for weight in trainer.model.extractor.parameters() if weight.requires_grad])
    for plain, flipped in zip(*gradients, strict=True):
        assert torch.equal(plain, flipped)


def test_random_patterns_refuse_what_would_teach_the_predictor_otherwise(tmp_path):
    trainer = make_trainer(tmp_path, "rnp", "gru", full_text_weight=1.0)
    with pytest.raises(ValueError, match="set full_text_weight=0"):
        random_patterns(trainer.model, trainer.args, toy_reviews(4), toy_reviews(4), trainer.processing_class)


# --- Figures ---------------------------------------------------------------------------------------------------------


def test_every_figure_is_drawn(tmp_path):
    model, tokenizer = a_model(tmp_path, "bert")
    texts = toy_reviews(8, seed=4)
    change = SelectionChange(texts, tokenizer)
    change.steps, change.non_overlap = [1, 2], [0.5, 0.1]
    reports = [
        gold_replacement(model, texts, tokenizer),
        gold_against_selected(model, texts, tokenizer),
        lipschitz(model, texts, tokenizer),
        failure_rate(model, texts, tokenizer),
        homogeneity(model.encoders[0], texts, tokenizer),
        cross_aspect({"aroma": model}, {"aroma": texts}, tokenizer),
        change,
    ]
    for report in reports:
        figure = report.figure()
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / "figure.png")
        assert all(axes.get_xlabel() or axes.get_xticklabels() for axes in figure.axes)


def test_the_table_of_diagnostics_names_every_function():
    functions = [name for name in diagnostics.__all__ if name[0].islower()]
    assert len(functions) == 8
    for name in [*functions, "SelectionChange"]:
        assert f"[`{name}`]" in diagnostics.__doc__
