"""The whole protocol in one call: how good a model's labels and rationales are, and what the papers would look at."""

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
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from .data.eraser_predictions import EraserInstance, EraserPrediction, numbered_instances, write_eraser_predictions
from .diagnostics import failure_rate, gold_against_selected, gold_replacement, homogeneity, lipschitz
from .faithfulness import faithfulness
from .metrics import bootstrap_intervals, classification_scores, rationale_scores
from .modeling.base import RationalePreTrainedModel
from .reading import NotMeasurableError, Rationales, encode, encode_labelled, read_rationales
from .report import NOT_MEASURED, RationaleReport
from .version import __version__


REPORT_NAME = "report.json"
PREDICTIONS_NAME = "predictions.jsonl"


def evaluate_rationales(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    output_dir: str | os.PathLike | None = None,
    *,
    sections: Sequence[str] | None = None,
    instances: Sequence[EraserInstance] | None = None,
    class_names: Sequence[str] | None = None,
    data_name: str | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
) -> RationaleReport:
    r"""
    Measure a finished model: its labels; how well its rationales agree with what people marked, with bootstrap
    intervals; how faithful they are; and the papers' diagnostics that need no training. A section that cannot be
    measured, for want of labels or marked rationales, or because the model selects nothing, says why.

    Args:
        model: a rationale model; it stays as it is.
        dataset: one split of [`load_rationale_dataset`], or texts of that schema.
        tokenizer: the model's.
        output_dir: a folder for `report.json`, `report.md`, `report.html` (one page, with the figures) and
            `predictions.jsonl` in ERASER's format (rationales, their scores, and the decision from them). What is
            measured is saved at once: called again with the same model, texts and settings, this goes on where it was
            interrupted.
        sections: some of `SECTIONS`; by default all.
        instances, class_names: how texts and labels are called in `predictions.jsonl` (see [`eraser_instances`]); by
            default texts are numbered, and labels have the model's names.
        data_name: what the texts are, for the report.
        batch_size: texts at a time.
        max_length: cut texts to so many tokens, as in training; by default to what the model can read.

    Raises:
        ValueError: where a section is unknown; where the dataset has no words; where the folder has the report of
            something else.
    """
    unknown = set(sections or ()) - set(SECTIONS)
    if unknown:
        raise ValueError(f"There is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}.")
    if "tokens" not in dataset.column_names:
        raise ValueError(f"Rationales are measured by word: a column 'tokens' is needed, not {dataset.column_names}.")
    instances = numbered_instances(dataset["tokens"]) if instances is None else instances
    class_names = list(model.config.id2label.values()) if class_names is None else class_names
    if len(instances) != len(dataset) or len(class_names) != model.config.num_labels:
        raise ValueError(
            f"There are {len(dataset)} texts and {model.config.num_labels} labels, but names of {len(instances)} and "
            f"{len(class_names)}."
        )
    subject = _Subject(model, dataset, tokenizer, batch_size, max_length)
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
        _write_predictions(folder / PREDICTIONS_NAME, subject, instances, class_names)
    return RationaleReport(about, {name: done[name] for name in wanted})


def _measured(section: Callable[[_Subject], dict[str, Any]], subject: _Subject) -> dict[str, Any]:
    """What is measured, or why it cannot be, as JSON has it: without tuples, None for NaN."""
    try:
        measured = section(subject)
    except NotMeasurableError as error:
        measured = {NOT_MEASURED: str(error)}
    return json.loads(json.dumps(measured), parse_constant=lambda constant: None)


class _Subject:
    """What is measured. The model selects once, for all the sections that look at that."""

    def __init__(
        self,
        model: RationalePreTrainedModel,
        dataset: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        max_length: int | None,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.options = {"batch_size": batch_size, "max_length": max_length}
        self.dataset = encode(dataset, tokenizer, model, max_length)
        if "tokens" not in self.dataset.column_names:
            self.dataset = self.dataset.add_column("tokens", dataset["tokens"])  # some look at the words, too
        self.marked = [row for row, marks in enumerate(self.dataset["rationale"]) if 1 in marks or 0 in marks]

    def measure(self, function: Callable) -> Any:
        return function(self.model, self.dataset, self.tokenizer, **self.options)

    @cached_property
    def rationales(self) -> Rationales:
        return self.measure(read_rationales)

    @cached_property
    def fingerprint(self) -> str:
        """Of all that the figures depend on."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{__version__} {self.model.config.to_json_string(use_diff=False)}".encode())
        for name, weight in sorted(self.model.state_dict().items()):
            if not name.startswith(tuple(f"{module}." for module in self.model.training_modules)):
                digest.update(name.encode())
                digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        for row in self.dataset:
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def about(self, data_name: str | None) -> dict[str, Any]:
        config = self.model.config
        return {
            "model": config.name_or_path or type(self.model).__name__,
            "data": data_name or "not named",
            "texts": len(self.dataset),
            "texts with marked rationales": len(self.marked),
            "threshold": config.rationale_threshold,
            "max length": self.options["max_length"] or self.model.max_length,
            "hf_rationale": __version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        }


def _classification(subject: _Subject) -> dict[str, float]:
    encode_labelled(subject.dataset, subject.tokenizer, subject.model)
    return classification_scores(subject.rationales.probabilities.argmax(-1), subject.rationales.labels)


def _plausibility(subject: _Subject) -> dict[str, Any]:
    if not subject.marked:
        raise NotMeasurableError("No text has a rationale that people marked.")
    rationales = subject.rationales
    sides = [[side[row] for row in subject.marked] for side in (rationales.masks, rationales.gold, rationales.scores)]
    return {"scores": rationale_scores(*sides), "intervals": bootstrap_intervals(*sides)}


def _diagnostic(function: Callable, subject: _Subject) -> dict[str, Any]:
    return asdict(subject.measure(function))


def _homogeneity(subject: _Subject) -> dict[str, Any]:
    encoder = subject.model.encoders[0]
    return asdict(homogeneity(encoder, subject.dataset, subject.tokenizer, **subject.options))


SECTIONS: dict[str, Callable[[_Subject], dict[str, Any]]] = {
    "classification": _classification,
    "plausibility": _plausibility,
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
        raise ValueError(f"{path} is not a report of this package. Move it away, or choose another folder.") from None
    if not same:
        raise ValueError(
            f"{path} is the report of another model, other texts or another max_length. Move it away, or choose "
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
