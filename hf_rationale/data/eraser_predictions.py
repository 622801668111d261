"""Predictions in the files of the ERASER benchmark: one JSON object a line, an instance each (DeYoung et al. 2020).

What is written here can be scored by the benchmark's own scorer (`rationale_benchmark/metrics.py` of
https://github.com/jayded/eraserbenchmark), which wants all instances of a split; what other systems wrote for it can
be read and scored by the metrics of this package. The scorer's own checks are made here, and more, by line.

A file points at tokens by document. Rows of this package have the documents of an instance one after the other and no
ids, so [`eraser_instances`] (or [`numbered_instances`], for a corpus without ids) goes with the rows. Two things a
file and a mask do not share: spans that touch are one run of a mask, and an empty span is none.

Reference:
    Jay DeYoung, Sarthak Jain, Nazneen Fatema Rajani, Eric Lehman, Caiming Xiong, Richard Socher, Byron C. Wallace.
    ERASER: A Benchmark to Evaluate Rationalized NLP Models. ACL 2020.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .eraser import EraserInstance, eraser_instances, get_field, parse_line
from .files import read_lines
from .schema import MalformedDataError


HARD, SOFT = "hard_rationale_predictions", "soft_rationale_predictions"
CLASS_SCORES = (
    "classification_scores",
    "comprehensiveness_classification_scores",
    "sufficiency_classification_scores",
)


def numbered_instances(texts: Iterable[Sequence[str]]) -> list[EraserInstance]:
    """Instances of one document each, numbered by row, for corpora without ids."""
    return [EraserInstance(str(row), ((str(row), len(text)),)) for row, text in enumerate(texts)]


@dataclass(frozen=True)
class ThresholdedScores:
    """The two kinds of scores for a rationale of a given size; its fields are named as in the file.

    Args:
        threshold (`float`): the share of the tokens that are the rationale.
        comprehensiveness_classification_scores, sufficiency_classification_scores (`dict[str, float]`):
            As of [`EraserPrediction`].
    """

    threshold: float
    comprehensiveness_classification_scores: dict[str, float]
    sufficiency_classification_scores: dict[str, float]

    def __post_init__(self):
        if not _is_finite(self.threshold):
            raise ValueError(f"expected threshold to be a finite number, found {self.threshold!r:.80}")
        object.__setattr__(self, "threshold", float(self.threshold))
        for name in CLASS_SCORES[1:]:
            object.__setattr__(self, name, _as_scores(getattr(self, name), name))


@dataclass(frozen=True, eq=False)  # arrays are not compared by ==
class EraserPrediction:
    """What a model says of one instance. The fields but the first three are named as in the file.

    The scores of classes are the probabilities of all classes by name, here finite numbers.

    Args:
        instance ([`EraserInstance`]):
            Of which instance.
        mask (`np.ndarray` of shape `(num_tokens,)`, *optional*):
            The rationale: 0/1 for each token of its documents, kept as `int8`. Tokens beyond the part of a text that
            the model reads are not selected: 0.
        scores (`np.ndarray` of shape `(num_tokens,)`, *optional*):
            How much each token speaks for being selected, any finite numbers, kept as `float64`.
        classification (`str`, *optional*):
            The predicted class, as the corpus's files call it: `eraser.TASKS[name].classifications` has those names in
            the order of the label ids (in movies `"NEG"` and `"POS"`).
        classification_scores (`dict[str, float]`, *optional*):
            What the model makes of the whole text. There if and only if `classification` is.
        comprehensiveness_classification_scores (`dict[str, float]`, *optional*):
            What it makes of the text without its rationale.
        sufficiency_classification_scores (`dict[str, float]`, *optional*):
            What it makes of the rationale alone.
        thresholded_scores (`tuple` of [`ThresholdedScores`], *optional*):
            The same for rationales of several sizes. Needs all of the other scores of classes.

    Raises:
        ValueError: a field is of the wrong type, length or value, or lacks another that it needs.
    """

    instance: EraserInstance
    mask: np.ndarray | None = None
    scores: np.ndarray | None = None
    classification: str | None = None
    classification_scores: dict[str, float] | None = None
    comprehensiveness_classification_scores: dict[str, float] | None = None
    sufficiency_classification_scores: dict[str, float] | None = None
    thresholded_scores: tuple[ThresholdedScores, ...] | None = None

    def __post_init__(self):
        if self.mask is not None:
            mask = _per_token(self.mask, "mask", self.instance)
            _check_tokens((mask == 0) | (mask == 1), mask, "0 or 1 for every token of the mask")
            object.__setattr__(self, "mask", mask.astype(np.int8))
        if self.scores is not None:
            scores = _per_token(self.scores, "scores", self.instance)
            _check_tokens(np.isfinite(scores), scores, "a finite score for every token")
            object.__setattr__(self, "scores", scores)
        self._check_classification()
        self._check_thresholds()

    def _check_classification(self):
        if not isinstance(self.classification, str | None):
            raise ValueError(f"expected classification to be the name of a class, found {self.classification!r:.80}")
        if (self.classification is None) != (self.classification_scores is None):
            raise ValueError("expected classification and classification_scores together, found one without the other")
        for name in CLASS_SCORES:
            if getattr(self, name) is not None:
                if self.classification is None:
                    raise ValueError(f"expected classification and classification_scores beside {name}, found neither")
                scores = _as_scores(getattr(self, name), name)
                object.__setattr__(self, name, scores)
                _check_labels(scores, name, self.classification_scores)
        if self.classification is not None and self.classification not in self.classification_scores:
            labels = ", ".join(self.classification_scores)
            raise ValueError(f"expected classification to be a scored class ({labels}), found {self.classification!r}")

    def _check_thresholds(self):
        if self.thresholded_scores is None:
            return
        missing = [name for name in CLASS_SCORES if getattr(self, name) is None]
        if missing:
            raise ValueError(f"expected {', '.join(missing)} beside thresholded_scores, found none")
        object.__setattr__(self, "thresholded_scores", tuple(self.thresholded_scores))
        for entry in self.thresholded_scores:
            for name in CLASS_SCORES[1:]:
                _check_labels(getattr(entry, name), f"{name} at {entry.threshold}", self.classification_scores)
        if len(set(self._thresholds)) < len(self._thresholds):
            raise ValueError(f"expected every threshold once, found {self._thresholds}")

    @property
    def _thresholds(self) -> list[float] | None:
        return self.thresholded_scores and sorted(entry.threshold for entry in self.thresholded_scores)


def write_eraser_predictions(path: str | os.PathLike, predictions: Iterable[EraserPrediction]):
    """Writes predictions such that [`read_eraser_predictions`] returns the same, to the bit.

    A file that is there already is replaced when the new one is complete, and stays as it is if anything fails.

    Args:
        path (`str` or `os.PathLike`): the file, by custom `.jsonl`. Not compressed.
        predictions (`Iterable[EraserPrediction]`): at most one of an instance; all give the same fields.

    Raises:
        ValueError: two predictions are of one instance, or a field is given in some predictions and not in others.

    Example:

    ```python
    >>> from hf_rationale.data.eraser_predictions import EraserPrediction, eraser_instances, write_eraser_predictions

    >>> instances = eraser_instances("movies", "data", "test")  # in the order of the rows of the test split
    >>> predictions = [EraserPrediction(instance, mask) for instance, mask in zip(instances, masks, strict=True)]
    >>> write_eraser_predictions("predictions.jsonl", predictions)
    ```
    """
    predictions = list(predictions)
    misfit = _first_misfit(predictions)
    if misfit is not None:
        raise ValueError(f"prediction {misfit[0]}: {misfit[1]}")
    # The scorer takes the first document of the first line to tell whether there are any spans: those without go last.
    predictions.sort(key=lambda prediction: prediction.mask is None or not prediction.mask.any())
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")  # in one folder, for `os.replace`
    try:
        with open(unfinished, "w", encoding="utf-8", newline="\n") as stream:
            for prediction in predictions:
                stream.write(json.dumps(_to_record(prediction), allow_nan=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_eraser_predictions(path: str | os.PathLike, instances: Iterable[EraserInstance]) -> list[EraserPrediction]:
    """Reads the predictions of a split.

    If any document of the file has hard predictions, nothing is selected in those without. `mask` is `None` if no
    document of the file has them. Keys that are not of the format are ignored, and so are scores of sentences.

    Args:
        path (`str` or `os.PathLike`): the file; decompressed if its name ends in `.gz`.
        instances (`Iterable[EraserInstance]`): those of the split ([`eraser_instances`]), all of them predicted.

    Returns:
        `list[EraserPrediction]`: in the order of `instances`.

    Raises:
        FileNotFoundError: there is no such file.
        MalformedDataError: a line breaks the format, does not go with `instances` or not with the lines before it, or
            an instance is not predicted.
        ValueError: `instances` has an annotation_id twice.
    """
    path, instances = Path(path), list(instances)
    known = {instance.annotation_id: instance for instance in instances}
    if len(known) < len(instances):
        raise ValueError("expected instances of one split, each once, found an annotation_id twice")
    predictions = []
    for number, line in read_lines(path):
        try:
            predictions.append(_to_prediction(parse_line(line), known))
        except ValueError as error:
            raise MalformedDataError(path, number, str(error)) from error
    if any(prediction.mask is not None for prediction in predictions):
        predictions = [_with_mask(prediction) for prediction in predictions]
    misfit = _first_misfit(predictions)
    if misfit is not None:
        raise MalformedDataError(path, misfit[0] + 1, misfit[1])  # every line is a prediction
    found = {prediction.instance.annotation_id: prediction for prediction in predictions}
    missing = [annotation_id for annotation_id in known if annotation_id not in found]
    if missing:
        problem = f"expected a prediction for every instance, found none for {missing[0]}"
        others = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise MalformedDataError(path, None, f"{problem}{others}; was the file cut short, or is it of another split?")
    return [found[annotation_id] for annotation_id in known]


def _first_misfit(predictions: Sequence[EraserPrediction]) -> tuple[int, str] | None:
    """The position of the first prediction that cannot be in one file with those before it, and why."""
    seen = {}
    for position, prediction in enumerate(predictions):
        annotation_id = prediction.instance.annotation_id
        if annotation_id in seen:
            return position, f"expected one prediction for {annotation_id}, found a second; keep one of them"
        seen[annotation_id] = position
        for field in fields(EraserPrediction):
            given = getattr(prediction, field.name) is not None
            if given != (getattr(predictions[0], field.name) is not None):
                found = "first without it and here with it" if given else "first with it and here without it"
                key = {"mask": HARD, "scores": SOFT}.get(field.name, field.name)
                return position, f"expected {key} for all instances or for none, found the {found}"
        if prediction._thresholds != predictions[0]._thresholds:
            first, here = predictions[0]._thresholds, prediction._thresholds
            return position, f"expected the thresholds of the first instance, {first}, found {here}"
    return None


def _to_record(prediction: EraserPrediction) -> dict[str, Any]:
    """The JSON object of a prediction."""
    rationales, start = [], 0
    for docid, length in prediction.instance.documents:
        rationale, tokens = {"docid": docid}, slice(start, start + length)
        if prediction.mask is not None:
            rationale[HARD] = [{"start_token": a, "end_token": b} for a, b in _spans(prediction.mask[tokens])]
        if prediction.scores is not None:
            rationale[SOFT] = prediction.scores[tokens].tolist()
        rationales.append(rationale)
        start += length
    rationales.sort(key=lambda rationale: not rationale.get(HARD))  # see `write_eraser_predictions`
    record = {"annotation_id": prediction.instance.annotation_id, "rationales": rationales}
    for name in ("classification", *CLASS_SCORES):
        if getattr(prediction, name) is not None:
            record[name] = getattr(prediction, name)
    if prediction.thresholded_scores is not None:
        record["thresholded_scores"] = [asdict(entry) for entry in prediction.thresholded_scores]
    return record


def _spans(mask: np.ndarray) -> list[list[int]]:
    """`[start, end)` of every maximal run of ones in `mask` (length,)."""
    return np.flatnonzero(np.diff(np.pad(mask, 1))).reshape(-1, 2).tolist()


def _to_prediction(record: Any, known: Mapping[str, EraserInstance]) -> EraserPrediction:
    """The prediction of a JSON object. `mask` is `None` if it has no hard predictions."""
    annotation_id = get_field(record, "annotation_id", str)
    if annotation_id not in known:
        problem = f"expected the annotation_id of an instance, found {annotation_id!r}"
        raise ValueError(f"{problem}; is the file of another split or corpus?")
    instance = known[annotation_id]
    lengths = dict(instance.documents)
    masks, scores, docids = {}, {}, set()
    for rationale in get_field(record, "rationales", list):
        docid = get_field(rationale, "docid", str)
        if docid not in lengths:
            raise ValueError(f"expected a document of {annotation_id} ({', '.join(lengths)}), found docid {docid!r}")
        if docid in docids:
            raise ValueError(f"expected every document once, found docid {docid!r} twice; join the two")
        docids.add(docid)
        if rationale.get(HARD) is not None:
            masks[docid] = _to_mask(get_field(rationale, HARD, list), docid, lengths[docid])
        if rationale.get(SOFT) is not None:
            scores[docid] = get_field(rationale, SOFT, list)
            if len(scores[docid]) != lengths[docid]:
                problem = f"expected {SOFT} for the {lengths[docid]} tokens of {docid}, found {len(scores[docid])}"
                raise ValueError(f"{problem}; were its tokens split at white space?")
    lacking = [docid for docid in lengths if docid not in scores]
    if scores and lacking:
        raise ValueError(f"expected {SOFT} for every document of {annotation_id}, found none for {', '.join(lacking)}")
    nothing = {docid: np.zeros(length, np.int8) for docid, length in instance.documents}
    return EraserPrediction(
        instance,
        mask=np.concatenate(list((nothing | masks).values())) if masks else None,
        scores=[score for docid in lengths for score in scores[docid]] if scores else None,
        thresholded_scores=_to_thresholded_scores(record),
        **{name: record.get(name) for name in ("classification", *CLASS_SCORES)},
    )


def _to_mask(spans: list, docid: str, length: int) -> np.ndarray:
    """0/1 (length,), 1 inside the spans."""
    mask = np.zeros(length, np.int8)
    for span in spans:
        start, end = get_field(span, "start_token", int), get_field(span, "end_token", int)
        if not 0 <= start <= end <= length:
            raise ValueError(f"expected a span within the {length} tokens of {docid}, found [{start}, {end})")
        if mask[start:end].any():
            raise ValueError(f"expected spans that do not overlap in {docid}, found [{start}, {end}) on another")
        mask[start:end] = 1
    return mask


def _to_thresholded_scores(record: dict[str, Any]) -> tuple[ThresholdedScores, ...] | None:
    if record.get("thresholded_scores") is None:
        return None
    names = [field.name for field in fields(ThresholdedScores)]
    entries = []
    for entry in get_field(record, "thresholded_scores", list):
        if not isinstance(entry, dict):
            raise ValueError(f"expected thresholded_scores to be a list of objects, found {entry!r:.80} in it")
        entries.append(ThresholdedScores(**{name: entry.get(name) for name in names}))
    return tuple(entries)


def _with_mask(prediction: EraserPrediction) -> EraserPrediction:
    """The prediction; if it had no mask, nothing is selected."""
    if prediction.mask is not None:
        return prediction
    return replace(prediction, mask=np.zeros(prediction.instance.num_tokens))


def _per_token(values: Any, name: str, instance: EraserInstance) -> np.ndarray:
    """`values` as a new float array of shape `(num_tokens,)`."""
    try:
        array = np.array(values)
    except ValueError:  # NumPy refuses ragged nesting
        array = None
    if array is None or array.ndim != 1 or array.dtype.kind not in "biuf":
        raise ValueError(f"expected {name} to be one flat sequence of numbers, found {values!r:.80}")
    if len(array) != instance.num_tokens:
        problem = f"expected {name} for the {instance.num_tokens} tokens of {instance.annotation_id}"
        raise ValueError(f"{problem}, found {len(array)}; tokens that the model does not read need one too, a mask 0")
    return array.astype(float)


def _check_tokens(valid: np.ndarray, values: np.ndarray, expected: str):
    if not valid.all():
        first = int(valid.argmin())
        raise ValueError(f"expected {expected}, found {values[first]} for token {first}")


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except (TypeError, OverflowError):  # not a number, or an integer beyond all floats
        return False


def _as_scores(scores: Any, name: str) -> dict[str, float]:
    if not isinstance(scores, Mapping) or not scores:
        raise ValueError(f"expected {name} to be finite numbers by class, found {scores!r:.80}")
    for label, score in scores.items():
        if not isinstance(label, str) or not _is_finite(score):
            raise ValueError(f"expected {name} to be finite numbers by class, found {score!r:.80} for {label!r}")
    return {label: float(score) for label, score in scores.items()}


def _check_labels(scores: dict[str, float], name: str, classification_scores: dict[str, float]):
    if scores.keys() != classification_scores.keys():
        expected, found = ", ".join(classification_scores), ", ".join(scores)
        raise ValueError(f"expected {name} for the classes of classification_scores ({expected}), found {found}")


__all__ = [
    "EraserInstance",
    "EraserPrediction",
    "ThresholdedScores",
    "eraser_instances",
    "numbered_instances",
    "read_eraser_predictions",
    "write_eraser_predictions",
]
