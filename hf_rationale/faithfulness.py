"""Faithfulness: how the prediction changes if words are removed, for a model's own scores or those of any
explainer."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import trange
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .metrics.faithfulness import AOPC_RATIOS, faithfulness_scores
from .modeling.base import RationalePreTrainedModel
from .reading import encode, evaluation_mode, read_batches, read_rationales
from .text.encoders import count_positions


@torch.no_grad()
def faithfulness(
    model: PreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    scores: Sequence[Sequence[float]] | None = None,
    *,
    ratios: Sequence[float] = AOPC_RATIOS,
    batch_size: int = 32,
    max_length: int | None = None,
) -> dict[str, float | dict[str, float]]:
    r"""
    Comprehensiveness and sufficiency (ERASER, section 4.2) of word scores: the change of the predicted label's
    probability if the best-scored words are removed, and if only they are kept. At a ratio of .1, the best tenth of a
    text's words are taken, rounded up. Among equal scores the first words are taken.

    For a rationale model, the *predictor* is measured: with masks, it reads all words, all words but the best-scored,
    and the best-scored only. For a plain classifier, words are deleted from the text. If nothing is left, not even a
    special token, all labels are equally likely.

    Args:
        model: a rationale model, or any sequence classifier of transformers.
        dataset: what the model can encode. For a plain classifier, texts as lists of words (`tokens`, and `query` if
            there is one).
        tokenizer: the model's tokenizer.
        scores: for every word of every text, how much it speaks for the prediction, such as the scores of LIME,
            gradients or attention. For a rationale model, the default are the scores of its extractor.
        ratios: the shares of the words to take.
        batch_size: the number of texts in a batch.
        max_length: cut texts to this number of tokens. By default a rationale model's texts are not cut. Words that
            are cut off are ignored.

    Returns:
        as of [`~metrics.faithfulness_scores`].

    Raises:
        ValueError: if scores are missing or not one for each word, or if a plain classifier has only one label.
    """
    rationale_model = isinstance(model, RationalePreTrainedModel)
    if not rationale_model and "tokens" not in dataset.column_names:
        raise ValueError(
            f"Words are removed, so the dataset needs a column 'tokens', but it has {dataset.column_names}."
        )
    if scores is not None:
        lengths = [len(marks) for marks in encode(dataset, tokenizer, model, max_length)["rationale"]]
        if len(scores) != len(lengths):
            raise ValueError(f"scores must have an entry for each of the {len(lengths)} texts, but has {len(scores)}")
        for row, (own, length) in enumerate(zip(scores, lengths, strict=True)):
            if len(own) != length or not np.isfinite(np.asarray(own, dtype=float)).all():
                raise ValueError(
                    f"Text {row} has {length} words, but {len(own)} scores, or scores that are not finite."
                )
    elif not rationale_model:
        raise ValueError("A plain classifier has no scores of its own. Pass scores, one for each word.")
    take = _with_masks if rationale_model else _with_deletions
    readings = take(model, dataset, tokenizer, scores, ratios, batch_size, max_length)
    return faithfulness_scores(readings[0], readings[1::2], readings[2::2], ratios)


def classify(
    model: PreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> np.ndarray:
    """The probabilities (texts, labels) of a rationale model, or of any sequence classifier of transformers."""
    if isinstance(model, RationalePreTrainedModel):
        return read_rationales(model, dataset, tokenizer, batch_size=batch_size, max_length=max_length).probabilities
    texts = [" ".join(words) for words in dataset["tokens"]]
    return classify_texts(model, texts, _queries(dataset), tokenizer, batch_size, max_length)


def _with_masks(model, dataset, tokenizer, scores, ratios, batch_size, max_length) -> np.ndarray:
    """Probabilities (1 + 2 · ratios, texts, labels): with all words, and for each ratio without the best-scored words
    and with only these."""
    dataset = encode(dataset, tokenizer, model, max_length)
    readings = np.zeros((1 + 2 * len(ratios), len(dataset), model.config.num_labels))
    for batch in read_batches(model, dataset, tokenizer, batch_size, "removing words"):
        if scores is None:
            own = batch.marks_of(model.select(batch.inputs).scores).cpu().numpy()
        else:
            own = np.zeros(batch.readable.shape)
            for values, row in zip(own, batch.rows, strict=True):
                values[: len(scores[row])] = scores[row]
        words = batch.readable.cpu().numpy()
        masks = [words]
        for ratio in ratios:
            best = _best(np.where(words, own, -np.inf), words.sum(1), ratio)
            masks += [words & ~best, best]
        for i, mask in enumerate(masks):
            positions = batch.positions_of(torch.from_numpy(mask).long().to(batch.readable.device))
            readings[i, batch.rows] = model.predict(batch.inputs, positions).logits.double().softmax(-1).cpu().numpy()
    return readings


def _with_deletions(model, dataset, tokenizer, scores, ratios, batch_size, max_length) -> np.ndarray:
    """As [`_with_masks`]."""
    encoded = encode(dataset, tokenizer, model, max_length)
    texts = []
    for words, own, word_ids in zip(dataset["tokens"], scores, encoded["word_ids"], strict=True):
        read = np.isin(np.arange(len(words)), word_ids)
        masks = [read]
        for ratio in ratios:
            best = _best(np.where(read, own, -np.inf)[None], read.sum(keepdims=True), ratio)[0]
            masks += [read & ~best, best]
        texts.append([" ".join(np.array(words, dtype=object)[mask]) for mask in masks])
    queries, variants = _queries(dataset), 1 + 2 * len(ratios)
    flat = [text for variant in texts for text in variant]
    queries = None if queries is None else [query for query in queries for _ in range(variants)]
    probabilities = classify_texts(model, flat, queries, tokenizer, batch_size, max_length)
    return probabilities.reshape(len(texts), variants, -1).swapaxes(0, 1)


def _best(scores: np.ndarray, counts: np.ndarray, ratio: float) -> np.ndarray:
    """The mask (texts, words) of the best-scored share of the `counts` (texts,) words of each text."""
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    return rank < np.ceil(ratio * counts - 1e-9)[:, None]  # .1 · 30 is a little above 3


def _queries(dataset: Dataset) -> list[str] | None:
    return [" ".join(words) for words in dataset["query"]] if "query" in dataset.column_names else None


@torch.no_grad()
def classify_texts(
    model: PreTrainedModel,
    texts: list[str],
    queries: list[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    max_length: int | None,
) -> np.ndarray:
    """The probabilities (texts, labels) of a plain classifier of `texts`, or of pairs with `queries`."""
    if model.config.num_labels < 2:
        raise ValueError("The model has only one label, whose probability is always 1, so nothing can be measured.")
    tokenizer = copy.deepcopy(tokenizer)  # a call changes its settings for truncation and padding
    limit = max_length or count_positions(model.base_model)
    options = {"max_length": limit, "padding": True, "return_tensors": "pt"}
    order = np.argsort([len(text) for text in texts], kind="stable")[::-1]
    probabilities = np.zeros((len(texts), model.config.num_labels))
    with evaluation_mode(model):
        for start in trange(0, len(order), batch_size, desc="classifying", leave=False):
            rows = order[start : start + batch_size]
            read = [texts[row] for row in rows]
            if queries is None:
                inputs = tokenizer(read, truncation=limit is not None, **options)
            else:
                truncation = "only_second" if limit is not None else False
                inputs = tokenizer([queries[row] for row in rows], read, truncation=truncation, **options)
            if not inputs["input_ids"].shape[1]:  # not even a special token is left of these texts
                probabilities[rows] = 1 / model.config.num_labels
                continue
            logits = model(**inputs.to(model.device)).logits
            probabilities[rows] = logits.double().softmax(-1).cpu().numpy()
    return probabilities
