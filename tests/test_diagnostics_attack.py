"""The attack on a finished model: nothing of the model changes, and the rates are what they say."""

import copy

import pytest
import torch
from training_common import make_args, make_trainer, toy_reviews

from hf_rationale import RationaleTrainingArguments
from hf_rationale.diagnostics import AttackTrainer, audit


def a_model(tmp_path, method="rnp", backbone="gru"):
    """A model that has learned its task, and its tokenizer."""
    trainer = make_trainer(
        tmp_path / "model",
        method,
        backbone,
        config={"sparsity_weight": 1.0, "coherence_weight": 0.1, "sparsity": 0.3},
        train_dataset=toy_reviews(128),
        optim="adamw_torch",
        learning_rate=0.02,
        num_train_epochs=4,
    )
    trainer.train()
    trainer.calibrate()
    return trainer.model, trainer.processing_class


def attack_args(tmp_path, **args):
    return make_args(tmp_path / "attack", optim="adamw_torch", learning_rate=0.02, num_train_epochs=4, **args)


@pytest.mark.parametrize("method, backbone", [("rnp", "gru"), ("rnp", "bert"), ("fr", "bert"), ("a2i", "gru")])
def test_the_audit_leaves_the_model_as_it_is_to_the_bit(tmp_path, method, backbone):
    model, tokenizer = a_model(tmp_path, method, backbone)
    weights = copy.deepcopy(model.state_dict())
    trainable = {name: weight.requires_grad for name, weight in model.named_parameters()}
    before = copy.deepcopy(model.config.to_dict()), model.training, model.training_modules
    report = audit(model, attack_args(tmp_path), toy_reviews(32), toy_reviews(16, seed=3), tokenizer)
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == trainable
    assert (model.config.to_dict(), model.training, model.training_modules) == before
    assert [entry["step"] for entry in report.over_steps] == list(range(1, 17))


@pytest.mark.parametrize("backbone", ["gru", "bert"])
def test_only_the_attacker_is_trained_and_the_predictor_is_at_rest(tmp_path, backbone):
    model, tokenizer = a_model(tmp_path, backbone=backbone)
    trainer = AttackTrainer(
        model=model,
        args=attack_args(tmp_path),
        train_dataset=toy_reviews(32),
        eval_dataset=toy_reviews(16, seed=3),
        processing_class=tokenizer,
    )
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    moved = {
        name.split(".")[0]
        for name, value in trainer.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"attacker"}
    assert trainer.model is not model


def test_rates_are_those_of_the_texts_one_by_one(tmp_path):
    model, tokenizer = a_model(tmp_path)
    texts = toy_reviews(16, seed=3)
    trainer = AttackTrainer(
        model=model,
        args=attack_args(tmp_path),
        train_dataset=toy_reviews(128),
        eval_dataset=texts,
        processing_class=tokenizer,
    )
    trainer.train()
    metrics = trainer.evaluate()
    attacked = trainer.model.eval()
    said = {0: [], 1: []}
    for text in texts:
        encoded = tokenizer(text["tokens"], is_split_into_words=True, return_tensors="pt")
        inputs = attacked.prepare(**encoded)
        mask = attacked.select(inputs, rationale_ratio=model.config.sparsity, extractor=attacked.attacker).mask
        said[text["label"]].append(int(model(**encoded, rationale_mask=mask).logits.argmax() == 1 - text["label"]))
    assert metrics["eval_attack_success_rate_LABEL_0"] == pytest.approx(sum(said[0]) / 8)
    assert metrics["eval_attack_success_rate_LABEL_1"] == pytest.approx(sum(said[1]) / 8)
    assert metrics["eval_attack_success_rate"] == pytest.approx(sum(said[0] + said[1]) / 16)
    assert 0 <= metrics["eval_random_success_rate"] <= 1
    torch.rand(1)
    again = trainer.evaluate()
    assert {name: value for name, value in again.items() if "rate" in name} == {
        name: value for name, value in metrics.items() if "rate" in name
    }


def test_an_attack_succeeds_where_there_is_something_to_succeed_with(tmp_path):
    """Texts that hold words of both labels: the attacker learns to show the predictor the wrong ones."""
    model, tokenizer = a_model(tmp_path)

    def mixed(count, seed):
        reviews = toy_reviews(count, seed)
        other = {0: "lovely", 1: "awful"}
        tokens = [[*row["tokens"], other[row["label"]]] for row in reviews]
        return reviews.remove_columns(["tokens", "rationale"]).add_column("tokens", tokens)

    report = audit(model, attack_args(tmp_path, logging_steps=16), mixed(256, 5), mixed(64, 6), tokenizer)
    assert report.success_rate > report.random_rate + 0.3
    assert report.over_steps[-1]["success_rate"] > report.over_steps[0]["success_rate"]
    assert set(report.by_class) == {"LABEL_0", "LABEL_1"}


def test_the_audit_is_in_one_precision(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path / "model", backbone="bert")  # what one Trainer has prepared, no other does anew
    model, tokenizer = trainer.model, trainer.processing_class
    precisions, predict = {True: set(), False: set()}, type(model).predict

    def observed(self, *args, **kwargs):
        precisions[torch.is_grad_enabled()].add(torch.is_autocast_enabled("cpu"))
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "predict", observed)
    audit(model, attack_args(tmp_path, bf16=True), toy_reviews(32), toy_reviews(16, seed=3), tokenizer)
    assert precisions == {True: {True}, False: {True}}  # while the attacker is trained, and when it is measured


def test_choosing_a_checkpoint_of_the_attacker_raises(tmp_path):
    model, tokenizer = a_model(tmp_path)
    args = attack_args(tmp_path, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True)
    with pytest.raises(ValueError, match="load_best_model_at_end=False"):
        AttackTrainer(model=model, args=args, processing_class=tokenizer)


def test_an_interrupted_audit_goes_on(tmp_path):
    model, tokenizer = a_model(tmp_path)
    datasets = toy_reviews(32), toy_reviews(16, seed=3), tokenizer
    save = {"save_strategy": "steps", "save_steps": 8, "save_total_limit": None}
    whole = audit(model, attack_args(tmp_path, **save), *datasets)
    checkpoint = str(tmp_path / "attack" / "checkpoint-8")
    resumed = audit(model, attack_args(tmp_path, **save, resume_from_checkpoint=checkpoint), *datasets)
    assert resumed == whole


def test_the_arguments_of_readme_do(tmp_path):
    """Evaluated after every epoch, and no metric is missed."""
    model, tokenizer = a_model(tmp_path)
    args = RationaleTrainingArguments(
        str(tmp_path / "audit"), learning_rate=1e-3, num_train_epochs=2, load_best_model_at_end=False, use_cpu=True
    )
    report = audit(model, args, toy_reviews(16), toy_reviews(8, seed=3), tokenizer)
    assert 0 <= report.success_rate <= 1


def test_audits_with_one_seed_agree_and_evaluating_in_between_changes_nothing(tmp_path):
    model, tokenizer = a_model(tmp_path)
    datasets = toy_reviews(32), toy_reviews(16, seed=3), tokenizer
    one = audit(model, attack_args(tmp_path), *datasets)
    assert audit(model, attack_args(tmp_path), *datasets) == one
    assert audit(model, attack_args(tmp_path, eval_strategy="epoch"), *datasets) == one
    assert audit(model, attack_args(tmp_path, seed=1), *datasets) != one


def test_a_frozen_model_is_audited_all_the_same(tmp_path):
    model, tokenizer = a_model(tmp_path)
    datasets = toy_reviews(32), toy_reviews(16, seed=3), tokenizer
    expected = audit(model, attack_args(tmp_path), *datasets)
    assert audit(model.requires_grad_(False).eval(), attack_args(tmp_path), *datasets) == expected
    assert not any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("backbone", ["gru", "bert"])
def test_the_predictor_reads_without_dropout_and_the_attacker_samples(tmp_path, backbone):
    trainer = make_trainer(tmp_path / "model", "rnp", backbone, dropout=0.5)
    attacker = AttackTrainer(
        model=trainer.model,
        args=attack_args(tmp_path),
        train_dataset=toy_reviews(16),
        eval_dataset=toy_reviews(8),
        processing_class=trainer.processing_class,
    )
    model = attacker.model.train()
    batch = {key: value for key, value in next(iter(attacker.get_train_dataloader())).items() if key != "rationale"}
    inputs = model.prepare(**batch)
    attacker.training_objective(model, inputs)
    mask = inputs.units.selectable.float()
    assert torch.equal(model.predict(inputs, mask).logits, model.predict(inputs, mask).logits)
    masks = [model.select(inputs, extractor=model.attacker).mask for _ in range(2)]
    assert not torch.equal(*masks)


def test_texts_without_labels_raise(tmp_path):
    model, tokenizer = a_model(tmp_path)
    unlabelled = toy_reviews(8).remove_columns(["label", "rationale"])
    with pytest.raises(ValueError, match="evaluation set has no column 'label'"):
        audit(model, attack_args(tmp_path), toy_reviews(8), unlabelled, tokenizer)
