"""Segmenting texts into the units that can be selected as a whole."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from sentencex import get_sentence_boundaries


# The units that a model can select, from the smallest on.
LEVELS = ("token", "word", "clause", "sentence")

# text -> the [start, end) spans of its segments in characters, in order. What lies between two segments belongs to the
# first of them.
Segmenter = Callable[[str], Sequence[tuple[int, int]]]

# Tokenized text has blanks around its full stops, which sentencex does not take as ends before a small letter.
_SEPARATE_STOP = re.compile(r"(?<=\s)[.!?]+\s+")
# Behind a comma, semicolon, colon or closing bracket, around a dash, before an opening bracket.
_CLAUSE_END = re.compile(r"[,;:)\]]+\s+|\s(?:[-–—]+\s+|(?=[(\[]))|—")


def sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of `text`, found by sentencex. A full stop, question or exclamation mark with blanks on both sides
    ends a sentence as well, as in tokenized corpora."""
    found = [(one["start_index"], one["end_index"]) for one in get_sentence_boundaries("en", text)]
    return _cut(text, found, _SEPARATE_STOP)


def clauses(text: str) -> list[tuple[int, int]]:
    """The clauses of `text`: its sentences, cut at punctuation."""
    return _cut(text, sentences(text), _CLAUSE_END)


SEGMENTERS: dict[str, Segmenter] = {"clause": clauses, "sentence": sentences}


def units_of_words(
    words: Sequence[str],
    level: str | None,
    sentence_ids: Sequence[int] | None = None,
    segment: Segmenter | None = None,
) -> list[int]:
    r"""
    The number of the unit of each word of a text, as it is read: the words joined by blanks.

    Args:
        words: the words.
        level: `"word"`, `"clause"` or `"sentence"`.
        sentence_ids (*optional*): the number of the sentence of every word, if it is known.
        segment (*optional*): finds the units instead of the segmenter of `level`.
    """
    if segment is None and level == "word":
        return list(range(len(words)))
    if segment is None and level == "sentence" and sentence_ids is not None:
        return list(sentence_ids)
    last = accumulate((len(word) + 1 for word in words[1:]), initial=len(words[0]) - 1)
    units = segments_of_words(list(last), (segment or SEGMENTERS[level])(" ".join(words)))
    if segment is None and sentence_ids is not None:  # clauses end where sentences end
        numbers: dict[tuple[int, int], int] = {}
        units = [numbers.setdefault(pair, len(numbers)) for pair in zip(sentence_ids, units, strict=True)]
    return units


def segments_of_words(last_characters: Sequence[int], segments: Sequence[tuple[int, int]]) -> list[int]:
    """The number of the segment of each word. A word belongs to the segment of its last character."""
    starts = [start for start, _ in segments]
    return [max(bisect_right(starts, last) - 1, 0) for last in last_characters]


def _cut(text: str, spans: list[tuple[int, int]], end: re.Pattern) -> list[tuple[int, int]]:
    """`spans`, each cut behind every match of `end` within it."""
    pieces = []
    for start, stop in spans:
        places = [match.end() for match in end.finditer(text, start, stop) if start < match.end() < stop]
        pieces += zip([start, *places], [*places, stop], strict=True)
    return pieces
