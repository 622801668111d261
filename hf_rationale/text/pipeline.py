"""`pipeline("rationale-classification")`: a label, and the words from which it was predicted."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import Pipeline

from ..modeling.objective import selected_share
from ..modeling.selection import BUDGETS, check_budget
from .segmentation import LEVELS, Segmenter


class RationaleClassificationPipeline(Pipeline):
    r"""
    Classifies texts, and returns the words from which each label was predicted.

    Example:

    ```python
    >>> import hf_rationale
    >>> from transformers import pipeline

    >>> pipe = pipeline("rationale-classification", model="path-or-hub-id")
    >>> pipe("Pours a clear gold with a thick white head. Smells of nothing.")
    {'label': 'positive', 'score': 0.97,
     'rationale': [{'start': 8, 'end': 42, 'text': 'clear gold with a thick white head', 'score': 0.9}],
     'sparsity': 0.5, 'truncated': False}
    ```
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if hasattr(self.model, "merge_and_unload"):
            raise ValueError("Merge the adapter first: pass model.merge_and_unload().")
        if not hasattr(self.model, "text_reader"):
            raise ValueError(
                f"{type(self.model).__name__} selects no rationale. Train a rationale classifier from its encoder: "
                "RationaleForSequenceClassification.from_encoder_pretrained(…)."
            )
        self._read = self.model.text_reader(self.tokenizer)

    def __call__(self, inputs, **kwargs) -> dict[str, Any] | list:
        r"""
        Args:
            inputs (`str`, `dict`, or a list, tuple, array, Series, generator or dataset of them): texts (a string or
                `{"text": text}`), or pairs `{"text": query, "text_pair": document}`, of which only words of the
                document are selected. Of the rows of a `Dataset`, these columns are read.
            batch_size (`int`, *optional*): the number of texts in a batch.
            rationale_ratio (`float`, *optional*): a budget: the share of each text's words to select, best scores
                first.
            rationale_top_k (`int`, *optional*): a budget: the number of units to select.
            rationale_threshold (`float`, *optional*): select from this score on, instead of the model's threshold.
            rationale_level (`str`, *optional*): the units to select: `"token"`, `"word"`, `"clause"` or `"sentence"`.
                By default those of the model. A clause or a sentence has the mean score of its words.
            segment (`Callable`, *optional*): a function that finds the units of a text instead: the `[start, end)`
                spans of its characters, in order.
            top_k (`int` or `None`, *optional*): return this number of most probable labels, best first, as a list;
                with `None` all of them.
            max_length (`int`, *optional*): cut texts to about this number of tokens (of a pair, the document). By
                default they are not cut.
            truncation (`bool`, *optional*): `True` cuts texts to `max_length`, or else to the tokenizer's
                `model_max_length`.

        Returns:
            for every text a dict: `label`, its probability `score`, `rationale` (spans in the order of the text, with
            exact character offsets, `text[start:end] == span["text"]`, and the mean score of their tokens), `sparsity`
            (the share of the words that is selected) and `truncated` (whether the text was cut). With `top_k` a list
            of such dicts, which share the rationale. The offsets of a pair count from the start of its document.

        Raises:
            TypeError: if a text is not a string.
            ValueError: if a text is blank, or is not valid Unicode. Both errors name the text. Lists are checked as a
                whole before anything is computed.
        """
        if isinstance(inputs, Dataset):
            names = [name for name in ("text", "text_pair") if name in inputs.column_names]
            if "text" not in names:
                raise ValueError(f"The dataset needs a column 'text', but has {inputs.column_names}.")
            inputs = inputs.with_format(None).select_columns(names).to_list()
        elif not isinstance(inputs, str | bytes) and (
            isinstance(inputs, Sequence | np.ndarray) or hasattr(inputs, "to_list")
        ):
            inputs = list(inputs)
        if isinstance(inputs, list):
            for index, text in enumerate(inputs):
                check_text(text, f"Text {index}")
            if not inputs:
                return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        top_k: int | str | None = "",  # transformers' sign that it is not given; None stands for all
        truncation: bool | None = None,
        max_length: int | None = None,
        rationale_level: str | None = None,
        segment: Segmenter | None = None,
        **kwargs,
    ):
        budget = {name: kwargs.pop(name, None) for name in BUDGETS}
        check_budget(*budget.values())
        if not any(value is not None for value in budget.values()):
            budget = {}  # the pipeline's own stays; one given at call time replaces it, whatever its kind
        if kwargs:
            known = [*BUDGETS, "rationale_level", "segment", "top_k", "truncation", "max_length", "batch_size"]
            raise TypeError(f"Unknown arguments: {sorted(kwargs)}; there are {known}")
        if rationale_level not in (None, *LEVELS):
            raise ValueError(f"rationale_level must be one of {LEVELS}, but is {rationale_level!r}")
        if top_k not in ("", None) and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, or None for all labels, but is {top_k!r}")
        if truncation not in (None, True, False):
            raise ValueError(f"truncation must be True or False, but is {truncation!r}")
        if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
            raise ValueError(f"max_length must be a whole number of at least 1, but is {max_length!r}")
        if truncation and max_length is None:
            max_length = self.tokenizer.model_max_length
        reading = {
            "rationale_level": rationale_level,
            "segment": segment,
            "max_length": None if truncation is False else max_length,
        }
        reading = {name: value for name, value in reading.items() if value is not None}
        return reading, budget, {} if top_k == "" else {"top_k": top_k}

    def preprocess(
        self,
        inputs: str | dict[str, str],
        rationale_level: str | None = None,
        segment: Segmenter | None = None,
        max_length: int | None = None,
    ) -> dict[str, Any]:
        check_text(inputs, "The text")
        text, query = inputs, None
        if isinstance(inputs, dict):
            text, query = (inputs["text_pair"], inputs["text"]) if "text_pair" in inputs else (inputs["text"], None)
        readable = text if max_length is None else self._read.cut(text, max_length, query)
        truncated = len(readable) < len(text)
        return {**self._read(readable, query, rationale_level, segment), "text": text, "truncated": truncated}

    def _forward(self, model_inputs: dict[str, Any], **budget) -> dict[str, Any]:
        kept = {name: model_inputs.pop(name) for name in ("offsets", "content", "text", "truncated")}
        output, units = self.model(**model_inputs, **budget), self.model.prepare(**model_inputs).units
        return {
            "logits": output.logits,
            "mask": output.rationale_mask,
            "scores": output.rationale_scores,
            "sparsity": selected_share(output.rationale_mask, units),
            **kept,
        }

    def postprocess(
        self, outputs: dict[str, Any], top_k: int | str | None = ""
    ) -> dict[str, Any] | list[dict[str, Any]]:
        content = outputs["content"][0] > 0
        shared = {
            "rationale": rationale_spans(
                outputs["text"],
                outputs["offsets"][0][content].tolist(),
                (outputs["mask"][0] > 0)[content].tolist(),
                outputs["scores"][0][content].tolist(),
                self._read.joins,
            ),
            "sparsity": round(outputs["sparsity"][0].item(), 6),
            "truncated": outputs["truncated"],
        }
        probabilities = outputs["logits"][0].float().softmax(-1)
        count = {"": 1, None: len(probabilities)}.get(top_k, top_k)
        best = probabilities.topk(min(count, len(probabilities)))
        results = [
            {"label": self.model.config.id2label[index], "score": score, **shared}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        return results[0] if top_k == "" else results


def rationale_spans(
    text: str, offsets: list[list[int]], selected: list[bool], scores: list[float], joins: bool = True
) -> list[dict[str, Any]]:
    r"""
    The spans of `text` that its selected tokens cover. Neighbouring selected tokens make one span, and so do tokens
    that share a character, as the bytes of an emoji may.

    Args:
        offsets: [start, end) of every token in characters.
        selected: whether a token is selected.
        scores: the tokens' scores; a span has their mean.
        joins: whether neighbours make one span.

    Returns:
        dicts of `start`, `end`, `text` and `score`, in the order of the text, never overlapping, without outer blanks.
    """
    spans: list[tuple[int, int, list[float]]] = []
    open_span = False
    for (start, end), chosen, score in zip(offsets, selected, scores, strict=True):
        overlaps = bool(spans) and start < spans[-1][1]
        if chosen and ((open_span and joins) or overlaps):
            first, last, members = spans[-1]
            spans[-1] = (min(first, start), max(last, end), [*members, score])
        elif chosen:
            spans.append((start, end, [score]))
        open_span = chosen
    covered = {index for start, end in offsets for index in range(start, end)}
    result = []
    for start, end, members in spans:
        while end < len(text) and end not in covered and _continues_letter(text[end]):
            end += 1
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        piece = piece.strip()
        if piece:
            result.append(
                {"start": start, "end": start + len(piece), "text": piece, "score": sum(members) / len(members)}
            )
    return result


def _continues_letter(character: str) -> bool:
    # Accents, vowel signs and Hangul's later parts: tokenizers that compose or strip them leave them out of offsets.
    return unicodedata.category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"


def check_text(text: str | dict[str, str], name: str):
    if isinstance(text, dict):
        if set(text) not in ({"text"}, {"text", "text_pair"}):
            raise ValueError(
                f"{name}: a dict must have the key 'text', and for a pair 'text_pair', but has {list(text)}"
            )
        for key, part in text.items():
            check_text(part, f"{name}, {key}")
        return
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string, but is of type {type(text).__name__}: {text!r:.80}")
    if not text.strip():
        raise ValueError(f"{name} is blank, so nothing can be selected. Leave it out.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is not valid Unicode ({error.reason} at character {error.start}). Mend it with "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
        ) from None
