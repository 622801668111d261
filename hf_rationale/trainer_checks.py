"""Functions that users pass to a trainer are tried before training, and not when an epoch is over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction


def check_collator(data_collator: Callable, dataset: Dataset):
    """Raises `ValueError` if the function does not make batches of an encoded dataset."""
    cure = "Leave data_collator out, or start from that of the model: model.data_collator(tokenizer)."
    try:
        batch = data_collator([dataset[0], dataset[len(dataset) - 1]])
    except Exception as error:
        raise ValueError(
            f"data_collator cannot make a batch of the encoded examples ({error!r:.200}). {cure}"
        ) from error
    if "rationale" not in batch:
        raise ValueError(f"data_collator drops the column 'rationale' and keeps {sorted(batch)}. {cure}")


def check_metrics(compute_metrics: Callable, num_labels: int):
    """Raises `ValueError` if the function does not accept what a rationale model predicts."""
    logits, labels = np.eye(num_labels, dtype=np.float32), np.arange(num_labels)
    marks = np.tile([1, 0], (num_labels, 1))
    try:
        compute_metrics(EvalPrediction(predictions=(logits, marks), label_ids=(labels, marks)))
    except Exception as error:
        raise ValueError(
            f"compute_metrics raised {error!r:.200} when it was tried. Of a rationale model, `predictions` is a pair "
            "(logits, selection), and `label_ids` is a pair (labels, marked rationales): see rationale_metrics."
        ) from error
