"""The model card, which the trainer writes."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from datasets import Dataset
from huggingface_hub import ModelCard
from training_common import make_trainer, toy_reviews

from hf_rationale import evaluate_rationales, load_rationale_dataset


def card_of(folder) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def rows_of(card: str) -> dict[str, str]:
    """The first two cells of every row of its tables."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines() if line.startswith("|")]
    return {row[0]: row[1] for row in cells}


@pytest.fixture
def trainer(tmp_path):
    trainer = make_trainer(tmp_path, "n2r", norm_weight=0.5, max_length=40)
    trainer.train()
    return trainer


def test_saving_writes_the_card_and_evaluating_adds_the_scores(trainer, tmp_path):
    assert not (tmp_path / "README.md").exists()
    trainer.save_model()
    card = card_of(tmp_path)
    assert "The model has not been evaluated yet." in card and "{{" not in card and "{%" not in card
    rows = rows_of(card)
    assert (rows["method"], rows["norm weight"], rows["encoder"]) == ("n2r", "0.5", "rationale_gru")
    assert rows["train"] == "16" and "Liu et al., ICLR 2025" in card

    validation = trainer.evaluate()
    assert "On the validation set of 7 texts." in card_of(tmp_path)
    assert rows_of(card_of(tmp_path))["accuracy"] == f"{validation['eval_accuracy']:.4f}"
    test = trainer.evaluate(toy_reviews(9, seed=2), metric_key_prefix="test")
    card = card_of(tmp_path)
    assert "On the test set of 9 texts." in card
    rows = rows_of(card)
    assert rows["rationale F1"] == f"{test['test_rationale_f1']:.4f}"
    assert f"selects about {test['test_rationale_sparsity']:.0%} of the words" in card
    assert (rows["train"], rows["validation"], rows["test"]) == ("16", "7", "9")
    data = ModelCard.load(tmp_path / "README.md").data
    assert {"hf_rationale", "rationale", "n2r"} <= set(data.tags) and data.library_name == "transformers"
    assert {result.metric_name for result in data.eval_results} >= {"accuracy", "rationale F1"}


def test_a_report_brings_intervals_and_faithfulness(trainer, tmp_path):
    trainer.save_model()
    texts = toy_reviews(9, seed=2)
    trainer.evaluate(texts, metric_key_prefix="test")
    sections = ("classification", "plausibility", "faithfulness")
    report = evaluate_rationales(trainer.model, texts, trainer.processing_class, sections=sections)
    trainer.model_card.add_report(report)
    card = card_of(tmp_path)
    value, (low, high) = report.table()["token micro f1"]
    assert f"| rationale F1 | {value:.4f} | {low:.4f} to {high:.4f} |" in card
    assert "| comprehensiveness (AOPC) |" in card


def test_a_report_alone_is_shown(trainer, tmp_path):
    trainer.save_model()
    report = evaluate_rationales(
        trainer.model, toy_reviews(9, seed=2), trainer.processing_class, sections=("classification",)
    )
    trainer.model_card.add_report(report)
    card = card_of(tmp_path)
    assert "On the evaluated data of 9 texts." in card
    assert rows_of(card)["accuracy"] == f"{report.table()['accuracy'][0]:.4f}"


def test_checkpoints_have_no_card(tmp_path):
    make_trainer(tmp_path, save_strategy="epoch", eval_strategy="epoch").train()
    assert list(tmp_path.glob("checkpoint-*")) and not list(tmp_path.glob("checkpoint-*/README.md"))


@pytest.mark.parametrize("backbone", ["gru", "sentences"])
def test_the_data_describes_itself(tmp_path, backbone):
    reviews = load_rationale_dataset("aspect_reviews", aspect="aroma", n_train=16, n_validation=8, n_test=8)
    trainer = make_trainer(
        tmp_path, backbone=backbone, train_dataset=reviews["train"], eval_dataset=reviews["validation"]
    )
    trainer.save_model()
    card = card_of(tmp_path)
    assert "aspect_reviews aroma: Reviews" in card
    assert "It prints" in card and "'rationale':" in card and "<blockquote>" in card and "</mark>" in card


def test_settings_are_those_of_the_run_and_fit_into_a_table(tmp_path):
    rates = {"selector|classifier": 0.1}
    make_trainer(tmp_path, max_steps=2, learning_rate_mapping=rates).save_model()
    card = card_of(tmp_path)
    assert "| steps | 2 |" in card and "| epochs |" not in card
    assert "{'selector\\|classifier': 0.1}" in card


def test_other_data_is_described_by_its_info(tmp_path):
    texts = toy_reviews(16)
    texts.info.description, texts.info.dataset_name = "Reviews of beer, made up.", "toys"
    texts.info.license = "CC BY 4.0"
    make_trainer(tmp_path, train_dataset=texts).save_model()
    assert "toys: Reviews of beer, made up. Licence of the data: CC BY 4.0." in card_of(tmp_path)
    make_trainer(tmp_path, train_dataset=Dataset.from_list(toy_reviews(16).to_list())).save_model()
    assert "custom data: The training data has no description." in card_of(tmp_path)


def test_another_kind_of_input_has_a_card_too(tmp_path):
    trainer = make_trainer(tmp_path, "a2i", "vectors")
    trainer.train()
    trainer.save_model()
    trainer.evaluate()
    card = card_of(tmp_path)
    assert "RationaleForVectorsClassification.from_pretrained" in card and "pipeline(" not in card
    assert "rationale F1" in rows_of(card)


@pytest.mark.parametrize(
    "backbone, task, call",
    [
        ("graphs", "graph-ml", 'GraphRationalePipeline("{folder}")'),
        ("images", "image-classification", 'pipeline("rationale-image-classification", model="{folder}")'),
    ],
)
def test_the_card_shows_the_pipeline_of_the_kind(tmp_path, backbone, task, call):
    trainer = make_trainer(tmp_path, "rnp", backbone)
    trainer.save_model()
    trainer.evaluate()
    assert call.format(folder=tmp_path) in card_of(tmp_path)
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.pipeline_tag == task and {result.task_type for result in data.eval_results} == {task}


def test_scores_on_other_data_have_its_name(tmp_path):
    trainer = make_trainer(tmp_path, "rnp", "gru")
    trainer.train_dataset.info.dataset_name = "beers"
    trainer.save_model()
    trainer.evaluate(toy_reviews(9))
    assert "On the test set of custom data of 9 texts." in card_of(tmp_path)
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert {result.dataset_name for result in results} == {"custom data"}


def test_pushing_uploads_the_card(trainer):
    """The servers of the Hub are replaced by mocks, which get the folder that would be uploaded."""
    uploaded = {}

    def upload_folder(*args, folder_path, **kwargs):
        uploaded.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir() if path.is_file()})

    repository = mock.Mock(repo_id="me/model")
    with (
        mock.patch("huggingface_hub.HfApi.create_repo", return_value=repository),
        mock.patch("huggingface_hub.HfApi.upload_folder", autospec=True, side_effect=upload_folder),
        # Older releases of transformers have imported the functions themselves.
        mock.patch("transformers.trainer.create_repo", return_value=repository, create=True),
        mock.patch("transformers.trainer.upload_folder", side_effect=upload_folder, create=True),
    ):
        trainer.push_to_hub(license="apache-2.0")
    card = uploaded["README.md"].decode()
    assert "license: apache-2.0" in card and "selects what it decides from" in card
    assert "model.safetensors" in uploaded
