"""Explainers of finished classifiers, by the same levels, budgets, measures and pages as rationale models.

They need the extra `posthoc` (captum, lime, shap). A function that is registered in `EXPLAINERS` can be named
everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..faithfulness import classify
from ..reading import evaluation_mode
from ..visualization.spans import spans_of_words
from ..yardsticks import Yardstick, check_one_budget, dataset_units
from .attention import attention
from .classifier import Classifier, word_starts
from .gradients import gradient_x_input, integrated_gradients, occlusion
from .lime import lime
from .shap import shap


# (classifier, words, query, label) -> how much each word speaks for the label (words,).
Explainer = Callable[[Classifier, Sequence[str], str | None, int], np.ndarray]
EXPLAINERS: dict[str, Explainer] = {
    function.__name__: function
    for function in (gradient_x_input, integrated_gradients, occlusion, attention, lime, shap)
}


def word_scores(
    model: PreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    explainer: str,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> list[np.ndarray]:
    r"""
    How much each word speaks for the predicted label, by an explainer.

    Args:
        model: any sequence classifier of transformers.
        dataset: texts with the column `tokens`, and `query` for pairs.
        tokenizer: the model's tokenizer.
        explainer (`str`): a name in `EXPLAINERS`.
        batch_size: the number of changed texts that are read together.
        max_length: cut texts to this number of tokens. By default, they are cut at the model's positions. The words
            that are cut off have the score 0.

    Returns:
        an array (words,) for each text.

    Raises:
        ImportError: if the explainer's package is missing.
        ValueError: if there is no such explainer, or if the dataset has no column `tokens`.
    """
    if explainer not in EXPLAINERS:
        raise ValueError(f"There is no explainer {explainer!r}. The explainers are {', '.join(EXPLAINERS)}.")
    labels = classify(model, dataset, tokenizer, batch_size=batch_size, max_length=max_length).argmax(1)
    classifier, explain = Classifier(model, tokenizer, batch_size, max_length), EXPLAINERS[explainer]
    rows = zip(dataset["tokens"], joined_queries(dataset), labels.tolist(), strict=True)
    with evaluation_mode(model):
        return [explain(classifier, *row) for row in tqdm(rows, total=len(labels), desc=explainer)]


def joined_queries(dataset: Dataset) -> list[str | None]:
    """The query of every text, if there are queries."""
    if "query" not in dataset.column_names:
        return [None] * len(dataset)
    return [" ".join(query) for query in dataset["query"]]


def select_words(
    dataset: Dataset,
    scores: Sequence[np.ndarray],
    *,
    level: str = "word",
    sparsity: float | None = None,
    top_k: int | None = None,
) -> list[np.ndarray]:
    r"""
    The units with the highest mean scores of their words, up to a share of the words of each text, or a number of
    units, as rationale models select.

    Args:
        dataset: texts with the column `tokens`.
        scores: an array (words,) for each text, such as those of [`word_scores`].
        level: `"word"`, `"clause"` or `"sentence"`.
        sparsity, top_k: the share, or the number of units.

    Returns:
        a mask (words,) of 0 and 1 for each text.
    """
    check_one_budget(sparsity, top_k)
    return Yardstick(list(scores), averaged).select(dataset["tokens"], dataset_units(dataset, level), sparsity, top_k)


def averaged(scores: np.ndarray, words: Sequence[str]) -> float:
    """The mean score."""
    return scores.mean()


def results(
    model: PreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    scores: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> list[dict[str, Any]]:
    """What the pipeline would return for each text (its words joined by blanks), for pages and metrics: the label of
    the full text, its probability, and the selected spans with the means of their scores. Scores are divided by the
    largest of the text, and what speaks against the label has 0. The other arguments are those of [`word_scores`]."""
    probabilities = classify(model, dataset, tokenizer, batch_size=batch_size, max_length=max_length)
    classifier = Classifier(model, tokenizer, batch_size, max_length)
    found = []
    rows = zip(dataset["tokens"], joined_queries(dataset), scores, masks, probabilities, strict=True)
    for words, query, own, mask, chances in rows:
        text, starts = " ".join(words), word_starts(words)
        shown = (own / max(np.abs(own).max(), 1e-12)).clip(0, 1)
        spans = [
            {
                "start": start,
                "end": end,
                "text": text[start:end],
                "score": float(shown[(starts >= start) & (starts < end)].mean()),
            }
            for start, end in spans_of_words(words, mask)
        ]
        label = int(chances.argmax())
        found.append(
            {
                "label": model.config.id2label[label],
                "score": float(chances[label]),
                "rationale": spans,
                "sparsity": float(np.mean(mask)),
                "truncated": classifier.truncates(words, query),
            }
        )
    return found
