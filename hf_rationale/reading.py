"""A finished model over a dataset: in batches, by words, without changing anything."""

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

from .data.collator import RationaleDataCollator
from .data.encoding import NO_WORD, encode_rationale_dataset
from .masking import word_values
from .modeling_base import RationalePreTrainedModel, count_positions
from .modeling_outputs import RationaleInputs


class NotMeasurableError(ValueError):
    """A model or a dataset has none of what is to be measured."""


class TextBatch(NamedTuple):
    """Texts as a model reads them, and as people do."""

    rows: np.ndarray  # (batch,): which of the dataset's
    inputs: RationaleInputs
    word_ids: torch.Tensor  # (batch, seq): index of a token's word, -1 for what is none
    words: torch.BoolTensor  # (batch, words): where a word is that the model reads; false where it was cut off
    whole: torch.BoolTensor  # (batch, words): where a word is
    gold: torch.BoolTensor  # (batch, words): where people marked one

    def tokens_of(self, words: torch.Tensor) -> torch.Tensor:
        """The mask (batch, seq) of the tokens of what `words` (batch, words) selects."""
        return words.gather(1, self.word_ids.clamp_min(0)).to(self.inputs.context.dtype) * self.inputs.units.selectable

    def words_of(self, tokens: torch.Tensor) -> torch.Tensor:
        """The largest value (batch, words) among the tokens (batch, seq) of each word; 0 where it has none."""
        return word_values(tokens, self.word_ids, self.whole.shape[1])


@dataclass(frozen=True)
class Rationales:
    r"""
    What a model selects and says, text by text.

    Args:
        probabilities (`np.ndarray` of shape `(texts, labels)`): of the labels, from the rationale.
        masks (`list[np.ndarray]`): 0/1 for every word of the whole text; 0 where it was cut off.
        scores (`list[np.ndarray]`): the extractor's probability for every word.
        gold (`list[np.ndarray | None]`): 0/1 for every word; None where nobody marked one.
        labels (`np.ndarray` of shape `(texts,)`, *optional*): the true ones.
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
    Have `model` select and decide, by its own threshold.

    Args:
        model: a rationale model.
        dataset: texts as of [`encode_rationale_dataset`], encoded or not.
        tokenizer: the model's.
        batch_size: texts at a time.
        max_length: cut texts to so many tokens; by default to what the model can read.
    """
    dataset = encode(dataset, tokenizer, model, max_length)
    probabilities = np.zeros((len(dataset), model.config.num_labels))
    masks, scores, gold = ([None] * len(dataset) for _ in range(3))
    for batch in read_batches(model, dataset, tokenizer, batch_size, "selecting"):
        selection = model.select(batch.inputs)
        logits = model.predict(batch.inputs, selection.mask).logits
        probabilities[batch.rows] = logits.double().softmax(-1).cpu().numpy()
        words = batch.words_of(selection.mask).long(), batch.words_of(selection.scores), batch.gold.long()
        for row, whole, *values in zip(
            batch.rows, *(part.cpu().numpy() for part in (batch.whole, *words)), strict=True
        ):
            masks[row], scores[row], gold[row] = (value[whole] for value in values)
    for row, marks in enumerate(dataset["rationale"]):
        if not marks or marks[0] < 0:
            gold[row] = None
    labels = np.array(dataset["labels"][:]) if "labels" in dataset.column_names else None
    return Rationales(probabilities, masks, scores, gold, labels)


def encode(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, max_length: int | None = None
) -> Dataset:
    """`dataset` tokenized, unless it is; then it is cut already."""
    if "input_ids" in dataset.column_names:
        return dataset
    if max_length is None:
        rationale_model = isinstance(model, RationalePreTrainedModel)
        max_length = model.max_length if rationale_model else count_positions(model.base_model)
    return encode_rationale_dataset(dataset, tokenizer, max_length)


def encode_labelled(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    max_length: int | None = None,
    marked: bool = False,
) -> Dataset:
    """As [`encode`]. Raises `NotMeasurableError` where there are no labels or, if asked for, no marked rationales."""
    dataset = encode(dataset, tokenizer, model, max_length)
    if "labels" not in dataset.column_names:
        raise NotMeasurableError("The texts have no labels (a column 'label').")
    if marked and not any(1 in rationale for rationale in dataset["rationale"]):
        raise NotMeasurableError("No text has a rationale that people marked.")
    return dataset


def read_batches(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    description: str,
) -> Iterator[TextBatch]:
    """Batches of an encoded `dataset`, texts of similar length together. While they last, the model is at rest."""
    collate = RationaleDataCollator(tokenizer)
    order = np.argsort(dataset["length"][:], kind="stable")[::-1]  # where the longest do not fit, that shows at once
    with at_rest(model), tqdm(total=len(order), desc=description, unit="text", leave=False) as progress:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = collate([dataset[int(row)] for row in rows])
            batch = {name: value.to(model.device) for name, value in batch.items()}
            rationale = batch.pop("rationale")
            inputs = model.prepare(**batch)
            whole = rationale != NO_WORD
            read = TextBatch(rows, inputs, batch["word_ids"], whole, whole, rationale == 1)
            yield read._replace(words=read.words_of(inputs.units.selectable.long()) > 0)
            progress.update(len(rows))


def sample_rationale(model: RationalePreTrainedModel, inputs: RationaleInputs) -> torch.Tensor:
    """What the extractor selects (batch, seq) as in training, with noise, though its parts are at rest."""
    training, model.training = model.training, True  # the model's own flag, and not its parts'
    try:
        return model.select(inputs).mask
    finally:
        model.training = training


@contextmanager
def at_rest(model: PreTrainedModel):
    """Without dropout or sampling; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False  # not by `eval`, which PLMR freezes its embeddings in
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
