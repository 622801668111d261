"""The invariants of training, for every row of the common tester, and the rest of the Trainer's promises."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import training_common
from accelerate.utils import send_to_device
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from training_common import (
    GRAPHS,
    IMAGES,
    METHODS,
    ONE_ROW_EACH,
    ROWS,
    SENTENCES,
    VECTORS,
    Recorder,
    assert_close,
    examples,
    fixed_noise,
    make_args,
    make_model,
    make_trainer,
    step_logs,
    toy_reviews,
    train_and_record,
)
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, EvalPrediction, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_rationale import RationaleConfig, RationaleForSequenceClassification, RNPTrainer, encode_rationale_dataset
from hf_rationale.checkpoints import last_checkpoint
from hf_rationale.learning_rates import parameter_groups
from hf_rationale.trainer_metrics import rationale_metrics


TESTS = Path(__file__).resolve().parent
ACCUMULATED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
MEASURED = ("sparsity", "attack_success_rate")  # logged beside the losses
every_row = pytest.mark.parametrize("method, backbone", ROWS)
# For tests that train: in the fast tests every method with one backbone, in the slow ones with all of them.
every_row_in_slow_tests = pytest.mark.parametrize(
    ("method", "backbone"),
    [pytest.param(*row, marks=() if row in ONE_ROW_EACH else pytest.mark.slow, id="-".join(row)) for row in ROWS],
)


def a_batch(trainer: RNPTrainer, count: int = 8) -> dict[str, torch.Tensor]:
    """The first texts of the training set, as the objective gets them."""
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(count)])
    marks = batch.pop("rationale")
    return batch | ({"columns": {"rationale": marks}} if trainer.args.marks_weight else {})


# --- How the examples are cut up does not matter ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [11, 16])  # 11: one step of 8, and one of 2 + 1 instead of 3
@every_row_in_slow_tests
def test_accumulation_changes_nothing(tmp_path, method, backbone, count):
    if METHODS[method].by_batch:
        pytest.skip("a loss of this method is not a sum over examples")
    _, whole, whole_logs = train_and_record(tmp_path, method, backbone, train_dataset=examples(backbone, count))
    _, cut, cut_logs = train_and_record(
        tmp_path, method, backbone, train_dataset=examples(backbone, count), **ACCUMULATED
    )
    assert len(whole.gradients) == 4
    assert all(0 < entry["sparsity"] < 1 for entry in whole_logs[:-1])
    assert all(whole.weights[-1][name].any() for name in whole.gradients[-1])
    assert_close(cut.gradients, whole.gradients)
    assert_close(cut.weights, whole.weights)
    for entry in (*cut_logs, *whole_logs):
        del entry["epoch"]  # counted in micro-batches
    assert_close(cut_logs, whole_logs)


@pytest.mark.parametrize(
    "rows, args",
    [
        ("ONE_ROW_EACH", {}),
        pytest.param("ROWS", {}, marks=pytest.mark.slow),
        ("ONE_TRANSFORMER", {"gradient_checkpointing": True, "predictor_tuning_ratio": 0.5}),  # the extractor rests
    ],
)
def test_one_process_and_two_agree(tmp_path, rows, args):
    """Many rows in one go, because starting two processes takes longer than training in them."""
    folders = [tmp_path / "one", tmp_path / "two"]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    runs = []
    for folder, launcher in zip(folders, ([], two), strict=True):
        folder.mkdir()
        runs.append(
            subprocess.Popen(
                [sys.executable, *launcher, str(TESTS / "distributed_run.py"), str(folder), rows, json.dumps(args)],
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for run in runs:
        output, _ = run.communicate(timeout=1200)
        assert run.returncode == 0, output[-5000:]

    for name in ("-".join(row) for row in getattr(training_common, rows)):
        one, other = (json.loads((folder / f"{name}.json").read_text()) for folder in folders)
        assert (one["processes"], other["processes"]) == (1, 2)
        for entry in (*one["logs"], *other["logs"]):
            entry.pop("eval_loss", None)  # the Trainer averages it over the texts that fill up the last batch, too
        for times in (one["test"], other["test"]):
            for key in [key for key in times if key.endswith(("runtime", "per_second"))]:
                del times[key]
        try:
            assert_close(other["logs"], one["logs"])
            assert_close([other["test"]], [one["test"]])
            assert other["threshold"] == pytest.approx(one["threshold"], abs=1e-5)
            for kind in ("gradients", "weights"):
                steps = [load_file(folder / f"{name}.{kind}.safetensors") for folder in folders]
                assert_close(steps[1:], steps[:1])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


# --- Stopping and resuming, running again ----------------------------------------------------------------------------


def run_with_noise(output_dir, method, backbone, resume_from=None, **args):
    """Five steps, three an epoch, with everything that is random switched on; saved and evaluated at each."""
    trainer = make_trainer(
        output_dir,
        method,
        backbone,
        dropout=0.3,
        train_dataset=examples(backbone, 22),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        max_steps=5,
        optim="adamw_torch",
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        eval_strategy="steps",
        eval_steps=2,
        **args,
    )
    trainer.train(resume_from_checkpoint=resume_from)
    return trainer


def assert_equal_to_the_bit(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_to_the_bit(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_equal_to_the_bit(first, second)
    else:
        assert one == other


def everything(trainer: RNPTrainer) -> dict:
    return {
        "weights": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.lr_scheduler.state_dict(),
        "logs": step_logs(trainer)[:-1],  # the last entry is the mean loss since resuming
        "threshold": trainer.model.config.rationale_threshold,
    }


@every_row_in_slow_tests
def test_resuming_is_running_again_to_the_bit(tmp_path, method, backbone):
    run = everything(
        run_with_noise(tmp_path / "run", method, backbone, save_strategy="steps", save_steps=1, save_total_limit=None)
    )
    for step in (2, 3):  # within an epoch, and between two
        checkpoint = str(tmp_path / "run" / f"checkpoint-{step}")
        resumed = run_with_noise(tmp_path / "resumed", method, backbone, resume_from=checkpoint)
        assert_equal_to_the_bit(everything(resumed), run)


@pytest.mark.parametrize(
    "method, backbone",
    [pytest.param(*row, marks=() if row[0] == "rnp" else pytest.mark.slow, id="-".join(row)) for row in ROWS],
)
def test_running_again_is_equal_to_the_bit_with_the_same_seed_only(tmp_path, method, backbone):
    run, again, other = (
        everything(run_with_noise(tmp_path / name, method, backbone, seed=seed))
        for name, seed in (("run", 0), ("again", 0), ("other", 1))
    )
    assert_equal_to_the_bit(again, run)
    assert any(not torch.equal(value, run["weights"][name]) for name, value in other["weights"].items())


# --- The loss and its parts ------------------------------------------------------------------------------------------


@every_row_in_slow_tests
def test_components_add_up_and_sparsity_is_the_measured_one(tmp_path, method, backbone):
    trainer = make_trainer(tmp_path, method, backbone, train_dataset=examples(backbone, 11), **ACCUMULATED)
    shares, compute_loss = [], trainer.compute_loss

    def spy(model, inputs, num_items_in_batch=None):
        loss, output = compute_loss(model, inputs, return_outputs=True)
        units = trainer.model.prepare(**{key: value for key, value in inputs.items() if key != "rationale"}).units
        for mask, weights in zip(output.rationale_mask, units.weights, strict=True):
            shares.append((mask * weights).sum().item() / weights.sum().item())
        return loss

    trainer.compute_loss = spy
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry, measured in zip(entries, (shares[:8], shares[8:11], shares[11:19], shares[19:]), strict=True):
        names = set(entry) - {"loss", "grad_norm", "learning_rate", "epoch", "step", *MEASURED}
        assert names == set(METHODS[method].components(backbone)) or "distillation" in names  # before the game
        assert sum(entry[name] for name in names) == pytest.approx(entry["loss"], abs=2e-4)
        assert entry["sparsity"] == pytest.approx(np.mean(measured), abs=1e-5)


def test_logged_components_are_means_over_the_steps_since_the_last_log(tmp_path):
    _, _, every = train_and_record(tmp_path, "rnp", "gru")
    _, _, pairs = train_and_record(tmp_path, "rnp", "gru", logging_steps=2)
    for name in ("loss", "cross_entropy", "compactness", "coherence", "sparsity"):
        assert pairs[0][name] == pytest.approx((every[0][name] + every[1][name]) / 2, abs=1e-4)
        assert pairs[1][name] == pytest.approx((every[2][name] + every[3][name]) / 2, abs=1e-4)


@every_row
def test_every_component_reaches_its_players_and_no_other(tmp_path, method, backbone):
    trainer = make_trainer(tmp_path, method, backbone)
    trainer.state.global_step, trainer.state.max_steps = 1, 2  # G-RAT's terms are not all there at the start
    model = trainer.model.train()
    if method == "invrat":  # a bad predictor: otherwise knowing the environment may add nothing to it
        with torch.no_grad():
            model.predictor.classifier.bias[0] += 5
    output = trainer.training_objective(model, model.prepare(**a_batch(trainer)))
    assert set(METHODS[method].components(backbone)) == set(output.losses) - set(MEASURED)
    assert not any(output.losses[name].requires_grad for name in MEASURED if name in output.losses)
    names, parameters = zip(
        *((name, value) for name, value in model.named_parameters() if value.requires_grad), strict=True
    )
    for component, players in METHODS[method].components(backbone).items():
        gradients = torch.autograd.grad(output.losses[component], parameters, retain_graph=True, allow_unused=True)
        reached = [name for name, value in zip(names, gradients, strict=True) if value is not None and value.any()]
        assert {name.split(".")[0] for name in reached} == players, component
        # If a player is reached, so is the lowest part of its encoder that is trained.
        shared = {"predictor"} if model.config.share_encoder else set()
        for player in players - shared - {"multiplier", "environments"}:  # these two have no encoder
            predicts = player.endswith("predictor")
            if backbone == "plmr":
                lowest = "encoder.encoder.layer.0" if predicts else "encoders.0.encoder.layer.0"
            elif backbone in VECTORS:
                lowest = "encoder.own" if predicts else "layers.0.own"
            elif backbone == SENTENCES:
                lowest = "encoder.norm" if predicts else "layer.norm"
            elif backbone == GRAPHS:
                lowest = "encoder.embedding"
            elif backbone == IMAGES:
                lowest = "encoder.embeddings" if predicts else "unet.down.reductions.0"
            else:
                lowest = "encoder.embeddings"
            assert any(name.startswith(f"{player}.{lowest}") for name in reached), (component, player)


@pytest.mark.parametrize("backbone", ["gru", "bert"])
def test_full_text_term_is_its_weight_times_the_cross_entropy_on_the_full_text(tmp_path, backbone):
    trainer = make_trainer(tmp_path, "rnp-full_text", backbone)
    model = trainer.model.train()
    batch = a_batch(trainer)
    term = trainer.training_objective(model, model.prepare(**batch)).losses["full_text"]
    logits = model.eval()(**batch, rationale_mask=batch["attention_mask"]).logits
    assert term.item() == pytest.approx(0.7 * F.cross_entropy(logits, batch["labels"]).item(), abs=1e-6)


def test_annealing_goes_from_the_initial_to_the_final_sparsity(tmp_path):
    trainer = make_trainer(tmp_path, initial_sparsity=0.9, sparsity_warmup_ratio=0.5, max_steps=8)
    targets = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            targets.append(trainer.target_sparsity(trainer.model.config.sparsity))

    trainer.add_callback(Watch())
    trainer.train()
    assert targets == pytest.approx([0.9, 0.75, 0.6, 0.45, 0.3, 0.3, 0.3, 0.3])


@pytest.mark.parametrize("method", [method for method, backbone in ROWS if backbone == "gru"])
def test_a_step_never_makes_the_host_wait(tmp_path, method):
    """On the meta device there are no numbers to look at, so looking at one is an error.

    With a GRU: transformers' own encoders look at the attention mask, whether it is all ones.
    """
    trainer = make_trainer(tmp_path, method)
    trainer.state.max_steps = 4
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(8)])
    batch = send_to_device(batch, "meta")
    model = trainer.model.train().to("meta")
    trainer.get_batch_samples(iter([batch]), 1, torch.device("meta"))
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    assert loss.is_meta and trainer._components["cross_entropy"].is_meta


def test_texts_are_grouped_by_length_from_a_list(tmp_path):
    """A column of the dataset would be looked up anew for every comparison."""
    trainer = make_trainer(tmp_path, "rnp", "gru", train_sampling_strategy="group_by_length")
    sampler = trainer.get_train_dataloader().batch_sampler.sampler
    assert isinstance(sampler, LengthGroupedSampler)
    assert isinstance(sampler.lengths, list) and sampler.lengths == trainer.train_dataset["length"][:]
    sampler = trainer.get_eval_dataloader().batch_sampler.sampler
    assert isinstance(sampler, LengthGroupedSampler) and isinstance(sampler.lengths, list)


def test_the_loss_is_divided_by_the_trainer_and_not_by_the_model(tmp_path):
    trainer = make_trainer(tmp_path)
    assert RationaleForSequenceClassification.accepts_loss_kwargs is False
    assert trainer.model_accepts_loss_kwargs is False
    samples, items = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 2, torch.device("cpu"))
    assert len(samples) == 2 and items is None


def test_gradient_checkpointing_changes_nothing(tmp_path):
    plain = train_and_record(tmp_path, "rnp-full_text", "bert")
    checkpointed = train_and_record(tmp_path, "rnp-full_text", "bert", gradient_checkpointing=True)
    for player in (checkpointed[0].model.extractor, checkpointed[0].model.predictor):
        assert all(layer.gradient_checkpointing for layer in player.encoder.encoder.layer)
    assert_close(checkpointed[1].gradients, plain[1].gradients)
    assert_close(checkpointed[2], plain[2])


def test_gradient_checkpointing_of_a_gru_raises(tmp_path):
    """It has no layers to compute again, so the flag would silently have no effect."""
    with pytest.raises(ValueError, match=r"does not support (gradient|activation) checkpointing"):
        make_trainer(tmp_path, "rnp", "gru", gradient_checkpointing=True).train()


# --- The curriculum --------------------------------------------------------------------------------------------------


def sentences_of(dataset: Dataset) -> Dataset:
    return dataset.add_column("sentence_ids", [[place // 4 for place in range(len(row))] for row in dataset["tokens"]])


@pytest.mark.parametrize("backbone", ["gru", "bert", "plmr"])
def test_words_first_then_sentences_then_the_predictor_alone(tmp_path, backbone):
    trainer = make_trainer(
        tmp_path,
        "plmr" if backbone == "plmr" else "rnp",
        backbone,
        config={"selection_level": "sentence"},
        train_dataset=sentences_of(examples(backbone, 48)),
        eval_dataset=sentences_of(examples(backbone, 8, seed=1)),
        num_train_epochs=1,
        parts_first_ratio=1 / 3,
        predictor_tuning_ratio=1 / 3,
    )
    seen, objective = [], trainer.training_objective
    weights = {name: value.clone() for name, value in trainer.model.named_parameters()}

    def spy(model, inputs):
        output = objective(model, inputs)
        units = model.prepare(**{key: value for key, value in trainer.batch.items() if key != "rationale"}).units
        whole = all(
            len(set(output.rationale_mask[row, (units.index[row] == unit) & units.selectable[row]].tolist())) <= 1
            for row in range(len(units.index))
            for unit in units.index[row].unique()
        )
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, weights[name])}
        weights.update({name: value.detach().clone() for name, value in model.named_parameters()})
        seen.append((inputs.units.parts is None, whole, any(name.startswith("extractor") for name in moved)))
        return output

    compute_loss = trainer.compute_loss

    def keep(model, inputs, *args, **kwargs):
        trainer.batch = inputs
        return compute_loss(model, inputs, *args, **kwargs)

    trainer.training_objective, trainer.compute_loss = spy, keep
    trainer.train()
    assert [parts for parts, _, _ in seen] == [True, True, False, False, False, False]
    assert all(whole for _, whole, _ in seen[2:]) and not all(whole for _, whole, _ in seen[:2])
    # What a step has moved shows at the next one. The extractor is fixed from the fifth step on.
    assert [moved for _, _, moved in seen] == [False, True, True, True, True, False]


# --- Choosing the checkpoint, calibrating the threshold --------------------------------------------------------------

BY_EPOCH = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}


def test_marked_rationales_choose_neither_checkpoint_nor_threshold(tmp_path):
    validation = toy_reviews(24, seed=1)
    datasets = {
        "gold": validation,
        "reversed": validation.map(lambda row: {"rationale": row["rationale"][::-1]}, load_from_cache_file=False),
        "none": toy_reviews(24, seed=1, marked=False),
    }
    runs = []
    for name, dataset in datasets.items():
        trainer = make_trainer(
            tmp_path / name,
            dropout=0.1,
            config={"sparsity_weight": 1.0, "coherence_weight": 0.1},
            train_dataset=toy_reviews(64),
            eval_dataset=dataset,
            optim="adamw_torch",
            learning_rate=0.02,
            num_train_epochs=5,
            **BY_EPOCH,
        )
        trainer.train()
        evaluations = [entry for entry in trainer.state.log_history if "eval_accuracy" in entry]
        accuracies = [entry["eval_accuracy"] for entry in evaluations]
        best = evaluations[int(np.argmax(accuracies))]["step"]
        assert 0.5 < max(accuracies) > accuracies[-1]
        assert Path(trainer.state.best_model_checkpoint).name == f"checkpoint-{best}"
        runs.append((best, trainer.model.config.rationale_threshold, trainer.model.state_dict(), evaluations))
    for run in runs[1:]:
        assert_equal_to_the_bit(list(run[:3]), list(runs[0][:3]))
    assert [entry["eval_rationale_f1"] for entry in runs[0][3]] != [entry["eval_rationale_f1"] for entry in runs[1][3]]


def test_the_best_checkpoints_threshold_is_kept(tmp_path):
    accuracies = iter([0.5, 0.9, 0.6])
    trainer = make_trainer(tmp_path, num_train_epochs=3, save_total_limit=1, learning_rate=0.05, **BY_EPOCH)
    trainer.compute_metrics = lambda prediction: {"accuracy": next(accuracies)}
    thresholds, calibrate = [], trainer.calibrate
    trainer.calibrate = lambda: thresholds.append(calibrate())
    trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    assert best.name == "checkpoint-4" and len(set(thresholds)) == 3
    assert RationaleConfig.from_pretrained(best).rationale_threshold == thresholds[1]
    assert trainer.model.config.rationale_threshold == thresholds[1]
    trainer.save_model(tmp_path / "final")
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "final")
    assert reloaded.config.rationale_threshold == thresholds[1]
    assert_equal_to_the_bit(dict(reloaded.state_dict()), load_file(best / "model.safetensors"))


@every_row_in_slow_tests
def test_calibration_meets_the_asked_sparsity(tmp_path, method, backbone):
    validation = examples(backbone, 25, seed=3)
    trainer = make_trainer(tmp_path, method, backbone, eval_dataset=validation, config={"decoding": "threshold"})
    before = trainer.model.training
    threshold = trainer.calibrate()
    assert trainer.model.training == before
    assert trainer.model.config.rationale_threshold == threshold != 0.5
    chosen, words, largest = 0.0, 0.0, 0.0
    for index in range(len(validation)):
        batch = trainer.data_collator([trainer.eval_dataset[index]])
        del batch["rationale"]
        weights = trainer.model.prepare(**batch).units.weights
        chosen += float((trainer.model.eval()(**batch).rationale_mask * weights).sum())
        words, largest = words + float(weights.sum()), max(largest, float(weights.max()))
    assert words > 200
    assert abs(chosen - 0.3 * words) <= largest + 1e-5
    if METHODS[method].config.get("selection_level") == "word" or backbone in ("gru", SENTENCES, GRAPHS, *VECTORS):
        assert trainer.evaluate()["eval_rationale_sparsity"] == chosen / words


def test_calibration_scores_in_the_precision_of_evaluation(tmp_path):
    trainer = make_trainer(tmp_path, backbone="bert", bf16=True)
    precisions, select = [], trainer.model.select

    def observed(*args, **kwargs):
        precisions.append(torch.is_autocast_enabled("cpu"))
        return select(*args, **kwargs)

    trainer.model.select = observed
    trainer.calibrate()
    trainer.evaluate(trainer.eval_dataset)
    assert len(precisions) >= 2 and all(precisions)


def test_evaluating_another_dataset_does_not_calibrate(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.evaluate()
    threshold = trainer.model.config.rationale_threshold
    trainer.model.extractor.mask_predictor.selector.bias.data += torch.tensor([0.0, 1.0])
    trainer.evaluate(toy_reviews(9, seed=5), metric_key_prefix="test")
    trainer.predict(toy_reviews(9, seed=5))
    assert trainer.model.config.rationale_threshold == threshold
    trainer.evaluate()
    assert trainer.model.config.rationale_threshold != threshold


# --- Warnings and errors ---------------------------------------------------------------------------------------------


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "hf_rationale.trainer"]


@pytest.mark.parametrize(
    "bias, what", [([9.0, -9.0], "almost nothing"), ([-9.0, 9.0], "almost everything"), ([0.0, 0.0], None)]
)
def test_a_collapsed_selection_warns(tmp_path, caplog, bias, what):
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.model.extractor.mask_predictor.selector.bias.data = torch.tensor(bias)
    trainer.train()
    messages = warnings_of(caplog)
    if what is None:
        assert not messages
    else:
        assert len(messages) == 1 and "collapsed at step 1" in messages[0] and what in messages[0]
        assert "Raise sparsity_weight" in messages[0]


@pytest.mark.parametrize("accuracy, warns", [(0.4, True), (0.5, True), (0.55, False)])
def test_accuracy_at_chance_warns(tmp_path, caplog, accuracy, warns):
    trainer = make_trainer(tmp_path)
    trainer.compute_metrics = lambda prediction: {"accuracy": 0.9, "balanced_accuracy": accuracy}
    trainer.evaluate()
    assert [
        f"accuracy is {accuracy:.3f}, which is no better than chance" in message for message in warnings_of(caplog)
    ] == [True] * warns


@pytest.mark.parametrize(
    "args",
    [
        {"logging_steps": 1},
        {"logging_steps": 500, "save_strategy": "steps", "save_steps": 2},
        {"logging_steps": 500, "eval_strategy": "epoch"},
    ],
    ids=["when it is logged", "before it is saved", "before it is evaluated"],
)
def test_a_loss_that_is_not_finite_stops_training(tmp_path, args):
    trainer = make_trainer(tmp_path, **args)

    class Break(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 1:
                model.predictor.classifier.weight.data[:] = float("nan")

    trainer.add_callback(Break())
    with pytest.raises(FloatingPointError, match=r"not finite at step 2.*Lower the learning rate"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1, 2, 1], "Row 2 of the dataset has the label 2. .* from 0 to 1"),
        ([0, 1, -1, 1], "Row 2 of the dataset has the label -1"),
        ([0.0, 1.0, 1.0, 1.0], "Row 0 of the dataset has the label 0.0. .*Cast the column"),
        ([0, 1, None, 1], "Row 2 of the dataset has the label None. .*Remove the row"),
        (
            ["LABEL_0", "good", "good", "bad"],
            "Row 1 of the dataset has the label 'good'. .*Set num_labels, or id2label",
        ),
    ],
)
def test_bad_labels_raise_before_training(tmp_path, labels, message):
    wrong = Dataset.from_dict({"tokens": [["the", "beer"]] * 4, "label": labels})
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, train_dataset=wrong)
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, eval_dataset=wrong)
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path).evaluate(wrong)


@pytest.mark.parametrize("labels", [["LABEL_1", "LABEL_0"] * 8, [True, False] * 8], ids=["names", "booleans"])
def test_names_and_booleans_are_labels(tmp_path, labels):
    reviews = toy_reviews(16).remove_columns("label")
    trainer = make_trainer(tmp_path, train_dataset=reviews.add_column("label", labels))
    assert trainer.train_dataset["labels"][:] == [1, 0] * 8


def test_a_stream_is_trained_on_as_the_dataset(tmp_path):
    """In order and with the same batches, a stream of more examples than are encoded at once gives the same model."""
    reviews = toy_reviews(1100)
    weights = []
    for name, dataset in (("whole", reviews), ("stream", reviews.to_iterable_dataset())):
        options = {"max_steps": 4, "per_device_train_batch_size": 270}
        trainer = make_trainer(tmp_path / name, train_dataset=dataset, **options)
        with fixed_noise():
            trainer.train()
        weights.append([weight.detach() for weight in trainer.model.parameters()])
    for whole, stream in zip(*weights, strict=True):
        torch.testing.assert_close(whole, stream)


def test_of_several_validation_sets_the_first_counts(tmp_path):
    sets = {"main": toy_reviews(6, seed=1), "other": toy_reviews(9, seed=2)}
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainer = make_trainer(tmp_path, eval_dataset=sets, metric_for_best_model="accuracy", **options)
    trainer.train()
    evaluations = [entry for entry in trainer.state.log_history if "eval_main_accuracy" in entry]
    assert len(evaluations) == 2 and any("eval_other_accuracy" in entry for entry in trainer.state.log_history)
    assert trainer.state.best_metric == max(entry["eval_main_accuracy"] for entry in evaluations)
    alone = make_trainer(tmp_path, eval_dataset=sets["main"])
    alone.model.load_state_dict(trainer.model.state_dict())
    assert alone.calibrate() == trainer.calibrate()


@pytest.mark.parametrize("stream", [False, True])
def test_without_a_validation_set_the_training_set_calibrates(tmp_path, caplog, monkeypatch, stream):
    monkeypatch.setattr(logging.getLogger("hf_rationale"), "propagate", True)
    model, tokenizer = make_model()
    reviews = toy_reviews(16)
    args = make_args(tmp_path, max_steps=2, eval_strategy="no")
    options = {"model": model, "args": args, "processing_class": tokenizer}
    trainer = RNPTrainer(train_dataset=reviews.to_iterable_dataset() if stream else reviews, **options)
    trainer.train()
    if stream:
        assert "is not calibrated. Pass eval_dataset" in caplog.text
    else:
        saved = model.config.rationale_threshold
        assert saved != 0.5
        assert RNPTrainer(eval_dataset=reviews, **options).calibrate() == saved


def test_class_weights(tmp_path):
    """Weights of 0 and 2 train on the second class alone, with twice the gradient; balanced weights are inverse to the
    frequencies."""
    reviews = toy_reviews(16).sort("label")
    first, second = (reviews.filter(lambda label, only=only: label == only, input_columns="label") for only in (0, 1))
    count = len(reviews)
    weighted = make_trainer(tmp_path, train_dataset=reviews, class_weights=[0, 2], per_device_train_batch_size=count)
    alone = make_trainer(tmp_path, train_dataset=second, per_device_train_batch_size=count)
    cross_entropies = []
    for trainer in (weighted, alone):
        batch = next(iter(trainer.get_train_dataloader()))
        batch.pop("rationale")
        with fixed_noise():
            cross_entropies.append(trainer.model.eval()(**batch, objective=trainer.curriculum).losses["cross_entropy"])
    assert cross_entropies[0].item() == pytest.approx(cross_entropies[1].item() * 2 * len(second) / count, rel=1e-5)
    balanced = make_trainer(tmp_path, train_dataset=reviews, class_weights="balanced").class_weights
    assert balanced.tolist() == pytest.approx([count / 2 / len(first), count / 2 / len(second)])
    for weights, message in (([1], "needs 2 weights"), ([1, -1], "at least 0"), ("often", "neither")):
        with pytest.raises(ValueError, match=message):
            make_trainer(tmp_path, class_weights=weights)


def test_model_init_makes_the_model(tmp_path):
    """Twice, as transformers' Trainer does: for the datasets and for the training. A2I adds its attacker to each."""
    tokenizer = make_model()[1]
    made = []

    def model_init():
        made.append(make_model("a2i")[0])
        return made[-1]

    options = {"args": make_args(tmp_path, "a2i", max_steps=1), "processing_class": tokenizer}
    trainer = METHODS["a2i"].trainer(model_init=model_init, train_dataset=toy_reviews(8), **options)
    trainer.train()
    assert trainer.model is made[-1] and "attacker" in dict(trainer.model.named_children())
    with pytest.raises(ValueError, match="Pass a model, or a function model_init"):
        RNPTrainer(processing_class=tokenizer)


def test_hyperparameter_search(tmp_path):
    """Over a number of the method, with fresh models."""
    tokenizer = make_model()[1]
    args = make_args(tmp_path, "n2r", max_steps=1, eval_strategy="steps", eval_steps=1)
    reviews, norm_weight = toy_reviews(8), args.norm_weight
    trainer = METHODS["n2r"].trainer(
        model_init=lambda: make_model("n2r")[0],
        args=args,
        train_dataset=reviews,
        eval_dataset=reviews,
        processing_class=tokenizer,
    )
    best = trainer.hyperparameter_search(
        lambda trial: {"norm_weight": trial.suggest_float("norm_weight", 0.1, 10, log=True)},
        compute_objective=lambda metrics: metrics["eval_accuracy"],
        n_trials=2,
        direction="maximize",
        backend="optuna",
    )
    assert set(best.hyperparameters) == {"norm_weight"}
    assert trainer.args.norm_weight != norm_weight  # that of the last trial


def test_functions_that_do_not_fit_raise_before_training(tmp_path):
    model, tokenizer = make_model()
    options = {"model": model, "args": make_args(tmp_path), "processing_class": tokenizer}
    for collator, message in (
        (DataCollatorWithPadding(tokenizer), "cannot make a batch"),
        (lambda rows: {"input_ids": [row["input_ids"] for row in rows]}, "drops the column 'rationale'"),
    ):
        with pytest.raises(ValueError, match=message):
            RNPTrainer(train_dataset=toy_reviews(4), data_collator=collator, **options)
    with pytest.raises(ValueError, match=r"predictions` is a pair \(logits, selection\)"):
        RNPTrainer(
            train_dataset=toy_reviews(4),
            compute_metrics=lambda found: {"accuracy": (np.argmax(found.predictions, -1) == found.label_ids).mean()},
            **options,
        )
    with pytest.raises(ValueError, match="eval_do_concat_batches=False is not supported"):
        make_args(tmp_path, eval_do_concat_batches=False)
    RNPTrainer(train_dataset=toy_reviews(4), **(options | {"args": make_args(tmp_path, remove_unused_columns=True)}))


def test_training_resumes_from_the_last_checkpoint_that_is_complete(tmp_path):
    """A kill leaves a checkpoint without `trainer_state.json`, or with a part of it."""
    options = {"num_train_epochs": 4, "save_strategy": "epoch", "save_total_limit": None}
    whole = make_trainer(tmp_path / "whole", **options)
    with fixed_noise():
        whole.train()
    steps = sorted(tmp_path.glob("whole/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (steps[-1] / "trainer_state.json").unlink()
    (steps[-2] / "trainer_state.json").write_text('{"epoch": 3.0, "log_hist')
    assert last_checkpoint(tmp_path / "whole") == str(steps[-3])
    resumed = make_trainer(tmp_path / "whole", **options)
    with fixed_noise():
        resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step
    for weight, expected in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(weight, expected)
    assert last_checkpoint(tmp_path / "nowhere") is None
    with pytest.raises(ValueError, match="no complete checkpoint"):
        make_trainer(tmp_path / "empty").train(resume_from_checkpoint=True)


def test_unusable_datasets_raise(tmp_path):
    reviews, tokenizer = toy_reviews(4), make_model()[1]
    with pytest.raises(ValueError, match="no column 'label'"):
        make_trainer(tmp_path, train_dataset=reviews.remove_columns("label"))
    with pytest.raises(ValueError, match=r"Pass one datasets\.Dataset"):
        make_trainer(tmp_path, train_dataset=DatasetDict({"train": reviews}))
    for name in ("rationale", "word_ids"):
        encoded = encode_rationale_dataset(reviews, tokenizer).remove_columns(name)
        with pytest.raises(ValueError, match=f"lacks the columns \\['{name}'\\]"):
            make_trainer(tmp_path, eval_dataset=encoded)


def test_calibrating_a_broken_model_raises(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.model.extractor.mask_predictor.selector.weight.data[:] = float("nan")
    with pytest.raises(ValueError, match="scores are not finite"):
        trainer.calibrate()


def test_a_missing_tokenizer_raises(tmp_path):
    with pytest.raises(ValueError, match="processing_class"):
        RNPTrainer(model=make_model()[0], args=make_args(tmp_path), train_dataset=toy_reviews(4))


def test_several_gpus_in_one_process_raise(tmp_path):
    model, tokenizer = make_model()
    args = make_args(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match=r"This process sees 2 GPUs.*accelerate launch"):
        RNPTrainer(model=model, args=args, processing_class=tokenizer)


def test_a_loss_function_of_ones_own_raises(tmp_path):
    model, tokenizer = make_model()
    with pytest.raises(ValueError, match=r"Override RationaleTrainer\.training_objective"):
        RNPTrainer(
            model=model, args=make_args(tmp_path), processing_class=tokenizer, compute_loss_func=lambda *args: 0
        )


@pytest.mark.parametrize(
    "argument, value, message",
    [
        ("initial_sparsity", 0.0, "initial_sparsity must lie in"),
        ("initial_sparsity", 1.5, "initial_sparsity must lie in"),
        ("sparsity_warmup_ratio", 0.0, "sparsity_warmup_ratio must lie in"),
        ("sparsity_warmup_ratio", 2.0, "sparsity_warmup_ratio must lie in"),
        ("max_length", 0, "max_length must be at least 1"),
        ("max_length", -5, "max_length must be at least 1"),
        ("label_smoothing_factor", 0.1, "label_smoothing_factor has no effect"),
        ("gradient_checkpointing_kwargs", {"use_reentrant": True}, "use_reentrant=True allows only one backward pass"),
        ("learning_rate_mapping", "{selector: 1}", "learning_rate_mapping is not JSON"),
        ("learning_rate_mapping", "[1]", "learning_rate_mapping must map"),
        ("learning_rate_mapping", {"selector": "fast"}, "the rate of 'selector' must be a number"),
        ("learning_rate_mapping", {"selector": -1.0}, "the rate of 'selector' must be a number"),
        ("learning_rate_mapping", {"selector": float("nan")}, "the rate of 'selector' must be a number"),
        ("learning_rate_mapping", {"(selector": 1.0}, "'\\(selector' is no regular expression"),
    ],
)
def test_bad_arguments_raise(tmp_path, argument, value, message):
    with pytest.raises(ValueError, match=message):
        make_args(tmp_path, **{argument: value})


# --- The optimizer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mapping", [{"selector|classifier": 0.5, "^extractor": 0.25}, '{"selector|classifier": 0.5, "^extractor": 0.25}']
)
def test_learning_rate_mapping(tmp_path, mapping):
    trainer = make_trainer(
        tmp_path, learning_rate=0.125, learning_rate_mapping=mapping, weight_decay=0.1, optim="adamw_torch"
    )
    optimizer = trainer.create_optimizer()
    settings = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    actual = {name: settings.pop(id(parameter)) for name, parameter in trainer.model.named_parameters()}
    assert not settings
    assert actual["extractor.mask_predictor.selector.weight"] == (0.5, 0.1)
    assert actual["extractor.mask_predictor.selector.bias"] == (0.5, 0.0)
    assert actual["predictor.classifier.weight"] == (0.5, 0.1)
    assert actual["extractor.encoder.forward_gru.weight_ih_l0"] == (0.25, 0.1)
    assert actual["extractor.mask_predictor.norm.weight"] == (0.25, 0.0)
    assert actual["predictor.encoder.forward_gru.weight_ih_l0"] == (0.125, 0.1)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.args.max_steps = 1
    trainer.train()
    assert all(not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


def test_a_rate_of_zero_keeps_a_player_still(tmp_path):
    trainer = make_trainer(tmp_path, learning_rate_mapping={"^predictor": 0.0})
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    moved = {
        name.split(".")[0] for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])
    }
    assert moved == {"extractor"}


def test_a_pattern_that_matches_nothing_raises(tmp_path):
    trainer = make_trainer(tmp_path, learning_rate_mapping={"selector": 0.5, "selektor": 0.5})
    with pytest.raises(ValueError, match=r"no trainable parameter has a name that matches \['selektor'\]"):
        trainer.train()


def test_batches_are_grouped_by_length_by_default(tmp_path):
    train_dataset = toy_reviews(256)

    def padding(strategy: dict) -> int:
        model, tokenizer = make_model()
        args = make_args(tmp_path, **strategy)
        trainer = RNPTrainer(model=model, args=args, train_dataset=train_dataset, processing_class=tokenizer)
        return sum(int((batch["attention_mask"] == 0).sum()) for batch in trainer.get_train_dataloader())

    default = type(make_args(tmp_path)).__dataclass_fields__["train_sampling_strategy"].default
    assert default == "group_by_length"
    assert padding({"train_sampling_strategy": default}) < padding({"train_sampling_strategy": "random"}) / 2


# --- Metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_those_computed_by_hand():
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0], [0.0, 1.0]])  # says 0, 1, 0, 1
    labels = np.array([0, 1, 1, 1])
    selected = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])
    gold = np.array([[1, 1, 0, -100], [-1, -1, -1, -100], [0, 0, 1, 1], [0, 0, -100, -100]])
    metrics = rationale_metrics(EvalPrediction(predictions=(logits, selected), label_ids=(labels, gold)))
    # Marked texts: 3 + 4 + 2 words. Selected there: 2 + 4 + 1; marked 2 + 2 + 0; both 1 + 2 + 0.
    precision, recall = 3 / 7, 3 / 4
    oracle = 2 * 4 / (7 + 4)
    assert metrics == pytest.approx(
        {
            "accuracy": 3 / 4,
            "balanced_accuracy": (1 + 2 / 3) / 2,
            "macro_f1": (2 / 3 + 4 / 5) / 2,
            "majority_share": 3 / 4,
            "rationale_precision": precision,
            "rationale_recall": recall,
            "rationale_f1": 2 * precision * recall / (precision + recall),
            "rationale_sparsity": 7 / 9,
            "rationale_gold_sparsity": 4 / 9,
            "rationale_oracle_f1": oracle,
            "rationale_f1_over_oracle": (6 / 11) / oracle,
        }
    )


def test_without_marks_the_selected_share_is_still_measured():
    logits, labels = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 1])
    selected, gold = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[-1, -1, -1], [-1, -1, -100]])
    metrics = rationale_metrics(EvalPrediction(predictions=(logits, selected), label_ids=(labels, gold)))
    assert metrics["rationale_sparsity"] == pytest.approx(2 / 5)
    assert "rationale_f1" not in metrics


@pytest.mark.parametrize("backbone", ["gru", "bert"])
def test_evaluation_is_that_of_the_texts_one_by_one(tmp_path, backbone):
    test = toy_reviews(13, seed=4)
    trainer = make_trainer(tmp_path, backbone=backbone, config={"decoding": "threshold"})
    trainer.calibrate()
    metrics = trainer.evaluate(test)
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    correct, both, chosen, marked, words = 0, 0, 0, 0, 0
    for row in test:
        encoded = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
        word_ids = encoded.word_ids()
        output = model(**encoded)
        correct += int(output.logits.argmax()) == row["label"]
        selected = {word for word, bit in zip(word_ids, output.rationale_mask[0], strict=True) if bit}
        gold = {word for word, bit in enumerate(row["rationale"]) if bit}
        both, chosen, marked, words = (
            both + len(selected & gold),
            chosen + len(selected),
            marked + len(gold),
            words + len(row["tokens"]),
        )
    assert metrics["eval_accuracy"] == pytest.approx(correct / 13)
    assert metrics["eval_rationale_precision"] == pytest.approx(both / chosen)
    assert metrics["eval_rationale_recall"] == pytest.approx(both / marked)
    assert metrics["eval_rationale_sparsity"] == pytest.approx(chosen / words)
    assert metrics["eval_rationale_gold_sparsity"] == pytest.approx(marked / words)


def test_gold_beyond_the_maximum_length_counts_as_missed(tmp_path, caplog):
    text = {"tokens": ["the"] * 8 + ["lovely"] * 2, "label": 1, "rationale": [0] * 7 + [1] * 3}
    test = toy_reviews(1).from_list([text] * 4, features=toy_reviews(1).features)
    trainer = make_trainer(tmp_path, max_length=8, config={"decoding": "threshold"})
    caplog.clear()
    trainer.model.config.rationale_threshold = 0.0  # everything that is left
    metrics = trainer.evaluate(test)
    assert "4 of 4 texts are longer than 8 tokens" in caplog.text
    assert metrics["eval_rationale_recall"] == pytest.approx(1 / 3)
    assert metrics["eval_rationale_precision"] == pytest.approx(1 / 8)
    assert metrics["eval_rationale_sparsity"] == pytest.approx(8 / 10)
    assert metrics["eval_rationale_gold_sparsity"] == pytest.approx(3 / 10)


def test_without_marked_rationales_the_selected_share_alone_is_measured(tmp_path):
    metrics = make_trainer(tmp_path, eval_dataset=toy_reviews(6, marked=False)).evaluate()
    assert metrics["eval_accuracy"] >= 0
    assert [name for name in metrics if "rationale" in name] == ["eval_rationale_sparsity"]


def test_predicting_texts_without_labels(tmp_path):
    trainer = make_trainer(tmp_path)
    output = trainer.predict(toy_reviews(5).remove_columns(["label", "rationale"]))
    logits, selected = output.predictions
    assert logits.shape == (5, 2) and selected.shape[0] == 5


@pytest.mark.parametrize("backbone", ["gru", "bert"])
def test_text_columns_and_pairs_train_too(tmp_path, backbone):
    reviews = toy_reviews(16)
    texts = reviews.map(lambda row: {"text": " ".join(row["tokens"])}).remove_columns(["tokens", "rationale"])
    pairs = reviews.map(lambda row: {"query": ["was", "the", "beer", "fresh"]})
    for dataset in (texts, pairs):
        trainer = make_trainer(tmp_path, backbone=backbone, train_dataset=dataset, eval_dataset=dataset, max_steps=1)
        trainer.train()
        assert 0 < trainer.state.log_history[0]["sparsity"] < 1
        metrics = trainer.evaluate()
        assert ("eval_rationale_f1" in metrics) == (dataset is pairs)
    batch = a_batch(trainer)
    mask = trainer.model.eval()(**batch, rationale_ratio=1.0).rationale_mask
    assert torch.equal(mask > 0, batch["word_ids"] >= 0)
    assert not (mask > 0)[:, :5].any()


# --- peft ------------------------------------------------------------------------------------------------------------


def lora(folder: Path, **config):
    """A LoRA adapter over a BERT that lies in a folder, as adapters remember where their base is."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = make_model("rnp", "bert", **config)
    model.save_pretrained(folder)
    model = RationaleForSequenceClassification.from_pretrained(folder)
    adapter = LoraConfig(
        task_type="SEQ_CLS",
        target_modules=["query", "value"],
        modules_to_save=["selector", "norm"],
        r=4,
        lora_alpha=16,
        init_lora_weights="gaussian",
    )
    return get_peft_model(model, adapter), tokenizer


def lora_trainer(tmp_path, callbacks=None, **args) -> RNPTrainer:
    torch.manual_seed(0)
    model, tokenizer = lora(tmp_path / "base")
    return RNPTrainer(
        model=model,
        args=make_args(tmp_path / "run", **args),
        train_dataset=toy_reviews(16),
        eval_dataset=toy_reviews(7, seed=1),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def test_a_lora_adapter_trains_saves_loads_and_merges(tmp_path):
    from peft import AutoPeftModelForSequenceClassification

    trainer = lora_trainer(tmp_path, optim="adamw_torch", **BY_EPOCH)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    trainable = {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert moved == trainable
    for part in (
        "extractor.mask_predictor.selector",
        "extractor.mask_predictor.norm",
        "predictor.classifier",
        "extractor.encoder",
        "predictor.encoder",
    ):
        assert any(part in name for name in moved), part

    threshold = trainer.model.config.rationale_threshold
    checkpoint = Path(trainer.state.best_model_checkpoint)
    assert threshold != 0.5
    assert RationaleConfig.from_json_file(checkpoint / "rationale_config.json").rationale_threshold == threshold
    trainer.save_model(tmp_path / "adapter")
    saved = RationaleConfig.from_json_file(tmp_path / "adapter" / "rationale_config.json").rationale_threshold
    assert saved == threshold
    batch = a_batch(trainer)
    expected = trainer.model.eval()(**batch)
    automatic = AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert automatic.config.rationale_threshold == threshold
    assert torch.equal(automatic(**batch).logits, expected.logits)
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", rationale_threshold=saved)
    actual = loaded.eval()(**batch)
    assert torch.equal(actual.logits, expected.logits)
    assert torch.equal(actual.rationale_mask, expected.rationale_mask)
    merged = loaded.merge_and_unload()
    assert isinstance(merged, RationaleForSequenceClassification)
    torch.testing.assert_close(merged.eval()(**batch).logits, expected.logits, rtol=0, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert reloaded.config.rationale_threshold == threshold
    assert torch.equal(reloaded(**batch).logits, merged(**batch).logits)


def test_a_lora_adapter_accumulates_exactly(tmp_path):
    runs = []
    for args in ({}, ACCUMULATED):
        recorder = Recorder()
        with fixed_noise():
            trainer = lora_trainer(tmp_path, callbacks=[recorder], **args)
            trainer.train()
        runs.append((recorder.gradients, step_logs(trainer)))
    assert_close(runs[1][0], runs[0][0])
    assert_close(runs[1][1], runs[0][1])


def test_a_lora_adapter_resumes_to_the_bit(tmp_path):
    args = {
        "save_strategy": "steps",
        "save_steps": 2,
        "max_steps": 4,
        "optim": "adamw_torch",
        "save_total_limit": None,
    }
    whole = lora_trainer(tmp_path, **args)
    whole.train()
    resumed = lora_trainer(tmp_path, **args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert_equal_to_the_bit(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))


def test_statistics_of_further_players_are_saved(tmp_path):
    trainer = make_trainer(tmp_path, "a2i")
    trainer.model.attacker.register_buffer("count", torch.zeros(1))
    state = trainer._training_modules_state()
    trained = {name for name, weight in trainer.model.attacker.named_parameters() if weight.requires_grad}
    assert set(state) == {f"attacker.{name}" for name in trained | {"count"}}


def test_rates_by_name_are_those_of_the_model_under_an_adapter():
    players = nn.ModuleDict({"extractor": nn.Linear(2, 2), "predictor": nn.Linear(2, 2)})
    wrapped = nn.ModuleDict({"base_model": nn.ModuleDict({"model": players})})
    groups = parameter_groups(wrapped, 1.0, {"^predictor": 0.1}, lambda name: 1.0, 0.0, set())
    assert {group["lr"]: len(group["params"]) for group in groups} == {1.0: 2, 0.1: 2}
