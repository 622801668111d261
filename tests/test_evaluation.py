"""The whole report: its figures are those of the parts, it goes on where it stopped, and it can be read."""

import json
import subprocess
import sys

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from test_faithfulness import a_model, a_plain_classifier
from training_common import make_model, toy_reviews
from vectors import toy_sets

from hf_rationale import cli, evaluate_rationales
from hf_rationale.data.eraser_predictions import numbered_instances, read_eraser_predictions
from hf_rationale.diagnostics import failure_rate, gold_against_selected, gold_replacement, homogeneity, lipschitz
from hf_rationale.evaluation import SECTIONS
from hf_rationale.faithfulness import faithfulness
from hf_rationale.metrics import classification_scores, group_accuracy, rationale_scores
from hf_rationale.reading import encode, read_rationales


FILES = ["predictions.jsonl", "report.html", "report.json", "report.md"]


def with_an_unmarked_text(count: int) -> Dataset:
    texts = toy_reviews(count, seed=5).to_list()
    texts[0]["rationale"] = None
    return Dataset.from_list(texts, features=toy_reviews(1).features)


@pytest.mark.parametrize("backbone", ["gru", "bert", "plmr"])
def test_sections_are_what_the_parts_give(tmp_path, backbone):
    model, tokenizer = a_model(tmp_path / "model", backbone)
    texts = with_an_unmarked_text(12)
    report = evaluate_rationales(model, texts, tokenizer, tmp_path / "report", batch_size=5)
    assert list(report.sections) == list(SECTIONS)
    rationales = read_rationales(model, texts, tokenizer)
    predicted = rationales.probabilities.argmax(-1)
    assert report.sections["classification"] == classification_scores(predicted, texts["label"])
    marked = [
        [side[row] for row in range(1, 12)] for side in (rationales.masks, texts["rationale"], rationales.scores)
    ]
    assert report.sections["plausibility"]["scores"] == rationale_scores(*marked)
    assert report.sections["faithfulness"] == close(faithfulness(model, texts, tokenizer))
    for diagnostic in (gold_replacement, gold_against_selected, lipschitz, failure_rate):
        assert report.sections[diagnostic.__name__] == close(vars(diagnostic(model, texts, tokenizer)))
    assert report.sections["homogeneity"] == close(vars(homogeneity(model.encoders[0], texts, tokenizer)))

    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == FILES
    saved = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {name: saved[name] for name in ("about", "sections")} == json.loads(json.dumps(report.to_dict()))
    assert report.about["texts"] == 12
    assert report.about["texts with marked rationales"] == 11


def close(value):
    if isinstance(value, dict):
        return {key: close(one) for key, one in value.items()}
    return pytest.approx(value, abs=1e-5) if isinstance(value, (float, list)) else value


def test_predictions_are_in_eraser_s_format(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "bert")
    texts = toy_reviews(6)
    evaluate_rationales(model, texts, tokenizer, tmp_path, sections=["classification"], class_names=["NEG", "POS"])
    rationales = read_rationales(model, texts, tokenizer)
    read = read_eraser_predictions(tmp_path / "predictions.jsonl", numbered_instances(texts["tokens"]))
    for row, prediction in enumerate(read):
        assert prediction.mask.tolist() == rationales.masks[row].tolist()
        assert prediction.scores == pytest.approx(rationales.scores[row])
        assert prediction.classification == ["NEG", "POS"][rationales.probabilities[row].argmax()]
        assert list(prediction.classification_scores.values()) == pytest.approx(rationales.probabilities[row].tolist())


def test_it_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    texts, folder = toy_reviews(8), tmp_path / "report"
    expected = evaluate_rationales(model, texts, tokenizer)

    measured = []

    def counted(name, section):
        def measure(subject):
            measured.append(name)
            if name == "lipschitz" and len(measured) < 8:
                raise KeyboardInterrupt
            return section(subject)

        return measure

    for name, section in SECTIONS.items():
        monkeypatch.setitem(SECTIONS, name, counted(name, section))
    with pytest.raises(KeyboardInterrupt):
        evaluate_rationales(model, texts, tokenizer, folder)
    assert not (folder / "report.html").exists()
    before = measured.copy()
    measured += [None] * 8  # past the interruption
    report = evaluate_rationales(model, texts, tokenizer, folder)
    assert before == list(SECTIONS)[: len(before)]
    assert [name for name in measured[len(before) :] if name] == list(SECTIONS)[len(before) - 1 :]
    assert report.to_dict() == expected.to_dict()


@pytest.mark.parametrize("change", ["weights", "texts", "max_length", "threshold"])
def test_another_model_s_report_is_neither_taken_nor_lost(tmp_path, change):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    texts, options = toy_reviews(8), {"sections": ["classification"]}
    evaluate_rationales(model, texts, tokenizer, tmp_path / "report", **options)
    before = (tmp_path / "report" / "report.json").read_bytes()
    if change == "weights":
        model.predictor.classifier.bias.data[0] += 1
    elif change == "texts":
        texts = toy_reviews(8, seed=1)
    elif change == "threshold":
        model.config.rationale_threshold = 0.123
    else:
        options["max_length"] = 5
    with pytest.raises(ValueError, match=r"report of another model, of other data or of another max_length\. Move it"):
        evaluate_rationales(model, texts, tokenizer, tmp_path / "report", **options)
    assert (tmp_path / "report" / "report.json").read_bytes() == before


def test_a_file_that_is_no_report_is_kept(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a report of this package"):
        evaluate_rationales(model, toy_reviews(4), tokenizer, tmp_path)
    assert (tmp_path / "report.json").read_text() == "[]"


def test_what_cannot_be_measured_is_left_out(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    gold = {"gold_replacement", "gold_against_selected", "failure_rate"}
    for texts, missing in (
        (toy_reviews(6, marked=False), gold | {"plausibility", "yardsticks"}),
        (toy_reviews(6).remove_columns("label"), gold | {"classification"}),
    ):
        report = evaluate_rationales(model, texts, tokenizer, tmp_path / str(len(missing)) / "-".join(sorted(missing)))
        assert {name for name, section in report.sections.items() if "not measured" in section} == missing
        page = report.to_html()
        for name in missing:
            assert f"{name.replace('_', ' ')} was not measured" in page
            assert f"{name.replace('_', ' ')} was not measured" in report.to_markdown()


def test_a_model_that_selects_nothing_is_measured_all_the_same(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    model.config.decoding, model.config.rationale_threshold = "threshold", 1.0
    report = evaluate_rationales(model, toy_reviews(6), tokenizer, tmp_path / "report")
    assert report.sections["lipschitz"] == {
        "not measured": "The model selects nothing in any text, so its predictor reads nothing."
    }
    assert report.sections["plausibility"]["scores"]["token_micro"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == FILES


def test_what_is_undefined_is_null_in_json_and_said_on_the_page(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    texts = Dataset.from_dict({"tokens": [["the", "lovely"]], "rationale": [[1, 1]], "label": [1]})
    report = evaluate_rationales(model, texts, tokenizer, tmp_path / "report", sections=["plausibility"])
    saved = (tmp_path / "report" / "report.json").read_text()
    assert "NaN" not in saved
    assert json.loads(saved)["sections"]["plausibility"]["scores"]["roc_auc"] is None
    assert "| roc auc | undefined |  |" in report.to_markdown()


def test_yardsticks_of_a_model_that_selects_a_number_of_units(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    model.config.decoding, model.config.rationale_top_k = "top_k", 2
    report = evaluate_rationales(model, toy_reviews(6), tokenizer, sections=["yardsticks"], rationale_level="word")
    scores = report.sections["yardsticks"]["scores"]
    assert "first_word" in scores
    lengths = [len(words) for words in toy_reviews(6)["tokens"]]
    assert scores["first_word_2"]["sparsity"] == pytest.approx(12 / sum(lengths))


def test_sections_can_be_added_and_asked_for_again(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    texts, folder = toy_reviews(6), tmp_path / "report"
    first = evaluate_rationales(model, texts, tokenizer, folder, sections=["plausibility"])
    assert list(first.sections) == ["plausibility"]
    evaluate_rationales(model, texts, tokenizer, folder, sections=["classification"])
    page = (folder / "report.html").read_text()
    assert "<td>accuracy</td>" in page
    assert "<td>token micro f1</td>" in page


@pytest.mark.parametrize("form", ["labels", "encoded"])
def test_other_forms_of_the_same_texts(tmp_path, form):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    texts = toy_reviews(6)
    expected = evaluate_rationales(model, texts, tokenizer)
    if form == "labels":
        other = texts.rename_column("label", "labels")
    else:
        other = encode(texts, tokenizer, model).add_column("tokens", texts["tokens"])
    assert evaluate_rationales(model, other, tokenizer).sections == expected.sections


def test_a_name_for_every_text_and_label_is_needed_before_anything_is_measured(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    for names in ({"class_names": ["NEG"]}, {"instances": numbered_instances([["the"]])}):
        with pytest.raises(ValueError, match="There are 6 texts and 2 labels, but "):
            evaluate_rationales(model, toy_reviews(6), tokenizer, tmp_path / "report", **names)
    assert not (tmp_path / "report").exists()


def test_unknown_sections_and_texts_without_words(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "gru")
    with pytest.raises(ValueError, match=r"There is no section speed\. The sections are classification, "):
        evaluate_rationales(model, toy_reviews(4), tokenizer, sections=["speed"])
    texts = Dataset.from_dict({"text": ["lovely", "stale"], "label": [1, 0]})
    report = evaluate_rationales(model, texts, tokenizer, tmp_path / "report")
    assert "column 'tokens'" in report.sections["failure_rate"]["not measured"]
    assert "accuracy" in report.sections["classification"]
    assert not (tmp_path / "report" / "predictions.jsonl").exists()


def test_another_kind_of_input_is_measured(tmp_path):
    """What applies to it is measured, and the other sections name the reason."""
    model, _ = make_model("rnp", "vectors")
    report = evaluate_rationales(model, toy_sets(12), None, tmp_path)
    missing = {name: section["not measured"] for name, section in report.sections.items() if "not measured" in section}
    assert set(missing) == {"failure_rate", "homogeneity", "lipschitz", "yardsticks"}
    assert all("RationaleForVectorsClassification" in missing[name] for name in ("homogeneity", "lipschitz"))
    assert 0 <= report.sections["plausibility"]["scores"]["token_micro"]["f1"] <= 1
    assert "comprehensiveness_aopc" in report.sections["faithfulness"]
    assert (tmp_path / "report.html").exists() and not (tmp_path / "predictions.jsonl").exists()


def test_the_page_holds_every_number_and_figure_and_loads_nothing(tmp_path):
    model, tokenizer = a_model(tmp_path / "model", "bert")
    model.config.name_or_path = "<b>mine</b>"
    report = evaluate_rationales(model, toy_reviews(8), tokenizer)
    page, markdown = report.to_html(), report.to_markdown()
    for name, (value, interval) in report.table().items():
        assert f"<td>{name}</td><td>{value:.4f}</td>" in page
        assert f"| {name} | {value:.4f} | " in markdown
        assert interval is None or interval[0] <= value <= interval[1]
    assert page.count("<svg") == len(report.figures()) == 5
    assert "<b>mine" not in page
    assert 'src="' not in page
    assert 'href="http' not in page
    assert "<script" not in page


# --- The command line ------------------------------------------------------------------------------------------------


def test_the_command(tmp_path):
    model, tokenizer = a_model(tmp_path / "trained", "gru")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-c", "from hf_rationale.cli import main; main()", "evaluate", str(tmp_path / "model")]
    options = ["--dataset", "aspect_reviews", "--split", "validation", "--output_dir", str(tmp_path / "report")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "- data: aspect_reviews validation" in done.stdout
    assert "| token micro f1 | " in done.stdout
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == FILES


def test_the_command_names_eraser_s_instances_as_eraser_does(tmp_path):
    model, tokenizer = a_model(tmp_path / "trained", "gru")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "movies" / "docs").mkdir(parents=True)
    instances = []
    for name, words in (("neg_1.txt", "the awful beer"), ("pos_2.txt", "lovely\nbeer")):
        (tmp_path / "movies" / "docs" / name).write_text(words)
        evidence = {"docid": name, "start_token": 0, "end_token": 1, "text": words.split()[0]}
        label = name[:3].upper()
        instances.append({"annotation_id": name, "evidences": [[evidence]], "classification": label, "query": "?"})
    (tmp_path / "movies" / "test.jsonl").write_text("".join(json.dumps(instance) + "\n" for instance in instances))
    options = ["--dataset", "movies", "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "report")]
    cli.main(["evaluate", str(tmp_path / "model"), *options])
    lines = [json.loads(line) for line in (tmp_path / "report" / "predictions.jsonl").read_text().splitlines()]
    assert {line["annotation_id"]: line["rationales"][0]["docid"] for line in lines} == {
        "neg_1.txt": "neg_1.txt",
        "pos_2.txt": "pos_2.txt",
    }
    assert all(set(line["classification_scores"]) == {"NEG", "POS"} for line in lines)


def test_an_unknown_aspect_is_an_error_without_a_traceback(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(
            ["evaluate", "model", "--dataset", "aspect_reviews", "--aspect", "smell", "--output_dir", str(tmp_path)]
        )
    assert "'smell' is not one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "backbone, command, dataset, message",
    [
        ("images", "evaluate", "aspect_reviews", "needs the columns ['image']"),
        ("graphs", "extract", "aspect_reviews", "reads graphs, and this command is for texts"),
        ("gru", "extract", "ba2motifs", "--dataset: ba2motifs has no texts"),
    ],
)
def test_what_has_no_texts_is_an_error_without_a_traceback(tmp_path, capsys, backbone, command, dataset, message):
    model, tokenizer = make_model(backbone=backbone)
    model.save_pretrained(tmp_path / "model")
    if tokenizer is not None:
        tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(SystemExit):
        cli.main([command, str(tmp_path / "model"), "--dataset", dataset, "--output_dir", str(tmp_path / "out")])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--batch_size", "0"], "batch_size: must be at least 1, but is 0"),
        (["--max_length", "-3"], "max_length: must be at least 1, but is -3"),
        (["--max_length", "long"], "max_length: invalid positive value: 'long'"),
        (["--output_dir", "a_file"], "must be a folder, but a_file is a file"),
        ([], "no-such-model cannot be loaded"),
    ],
)
def test_bad_options_are_errors_without_a_traceback(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "no-such-model", "--dataset", "aspect_reviews", "--output_dir", "report", *options])
    assert message in capsys.readouterr().err


def test_a_failed_run_leaves_no_report(tmp_path):
    model, tokenizer = a_model(tmp_path / "trained", "gru")
    with pytest.raises(ValueError, match="batch_size must be at least 1, but is -1"):
        evaluate_rationales(model, toy_reviews(8), tokenizer, tmp_path / "report", batch_size=-1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, but is 0"):
        read_rationales(model, toy_reviews(8), tokenizer, batch_size=0)
    assert not (tmp_path / "report").exists()


def test_a_plain_classifier_is_refused(tmp_path, capsys):
    model, tokenizer = a_plain_classifier()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(tmp_path), "--dataset", "aspect_reviews", "--output_dir", str(tmp_path / "report")])
    assert "which selects nothing that could be measured" in capsys.readouterr().err


def test_group_accuracy_by_hand():
    scores = group_accuracy([0, 1, 1, 1], [0, 1, 0, 1], [0, 3, 1, 3])
    assert scores == {"worst_group_accuracy": 0.0, "group_accuracy": {0: 1.0, 1: 0.0, 3: 1.0}}


@pytest.mark.parametrize("form", ["names", "classes"])
def test_a_column_group_gives_the_accuracy_of_groups(tmp_path, form):
    """Of texts, too. Examples of no group count in none."""
    model, tokenizer = a_model(tmp_path / "model", "gru")
    texts, names = toy_reviews(6), ["short", "long", "short", "long", "long", None]
    groups = names if form == "names" else [-1 if name is None else ("long", "short").index(name) for name in names]
    texts = texts.add_column("group", groups)
    if form == "classes":
        texts = texts.cast_column("group", ClassLabel(names=["long", "short"]))
    scores = evaluate_rationales(model, texts, tokenizer, tmp_path, sections=["classification"]).sections
    right = read_rationales(model, texts, tokenizer).probabilities.argmax(-1) == texts["label"]
    accuracy = {"long": right[[1, 3, 4]].mean(), "short": right[[0, 2]].mean()}
    assert scores["classification"]["group_accuracy"] == pytest.approx(accuracy)
    assert scores["classification"]["worst_group_accuracy"] == pytest.approx(min(accuracy.values()))
    others = texts.remove_columns("group").add_column("group", ["short"] * 6)
    with pytest.raises(ValueError, match="of other data"):
        evaluate_rationales(model, others, tokenizer, tmp_path, sections=["classification"])


def test_classification_scores_by_hand():
    scores = classification_scores(np.array([0, 0, 1, 2, 1]), np.array([0, 1, 1, 1, 1]))
    assert scores == {
        "accuracy": 3 / 5,
        "balanced_accuracy": (1 + 2 / 4) / 2,
        "macro_f1": pytest.approx((2 / 3 + 4 / 6 + 0) / 3),
        "majority_share": 4 / 5,
    }
