"""What the Trainer measures of a dataset, if the caller passes no `compute_metrics`."""

from __future__ import annotations

from typing import Any

from transformers import EvalPrediction

from .metrics import classification_scores, rationale_f1
from .modeling.outputs import NO_MARK


def rationale_metrics(prediction: EvalPrediction) -> dict[str, Any]:
    r"""
    The scores of [`~metrics.classification_scores`], the selected share, and the scores of [`rationale_f1`] over the
    examples in which people marked a rationale.

    Args:
        prediction: `predictions` are logits (examples, labels) and the selection (examples, marks) as 0/1. `label_ids`
            are labels (examples,) and what people marked (examples, marks) as 0/1, -1 if nobody marked the example,
            and -100 at padding. For text, a mark belongs to a word.
    """
    logits, selected = prediction.predictions
    labels, gold = prediction.label_ids
    metrics = classification_scores(logits.argmax(-1), labels)
    exists = gold != NO_MARK
    metrics["rationale_sparsity"] = float(selected[exists].mean())
    marked = (gold >= 0).any(1)
    if marked.any():
        scores = rationale_f1(
            [row[keep] for row, keep in zip(selected[marked], exists[marked], strict=True)],
            [row[keep] for row, keep in zip(gold[marked], exists[marked], strict=True)],
        )
        metrics |= {f"rationale_{name}": value for name, value in scores.items()}
    return metrics
