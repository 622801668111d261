"""From words to token indices: the columns that the models read."""

from __future__ import annotations

import numpy as np
from datasets import Dataset
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging


logger = logging.get_logger(__name__)

UNMARKED = -1  # a word of a text in which nobody marked a rationale
NO_WORD = -100  # padding, as the Trainer pads


def encode_rationale_dataset(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> Dataset:
    r"""
    Tokenize a dataset of [`load_rationale_dataset`]'s schema, or of one's own.

    Args:
        dataset: with a column `tokens` (lists of words) or `text` (strings); and, where there are, `label` (or
            `labels`), `rationale` (0/1 for every word, of `text` the tokenizer's words; None where nobody marked one),
            and `query`, of the type of the first: a first segment, always read and never selected.
        tokenizer: a fast tokenizer.
        max_length: cut texts to so many tokens (of a pair, the second segment). A warning says how many were cut;
            what is cut off cannot be selected, and gold words in it count as missed.

    Returns:
        the dataset with the columns `input_ids`, `attention_mask`, `token_type_ids` (where the tokenizer has them),
        `word_ids` (the index of a token's word, -1 for special tokens and the first segment), `length` (in tokens),
        `labels` and `rationale` (one entry for every word of the whole text, -1 where nobody marked one).

    Raises:
        ValueError: naming the row, where a text is blank, a rationale is not 0/1 for every word, or a query leaves no
            place for the text.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            "Words are mapped to tokens by a fast tokenizer; this one is not. Load it with use_fast=True."
        )
    columns = dataset.column_names
    source = "tokens" if "tokens" in columns else "text"
    if source not in columns:
        raise ValueError(f"A dataset needs a column 'tokens' or 'text'; this one has {columns}")
    label_column = next((name for name in ("label", "labels") if name in columns), None)
    if not len(dataset):
        raise ValueError("The dataset is empty.")

    def encode(batch: dict[str, list], rows: list[int]) -> dict[str, list]:
        texts, queries = batch[source], batch.get("query")
        for row, text in zip(rows, texts, strict=True):
            words = [text] if isinstance(text, str) else text or []
            if not all(isinstance(word, str) for word in words):
                raise ValueError(f"Row {row} of the dataset: its words are not all strings.")
            if not any(word.strip() for word in words):
                raise ValueError(f"Row {row} of the dataset is blank; drop it.")
        segments = (texts,) if queries is None else (queries, texts)
        if source == "tokens":
            # Read as running text, as the pipeline will: word by word, a byte-level tokenizer would miss the blanks.
            segments = [[" ".join(words) for words in segment] for segment in segments]
        try:
            encoded = tokenizer(
                *segments,
                truncation=False if max_length is None else "longest_first" if queries is None else "only_second",
                max_length=max_length,
                return_overflowing_tokens=False,
            )
        except Exception as error:  # tokenizers has no type of its own for this
            if "too short to respect" not in str(error):
                raise
            raise ValueError(
                f"Rows {rows[0]} to {rows[-1]} of the dataset: a query leaves no place for the text within "
                f"{max_length} tokens. Raise max_length, or shorten the query."
            ) from None
        columns = dict(encoded)
        columns["word_ids"] = [
            _word_ids(encoding, len(segments) - 1, text if source == "tokens" else None)
            for encoding, text in zip(encoded.encodings, texts, strict=True)
        ]
        columns["length"] = [len(ids) for ids in columns["input_ids"]]
        columns["truncated"] = [bool(encoding.overflowing) for encoding in encoded.encodings]
        if label_column is not None:
            columns["labels"] = batch[label_column]
        if source == "tokens":
            counts = [len(text) for text in texts]
        else:
            counts = [  # of the whole text, also of what was cut off
                1 + max(max(_word_ids(part, len(segments) - 1), default=-1) for part in (whole, *whole.overflowing))
                for whole in encoded.encodings
            ]
        columns["rationale"] = [
            _checked_rationale(row, rationale, count)
            for row, rationale, count in zip(rows, batch.get("rationale") or [None] * len(rows), counts, strict=True)
        ]
        return columns

    encoded = dataset.map(
        encode, batched=True, with_indices=True, remove_columns=columns, desc="Tokenizing", load_from_cache_file=False
    )
    if cut := sum(encoded["truncated"]):
        logger.warning(
            f"{cut} of {len(encoded)} texts are longer than {max_length} tokens and are cut there; gold words beyond "
            "count as missed."
        )
    return encoded.remove_columns("truncated")


def _word_ids(encoding: Encoding, segment: int, words: list[str] | None = None) -> list[int]:
    """For every token the word that it belongs to: of `words` joined by blanks, or else the tokenizer's own."""
    if words is None:
        ids = [-1 if word is None else word for word in encoding.word_ids]
    else:
        behind = np.cumsum([len(word) + 1 for word in words])
        # The last character counts: some tokens begin with the blank before their word.
        ids = np.searchsorted(behind, [max(start, end - 1) for start, end in encoding.offsets], side="right").tolist()
    return [word if of == segment else -1 for word, of in zip(ids, encoding.sequence_ids, strict=True)]


def _checked_rationale(row: int, rationale: list[int] | None, count: int) -> list[int]:
    if rationale is None:
        return [UNMARKED] * count
    if len(rationale) != count or not set(rationale) <= {0, 1}:
        raise ValueError(
            f"Row {row} of the dataset: its rationale has {len(rationale)} entries for {count} words, or entries "
            "other than 0 and 1."
        )
    return rationale
