"""Batches of encoded texts, padded to the longest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..modeling.outputs import NO_MARK


@dataclass
class RationaleDataCollator:
    r"""
    Pads encoded examples (see [`encode_rationale_dataset`]) to the longest of the batch.

    Args:
        tokenizer: gives the padding token and the padding side.
        pad_to_multiple_of (*optional*): round lengths up to a multiple of this number, which some hardware prefers.
        columns: further columns to collect, which a method's objective reads.

    Returns (of a call): `input_ids`, `attention_mask`, `token_type_ids` (if there are any), `word_ids` and `unit_ids`
    (if there are any; -1 at padding), all of shape `(batch, seq)`; `labels` `(batch,)`; `rationale` `(batch, words)`,
    which is -1 if nobody marked the text and -100 at padding; `columns`, a dict of tensors of shape `(batch, …)`.
    """

    tokenizer: PreTrainedTokenizerBase
    pad_to_multiple_of: int | None = None
    columns: tuple[str, ...] = ()

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if self.tokenizer.pad_token_id is None:
            raise ValueError("The tokenizer has no padding token. Set one: tokenizer.pad_token = …")
        if "attention_mask" not in features[0]:
            features = [{**feature, "attention_mask": [1] * len(feature["input_ids"])} for feature in features]
        # `tokenizer.pad` works on Python lists, which took an eighth of the time of a training step of a small model.
        fillers = {
            "input_ids": self.tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": self.tokenizer.pad_token_type_id,
            "word_ids": -1,
            "unit_ids": -1,
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
            batch["rationale"] = _padded([feature["rationale"] for feature in features], words, NO_MARK, "right")
        if features[0].get("labels") is not None:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        if columns := [name for name in self.columns if name in features[0]]:  # a validation set may lack them
            batch["columns"] = {name: torch.tensor([feature[name] for feature in features]) for name in columns}
        return batch


def _padded(rows: list[list[int]], length: int, filler: int, side: str) -> torch.LongTensor:
    padded = np.full((len(rows), length), filler)
    for place, row in zip(padded, rows, strict=True):
        place[length - len(row) if side == "left" else 0 :][: len(row)] = row
    return torch.from_numpy(padded)
