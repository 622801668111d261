"""From the labels of a dataset to class indices, and to the weights of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedConfig


def with_class_indices(dataset: Dataset, config: PreTrainedConfig) -> Dataset:
    r"""
    The dataset with class indices in its column `label` (or `labels`), if it has one. Names of labels and booleans are
    replaced.

    Args:
        dataset: any dataset.
        config: of the model, whose `label2id` has the names.

    Raises:
        ValueError: if a label is neither a class index nor a name. The message has the row and the value.
    """
    column = next((name for name in ("label", "labels") if name in dataset.column_names), None)
    if column is None:
        return dataset
    labels = dataset.with_format(None)[column][:]
    indices = [class_index(row, label, config) for row, label in enumerate(labels)]
    if all(type(label) is int for label in labels):
        return dataset
    return dataset.remove_columns(column).add_column(column, indices)


def class_index(row: int, label: Any, config: PreTrainedConfig) -> int:
    """The class index of the label of a row. Raises `ValueError` if there is none."""
    if isinstance(label, str) and label in config.label2id:
        label = config.label2id[label]
    if isinstance(label, int) and 0 <= label < config.num_labels:
        return int(label)
    cure = "Set num_labels, or id2label and label2id, when you make the model."
    if label is None:
        cure = "Remove the row, or give it a label."
    elif isinstance(label, float):
        cure = "Cast the column: dataset.cast_column('label', Value('int64'))."
    raise ValueError(
        f"Row {row} of the dataset has the label {label!r}. A label must be a class index from 0 to "
        f"{config.num_labels - 1}, or one of the names {list(config.label2id)}. {cure}"
    )


def class_weights(
    weights: list[float] | str | None, dataset: Dataset | IterableDataset | None, num_labels: int
) -> torch.Tensor | None:
    r"""
    The weight (num_labels,) of the examples of every class.

    Args:
        weights: a list, or `"balanced"` for weights in inverse proportion to the frequencies of the classes.
        dataset: the encoded training set, which is counted.
        num_labels: the number of classes.

    Raises:
        ValueError: if there are too few or too many weights, or if the classes of a stream would have to be counted.
    """
    if weights == "balanced":
        if not isinstance(dataset, Dataset):
            raise ValueError('class_weights="balanced" needs a Dataset as training set. Give a list of weights.')
        frequencies = np.bincount(dataset["labels"][:], minlength=num_labels)
        weights = (frequencies.sum() / (num_labels * frequencies.clip(1))).tolist()
    if weights is not None and len(weights) != num_labels:
        raise ValueError(f"class_weights needs {num_labels} weights, one for each class, but has {len(weights)}.")
    return None if weights is None else torch.tensor(weights)
