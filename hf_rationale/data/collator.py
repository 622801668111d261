"""Batches, padded to their longest text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from .encoding import NO_WORD


@dataclass
class RationaleDataCollator:
    r"""
    Pads encoded examples (see [`encode_rationale_dataset`]) to the longest of the batch.

    Args:
        tokenizer: pads the token indices; its padding side counts.
        pad_to_multiple_of (*optional*): round lengths up, for hardware that likes it.

    Returns (of a call): `input_ids`, `attention_mask`, `token_type_ids` where there are, `word_ids` (-1 at padding),
    all `(batch, seq)`; `labels` `(batch,)`; `rationale` `(batch, words)`, -1 where nobody marked one,
    -100 where there is no word.
    """

    tokenizer: PreTrainedTokenizerBase
    pad_to_multiple_of: int | None = None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in features[0]]
        batch = dict(
            self.tokenizer.pad(
                [{name: feature[name] for name in names} for feature in features],
                pad_to_multiple_of=self.pad_to_multiple_of,
                return_tensors="pt",
            )
        )
        length = batch["input_ids"].shape[1]
        side = self.tokenizer.padding_side
        if "word_ids" in features[0]:
            batch["word_ids"] = _padded([feature["word_ids"] for feature in features], length, -1, side)
        if "rationale" in features[0]:
            words = max(len(feature["rationale"]) for feature in features)
            batch["rationale"] = _padded([feature["rationale"] for feature in features], words, NO_WORD, "right")
        if features[0].get("labels") is not None:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch


def _padded(rows: list[list[int]], length: int, value: int, side: str) -> torch.LongTensor:
    padding = [[value] * (length - len(row)) for row in rows]
    return torch.tensor([pad + row if side == "left" else row + pad for row, pad in zip(rows, padding, strict=True)])
