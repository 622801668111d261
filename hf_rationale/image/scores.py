"""Scores of masks on pixels, and of labels by groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import EvalPrediction

from ..metrics import rationale_f1
from ..modeling.outputs import NO_MARK
from ..trainer_metrics import rationale_metrics


def mask_scores(selected: Sequence[np.ndarray], gold: Sequence[np.ndarray]) -> dict[str, float]:
    r"""
    The agreement of selected and marked pixels.

    Args:
        selected, gold: 0/1 for every pixel of every image, of any shape that is the same for both.

    Returns:
        `f1`, `precision` and `recall` over the pixels of all images together, `iou` (the intersection over the union
        of each image, averaged; 1 if both are empty), and the shares `sparsity` and `gold_sparsity`.
    """
    masks, marks = ([(np.asarray(one) > 0).ravel() for one in side] for side in (selected, gold))
    pairs = list(zip(masks, marks, strict=True))
    both, either = (np.array([count(*pair).sum() for pair in pairs]) for count in (np.logical_and, np.logical_or))
    scores = rationale_f1([mask.astype(int) for mask in masks], [mark.astype(int) for mark in marks])
    scores = {name: scores[name] for name in ("f1", "precision", "recall", "sparsity", "gold_sparsity")}
    return scores | {"iou": float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())}


def image_metrics(prediction: EvalPrediction) -> dict[str, Any]:
    """For `compute_metrics` of a trainer: [`rationale_metrics`], and `rationale_iou`, the mean over the images that
    people marked."""
    metrics = rationale_metrics(prediction)
    selected, gold = prediction.predictions[1], prediction.label_ids[1]
    marked = (gold >= 0).any(1)
    if marked.any():
        kept = [(row[marks != NO_MARK], marks[marks != NO_MARK]) for row, marks in zip(selected, gold, strict=True)]
        kept = [pair for pair, has_marks in zip(kept, marked, strict=True) if has_marks]
        metrics["rationale_iou"] = mask_scores(*zip(*kept, strict=True))["iou"]
    return metrics


def group_accuracy(predicted: Sequence[int], labels: Sequence[int], groups: Sequence[int]) -> dict[str, Any]:
    r"""
    The accuracy by groups, such as labels on backgrounds (Sagawa et al. 2020).

    Args:
        predicted, labels, groups: class indices, and the number of the group of every example.

    Returns:
        `accuracy`, `worst_group_accuracy`, and `groups`, the accuracy of every group by its number.
    """
    right, groups = np.asarray(predicted) == np.asarray(labels), np.asarray(groups)
    by_group = {int(group): float(right[groups == group].mean()) for group in np.unique(groups)}
    return {
        "accuracy": float(right.mean()),
        "worst_group_accuracy": min(by_group.values()),
        "groups": by_group,
    }
