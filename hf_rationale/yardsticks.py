"""Yardsticks: simple selectors, beside which the rationales of a model should be read.

They need no training but that of a linear model: words at random, the first and the last words, the words of the
linear model, the words that a text shares with its query, keywords, and similarity to keywords or to the query. A
model that selects worse than these at the same share has learned little about where the rationale is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset

from .metrics import rationale_scores
from .modeling.selection import budget_mask, grouped_units
from .text.relevance import bare, cosines, query_weights, standardized
from .text.segmentation import LEVELS, SEGMENTERS, units_of_words


REGULARIZATION = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # C of the linear model, chosen on the validation set

# Texts -> their vectors (texts, width), such as `encode` of sentence-transformers, or [`sentence_encoder`].
Encode = Callable[[list[str]], np.ndarray]
# (scores of the words of a unit, the words) -> the score of the unit.
Joined = Callable[[np.ndarray, Sequence[str]], float]


class Yardstick(NamedTuple):
    """A selector: it takes the units with the highest scores, until the share or their number is reached."""

    scores: list[np.ndarray]  # (words,) each: how much a word of a text speaks for being selected
    join: Joined  # the score of a unit, of the scores of its words

    def select(
        self,
        texts: Sequence[Sequence[str]],
        units: Sequence[Sequence[int]],
        sparsity: float | None = None,
        top_k: int | None = None,
    ) -> list[np.ndarray]:
        """The mask (words,) of every text, of their bare words."""
        return [
            select(words, scores, numbers, self.join, sparsity, top_k)
            for words, scores, numbers in zip(texts, self.scores, units, strict=True)
        ]

    def unit_scores(self, texts: Sequence[Sequence[str]], units: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """The scores (units,) of every text, of their bare words."""
        return [
            joined_scores(words, scores, numbers, self.join)
            for words, scores, numbers in zip(texts, self.scores, units, strict=True)
        ]


def largest(scores: np.ndarray, words: Sequence[str]) -> float:
    """The largest score."""
    return scores.max()


def summed(scores: np.ndarray, words: Sequence[str]) -> float:
    """The sum over the square root of the number of words, so that long units are neither favored nor ruled out."""
    return scores.sum() / math.sqrt(len(scores))


def summed_once(scores: np.ndarray, words: Sequence[str]) -> float:
    """The sum, in which a word that is repeated counts once."""
    return sum(dict(zip(words, scores, strict=True)).values())


def yardsticks(
    dataset: Dataset,
    sparsity: float | None = None,
    *,
    top_k: int | None = None,
    train_dataset: Dataset | None = None,
    validation_dataset: Dataset | None = None,
    keywords: Iterable[str] = (),
    encode: Encode | None = None,
    levels: Sequence[str] = LEVELS[1:],  # words, clauses and sentences
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    r"""
    Score the yardsticks on the texts of `dataset` that people marked.

    Args:
        dataset: a split of [`load_rationale_dataset`], or a dataset with the columns `tokens` and `rationale` and
            optionally `label`, `query` and `sentence_ids`.
        sparsity (`float`, *optional*): the share of the words of each text to select. A unit is taken if at least half
            of it fits; at least one unit is taken.
        top_k (`int`, *optional*): the number of units of each text to select, in place of a share. A name then ends
            with this number (`"overlap_sentence_2"`).
        train_dataset (*optional*): texts with labels, on which the linear model is trained. Without them there is
            none.
        validation_dataset (*optional*): texts with labels, on which its C is chosen. Without them, C is 1.
        keywords (*optional*): words near which the rationale is expected.
        encode (*optional*): a function from texts to vectors. With it there is also a yardstick `similarity`: the
            clauses or sentences with the largest cosine to the query, or else to the text of the keywords. With
            queries there is also `hybrid`, the sum of the overlap and of this cosine, both standardized.
        levels (*optional*): the units to select.
        seed (*optional*): of the random selection.

    Returns:
        for every yardstick and level (`"first_word"`, `"linear_sentence"`, …) a dict of `f1`, `precision`, `recall`,
        `sparsity` and `gold_sparsity` (micro averages over words), `iou_f1` (of spans at half overlap, mean over
        texts) and, for the linear model, `accuracy` (if there are labels).

    Raises:
        ValueError: if nobody marked a text, if a column is missing, or if not exactly one of `sparsity` and `top_k` is
            given.
    """
    check_one_budget(sparsity, top_k)
    if missing := {"tokens", "rationale"} - set(dataset.column_names):
        raise ValueError(
            f"The yardsticks need the columns {sorted(missing)}, but the dataset has {dataset.column_names}"
        )
    dataset = dataset.filter(lambda marks: marks is not None, input_columns="rationale")
    if not len(dataset):
        raise ValueError("Nobody marked a rationale in this dataset.")
    keywords, texts, rationales = list(keywords), bare_texts(dataset), list(dataset["rationale"])
    found, accuracy = _find(dataset, texts, train_dataset, validation_dataset, keywords, seed)
    results: dict[str, dict[str, float]] = {}
    for level in levels:
        units, suffix = dataset_units(dataset, level), level if top_k is None else f"{level}_{top_k}"
        similar = _find_similar(dataset, texts, units, level, keywords, encode, found)
        for name, yardstick in (found | similar).items():
            results[f"{name}_{suffix}"] = _scores(yardstick.select(texts, units, sparsity, top_k), rationales)
            if name == "linear" and accuracy is not None:
                results[f"{name}_{suffix}"]["accuracy"] = accuracy
    return results


def weak_marks(
    dataset: Dataset,
    yardstick: str,
    sparsity: float | None = None,
    *,
    top_k: int | None = None,
    validation_dataset: Dataset | None = None,
    keywords: Iterable[str] = (),
    encode: Encode | None = None,
) -> Dataset:
    r"""
    A training set in which a yardstick has marked the rationales, for training with `marks_weight`: the extractor then
    starts from what is known of the place of the rationale.

    Args:
        dataset: texts with the column `tokens`; `label` for the linear model, and `query` for the overlap.
        yardstick (`str`): a name and a level, such as `"first_clause"` or `"overlap_sentence"`.
        sparsity, top_k (*optional*): the share of the words of each text to mark, or the number of units, as of
            [`yardsticks`].
        validation_dataset (*optional*): as of [`yardsticks`].
        keywords, encode (*optional*): as of [`yardsticks`].

    Returns:
        the dataset with a new column `rationale`.

    Raises:
        ValueError: if there is no such yardstick for this dataset, or if not exactly one of `sparsity` and `top_k` is
            given.
    """
    check_one_budget(sparsity, top_k)
    name, _, level = yardstick.rpartition("_")
    keywords, texts, labelled = list(keywords), bare_texts(dataset), dataset if name == "linear" else None
    found, _ = _find(dataset, texts, labelled, validation_dataset, keywords, seed=0)
    units = dataset_units(dataset, level) if level in LEVELS[1:] else []
    if name in ("similarity", "hybrid"):
        found |= _find_similar(dataset, texts, units, level, keywords, encode, found)
    if name not in found or not units:
        raise ValueError(
            f"There is no yardstick {yardstick!r} for this dataset. There are {', '.join(found)}, each followed by "
            f"{' or '.join(f'_{level}' for level in LEVELS[1:])}."
        )
    return marked_by(dataset, found[name].select(texts, units, sparsity, top_k))


def marked_by(dataset: Dataset, masks: Sequence[np.ndarray]) -> Dataset:
    """The dataset with the masks (words,) of the texts as its column `rationale`."""
    columns = [column for column in dataset.column_names if column != "rationale"]
    return dataset.select_columns(columns).add_column("rationale", [mask.tolist() for mask in masks])


def check_one_budget(sparsity: float | None, top_k: int | None):
    """Raises `ValueError` if not exactly one of a share and a number of units is given."""
    if (sparsity is None) == (top_k is None):
        raise ValueError(f"Exactly one of sparsity and top_k must be given, but they are {sparsity} and {top_k}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, but is {top_k}")


def bare_texts(dataset: Dataset) -> list[list[str]]:
    """The bare words of every text."""
    return [[bare(word) for word in words] for words in dataset["tokens"]]


def _find(
    dataset: Dataset,
    texts: list[list[str]],
    train: Dataset | None,
    validation: Dataset | None,
    keywords: Iterable[str],
    seed: int,
) -> tuple[dict[str, Yardstick], float | None]:
    """The yardsticks for the texts of a dataset, and the accuracy of the linear model. `texts` are the bare words."""
    accuracy = None
    found = position_yardsticks(texts, seed)
    if train is not None:
        model = LinearModel(train, validation)
        predicted, scores = model.explain(dataset["tokens"])
        found["linear"] = Yardstick(scores, summed)
        if "label" in dataset.column_names:
            accuracy = float((predicted == np.array(dataset["label"])).mean())
    if "query" in dataset.column_names:
        scores = overlap_scores(texts, dataset["query"], dataset_units(dataset, "sentence"))
        found["overlap"] = Yardstick(scores, summed_once)
    if keywords := {bare(word) for word in keywords}:
        found["keywords"] = Yardstick([nearness(words, keywords) for words in texts], largest)
    return found, accuracy


def _find_similar(
    dataset: Dataset,
    texts: list[list[str]],
    units: Sequence[Sequence[int]],
    level: str,
    keywords: list[str],
    encode: Encode | None,
    found: dict[str, Yardstick],
) -> dict[str, Yardstick]:
    """The yardsticks `similarity` and `hybrid` at a level of whole phrases, if there are queries or keywords and a way
    to encode them. The overlap is one of those that were `found`."""
    has_queries = "query" in dataset.column_names
    if not (keywords or has_queries) or encode is None or level not in SEGMENTERS:
        return {}
    descriptions = (
        [" ".join(words) for words in dataset["query"]] if has_queries else [" ".join(keywords)] * len(units)
    )
    scores = similarities(dataset["tokens"], units, descriptions, encode)
    similar = {"similarity": Yardstick([of_words(*row) for row in zip(scores, units, strict=True)], largest)}
    if has_queries:
        shared = found["overlap"].unit_scores(texts, units)
        sums = [standardized(one) + standardized(other) for one, other in zip(shared, scores, strict=True)]
        similar["hybrid"] = Yardstick([of_words(*row) for row in zip(sums, units, strict=True)], largest)
    return similar


def dataset_units(dataset: Dataset, level: str) -> list[Sequence[int]]:
    """The number of the unit of every word of every text."""
    known = dataset["sentence_ids"] if "sentence_ids" in dataset.column_names else [None] * len(dataset)
    return [units_of_words(words, level, ids) for words, ids in zip(dataset["tokens"], known, strict=True)]


def select(
    words: Sequence[str],
    scores: np.ndarray,
    units: Sequence[int],
    join: Joined,
    sparsity: float | None = None,
    top_k: int | None = None,
) -> np.ndarray:
    """The mask (words,) of the units with the highest scores: `top_k` of them, or up to the share `sparsity` of the
    words. `units` has the number of the unit of every word."""
    units = np.asarray(units)
    joined = of_words(joined_scores(words, scores, units, join), units)
    everything = torch.ones(1, len(units), dtype=torch.bool)
    grouped = grouped_units(torch.from_numpy(units)[None], everything, everything)
    return budget_mask(torch.from_numpy(joined)[None], grouped, sparsity, top_k)[0].long().numpy()


def joined_scores(words: Sequence[str], scores: np.ndarray, units: Sequence[int], join: Joined) -> np.ndarray:
    """The score of every unit of a text, of the scores of its words. `units` has the number of the unit of every
    word."""
    bounds = _bounds(units)
    return np.array([join(scores[start:end], words[start:end]) for start, end in pairwise(bounds)], dtype=float)


def of_words(scores: np.ndarray, units: Sequence[int]) -> np.ndarray:
    """For every word the score of its unit."""
    return np.repeat(scores, np.diff(_bounds(units)))


def _bounds(units: Sequence[int]) -> np.ndarray:
    """Where the units of a text start, and where the last one ends."""
    units = np.asarray(units)
    return np.r_[np.flatnonzero(np.r_[True, units[1:] != units[:-1]]), len(units)]


def yardsticks_table(results: dict[str, dict[str, float]]) -> str:
    """The scores as a table in Markdown, the best first."""
    measured = next(iter(results.values()))
    columns = [name for name in ("f1", "precision", "recall", "sparsity", "iou_f1", "iou") if name in measured]
    lines = [f"| yardstick | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
    for name in sorted(results, key=lambda name: -results[name]["f1"]):
        lines.append(f"| {name} | {' | '.join(f'{results[name][column]:.3f}' for column in columns)} |")
    return "\n".join(lines)


def best_yardstick(results: dict[str, dict[str, float]]) -> str:
    """The name of the yardstick with the highest F1."""
    return max(results, key=lambda name: results[name]["f1"])


# --- The selectors ---------------------------------------------------------------------------------------------------


def position_yardsticks(texts: Sequence[Sequence[str]], seed: int) -> dict[str, Yardstick]:
    """Selectors that do not look at the words."""
    rng = np.random.default_rng(seed)
    return {
        "random": Yardstick([rng.random(len(words)) for words in texts], lambda scores, words: scores[0]),
        "first": Yardstick([-np.arange(len(words), dtype=float) for words in texts], largest),
        "last": Yardstick([np.arange(len(words), dtype=float) for words in texts], largest),
    }


class LinearModel:
    r"""
    Logistic regression over TF-IDF of single words.

    Args:
        train: texts with the columns `tokens` and `label`.
        validation (*optional*): the same, to choose the regularization by accuracy.
    """

    def __init__(self, train: Dataset, validation: Dataset | None = None):
        for dataset in filter(None, (train, validation)):
            if missing := {"tokens", "label"} - set(dataset.column_names):
                raise ValueError(f"The linear model needs the columns {sorted(missing)}: {dataset.column_names}")
        # Here, because importing scikit-learn would take half of the time of importing this package.
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self.vectorizer = TfidfVectorizer(
            analyzer=lambda words: [word.lower() for word in words], sublinear_tf=True, min_df=min(3, len(train))
        )
        features, labels = self.vectorizer.fit_transform(train["tokens"]), np.array(train["label"])
        candidates = (1.0,) if validation is None else REGULARIZATION
        fitted = [LogisticRegression(C=C, max_iter=1000).fit(features, labels) for C in candidates]
        if validation is not None:
            held_out, right = self.vectorizer.transform(validation["tokens"]), np.array(validation["label"])
            fitted.sort(key=lambda model: model.score(held_out, right), reverse=True)
        self.model = fitted[0]

    def explain(self, texts: Sequence[Sequence[str]]) -> tuple[np.ndarray, list[np.ndarray]]:
        """The predicted labels (texts,), and for every word its coefficient for this label, times its inverse document
        frequency."""
        predicted = self.model.predict(self.vectorizer.transform(texts))
        rows = {label: row for row, label in enumerate(self.model.classes_)}
        coefficients = self.model.coef_
        if len(coefficients) == 1:  # of two classes there is one row, for the second
            coefficients = np.concatenate([-coefficients, coefficients])
        weights = np.concatenate([coefficients * self.vectorizer.idf_, np.zeros((len(coefficients), 1))], axis=1)
        vocabulary = self.vectorizer.vocabulary_
        columns = [[vocabulary.get(word.lower(), -1) for word in words] for words in texts]
        return predicted, [weights[rows[label]][places] for label, places in zip(predicted, columns, strict=True)]


def overlap_scores(
    texts: Sequence[Sequence[str]], queries: Sequence[Sequence[str]], sentences: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """For every bare word of a text its weight of [`query_weights`] if its query has it, and 0 if not. `sentences` has
    the number of the sentence of every word."""
    scores = []
    for words, query, numbers in zip(texts, queries, sentences, strict=True):
        weights = query_weights([words[start:end] for start, end in pairwise(_bounds(numbers))], query)
        scores.append(np.array([weights.get(word, 0.0) for word in words]))
    return scores


def nearness(words: Sequence[str], keywords: set[str]) -> np.ndarray:
    """Minus the distance of every word to the nearest keyword."""
    places = np.flatnonzero([word in keywords for word in words])
    if not len(places):
        return np.full(len(words), -float(len(words)))
    return -np.abs(np.arange(len(words))[:, None] - places).min(1).astype(float)


def similarities(
    texts: Sequence[Sequence[str]], units: Sequence[Sequence[int]], descriptions: Sequence[str], encode: Encode
) -> list[np.ndarray]:
    """For every unit of a text the cosine of it and of the text's description."""
    phrases = [
        [" ".join(words[start:end]) for start, end in pairwise(_bounds(numbers))]
        for words, numbers in zip(texts, units, strict=True)
    ]
    places = {text: place for place, text in enumerate(dict.fromkeys([*descriptions, *chain.from_iterable(phrases)]))}
    vectors = np.asarray(encode(list(places)))
    return [
        cosines(vectors[[places[phrase] for phrase in row]], vectors[places[description]])
        for row, description in zip(phrases, descriptions, strict=True)
    ]


def _scores(masks: Sequence[np.ndarray], rationales: Any) -> dict[str, float]:
    scores = rationale_scores(masks, list(rationales))
    return {
        **{name: scores["token_micro"][name] for name in ("f1", "precision", "recall")},
        "sparsity": scores["sparsity"],
        "gold_sparsity": scores["gold_sparsity"],
        "iou_f1": scores["iou_macro"]["f1"],
    }
