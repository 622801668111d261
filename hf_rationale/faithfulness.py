"""Faithfulness of a model's own explanations, or of anybody's: words are taken away, and the decision looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import trange
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .metrics.faithfulness import AOPC_RATIOS, faithfulness_scores
from .modeling_base import RationalePreTrainedModel, count_positions
from .reading import at_rest, encode, read_batches, read_rationales


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
    Comprehensiveness and sufficiency (ERASER, section 4.2) of word scores: what becomes of the predicted label's
    probability without the best-scored words, and with them alone. At a ratio of .1, the best tenth of a text's words
    are taken, rounded up; of equal scores, those that come first.

    Of a rationale model, it is the *predictor* that is looked at: it reads all words, all but the best-scored, and
    these alone, by its mask. Of a plain classifier, words are deleted from the text; where nothing is left, not even a
    special token, no label is likelier than another.

    Args:
        model: a rationale model, or any sequence classifier of transformers.
        dataset: texts as lists of words (`tokens`; `query` where there is one).
        tokenizer: the model's.
        scores: for every word of every text, how much it speaks for the decision: of LIME, gradients, attention, … A
            rationale model has its extractor's by default.
        ratios: the shares of the words to take.
        batch_size: texts at a time.
        max_length: cut texts to so many tokens; by default to what the model can read. Words that are cut off count
            for nothing.

    Returns:
        as of [`~metrics.faithfulness_scores`].

    Raises:
        ValueError: where scores are missing, or not one for each word; where a plain classifier has one label.
    """
    if "tokens" not in dataset.column_names:
        raise ValueError(f"Words are taken away: a column 'tokens' is needed, and there are {dataset.column_names}.")
    if scores is not None:
        lengths = [len(words) for words in dataset["tokens"]]
        if len(scores) != len(lengths):
            raise ValueError(f"scores has an entry for each of the {len(lengths)} texts; got {len(scores)}")
        for row, (own, length) in enumerate(zip(scores, lengths, strict=True)):
            if len(own) != length or not np.isfinite(np.asarray(own, dtype=float)).all():
                raise ValueError(f"Text {row} has {length} words; its scores are {len(own)} numbers, or not finite.")
    elif not isinstance(model, RationalePreTrainedModel):
        raise ValueError("A plain classifier has no scores of its own: pass scores, one for each word.")
    take = _with_masks if isinstance(model, RationalePreTrainedModel) else _with_deletions
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
    return _classify_plainly(model, texts, _queries(dataset), tokenizer, batch_size, max_length)


def _with_masks(model, dataset, tokenizer, scores, ratios, batch_size, max_length) -> np.ndarray:
    """(1 + 2 · ratios, texts, labels): of all words, and for each ratio without the best-scored and of these alone."""
    dataset = encode(dataset, tokenizer, model, max_length)
    readings = np.zeros((1 + 2 * len(ratios), len(dataset), model.config.num_labels))
    for batch in read_batches(model, dataset, tokenizer, batch_size, "taking words away"):
        if scores is None:
            own = batch.words_of(model.select(batch.inputs).scores).cpu().numpy()
        else:
            own = np.zeros(batch.words.shape)
            for values, row in zip(own, batch.rows, strict=True):
                values[: len(scores[row])] = scores[row]
        words = batch.words.cpu().numpy()
        masks = [words]
        for ratio in ratios:
            best = _best(np.where(words, own, -np.inf), words.sum(1), ratio)
            masks += [words & ~best, best]
        for i, mask in enumerate(masks):
            tokens = batch.tokens_of(torch.from_numpy(mask).long().to(batch.word_ids.device))
            readings[i, batch.rows] = model.predict(batch.inputs, tokens).logits.double().softmax(-1).cpu().numpy()
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
    probabilities = _classify_plainly(model, flat, queries, tokenizer, batch_size, max_length)
    return probabilities.reshape(len(texts), variants, -1).swapaxes(0, 1)


def _best(scores: np.ndarray, counts: np.ndarray, ratio: float) -> np.ndarray:
    """The mask (texts, words) of the best-scored share of each text's `counts` (texts,) words."""
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    return rank < np.ceil(ratio * counts - 1e-9)[:, None]  # .1 · 30 is a little above 3


def _queries(dataset: Dataset) -> list[str] | None:
    return [" ".join(words) for words in dataset["query"]] if "query" in dataset.column_names else None


@torch.no_grad()
def _classify_plainly(
    model: PreTrainedModel,
    texts: list[str],
    queries: list[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    max_length: int | None,
) -> np.ndarray:
    if model.config.num_labels < 2:
        raise ValueError("The model has one label, whose probability is always 1: nothing can be seen from it.")
    limit = max_length or count_positions(model.base_model)
    options = {"max_length": limit, "padding": True, "return_tensors": "pt"}
    order = np.argsort([len(text) for text in texts], kind="stable")[::-1]
    probabilities = np.zeros((len(texts), model.config.num_labels))
    with at_rest(model):
        for start in trange(0, len(order), batch_size, desc="classifying", leave=False):
            rows = order[start : start + batch_size]
            read = [texts[row] for row in rows]
            if queries is None:
                inputs = tokenizer(read, truncation=limit is not None, **options)
            else:
                truncation = "only_second" if limit is not None else False
                inputs = tokenizer([queries[row] for row in rows], read, truncation=truncation, **options)
            if not inputs["input_ids"].shape[1]:  # nothing is left of these texts, not even a special token
                probabilities[rows] = 1 / model.config.num_labels
                continue
            logits = model(**inputs.to(model.device)).logits
            probabilities[rows] = logits.double().softmax(-1).cpu().numpy()
    return probabilities
