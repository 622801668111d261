"""The example scripts, run as users run them."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, load_script
from huggingface_hub import ModelCard
from huggingface_hub.errors import StrictDataclassError
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from training_common import BACKBONES, make_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from hf_rationale import (
    METHODS,
    GraphRationalePipeline,
    PlmrForSequenceClassification,
    RationaleForSequenceClassification,
)


TRAIN = REPOSITORY / "examples" / "train.py"
TINY = (
    *("--dataset", "aspect_reviews", "--dataset_options", '{"n_train": 64, "n_validation": 20, "n_test": 20}'),
    *("--per_device_train_batch_size", "16", "--num_train_epochs", "1", "--sparsity", "0.15", "--use_cpu"),
)
SCORES = (
    "eval_accuracy",
    "eval_rationale_precision",
    "eval_rationale_recall",
    "eval_rationale_f1",
    "eval_rationale_sparsity",
    "eval_rationale_gold_sparsity",
    "eval_rationale_oracle_f1",
)


def run(*command: str, cwd: Path) -> str:
    """What a command prints; it must succeed."""
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-5000:]
    return result.stdout


def call_train(monkeypatch, *flags: str):
    """The script within this process."""
    monkeypatch.setattr(sys, "argv", [str(TRAIN), *flags])
    load_script("examples/train.py").main()


def check_model_folder(folder: Path):
    """It is complete: model, tokenizer, scores, and a card whose snippet runs."""
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {"README.md", "all_results.json", "eval_results.json", "trainer_state.json"} <= names
    scores = json.loads((folder / "eval_results.json").read_text())
    for name in SCORES:
        assert 0 <= scores[name] <= 1, name
    assert scores.items() <= json.loads((folder / "all_results.json").read_text()).items()
    f1, oracle = scores["eval_rationale_f1"], scores["eval_rationale_oracle_f1"]
    assert f1 <= oracle + 1e-9

    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n") and "pipeline_tag: text-classification" in card
    assert "More information needed" not in card and "{{" not in card and "{%" not in card
    assert f"| accuracy | {scores['eval_accuracy']:.4f} |" in card
    assert f"| rationale F1 | {f1:.4f} |" in card
    assert "The best units of each text are selected, up to the intended share." in card
    return card


def check_snippet(card: str, cwd: Path):
    """The card's snippet prints what the card says that it prints."""
    snippet, printed = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)[:2]
    assert "pipeline(" in snippet
    actual, expected = eval(run(sys.executable, "-c", snippet, cwd=cwd)), eval(printed)
    assert actual.keys() == expected.keys() == {"label", "score", "rationale", "sparsity", "truncated"}
    assert actual["label"] == expected["label"] in ("negative", "positive")
    assert actual["score"] == pytest.approx(expected["score"], abs=1e-4)
    assert [span["text"] for span in actual["rationale"]] == [span["text"] for span in expected["rationale"]]


def test_train_writes_a_complete_model_folder_and_resumes(tmp_path):
    output = run(sys.executable, str(TRAIN), *TINY, "--output_dir", "out", cwd=tmp_path)
    assert "out/README.md" in output
    card = check_model_folder(tmp_path / "out")
    check_snippet(card, tmp_path)
    assert "examples/train.py --dataset aspect_reviews" in card and "--sparsity 0.15" in card
    first = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert first["global_step"] == 4

    two_epochs = ("--num_train_epochs", "2", "--output_dir", "out", "--resume_from_checkpoint", "last")
    run(sys.executable, str(TRAIN), *TINY, *two_epochs, cwd=tmp_path)
    check_model_folder(tmp_path / "out")
    second = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert second["global_step"] == 8
    evaluations = [entry for entry in second["log_history"] if "eval_accuracy" in entry and entry["step"] == 4]
    assert first["log_history"][0] == evaluations[0], "the first epoch was trained anew"


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_resumes(tmp_path):
    """Killed again and again, also while it saves, a run ends with the model of an undisturbed run."""
    saving = ("--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", "2", "--save_steps", "2")
    flags = (*TINY, *saving, "--num_train_epochs", "8", "--resume_from_checkpoint", "last", "--output_dir")
    run(sys.executable, str(TRAIN), *flags, "whole", cwd=tmp_path)
    rng = random.Random(0)
    kills = 0
    for _ in range(8):
        command = [sys.executable, str(TRAIN), *flags, "killed"]
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=tmp_path, stdout=nothing, stderr=nothing)
        checkpoints = tmp_path / "killed"
        seen = {path.name for path in checkpoints.glob("checkpoint-*")}
        while process.poll() is None and {path.name for path in checkpoints.glob("checkpoint-*")} <= seen:
            time.sleep(0.002)  # until a new checkpoint appears
        time.sleep(rng.random() * 0.1)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills > 4
    run(sys.executable, str(TRAIN), *flags, "killed", cwd=tmp_path)
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    for name, weight in whole.items():
        torch.testing.assert_close(killed[name], weight)


@pytest.mark.parametrize(
    "method, flags, lines",
    [
        (
            "n2r+ver+a2i",
            ("--perturbation_rate", "0.4", "--norm_weight", "2"),
            ("perturbation rate | 0.4", "norm weight | 2.0"),
        ),
        ("fr+a2i", (), ("method | fr+a2i",)),
        ("rnp+nir", (), ("noise rate | 0.1",)),
    ],
)
def test_methods_combine(tmp_path, monkeypatch, method, flags, lines):
    folder = tmp_path / "out"
    call_train(monkeypatch, *TINY, "--method", method, *flags, "--output_dir", str(folder))
    card = check_model_folder(folder)
    for line in lines:
        assert line in card
    model = RationaleForSequenceClassification.from_pretrained(folder)
    assert model.config.share_encoder == ("fr" in method) and not hasattr(model, "attacker")


def test_training_goes_on_from_a_finished_model(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    call_train(monkeypatch, *TINY, "--coherence_weight", "0.5", "--output_dir", str(first))
    flags = ("--model", str(first), "--method", "n2r", "--learning_rate", "0", "--sparsity", "0.3")
    call_train(monkeypatch, *TINY, *flags, "--output_dir", str(second))
    check_model_folder(second)
    before, after = (RationaleForSequenceClassification.from_pretrained(folder) for folder in (first, second))
    assert (after.config.coherence_weight, after.config.sparsity) == (0.5, 0.3)
    for name, weight in before.state_dict().items():
        assert weight.equal(after.state_dict()[name]), name


def test_a_yardstick_marks_the_training_texts(tmp_path, monkeypatch):
    flags = ("--weak_marks", "keywords_word", "--keywords", "aroma")
    with pytest.raises(SystemExit, match="only with --marks_weight above 0"):
        call_train(monkeypatch, *TINY, *flags, "--output_dir", str(tmp_path))
    call_train(monkeypatch, *TINY, *flags, "--sparsity", "0.4", "--marks_weight", "1", "--output_dir", str(tmp_path))
    card = check_model_folder(tmp_path)
    assert "The training texts are marked by keywords_word, not by people." in card
    shares = {
        split: float(share) for split, share in re.findall(r"^\| (train|test) \|.* (\S+) \|$", card, re.MULTILINE)
    }
    assert shares["train"] == pytest.approx(0.4, abs=0.03) and shares["test"] < 0.2


@pytest.mark.parametrize(
    "method, message",
    [
        ("n2r+nope", "there is no nope; there are"),
        ("ver+ver", "one of them contains the other"),
        ("fr+n2r", "FRTrainer and N2RTrainer cannot be combined"),
        ("n2r+n2r_mmi", "one of them contains the other"),
        ("n2r+", "there is no ; there are"),
    ],
)
def test_a_method_that_makes_no_sense_raises_at_once(tmp_path, monkeypatch, method, message):
    with pytest.raises(SystemExit, match=message):
        call_train(monkeypatch, *TINY, "--method", method, "--output_dir", str(tmp_path))


def test_the_saved_threshold_is_the_scored_one_without_checkpoints(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "out"
    flags = ("--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "False")
    call_train(monkeypatch, *TINY, *flags, "--coherence_weight", "0", "--output_dir", str(folder))
    card = check_model_folder(folder)
    assert RationaleForSequenceClassification.from_pretrained(folder).config.rationale_threshold != 0.5
    assert "The checkpoint is the last one." in card
    assert "| coherence weight λ2 | 0.0 |" in card


def test_train_takes_a_pretrained_encoder(tmp_path, monkeypatch, capsys):
    encoder, tokenizer = BACKBONES["bert"](0.1)
    encoder.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    flags = ("--encoder", str(tmp_path / "encoder"), "--output_dir", str(tmp_path / "out"), "--warmup_steps", "1")
    call_train(monkeypatch, *TINY, *flags, "--aspect", "aroma")
    card = check_model_folder(tmp_path / "out")
    assert "| masking | attention |\n| pooling | mean |" in card
    assert "| full-text weight | 1.0 |" in card
    assert "{'selector|classifier': 0.001}" in card.replace("\\|", "|")


def test_train_splits_an_encoder(tmp_path, monkeypatch):
    encoder, tokenizer = BACKBONES["plmr"](0.1)
    encoder.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    flags = ("--encoder", str(tmp_path / "encoder"), "--output_dir", str(tmp_path / "out"), "--warmup_steps", "1")
    options = ("--method", "plmr+n2r", "--model_config", '{"reduction_layers": [1]}', "--match_base", "2")
    options += ("--encoder_config", '{"attention_probs_dropout_prob": 0.05}')
    call_train(monkeypatch, *TINY, *flags, *options)
    card = check_model_folder(tmp_path / "out")
    for line in (
        "| layers that extract | 1 of 3 |",
        "| Dim-Reduction layers | [1], linear schedule |",
        "| full-text weight | 2.0 |",
        "| match weight λ | 1.0 |",
        "| match function h(x) | 2.0^x |",
    ):
        assert line in card
    model = RationaleForSequenceClassification.from_pretrained(tmp_path / "out")
    assert isinstance(model, PlmrForSequenceClassification)
    assert model.config.encoder_config.attention_probs_dropout_prob == 0.05
    check_snippet(card, tmp_path)


@pytest.mark.parametrize("method", ["rnp", "fr", "plmr"])
def test_lora_saves_an_adapter_that_everything_loads(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    encoder, tokenizer = BACKBONES["plmr" if method == "plmr" else "bert"](0.0)
    encoder.save_pretrained("encoder")
    tokenizer.save_pretrained("encoder")
    call_train(monkeypatch, *TINY, "--method", method, "--encoder", "encoder", "--lora", "2", "--output_dir", "out")
    names = load_file("out/adapter_model.safetensors")
    assert any("lora_A" in name for name in names) and any("selector" in name for name in names)
    assert not any("embeddings" in name for name in names)
    scores = json.loads(Path("out/eval_results.json").read_text())
    model = AutoModelForSequenceClassification.from_pretrained("out")
    threshold = json.loads(Path("out/rationale_config.json").read_text())["rationale_threshold"]
    assert model.config.rationale_threshold == threshold
    text = "the aroma is rotten ."
    answer = pipeline("rationale-classification", model="out")(text)
    merged = AutoPeftModelForSequenceClassification.from_pretrained("out").merge_and_unload()
    again = pipeline("rationale-classification", model=merged, tokenizer=AutoTokenizer.from_pretrained("out"))(text)
    assert answer["score"] == pytest.approx(again["score"], abs=1e-5)
    assert answer["rationale"] == [pytest.approx(span, abs=1e-5) for span in again["rationale"]]
    card = Path("out/README.md").read_text()
    assert "This is an adapter. It needs its base model, which is loaded from `out/base`." in card
    assert "| rank of the adapter | 2 |" in card and f"| accuracy | {scores['eval_accuracy']:.4f} |" in card
    assert ModelCard.load("out/README.md").data.library_name == "peft"
    assert "It prints" in card and "[More Information Needed]" not in card


def test_units_start_with_random_units_and_a_finished_model_does_not(tmp_path):
    train = load_script("examples/train.py")
    word, sentence = (train.defaults_of(METHODS["rnp"], "gru", None, level) for level in ("word", "sentence"))
    assert sentence.items() >= train.UNIT_DEFAULTS.items() and "predictor_first_ratio" not in word
    model, _ = make_model()
    model.save_pretrained(tmp_path)
    assert not train.defaults_of(METHODS["rnp"], "gru", str(tmp_path), "sentence").keys() & set(train.START_DEFAULTS)


def test_the_numbers_of_a_method_are_flags(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call_train(monkeypatch, *TINY, "--method", "n2r+ver", "--output_dir", str(tmp_path), "--help")
    assert {"--norm_weight", "--perturbation_rate", "--full_text_weight"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--dataset", "aspect_reviews"), "Pass --output_dir"),
        (("--output_dir", "out"), "--dataset"),
        (("--method", "gnostic"), "there is no gnostic; there are"),
        (("--dataset_options", "{n: 1}"), "--dataset_options must be a JSON object, but is {n: 1}"),
        (("--dataset_options", "[1]"), r"--dataset_options must be a JSON object, but is \[1\]"),
        (("--model_config", "[1]"), r"--model_config must be a JSON object, but is \[1\]"),
        (("--model_config", '{"split_layer": 3}'), "RationaleConfig has no field split_layer"),
        (("--encoder_config", '{"hidden_size": 3}'), "the gru has none"),
        (("--method", "plmr"), "An encoder of type 'rationale_gru' cannot be split by depth"),
        (("--dataset", "ba2motifs", "--encoder", "gin", "--method", "plmr"), "plmr splits a transformer by depth"),
        (("--method", "plmr", "--masking", "zero"), "PlmrConfig has no field masking"),
        (("--dataset_options", '{"n": 1}'), "unexpected keyword argument 'n'"),
        (("--dataset", "beers"), "There is no corpus 'beers'. The corpora are beer, hotel"),
        (("--aspect", "colour"), "'colour' is not one of them"),
        (("--encoder", "/nowhere"), "/nowhere"),
        (("--vectors", "/nowhere.txt"), "No word vectors at /nowhere.txt"),
        (("--sparsity", "1.5"), "sparsity is the share to select and must lie between 0 and 1, but is 1.5"),
        (("--selection_level", "letter"), "selection_level must be one of .* but is 'letter'"),
        (("--masking", "attention"), "has no attention to mask"),
        (("--learning_rate_mapping", "{selector: 1}"), "learning_rate_mapping is not JSON"),
        (("--sparsitty", "0.1"), "--sparsitty"),
    ],
)
def test_bad_flags_raise(tmp_path, monkeypatch, capsys, flags, message):
    incomplete = message in ("Pass --output_dir", "--dataset")
    complete = flags if incomplete else (*TINY, "--output_dir", str(tmp_path / "out"), *flags)
    with pytest.raises((SystemExit, ValueError, TypeError, OSError, StrictDataclassError)) as caught:
        call_train(monkeypatch, *complete)
    assert re.search(message, f"{caught.value} {capsys.readouterr().err}")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_train_by_accelerate_launch(tmp_path):
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1")
    run(sys.executable, *launcher, str(TRAIN), *TINY, "--output_dir", "out", cwd=tmp_path)
    check_model_folder(tmp_path / "out")


@pytest.mark.slow
def test_train_on_two_processes(tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    run(sys.executable, *launcher, str(TRAIN), *TINY, "--output_dir", "out", cwd=tmp_path)
    card = check_model_folder(tmp_path / "out")
    assert "| batch size | 32 |" in card
    check_snippet(card, tmp_path)


def test_quickstart(tmp_path):
    output = run(
        sys.executable,
        str(REPOSITORY / "examples" / "quickstart.py"),
        "--epochs",
        "0.2",
        "--output_dir",
        "out",
        cwd=tmp_path,
    )
    assert "rationale f1" in output and "random selection" in output
    page = (tmp_path / "out" / "rationales.html").read_text(encoding="utf-8")
    assert "Does it smell good?" in page
    assert RationaleForSequenceClassification.from_pretrained(tmp_path / "out").config.sparsity == 0.12


def test_train_takes_graphs(tmp_path, monkeypatch):
    sizes = '{"n_train": 64, "n_validation": 20, "n_test": 20}'
    flags = ("--dataset", "ba2motifs", "--dataset_options", sizes, "--num_train_epochs", "1", "--use_cpu")
    with pytest.raises(SystemExit, match="graphs need one of gcn, gin, gat"):
        call_train(monkeypatch, *flags, "--encoder", "gru", "--output_dir", str(tmp_path / "none"))
    call_train(monkeypatch, *flags, "--encoder", "gcn", "--method", "fr", "--output_dir", str(tmp_path / "fr"))
    config = json.loads((tmp_path / "fr" / "config.json").read_text())
    assert config["layer_type"] == "gcn" and config["share_encoder"] and config["id2label"]["0"] == "house"
    scores = json.loads((tmp_path / "fr" / "all_results.json").read_text())
    assert scores["yardstick"] == "core" and 0 <= scores["eval_rationale_f1"] <= 1
    call_train(monkeypatch, *flags, "--model", str(tmp_path / "fr"), "--output_dir", str(tmp_path / "more"))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "more")
    assert loaded.config.layer_type == "gcn"
    pipe = GraphRationalePipeline(str(tmp_path / "more"))
    assert pipe({"features": [[1.0]] * 3, "edge_index": [[0, 1], [1, 2]]})["label"] in ("house", "cycle")
