"""The spans of results of the pipeline, checked against their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Integral


def spans_of_words(tokens: Sequence[str], marks: Sequence[int]) -> list[tuple[int, int]]:
    """The spans `(start, end)` of the words with mark 1, in characters of the `tokens` joined by blanks. Neighbouring
    words form one span."""
    spans: list[tuple[int, int]] = []
    start, before = 0, 0
    for token, mark in zip(tokens, marks, strict=True):
        end = start + len(token)
        if mark and before:
            spans[-1] = (spans[-1][0], end)
        elif mark:
            spans.append((start, end))
        start, before = end + 1, mark
    return spans


def highlighted_text(
    text: str | Mapping[str, str], result: Mapping | Sequence[Mapping]
) -> list[tuple[str, float | None]]:
    """The text in pieces with the score of each selected one, and None for the others: what the component
    `HighlightedText` of gradio shows."""
    _, text = split_pair(text)
    pieces: list[tuple[str, float | None]] = []
    place = 0
    for start, end, score in rationale_spans(ranked_labels(result, "the result")[0], text, "the result"):
        pieces += [(text[place:start], None), (text[start:end], score)]
        place = end
    return [(piece, score) for piece, score in [*pieces, (text[place:], None)] if piece]


def split_pair(text: str | Mapping[str, str]) -> tuple[str | None, str]:
    """The first text of a pair (or None), and the text from which the rationale is selected."""
    if isinstance(text, Mapping):
        return (text["text"], text["text_pair"]) if text.get("text_pair") is not None else (None, text["text"])
    return None, text


def ranked_labels(result: Mapping | Sequence[Mapping], name: str) -> Sequence[Mapping]:
    """The labels of one text, best first; without `top_k` there is one. They share the rationale."""
    ranked = [result] if isinstance(result, Mapping) else result
    if len(ranked) == 0:
        raise ValueError(f"{name} has no label")
    missing = {"label", "score", "rationale", "sparsity", "truncated"} - set(ranked[0])
    if missing:
        raise ValueError(f"{name} is not one of the rationale-classification pipeline: it lacks {sorted(missing)}")
    return ranked


def checked_spans(spans: Sequence[tuple[int, int]], length: int, name: str) -> list[tuple[int, int]]:
    """`spans` in the text's order, each checked to be a non-empty part of the text that no other one overlaps."""
    spans = sorted((start, end) for start, end in spans)
    for start, end in spans:
        if not (isinstance(start, Integral) and isinstance(end, Integral) and 0 <= start < end <= length):
            raise ValueError(f"{name}: span ({start}, {end}) is not a part of its text of {length} characters")
    for (start, end), (next_start, next_end) in pairwise(spans):
        if next_start < end:
            raise ValueError(f"{name}: spans ({start}, {end}) and ({next_start}, {next_end}) overlap")
    return spans


def rationale_spans(result: Mapping, text: str, name: str) -> list[tuple[int, int, float]]:
    """The rationale as `(start, end, score)` in the text's order, checked against the text."""
    rationale = sorted(result["rationale"], key=lambda span: span["start"])
    spans = checked_spans([(span["start"], span["end"]) for span in rationale], len(text), name)
    for (start, end), span in zip(spans, rationale, strict=True):
        if span["text"] != text[start:end]:
            raise ValueError(
                f"{name} does not belong to its text: span ({start}, {end}) is {span['text']!r}, but the text has "
                f"{text[start:end]!r} there"
            )
        if not 0 <= span["score"] <= 1:  # refuses NaN too
            raise ValueError(f"{name}: the score of span ({start}, {end}) must be in [0, 1], got {span['score']}")
    return [(span["start"], span["end"], span["score"]) for span in rationale]
