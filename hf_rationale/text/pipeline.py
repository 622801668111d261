"""`pipeline("rationale-classification")`: a label, and the words from which it was predicted."""

from __future__ import annotations

import unicodedata
from typing import Any

import torch
from transformers import Pipeline
from transformers.utils import logging

from ..modeling.selection import check_budget
from .base import RationaleTextModel
from .encoding import TextEncoder


logger = logging.get_logger(__name__)

_BUDGETS = ("rationale_ratio", "rationale_top_k", "rationale_threshold")


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
        if not isinstance(self.model, RationaleTextModel):
            if hasattr(self.model, "merge_and_unload"):
                raise ValueError("Merge the adapter first: pass model.merge_and_unload().")
            raise ValueError(
                f"{type(self.model).__name__} selects no rationale. Train a rationale classifier from its encoder: "
                "RationaleForSequenceClassification.from_encoder_pretrained(…)."
            )
        self._encoder, self._pair_encoder = (
            TextEncoder(self.tokenizer, self.model.max_length, pairs) for pairs in (False, True)
        )

    def __call__(self, inputs, **kwargs) -> dict[str, Any] | list:
        r"""
        Args:
            inputs (`str`, `dict`, or a list, generator or dataset of them): texts, or pairs
                `{"text": query, "text_pair": document}`, of which only words of the document are selected.
            batch_size (`int`, *optional*): the number of texts in a batch.
            rationale_ratio (`float`, *optional*): a budget: the share of each text's tokens (or words, if the model
                selects words) with the best scores.
            rationale_top_k (`int`, *optional*): a budget: the number of tokens (words) to select.
            rationale_threshold (`float`, *optional*): select from this score on, instead of the model's threshold.
            top_k (`int`, *optional*): return this number of most probable labels, best first, as a list.

        Returns:
            for every text a dict: `label`, its probability `score`, `rationale` (spans in the order of the text, with
            exact character offsets, `text[start:end] == span["text"]`, and the mean score of their tokens), `sparsity`
            (the share of tokens, or words, selected) and `truncated` (whether the end of the text was cut off, because
            it is longer than the model can read). With `top_k` a list of such dicts, which share the rationale. A
            pair's offsets are into its document.

        Raises:
            TypeError, ValueError: naming the text, where one is no string, blank, or no valid Unicode. Lists are
                checked as a whole before anything is computed.
        """
        if isinstance(inputs, list):
            for index, text in enumerate(inputs):
                _check_text(text, f"Text {index}")
            if not inputs:
                return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, top_k: int | None = None, **kwargs):
        budget = {name: kwargs.pop(name, None) for name in _BUDGETS}
        check_budget(*budget.values())
        if not any(value is not None for value in budget.values()):
            budget = {}  # the pipeline's own stays; one given at call time replaces it, whatever its kind
        if kwargs:
            raise TypeError(f"Unknown arguments: {sorted(kwargs)}; there are {[*_BUDGETS, 'top_k', 'batch_size']}")
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k is a whole number of at least 1; got {top_k!r}")
        return {}, budget, {} if top_k is None else {"top_k": top_k}

    def preprocess(self, inputs: str | dict[str, str]) -> dict[str, Any]:
        _check_text(inputs, "The text")
        pair = isinstance(inputs, dict)
        text, query = (inputs["text_pair"], inputs["text"]) if pair else (inputs, None)
        encoder = self._pair_encoder if pair else self._encoder
        encoding = encoder([text], [query] if pair else None)[0]
        word_ids = [
            word if word is not None and segment == int(pair) else -1
            for word, segment in zip(encoding.word_ids, encoding.sequence_ids, strict=True)
        ]
        if truncated := bool(encoding.overflowing):
            logger.warning_once(
                f"A text is longer than the {encoder.max_length} tokens that the model can read, so its end is cut "
                "off. Its result contains 'truncated': True."
            )
        return {
            **{name: torch.tensor([values]) for name, values in encoder.model_inputs(encoding).items()},
            "word_ids": torch.tensor([word_ids]),
            "offsets": torch.tensor([encoding.offsets]),
            "text": text,
            "truncated": truncated,
        }

    def _forward(self, model_inputs: dict[str, Any], **budget) -> dict[str, Any]:
        kept = {name: model_inputs.pop(name) for name in ("offsets", "text", "truncated")}
        output = self.model(**model_inputs, **budget)
        special = torch.tensor(self.model.config.special_token_ids or [], device=model_inputs["input_ids"].device)
        word_ids = model_inputs["word_ids"].masked_fill(model_inputs["attention_mask"] == 0, -1)
        return {
            "logits": output.logits,
            "mask": output.rationale_mask,
            "scores": output.rationale_scores,
            "word_ids": word_ids,
            # A text may itself name a special token: that can be no part of a rationale, but stands between others.
            "selectable": (word_ids >= 0) & ~torch.isin(model_inputs["input_ids"], special),
            **kept,
        }

    def postprocess(self, outputs: dict[str, Any], top_k: int | None = None) -> dict[str, Any] | list[dict[str, Any]]:
        words, selected = outputs["word_ids"][0], outputs["mask"][0] > 0
        units = words if self.model.config.selection_level == "word" else torch.arange(len(words))
        available, chosen = len(units[outputs["selectable"][0]].unique()), len(units[selected].unique())
        shared = {
            "rationale": rationale_spans(
                outputs["text"],
                outputs["offsets"][0][words >= 0].tolist(),
                selected[words >= 0].tolist(),
                outputs["scores"][0][words >= 0].tolist(),
            ),
            "sparsity": chosen / available if available else 0.0,
            "truncated": bool(outputs["truncated"]),
        }
        probabilities = outputs["logits"][0].float().softmax(-1)
        best = probabilities.topk(min(top_k or 1, len(probabilities)))
        results = [
            {"label": self.model.config.id2label[index], "score": score, **shared}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        return results[0] if top_k is None else results


def rationale_spans(
    text: str, offsets: list[list[int]], selected: list[bool], scores: list[float]
) -> list[dict[str, Any]]:
    r"""
    The spans of `text` that its selected tokens cover. Neighbouring selected tokens make one span, and so do tokens
    that share a character, as the bytes of an emoji may.

    Args:
        offsets: [start, end) of every token in characters.
        selected: whether a token is selected.
        scores: the tokens' scores; a span has their mean.

    Returns:
        dicts of `start`, `end`, `text` and `score`, in the order of the text, never overlapping, without outer blanks.
    """
    spans: list[tuple[int, int, list[float]]] = []
    open_span = False
    for (start, end), chosen, score in zip(offsets, selected, scores, strict=True):
        overlaps = bool(spans) and start < spans[-1][1]
        if chosen and (open_span or overlaps):
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


def _check_text(text: str | dict[str, str], name: str):
    if isinstance(text, dict):
        if set(text) != {"text", "text_pair"}:
            raise ValueError(f"{name}: a pair must have the keys 'text' and 'text_pair', but has {sorted(text)}")
        for key, part in text.items():
            _check_text(part, f"{name}, {key}")
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
