"""Reading a dataset with a finished model, in batches, without changing the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .modeling.base import RationalePreTrainedModel
from .modeling.labels import with_class_indices
from .modeling.outputs import NO_MARK, RationaleInputs
from .text.encoders import count_positions
from .text.encoding import encode_rationale_dataset


class NotMeasurableError(ValueError):
    """The model or the dataset lacks what is to be measured."""


class MarkedBatch(NamedTuple):
    """Examples as a model reads them, and as people mark them. A *mark* is made on a word of a text, or on whatever
    else people mark in another kind of input."""

    rows: np.ndarray  # (batch,): indices into the dataset
    inputs: RationaleInputs
    readable: torch.BoolTensor  # (batch, marks): the words that the model reads, which have not been cut off
    exists: torch.BoolTensor  # (batch, marks): the words that there are; false at padding
    gold: torch.BoolTensor  # (batch, marks): the words that people marked

    def positions_of(self, marks: torch.Tensor) -> torch.Tensor:
        """The mask (batch, positions) of the positions of what `marks` (batch, marks) selects."""
        context, selectable = self.inputs.context, self.inputs.units.selectable
        return (self.inputs.marks.select(marks > 0, context.shape[1]) & selectable).to(context.dtype)

    def marks_of(self, values: torch.Tensor) -> torch.Tensor:
        """The largest of the `values` (batch, positions) of each word: (batch, marks). It is 0 for a word without
        positions."""
        return self.inputs.marks.values(values, self.exists.shape[1])


@dataclass(frozen=True)
class Rationales:
    r"""
    What a model selects from each example, and what it predicts. For text, the entries of an example are its words.

    Args:
        probabilities (`np.ndarray` of shape `(examples, labels)`): of the labels, from the rationale.
        masks (`list[np.ndarray]`): 0/1 for every word of the whole text. Words that were cut off are 0.
        scores (`list[np.ndarray]`): the extractor's probability for every word.
        gold (`list[np.ndarray | None]`): 0/1 for every word; None if nobody marked the example.
        labels (`np.ndarray` of shape `(examples,)`, *optional*): the true labels.
    """

    probabilities: np.ndarray
    masks: list[np.ndarray]
    scores: list[np.ndarray]
    gold: list[np.ndarray | None]
    labels: np.ndarray | None


@torch.no_grad()
def read_rationales(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> Rationales:
    r"""
    Let `model` select and predict, with its own threshold.

    Args:
        model: a rationale model.
        dataset: examples that the model can encode, or encoded ones (for text, see [`encode_rationale_dataset`]).
        tokenizer: the model's tokenizer.
        batch_size: the number of examples in a batch.
        max_length: cut texts to this number of tokens. By default they are not cut.
    """
    dataset = encode(dataset, tokenizer, model, max_length)
    probabilities = np.zeros((len(dataset), model.config.num_labels))
    masks, scores, gold = ([None] * len(dataset) for _ in range(3))
    for batch in read_batches(model, dataset, tokenizer, batch_size, "selecting"):
        selection = model.select(batch.inputs)
        logits = model.predict(batch.inputs, selection.mask).logits
        probabilities[batch.rows] = logits.double().softmax(-1).cpu().numpy()
        marks = batch.marks_of(selection.mask).long(), batch.marks_of(selection.scores), batch.gold.long()
        for row, exists, *values in zip(
            batch.rows, *(part.cpu().numpy() for part in (batch.exists, *marks)), strict=True
        ):
            masks[row], scores[row], gold[row] = (value[exists] for value in values)
    for row, marks in enumerate(dataset["rationale"]):
        if not marks or marks[0] < 0:
            gold[row] = None
    labels = np.array(dataset["labels"][:]) if "labels" in dataset.column_names else None
    return Rationales(probabilities, masks, scores, gold, labels)


def encode(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    max_length: int | None = None,
    level: str | None = None,
) -> Dataset:
    """`dataset` as `model` reads it, with the units of `level` or those of the model. Encoded datasets are returned as
    they are."""
    if isinstance(model, RationalePreTrainedModel):
        if model.is_encoded(dataset):
            return dataset
        if level is not None and model.example_name != "text":
            raise ValueError(f"rationale_level names units of texts, and the model reads {model.example_name}s.")
        options = {} if level is None else {"level": level}
        dataset = with_class_indices(dataset, model.config)
        return model.encode_dataset(dataset, tokenizer, max_length, **options)
    if "input_ids" in dataset.column_names:
        return dataset
    return encode_rationale_dataset(dataset, tokenizer, max_length or count_positions(model.base_model))


def encode_labelled(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    max_length: int | None = None,
    marked: bool = False,
) -> Dataset:
    """As [`encode`]. Raises `NotMeasurableError` if there are no labels or, with `marked`, no marked rationales."""
    dataset = encode(dataset, tokenizer, model, max_length)
    if "labels" not in dataset.column_names:
        raise NotMeasurableError("The dataset has no labels (a column 'label').")
    if marked and not any(1 in rationale for rationale in dataset["rationale"]):
        raise NotMeasurableError("The dataset has no rationale that people marked.")
    return dataset


def read_batches(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    description: str,
) -> Iterator[MarkedBatch]:
    """Batches of an encoded `dataset`, of examples of similar length. During the iteration, the model is in evaluation
    mode."""
    check_batch_size(batch_size)
    collate = model.data_collator(tokenizer)
    order = np.argsort(dataset["length"][:], kind="stable")[::-1]  # if the longest do not fit, that shows at once
    with evaluation_mode(model), tqdm(total=len(order), desc=description, unit="example", leave=False) as progress:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = collate([dataset[int(row)] for row in rows])
            batch = {name: value.to(model.device) for name, value in batch.items()}
            rationale = batch.pop("rationale")
            inputs = model.prepare(**batch)
            exists = rationale != NO_MARK
            read = MarkedBatch(rows, inputs, exists, exists, rationale == 1)
            yield read._replace(readable=read.marks_of(inputs.units.selectable.long()) > 0)
            progress.update(len(rows))


def check_batch_size(batch_size: int):
    """Raises `ValueError` if it is not at least 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, but is {batch_size}")


@contextmanager
def evaluation_mode(model: PreTrainedModel):
    """Without dropout and sampling. Afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
