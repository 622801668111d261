"""From texts to the sentences that the model reads, and their vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Array2D, Dataset, Features, concatenate_datasets
from huggingface_hub.constants import HF_HOME
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..modeling.fingerprint import hash_weights
from ..modeling.outputs import NO_MARK
from ..text.encoding import TextEncoder, check_text, checked_rationale
from ..text.relevance import cosines, overlap, standardized
from ..text.segmentation import SEGMENTERS, Segmenter, units_of_words
from ..version import __version__


logger = logging.get_logger(__name__)

CACHE = Path(HF_HOME, "hf_rationale")  # the vectors of frozen encoders
RELEVANCE_SIZE = 2  # shared words and cosine, of `compare`


def encode_documents(
    model,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    columns: tuple[str, ...] = (),
    level: str | None = None,
) -> Dataset:
    r"""
    Split the texts of a dataset into sentences, and encode these.

    Args:
        model ([`SentenceRationaleForSequenceClassification`]): the model. A frozen encoder gives the vectors.
        dataset: a dataset as of [`encode_rationale_dataset`]. A column `text` is split at blanks, and so is a query.
        tokenizer: the encoder's tokenizer.
        columns: further columns to keep, which a method's objective reads.
        level (*optional*): `"clause"` or `"sentence"`. By default that of the model.

    Returns:
        the dataset with the columns `vectors` (a frozen encoder) or `input_ids` (a trained one), with an entry for
        every sentence, `sizes` (the number of words of each), `sentence_ids` (the sentence of each word), `length` (in
        sentences), `labels`, `rationale` and `columns`.

    Raises:
        ValueError: if a column is missing, or if there is no such level. With the number of the row, if a text is
            blank, or if its `rationale` or its `sentence_ids` do not fit its words.
    """
    if "text" in dataset.column_names and "tokens" not in dataset.column_names:
        dataset = _split_at_blanks(dataset.with_format(None))
    names = dataset.column_names
    if missing := {"tokens", *columns} - set(names):
        raise ValueError(f"The model of sentences needs the columns {sorted(missing)}, but the dataset has {names}")
    dataset = dataset.with_format(None)  # as Python's own types
    label_column = next((name for name in ("label", "labels") if name in names), None)
    level, limit = model.level(level), model.sentence_length
    model.check_query("query" in names)
    encode_alone = sentence_encoder(model, tokenizer)
    encoder = TextEncoder(tokenizer, limit, "query" in names)  # of a trained encoder

    def encode(batch: dict[str, list], rows: list[int]) -> dict[str, list]:
        encoded: dict[str, list[Any]] = {name: [] for name in ("sizes", "sentence_ids", "length", "rationale")}
        known = batch.get("sentence_ids") or [None] * len(rows)
        marked = batch.get("rationale") or [None] * len(rows)
        for row, query in zip(rows, batch.get("query", ()), strict=False):
            check_text(row, "tokens", query, column="query")
        for row, words, ids, marks in zip(rows, batch["tokens"], known, marked, strict=True):
            check_text(row, "tokens", words, ids)
            numbers, sentences = split_words(words, level, ids)
            encoded["sizes"].append(np.bincount(numbers).tolist())
            encoded["sentence_ids"].append(numbers)
            encoded["length"].append(len(sentences))
            encoded["rationale"].append(checked_rationale(row, marks, len(words)))
        if label_column is not None:
            encoded["labels"] = batch[label_column]
        return encoded | {name: batch[name] for name in columns}

    def encode_sentences(batch: dict[str, list]) -> dict[str, list]:
        known = batch.get("sentence_ids") or [None] * len(batch["tokens"])
        documents = [split_words(words, level, ids)[1] for words, ids in zip(batch["tokens"], known, strict=True)]
        counts = [len(sentences) for sentences in documents]
        flat = [sentence for sentences in documents for sentence in sentences]
        queries = [" ".join(query) for query in batch.get("query", [])]
        if not model.config.train_encoder:
            vectors = _regroup(_encode_once(encode_alone, flat), counts)
            if not queries:
                return {"vectors": vectors}
            rows = zip(documents, vectors, queries, _encode_once(encode_alone, queries), strict=True)
            compared = [compare(*row) for row in rows]
            return {name: [row[name] for row in compared] for name in ("vectors", "relevance")}
        encodings = encoder(flat, np.repeat(queries, counts).tolist() if queries else None)
        if any(one.overflowing for one in encodings):
            logger.warning_once(f"Sentences of more than {limit} tokens are cut, as the encoder is trained.")
        return {"input_ids": _regroup([one.ids for one in encodings], counts)}

    encoded = dataset.map(
        encode,
        remove_columns=names,
        batched=True,
        with_indices=True,
        load_from_cache_file=False,
        desc="Splitting texts",
    )
    sentences = dataset.select_columns([name for name in ("tokens", "query", "sentence_ids") if name in names])
    options: dict[str, Any] = {"load_from_cache_file": False}
    if not model.config.train_encoder:
        fingerprint = _fingerprint(model, sentences, tokenizer, level)
        CACHE.mkdir(parents=True, exist_ok=True)
        options = {
            "batch_size": 64,
            "cache_file_name": str(CACHE / f"{fingerprint}.arrow"),
            "new_fingerprint": fingerprint,
            "load_from_cache_file": True,
            "features": Features(
                {name: Array2D((None, width), "float32") for name, width in _arrays(model.config).items()}
            ),
        }
    sentences = sentences.map(
        encode_sentences, remove_columns=sentences.column_names, batched=True, desc="Encoding sentences", **options
    )
    info, encoded = encoded.info, concatenate_datasets([encoded, sentences], axis=1)
    encoded.info.dataset_name, encoded.info.description = info.dataset_name, info.description  # for the model card
    if "vectors" in encoded.column_names:  # as arrays, because reading millions of Python numbers would take most time
        encoded = encoded.with_format("numpy", columns=list(_arrays(model.config)), output_all_columns=True)
    return encoded


def _split_at_blanks(dataset: Dataset) -> Dataset:
    """`tokens` in place of `text`, and the words of every query. Raises `ValueError` if a text is none."""

    def split(example: dict[str, Any], row: int) -> dict[str, list[str]]:
        words = {}
        for source, target in (("text", "tokens"), ("query", "query")):
            if source in example:
                check_text(row, "text", example[source], column=source)
                words[target] = example[source].split()
        return words

    return dataset.map(split, with_indices=True, remove_columns="text", load_from_cache_file=False)


def compare(
    sentences: Sequence[str], vectors: np.ndarray, query: str, query_vector: np.ndarray
) -> dict[str, np.ndarray]:
    """What the players read of sentences with their vectors (sentences, width), and of a query with its vector
    (width,).

    `vectors` (sentences, 3 · width) has the vectors, their products with that of the query, and the absolute
    differences (InferSent, Conneau et al. 2017), scaled so that each entry is about 1. `relevance` (sentences, 2) has
    the words that are shared with the query and the cosine, as in a hybrid search. They are relative to the other
    sentences of the document, so that the predictor must not read them."""
    relevance = [overlap([one.split() for one in sentences], query.split()), cosines(vectors, query_vector)]
    vectors, query_vector = (
        one / np.linalg.norm(one, axis=-1, keepdims=True).clip(1e-6) * np.float32(one.shape[-1] ** 0.5)
        for one in (vectors, query_vector)
    )
    return {
        "vectors": np.concatenate([vectors, vectors * query_vector, np.abs(vectors - query_vector)], axis=1),
        "relevance": np.stack([standardized(values) for values in relevance], axis=1).astype(np.float32),
    }


def split_words(
    words: Sequence[str], level: str, sentence_ids: Sequence[int] | None = None
) -> tuple[list[int], list[str]]:
    """The number of the sentence of each word, from 0 without gaps, and the sentences as strings."""
    units = np.asarray(units_of_words(words, level, sentence_ids))
    numbers = np.r_[0, (units[1:] != units[:-1]).cumsum()]
    starts = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    ends = np.r_[starts[1:], len(words)]
    return numbers.tolist(), [" ".join(words[start:end]) for start, end in zip(starts, ends, strict=True)]


def sentence_encoder(model, tokenizer: PreTrainedTokenizerBase, pairs: bool = False) -> Callable[..., np.ndarray]:
    """A function from texts (and as many queries, with `pairs`) to their vectors (texts, width), as the model encodes
    sentences."""
    encoder = TextEncoder(tokenizer, model.sentence_length, pairs)
    return lambda texts, queries=None: _vectors(model, encoder(texts, queries), tokenizer.pad_token_id)


class SentenceReader:
    r"""
    Reads single texts for the pipeline: every sentence is a position.

    Args:
        model ([`SentenceRationaleForSequenceClassification`]): the model, whose encoder gives the vectors.
        tokenizer: a fast tokenizer. It is not changed.
    """

    joins = False  # every sentence is a span of its own

    def __init__(self, model, tokenizer: PreTrainedTokenizerBase):
        self.model, self.encode = model, sentence_encoder(model, tokenizer)
        self.encode_pairs = sentence_encoder(model, tokenizer, pairs=True)

    def __call__(
        self, text: str, query: str | None = None, level: str | None = None, segment: Segmenter | None = None
    ) -> dict[str, Any]:
        """The model's inputs, and of every sentence: `offsets`, its characters, and `content`, which is 1."""
        segment = segment or SEGMENTERS[self.model.level(level)]
        offsets = [(start, end) for start, end in segment(text) if text[start:end].strip()]
        sentences = [text[start:end].strip() for start, end in offsets]
        self.model.check_query(query is not None)
        if query is None:
            arrays = {"vectors": self.encode(sentences)}
        elif self.model.config.train_encoder:
            arrays = {"vectors": self.encode_pairs(sentences, [query] * len(sentences))}
        else:
            arrays = compare(sentences, self.encode(sentences), query, self.encode([query])[0])
        return {
            **{name: torch.from_numpy(values)[None] for name, values in arrays.items()},
            "sizes": torch.tensor([[len(sentence.split()) for sentence in sentences]]),
            "offsets": torch.tensor([offsets]),
            "content": torch.ones(1, len(sentences), dtype=torch.long),
        }

    def cut(self, text: str, max_length: int, query: str | None = None) -> str:
        raise ValueError("A model of sentences reads texts of any length and cuts none. Leave max_length out.")


class SentenceCollator:
    """Pads documents to the largest number of sentences of the batch."""

    def __init__(self, columns: tuple[str, ...] = ()):
        self.columns = columns

    def __call__(self, features: list[dict]) -> dict[str, torch.Tensor]:
        sentences = max(feature["length"] for feature in features)
        words = max(len(feature["sentence_ids"]) for feature in features)
        batch = {
            "sizes": torch.zeros(len(features), sentences, dtype=torch.long),
            "sentence_ids": torch.full((len(features), words), -1),
            "rationale": torch.full((len(features), words), NO_MARK),
        }
        for name in ("vectors", "relevance"):
            if name in features[0]:
                batch[name] = torch.zeros(len(features), sentences, len(features[0][name][0]))
        if "vectors" not in features[0]:
            tokens = max(len(ids) for feature in features for ids in feature["input_ids"])
            batch["input_ids"] = torch.full((len(features), sentences, tokens), -1)
        for row, feature in enumerate(features):
            for name, values in batch.items():
                if name == "input_ids":
                    for place, ids in enumerate(feature[name]):
                        values[row, place, : len(ids)] = torch.tensor(ids)
                else:
                    values[row, : len(feature[name])] = torch.as_tensor(np.asarray(feature[name]))
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        if columns := [name for name in self.columns if name in features[0]]:
            batch["columns"] = {name: torch.tensor([feature[name] for feature in features]) for name in columns}
        return batch


def _vectors(model, encodings: Sequence[Encoding], pad_token_id: int) -> np.ndarray:
    """Vectors (sentences, width). A sentence that is too long for the encoder is encoded in pieces, and has the mean
    over the tokens of all of them."""
    pieces = [[one.ids, *(piece.ids for piece in one.overflowing)] for one in encodings]
    flat = [ids for parts in pieces for ids in parts]
    vectors, lengths = model.sentence_vectors(flat, pad_token_id), np.array([len(ids) for ids in flat], np.float32)
    starts = np.cumsum([0, *(len(parts) for parts in pieces[:-1])])
    totals = np.add.reduceat(vectors * lengths[:, None], starts)
    return totals / np.add.reduceat(lengths, starts)[:, None]


def _encode_once(encode: Callable[..., np.ndarray], texts: Sequence[str]) -> np.ndarray:
    """Vectors (texts, width). Texts that occur several times, as in questions on one document, are encoded once."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return encode(list(places))[[places[text] for text in texts]]


def _arrays(config) -> dict[str, int]:
    """The columns of arrays (sentences, width) that a frozen encoder gives, and their widths."""
    return {"vectors": config.vector_size} | ({"relevance": RELEVANCE_SIZE} if config.compare_query else {})


def _regroup(values: Sequence[Any], counts: Sequence[int]) -> list[Sequence[Any]]:
    ends = np.cumsum(counts)
    return [values[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _fingerprint(model, sentences: Dataset, tokenizer: PreTrainedTokenizerBase, level: str) -> str:
    """A hash of everything on which the vectors of a dataset depend."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{__version__} {level}{' with relevance' if model.config.compare_query else ''}".encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    hash_weights(digest, model.encoder.state_dict().items())
    for batch in sentences.iter(1000):
        digest.update(repr(batch).encode())
    return digest.hexdigest()
