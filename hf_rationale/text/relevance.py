"""How much the sentences of a document have to do with a query."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np


def bare(word: str) -> str:
    """The word in lower case, without punctuation; `""` if nothing is left."""
    return re.sub(r"\W+", "", word.lower())


def query_weights(sentences: Sequence[Sequence[str]], query: Sequence[str]) -> dict[str, float]:
    """For every bare word of a query log((n + 1) / (c + ½)), if c of the n sentences of the document have it. A word
    that is everywhere in the document does not tell which sentence is meant. (Over the sentences of the document, this
    inverse frequency selects better than over those of a corpus: `benchmarks/scores-sentences.md`.)"""
    counts = Counter(word for sentence in sentences for word in {bare(word) for word in sentence})
    words = {bare(word) for word in query} - {""}
    return {word: math.log((len(sentences) + 1) / (counts[word] + 0.5)) for word in words}


def overlap(sentences: Sequence[Sequence[str]], query: Sequence[str]) -> np.ndarray:
    """For every sentence the sum of the weights of the words that it shares with the query, each counted once."""
    weights = query_weights(sentences, query)
    return np.array([sum(weights.get(word, 0.0) for word in {bare(word) for word in one}) for one in sentences])


def standardized(values: np.ndarray) -> np.ndarray:
    """Scores of the sentences of one document with mean 0 and standard deviation 1; all 0 if they are equal."""
    return (values - values.mean()) / (values.std() + 1e-6)


def cosines(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Cosines (n,) of vectors (n, width) and a vector (width,)."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    return vectors @ vector / norms.clip(1e-9)
