"""Tokenizing datasets: the columns that the models read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..modeling.outputs import UNMARKED
from .segmentation import LEVELS, SEGMENTERS, Segmenter, segments_of_words, units_of_words


logger = logging.get_logger(__name__)


class TextEncoder:
    r"""
    Tokenizes texts, or pairs of a query and a text, with a copy of a tokenizer. A call of the tokenizer itself would
    change its settings for truncation, and so could not run in several threads.

    Args:
        tokenizer: a fast tokenizer. It is not changed.
        max_length (*optional*): cut texts to this number of tokens (of a pair, the second segment).
        pairs: whether it is given pairs.

    Raises:
        ValueError: if the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None, pairs: bool = False):
        if not tokenizer.is_fast:
            raise ValueError(
                "Words and characters are mapped to tokens by a fast tokenizer, and this one is slow. Load it with "
                "use_fast=True."
            )
        self.segments = ["token_type_ids"] if "token_type_ids" in tokenizer.model_input_names else []
        self.max_length = max_length
        self.backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self.backend.no_padding()
        self.backend.no_truncation()
        if max_length is not None:
            self.backend.enable_truncation(
                max_length, strategy="only_second" if pairs else "longest_first", direction=tokenizer.truncation_side
            )

    def __call__(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[Encoding]:
        """Raises `ValueError` if a query leaves no room for its text."""
        no_room = ValueError(f"A query leaves no room for the text within {self.max_length} tokens. Shorten it.")
        try:
            encodings = self.backend.encode_batch(list(texts if queries is None else zip(queries, texts, strict=True)))
        except Exception as error:  # tokenizers has no exception of its own for this
            if "too short to respect" not in str(error):
                raise
            raise no_room from None
        if queries is not None and any(one.overflowing and 1 not in one.sequence_ids for one in encodings):
            raise no_room
        return encodings

    def model_inputs(self, encoding: Encoding) -> dict[str, list[int]]:
        """The inputs of the model that every tokenizer of transformers gives."""
        inputs = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
        return inputs | dict.fromkeys(self.segments, encoding.type_ids)


class TokenReader:
    r"""
    Reads single texts for the pipeline: every token is a position.

    Args:
        tokenizer: a fast tokenizer. It is not changed.
        unit_level: gives the level of the units that the model needs for the one that is asked for.
    """

    joins = True  # neighbouring tokens make one span

    def __init__(self, tokenizer: PreTrainedTokenizerBase, unit_level: Callable[[str | None], str | None]):
        self.unit_level, self.encoder = unit_level, TextEncoder(tokenizer)

    def __call__(
        self, text: str, query: str | None = None, level: str | None = None, segment: Segmenter | None = None
    ) -> dict[str, Any]:
        """The model's inputs, and of every position: `offsets`, its characters, and `content`, whether it has any."""
        encoding = self.encoder([text], None if query is None else [query])[0]
        word_ids = _word_ids(encoding, int(query is not None))
        inputs = self.encoder.model_inputs(encoding) | {"word_ids": word_ids}
        level = self.unit_level(level)
        if level is not None or segment is not None:
            inputs["unit_ids"] = unit_ids(encoding, word_ids, text, level, segment)
        inputs |= {"offsets": encoding.offsets, "content": [int(word >= 0) for word in word_ids]}
        return {name: torch.tensor([values]) for name, values in inputs.items()}

    def cut(self, text: str, max_length: int, query: str | None = None) -> str:
        """The beginning of the text that has, with its query and special tokens, at most `max_length` tokens. Raises
        `ValueError` if there is no room for any."""
        encoding = self.encoder([text], None if query is None else [query])[0]
        places = [place for place, of in enumerate(encoding.sequence_ids) if of == int(query is not None)]
        room = max_length - (len(encoding.ids) - len(places))
        if room < 1:
            raise ValueError(f"max_length={max_length} leaves no room for the text. Raise it.")
        return text if room >= len(places) else text[: encoding.offsets[places[room - 1]][1]]


def encode_rationale_dataset(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    columns: tuple[str, ...] = (),
    level: str | None = None,
    segment: Segmenter | None = None,
) -> Dataset:
    r"""
    Tokenize a dataset with the columns of [`load_rationale_dataset`], or a dataset of your own.

    Args:
        dataset: a dataset with a column `tokens` (lists of words) or `text` (strings). Optional columns are `label`
            (or `labels`), `rationale` (0 or 1 for every word, for `text` the tokenizer's words; None if nobody marked
            the text), `sentence_ids` (for `tokens`: the number of each word's sentence, if it is known), and `query`
            of the same type as the text: a first segment that is always read and never selected.
        tokenizer: a fast tokenizer. It is not changed.
        max_length: cut texts to this number of tokens. Of a pair, the second segment is cut. A warning says how many
            were cut. Words that are cut off cannot be selected, and marked words among them count as missed.
        columns: further columns to keep, which a method's objective reads.
        level (*optional*): the units that are selected as a whole, one of `"token"`, `"word"`, `"clause"` and
            `"sentence"`. By default there is no column `unit_ids`, and the model selects tokens or words.
        segment (*optional*): a function that finds the units of a text: the `[start, end)` spans of its characters, in
            order. It replaces the segmentation of `level`. For `tokens`, it is given the words joined by blanks.

    Returns:
        the dataset with the columns `input_ids`, `attention_mask`, `token_type_ids` (if the tokenizer has them),
        `word_ids` (the index of a token's word, -1 for special tokens and the first segment), `unit_ids` (likewise the
        index of its unit, if `level` or `segment` is given), `length` (in tokens), `labels`, `rationale` (an entry for
        every word of the whole text, -1 if nobody marked it), and `columns`.

    Raises:
        ValueError: with the number of the row, if a text is blank, if a rationale is not 0 or 1 for every word, or if
            a query leaves no room for the text.
    """
    names = dataset.column_names
    source = "tokens" if "tokens" in names else "text"
    if source not in names:
        raise ValueError(f"A dataset needs a column 'tokens' or 'text', but this one has {names}")
    if missing := sorted(set(columns) - set(names)):
        raise ValueError(f"The method needs the columns {missing}, but the dataset has only {names}")
    if not len(dataset):
        raise ValueError("The dataset is empty.")
    dataset = dataset.with_format(None)  # as Python's own types
    if level not in (None, *LEVELS):
        raise ValueError(f"The level must be one of {LEVELS}, but is {level!r}")
    label_column = next((name for name in ("label", "labels") if name in names), None)
    pairs = "query" in names
    encoder = TextEncoder(tokenizer, max_length, pairs)

    def encode(batch: dict[str, list], rows: list[int]) -> dict[str, list]:
        texts = batch[source]
        known = batch.get("sentence_ids") or [None] * len(rows)
        for row, text, sentence_ids in zip(rows, texts, known, strict=True):
            check_text(row, source, text, sentence_ids)
        for row, query in zip(rows, batch.get("query", ()), strict=False):
            check_text(row, source, query, column="query")
        segments = [texts, batch["query"]] if pairs else [texts]  # the query is the first segment of the encoding
        if source == "tokens":
            # As running text, as in the pipeline: word by word, a byte-level tokenizer would not see the blanks.
            segments = [[" ".join(words) for words in segment] for segment in segments]
        try:
            encodings = encoder(*segments)
        except ValueError as error:
            raise ValueError(f"Rows {rows[0]} to {rows[-1]} of the dataset: {error}") from None
        inputs = [encoder.model_inputs(encoding) for encoding in encodings]
        encoded: dict[str, list[Any]] = {name: [one[name] for one in inputs] for name in inputs[0]}
        encoded["word_ids"] = [
            _word_ids(encoding, len(segments) - 1, text if source == "tokens" else None)
            for encoding, text in zip(encodings, texts, strict=True)
        ]
        if level is not None or segment is not None:
            encoded["unit_ids"] = [
                unit_ids(encoding, word_ids, text, level, segment, words, sentence_ids)
                for encoding, word_ids, text, words, sentence_ids in zip(
                    encodings,
                    encoded["word_ids"],
                    segments[0],
                    texts if source == "tokens" else [None] * len(rows),
                    known,
                    strict=True,
                )
            ]
        encoded["length"] = [len(encoding.ids) for encoding in encodings]
        encoded["truncated"] = [bool(encoding.overflowing) for encoding in encodings]
        if label_column is not None:
            encoded["labels"] = batch[label_column]
        if source == "tokens":
            counts = [len(text) for text in texts]
        else:
            counts = [  # of the whole text, including what was cut off
                1 + max(max(_word_ids(part, len(segments) - 1), default=-1) for part in (whole, *whole.overflowing))
                for whole in encodings
            ]
        encoded["rationale"] = [
            checked_rationale(row, rationale, count)
            for row, rationale, count in zip(rows, batch.get("rationale") or [None] * len(rows), counts, strict=True)
        ]
        return encoded | {name: batch[name] for name in columns}

    encoded = dataset.map(
        encode, batched=True, with_indices=True, remove_columns=names, desc="Tokenizing", load_from_cache_file=False
    )
    if cut := sum(encoded["truncated"]):
        logger.warning(
            f"{cut} of {len(encoded)} texts are longer than {max_length} tokens and were cut. Marked words that were "
            "cut off count as missed."
        )
    return encoded.remove_columns("truncated")


def _word_ids(encoding: Encoding, segment: int, words: list[str] | None = None) -> list[int]:
    """The word of every token: an index into `words`, which were joined by blanks, or the tokenizer's own words."""
    if words is None:
        ids = [-1 if word is None else word for word in encoding.word_ids]
    else:
        behind = np.cumsum([len(word) + 1 for word in words])
        # The last character decides, because some tokens begin with the blank before their word.
        ids = np.searchsorted(behind, [max(start, end - 1) for start, end in encoding.offsets], side="right").tolist()
    return [word if of == segment else -1 for word, of in zip(ids, encoding.sequence_ids, strict=True)]


def unit_ids(
    encoding: Encoding,
    word_ids: list[int],
    text: str,
    level: str | None,
    segment: Segmenter | None = None,
    words: list[str] | None = None,
    sentence_ids: list[int] | None = None,
) -> list[int]:
    r"""
    The unit of every token of a text, -1 for tokens that belong to no word. A unit consists of whole words.

    Args:
        encoding: the encoding of `text`, or of a pair with `text` as its last segment.
        word_ids: the word of every token.
        level, segment: as of [`encode_rationale_dataset`].
        words (*optional*): the words that `text` joins by blanks. By default the words are the tokenizer's.
        sentence_ids (*optional*): the number of the sentence of every word, if it is known.
    """
    if segment is None and level == "token":
        return [-1 if word < 0 else place for place, word in enumerate(word_ids)]
    if segment is None and level == "word":
        return word_ids
    if words is not None:
        units = units_of_words(words, level, sentence_ids, segment)
    else:
        of = max((one for one in encoding.sequence_ids if one is not None), default=0)
        last = [encoding.word_to_chars(word, of)[1] - 1 for word in range(max(word_ids, default=-1) + 1)]
        units = segments_of_words(last, (segment or SEGMENTERS[level])(text))
    return [-1 if word < 0 else units[word] for word in word_ids]


def check_text(row: int, source: str, text: Any, sentence_ids: Sequence[int] | None = None, column: str | None = None):
    """Raises `ValueError` if the text of a row is blank or of another type than `source` says ("tokens", a list of
    strings, or "text", a string), or if `sentence_ids` do not fit its words. `column` is its column, if not
    `source`."""
    column = column or source
    found = f"Row {row} of the dataset has the {column} {text!r:.80}"
    words = text if source == "tokens" else [text]
    if isinstance(text, str) and source == "tokens":
        raise ValueError(
            f"{found}, a string. A column of lists of words is named 'tokens', and one of strings 'text'. Rename it "
            "(dataset.rename_column), or split the strings into words."
        )
    if isinstance(text, list) and source == "text":
        raise ValueError(
            f"{found}, a list. A column of strings is named 'text', and one of lists of words 'tokens'. Rename it "
            "(dataset.rename_column), or join the words."
        )
    if text is None:
        raise ValueError(f"{found}. Remove the row.")
    for word in words:
        if not isinstance(word, str):
            raise ValueError(f"{found}, in which {word!r:.40} is not a string. Convert it with str().")
    if not any(word.strip() for word in words):
        raise ValueError(f"{found}, which is blank. Remove the row.")
    if sentence_ids is not None and len(sentence_ids) != len(words):
        raise ValueError(f"Row {row} of the dataset has {len(sentence_ids)} sentence_ids for {len(words)} words.")


def checked_rationale(row: int, rationale: list[int] | None, count: int) -> list[int]:
    """The marks of a row, -1 if nobody marked it. Raises `ValueError` if they are not 0 or 1 for `count` words."""
    if rationale is None:
        return [UNMARKED] * count
    if not isinstance(rationale, list):
        raise ValueError(f"Row {row} of the dataset has the rationale {rationale!r:.80}, which is not a list.")
    if len(rationale) != count or not set(rationale) <= {0, 1}:
        raise ValueError(
            f"Row {row} of the dataset has a rationale of {len(rationale)} entries for {count} words, or with entries "
            "other than 0 and 1."
        )
    return rationale
