"""Rationalization failure: correct predictions from meaningless words (PLMR, assumption 1, table 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from ..modeling.base import RationalePreTrainedModel
from ..reading import NotMeasurableError, encode_labelled, read_rationales
from .figures import bars, panels


# The classes of English words that the paper counts as meaningless: articles, prepositions, pronouns, conjunctions.
_FUNCTION_WORDS = """
    a an the
    about above across after against along amid among around as at before behind below beneath beside besides between
    beyond by concerning despite down during except for from in inside into like near of off on onto out outside over
    past per regarding round since through throughout till to toward towards under underneath until unto up upon via
    with within without
    i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself we us
    our ours ourselves they them their theirs themselves this that these those who whom whose which what whoever
    whichever whatever somebody someone something anybody anyone anything everybody everyone everything nobody none
    nothing one ones each other another both either neither
    and but or nor so yet because although though unless while whereas when once
    whether if than
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def is_meaningless(word: str) -> bool:
    """Whether `word` is punctuation, or one of `FUNCTION_WORDS` if the punctuation around it is removed."""
    core = re.sub(r"^[\W_]+|[\W_]+$", "", word.lower())
    return not core or core in FUNCTION_WORDS


@dataclass(frozen=True)
class FailureRate:
    r"""
    Args:
        rates (`dict[str, float]`): the share of the texts that fail, for each `θ1=…, θ2=…`.
        meaningless_share (`float`): the share of meaningless words among all words that the model selects.
        texts (`int`): the number of texts in which people marked a rationale.
    """

    rates: dict[str, float]
    meaningless_share: float
    texts: int

    def figure(self) -> Figure:
        """PLMR's table 2, for one model."""
        figure, (axes,) = panels(1)
        bars(axes, [name.replace(", ", "\n") for name in self.rates], {"": list(self.rates.values())}, "failure rate")
        axes.tick_params(axis="x", labelsize=7)
        return figure


def failure_rate(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_precision: Sequence[float] = (0.2, 0.3),
    min_meaningless: Sequence[float] = (0.3, 0.4, 0.5),
    batch_size: int = 32,
    max_length: int | None = None,
) -> FailureRate:
    r"""
    The share of the texts that the model classifies correctly, although at most the share θ1 of the selected words is
    gold, and at least the share θ2 is punctuation, prepositions, pronouns, articles or conjunctions. A text in which
    nothing is selected does not fail.

    Args:
        model: a rationale model. It is not changed.
        dataset: labelled English texts, as lists of words (`tokens`), with marked rationales.
        tokenizer: the model's tokenizer.
        max_precision: the values of θ1.
        min_meaningless: the values of θ2.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        NotMeasurableError: (a `ValueError`) if there are no words, no labels or no marked rationales.
    """
    if "tokens" not in dataset.column_names:
        raise NotMeasurableError(f"Function words need a column 'tokens', and the dataset has {dataset.column_names}.")
    encoded = encode_labelled(dataset, tokenizer, model, max_length, marked=True)
    rationales = read_rationales(model, encoded, tokenizer, batch_size=batch_size)
    correct = rationales.probabilities.argmax(-1) == rationales.labels
    shares, selected, meaningless = [], 0, 0
    for words, mask, gold, right in zip(dataset["tokens"], rationales.masks, rationales.gold, correct, strict=True):
        if gold is None:
            continue
        chosen = np.flatnonzero(mask)
        empty = sum(is_meaningless(words[i]) for i in chosen)
        selected, meaningless = selected + len(chosen), meaningless + empty
        # If nothing is selected there are no shares, and comparisons with NaN are false.
        shares.append((gold[chosen].mean(), empty / len(chosen)) if right and len(chosen) else (np.nan, np.nan))
    precision, empty = np.array(shares).T
    return FailureRate(
        rates={
            f"θ1={most}, θ2={least}": float(((precision <= most) & (empty >= least)).mean())
            for most in max_precision
            for least in min_meaningless
        },
        meaningless_share=meaningless / max(selected, 1),
        texts=len(shares),
    )
