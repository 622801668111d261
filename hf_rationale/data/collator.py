"""Batches, padded to their longest text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
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
        if self.tokenizer.pad_token_id is None:
            raise ValueError("The tokenizer has no padding token. Give it one: tokenizer.pad_token = …")
        if "attention_mask" not in features[0]:
            features = [{**feature, "attention_mask": [1] * len(feature["input_ids"])} for feature in features]
        # Not `tokenizer.pad`: its detour over Python lists took an eighth of a training step of a small model.
        fillers = {
            "input_ids": self.tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": self.tokenizer.pad_token_type_id,
            "word_ids": -1,
        }
        length, multiple = max(len(feature["input_ids"]) for feature in features), self.pad_to_multiple_of or 1
        length += -length % multiple
        side = self.tokenizer.padding_side
        batch = {
            name: _padded([feature[name] for feature in features], length, filler, side)
            for name, filler in fillers.items()
            if name in features[0]
        }
        if "rationale" in features[0]:
            words = max(len(feature["rationale"]) for feature in features)
            batch["rationale"] = _padded([feature["rationale"] for feature in features], words, NO_WORD, "right")
        if features[0].get("labels") is not None:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch


def _padded(rows: list[list[int]], length: int, filler: int, side: str) -> torch.LongTensor:
    padded = np.full((len(rows), length), filler)
    for place, row in zip(padded, rows, strict=True):
        place[length - len(row) if side == "left" else 0 :][: len(row)] = row
    return torch.from_numpy(padded)
