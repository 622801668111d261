"""The evaluation protocol in one call: a model's labels, its rationales, and the diagnostics of the papers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import ClassLabel, Dataset
from tqdm.auto import tqdm
from transformers import BaseImageProcessor, PreTrainedTokenizerBase

from .data.eraser_predictions import EraserInstance, EraserPrediction, numbered_instances, write_eraser_predictions
from .diagnostics import failure_rate, gold_against_selected, gold_replacement, homogeneity, lipschitz
from .faithfulness import faithfulness
from .metrics import SPAN_SCORES, bootstrap_intervals, classification_scores, group_accuracy, rationale_scores
from .modeling.base import RationalePreTrainedModel
from .modeling.fingerprint import hash_weights
from .reading import NotMeasurableError, Rationales, check_batch_size, encode, encode_labelled, read_rationales
from .report import NOT_MEASURED, RationaleReport
from .version import __version__
from .yardsticks import best_yardstick, yardsticks


REPORT_NAME = "report.json"
PREDICTIONS_NAME = "predictions.jsonl"


def evaluate_rationales(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase | BaseImageProcessor | None,
    output_dir: str | os.PathLike | None = None,
    *,
    sections: Sequence[str] | None = None,
    instances: Sequence[EraserInstance] | None = None,
    class_names: Sequence[str] | None = None,
    data_name: str | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
    rationale_level: str | None = None,
    train_dataset: Dataset | None = None,
    validation_dataset: Dataset | None = None,
) -> RationaleReport:
    r"""
    Measure a trained model: its labels, the agreement of its rationales with what people marked (with bootstrap
    intervals) beside simple selectors, their faithfulness, and the diagnostics of the papers that need no training. A
    section that cannot be measured says why, for example because there are no labels, or because the model selects
    nothing.

    Args:
        model: a rationale model. It is not changed.
        dataset: one split of [`load_rationale_dataset`], or any dataset that the model can encode. With a column
            `group` (names, numbers or a [`~datasets.ClassLabel`]) there is also the accuracy of every group.
        tokenizer: the model's tokenizer, or its image processor. Graphs need none.
        output_dir: a folder for `report.json`, `report.md`, `report.html` (one page with the figures) and, for texts
            with a column `tokens`, `predictions.jsonl` in ERASER's format (rationales, their scores, and the
            predictions). Every section is saved when it is finished. If the function is called again with the same
            model, data and settings, it continues where it was interrupted.
        sections: some of `SECTIONS`. By default all.
        instances, class_names: the names of texts and labels in `predictions.jsonl` (see [`eraser_instances`]). By
            default texts are numbered, and labels have the model's names.
        data_name: the name of the data, for the report.
        batch_size: the number of examples in a batch.
        max_length: cut texts to this number of tokens, as in training. By default they are not cut.
        rationale_level: the units to select from texts, if not those of the model.
        train_dataset, validation_dataset: texts with labels, for the linear model among the yardsticks (see
            [`yardsticks`]).

    Raises:
        ValueError: if a section is unknown, if `batch_size` is not at least 1, or if the folder has the report of
            another model or of other data.
    """
    check_batch_size(batch_size)
    unknown = set(sections or ()) - set(SECTIONS)
    if unknown:
        raise ValueError(f"There is no section {', '.join(sorted(unknown))}. The sections are {', '.join(SECTIONS)}.")
    if instances is None and "tokens" in dataset.column_names:
        instances = numbered_instances(dataset["tokens"])
    class_names = list(model.config.id2label.values()) if class_names is None else class_names
    if len(class_names) != model.config.num_labels or len(dataset) != len(dataset if instances is None else instances):
        raise ValueError(
            f"There are {len(dataset)} texts and {model.config.num_labels} labels, but {len(instances or ())} "
            f"instances and {len(class_names)} class names."
        )
    # Only the yardsticks of texts learn from them.
    labelled = {"train_dataset": train_dataset, "validation_dataset": validation_dataset}
    labelled = labelled if "tokens" in dataset.column_names else {}
    subject = _Subject(model, dataset, tokenizer, batch_size, max_length, rationale_level, labelled)
    about = subject.about(data_name)
    folder = None if output_dir is None else Path(output_dir)
    done = {}
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        done = _saved_sections(folder, subject.fingerprint)
    wanted = [name for name in SECTIONS if name in (sections or SECTIONS)]
    for name in (progress := tqdm(wanted, unit="section")):
        progress.set_description(name)
        if name not in done:
            done[name] = _measured(SECTIONS[name], subject)
            if folder:
                _save(folder, {"fingerprint": subject.fingerprint, "about": about, "sections": done})
    if folder:
        RationaleReport(about, {name: done[name] for name in SECTIONS if name in done}).save(folder)
        if instances is not None:
            _write_predictions(folder / PREDICTIONS_NAME, subject, instances, class_names)
    return RationaleReport(about, {name: done[name] for name in wanted})


def _measured(section: Callable[[_Subject], dict[str, Any]], subject: _Subject) -> dict[str, Any]:
    """What is measured, or why it cannot be, in the types of JSON: lists for tuples, and None for NaN."""
    try:
        measured = section(subject)
    except NotMeasurableError as error:
        measured = {NOT_MEASURED: str(error)}
    return json.loads(json.dumps(measured), parse_constant=lambda constant: None)


class _Subject:
    """The model and the data that are measured. The model selects only once for all sections that need it."""

    def __init__(
        self,
        model: RationalePreTrainedModel,
        dataset: Dataset,
        tokenizer: PreTrainedTokenizerBase | BaseImageProcessor | None,
        batch_size: int,
        max_length: int | None,
        level: str | None,
        labelled: dict[str, Dataset | None],
    ):
        self.model, self.tokenizer = model, tokenizer
        self.source, self.level, self.labelled = dataset, level, labelled
        self.options = {"batch_size": batch_size, "max_length": max_length}
        self.dataset = encode(dataset, tokenizer, model, max_length, level)
        if "tokens" in dataset.column_names and "tokens" not in self.dataset.column_names:
            self.dataset = self.dataset.add_column("tokens", dataset["tokens"])  # some sections need the words, too
        self.marked = [row for row, marks in enumerate(self.dataset["rationale"]) if 1 in marks or 0 in marks]

    def measure(self, function: Callable) -> Any:
        return function(self.model, self.dataset, self.tokenizer, **self.options)

    @cached_property
    def rationales(self) -> Rationales:
        return self.measure(read_rationales)

    @cached_property
    def groups(self) -> list[str | None] | None:
        """The name of the group of every example, None where it is not known; None if there are no groups."""
        if "group" not in self.source.column_names:
            return None
        feature, values = self.source.features["group"], self.source["group"][:]
        if isinstance(feature, ClassLabel):
            names = dict(enumerate(feature.names))
            values = [names.get(value) for value in values]  # None and -1 are no class
        return [None if value is None else str(value) for value in values]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything on which the figures depend."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{__version__} {self.level} {self.model.config.to_json_string(use_diff=False)}".encode())
        only_trained_with = tuple(f"{module}." for module in self.model.training_modules)
        weights = self.model.state_dict().items()
        hash_weights(digest, ((name, weight) for name, weight in weights if not name.startswith(only_trained_with)))
        for row in self.dataset:
            # Not the repr of an array, which leaves out most of an image.
            row = {name: one.tobytes() if isinstance(one, np.ndarray) else one for name, one in row.items()}
            digest.update(repr(row).encode())
        if self.groups is not None:
            digest.update(repr(self.groups).encode())
        for name, dataset in self.labelled.items():
            digest.update(name.encode())
            for batch in () if dataset is None else dataset.iter(1000):
                digest.update(repr(batch).encode())
        return digest.hexdigest()

    def about(self, data_name: str | None) -> dict[str, Any]:
        config, examples = self.model.config, f"{self.model.example_name}s"
        return {
            "model": config.name_or_path or type(self.model).__name__,
            "data": data_name or "not named",
            examples: len(self.dataset),
            f"{examples} with marked rationales": len(self.marked),
            "decoding": config.decoding,
            "threshold": round(config.rationale_threshold, 4),
            "units": self.level or getattr(config, "selection_level", "position"),
            "max length": self.options["max_length"] or "no limit",
            "hf_rationale": __version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        }


def _classification(subject: _Subject) -> dict[str, Any]:
    encode_labelled(subject.dataset, subject.tokenizer, subject.model)
    predicted, labels = subject.rationales.probabilities.argmax(-1), subject.rationales.labels
    scores = classification_scores(predicted, labels)
    grouped = [row for row, group in enumerate(subject.groups or ()) if group is not None]
    if grouped:
        scores |= group_accuracy(predicted[grouped], labels[grouped], [subject.groups[row] for row in grouped])
    return scores


def _plausibility(subject: _Subject) -> dict[str, Any]:
    if not subject.marked:
        raise NotMeasurableError("The dataset has no rationale that people marked.")
    rationales = subject.rationales
    sides = [[side[row] for row in subject.marked] for side in (rationales.masks, rationales.gold, rationales.scores)]
    measured = {"scores": rationale_scores(*sides), "intervals": bootstrap_intervals(*sides)}
    left_out = () if subject.model.marks_form_spans else SPAN_SCORES
    return {
        part: {name: value for name, value in scores.items() if name not in left_out}
        for part, scores in measured.items()
    }


def _yardsticks(subject: _Subject) -> dict[str, Any]:
    if not subject.marked:
        raise NotMeasurableError("The dataset has no rationale that people marked.")
    rationales = subject.rationales
    chosen = [rationales.masks[row] for row in subject.marked]
    share = float(np.concatenate(chosen).mean())
    if "tokens" not in subject.source.column_names:
        scores = subject.model.yardsticks(subject.source, share, subject.tokenizer)
        if not scores:
            raise NotMeasurableError("The dataset has no column 'tokens', and its kind of input has no yardsticks.")
        return {"sparsity": share, "best": best_yardstick(scores), "scores": scores}
    scores = yardsticks(subject.source, share, **subject.labelled)
    config = subject.model.config
    level = subject.level or getattr(config, "selection_level", "token")
    if config.decoding == "top_k" and level != "token":  # some that select as many units as the model, too
        scores |= yardsticks(subject.source, top_k=config.rationale_top_k, levels=(level,), **subject.labelled)
    return {"sparsity": share, "best": best_yardstick(scores), "scores": scores}


def _diagnostic(function: Callable, subject: _Subject) -> dict[str, Any]:
    return asdict(subject.measure(function))


def _homogeneity(subject: _Subject) -> dict[str, Any]:
    if not hasattr(subject.model, "encoders"):
        raise NotMeasurableError(f"{type(subject.model).__name__} has no encoder over tokens.")
    encoder = subject.model.encoders[0]
    return asdict(homogeneity(encoder, subject.dataset, subject.tokenizer, **subject.options))


SECTIONS: dict[str, Callable[[_Subject], dict[str, Any]]] = {
    "classification": _classification,
    "plausibility": _plausibility,
    "yardsticks": _yardsticks,
    "faithfulness": lambda subject: subject.measure(faithfulness),
    "gold_replacement": partial(_diagnostic, gold_replacement),
    "gold_against_selected": partial(_diagnostic, gold_against_selected),
    "lipschitz": partial(_diagnostic, lipschitz),
    "failure_rate": partial(_diagnostic, failure_rate),
    "homogeneity": _homogeneity,
}


def _saved_sections(folder: Path, fingerprint: str) -> dict[str, Any]:
    path = folder / REPORT_NAME
    if not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        same, sections = saved["fingerprint"] == fingerprint, dict(saved["sections"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a report of this package. Move it, or choose another folder.") from None
    if not same:
        raise ValueError(
            f"{path} is the report of another model, of other data or of another max_length. Move it, or choose "
            "another folder."
        )
    return sections


def _save(folder: Path, report: dict[str, Any]):
    path = folder / REPORT_NAME
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(report, indent=1), encoding="utf-8")
    part.replace(path)


def _write_predictions(path: Path, subject: _Subject, instances: Sequence[EraserInstance], class_names: Sequence[str]):
    rationales = subject.rationales
    predictions = []
    for row, instance in enumerate(instances):
        probabilities = rationales.probabilities[row]
        predictions.append(
            EraserPrediction(
                instance,
                rationales.masks[row],
                scores=rationales.scores[row].astype(np.float64),
                classification=class_names[int(probabilities.argmax())],
                classification_scores=dict(zip(class_names, probabilities.tolist(), strict=True)),
            )
        )
    write_eraser_predictions(path, predictions)
