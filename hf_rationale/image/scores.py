"""Scores of masks on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import EvalPrediction

from ..metrics import rationale_scores
from ..modeling.outputs import NO_MARK
from ..trainer_metrics import rationale_metrics


def mask_scores(selected: Sequence[np.ndarray], gold: Sequence[np.ndarray]) -> dict[str, float]:
    r"""
    The agreement of selected and marked pixels.

    Args:
        selected, gold: 0/1 for every pixel of every image, of any shape that is the same for both.

    Returns:
        `f1`, `precision` and `recall` over the pixels of all images together, `iou` (`mask_iou` of
        [`rationale_scores`]: the intersection over the union of each image, averaged), and the shares `sparsity` and
        `gold_sparsity`.
    """
    scores = rationale_scores(*([np.ravel(one) > 0 for one in side] for side in (selected, gold)))
    shares = {name: scores[name] for name in ("sparsity", "gold_sparsity")}
    return scores["token_micro"] | {"iou": scores["mask_iou"], **shares}


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
