"""A plain classifier of transformers, as explainers ask it: about lists of words."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..faithfulness import classify_texts
from ..text.encoders import count_positions


class Encoded(NamedTuple):
    """One text as the model reads it."""

    inputs: dict[str, torch.Tensor]  # (1, tokens) each
    words: np.ndarray  # (tokens,): the word that a token belongs to; -1 for special tokens and the query


class Classifier:
    r"""
    Args:
        model: a sequence classifier of transformers.
        tokenizer: its tokenizer, with offsets (a fast one).
        batch_size: the number of changed texts that are read together.
        max_length: cut texts to this number of tokens. By default, they are cut at the model's positions.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 32,
        max_length: int | None = None,
    ):
        self.model, self.batch_size, self.max_length = model, batch_size, max_length
        self.tokenizer = copy.deepcopy(tokenizer)  # a call changes its settings for truncation and padding

    def probabilities(self, texts: Sequence[str], query: str | None = None) -> np.ndarray:
        """Of all labels, for each text: (texts, labels)."""
        queries = None if query is None else [query] * len(texts)
        return classify_texts(self.model, list(texts), queries, self.tokenizer, self.batch_size, self.max_length)

    def encode(self, words: Sequence[str], query: str | None = None) -> Encoded:
        text, starts = " ".join(words), word_starts(words)
        limit = self.max_length or count_positions(self.model.base_model)
        options = {"max_length": limit, "return_offsets_mapping": True, "return_tensors": "pt"}
        if query is None:
            encoded = self.tokenizer(text, truncation=limit is not None, **options)
        else:
            encoded = self.tokenizer(query, text, truncation="only_second" if limit else False, **options)
        offsets, sequence = encoded.pop("offset_mapping")[0].numpy(), 0 if query is None else 1
        own = np.array([number == sequence for number in encoded.sequence_ids(0)])
        # The start of a byte-level token may be the blank before the word.
        numbers = np.searchsorted(starts, np.maximum(offsets[:, 1] - 1, 0), side="right") - 1
        return Encoded(dict(encoded.to(self.model.device)), np.where(own, numbers, -1))

    def truncates(self, words: Sequence[str], query: str | None = None) -> bool:
        """Whether the end of a text is cut off."""
        last = max((place for place, word in enumerate(words) if word.strip()), default=-1)
        return last >= 0 and last not in self.encode(words, query).words

    def logits(self, input_ids: torch.Tensor, *others: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """(batch, labels) of the inputs `input_ids` and those with the given `names`, (batch, tokens) each."""
        return self.model(input_ids=input_ids, **dict(zip(names, others, strict=True))).logits

    @cached_property
    def with_attentions(self) -> PreTrainedModel:
        """A copy of the model that returns its attention weights."""
        model = copy.deepcopy(self.model)
        model.set_attn_implementation("eager")
        return model


class Placeholders:
    """A text of placeholders, one for each word, for packages that split a text by themselves: a word may contain
    blanks, or be empty."""

    def __init__(self, words: Sequence[str]):
        self.words = {f"w{place}": word for place, word in enumerate(words)}
        self.text = " ".join(self.words)

    def texts(self, changed: Sequence[str]) -> list[str]:
        """Changed texts of placeholders, with the words again. What stands for a missing word may touch the next."""
        pieces = (re.sub(r"(w\d+)", r" \1 ", str(text)).split() for text in changed)
        return [" ".join(self.words.get(piece, piece) for piece in text) for text in pieces]


def word_starts(words: Sequence[str]) -> np.ndarray:
    """Where each word begins in the words joined by blanks: (words,)."""
    lengths = [len(word) + 1 for word in words]
    return np.cumsum([0, *lengths])[:-1]


def by_word(values: np.ndarray, encoded: Encoded, count: int) -> np.ndarray:
    """The sums (words,) of the `values` (tokens,) of each of `count` words; 0 for words that were cut off."""
    scores = np.zeros(count)
    np.add.at(scores, encoded.words[encoded.words >= 0], values[encoded.words >= 0])
    return scores
