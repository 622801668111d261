"""Where an interrupted training goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


def last_checkpoint(folder: str | os.PathLike) -> str | None:
    """The last complete checkpoint in `folder`, or `None`. A run that is killed while it saves leaves a checkpoint
    without a readable `trainer_state.json`, which is written last."""
    checkpoints = sorted(
        (path for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.split("-")[-1].isdigit()),
        key=lambda path: int(path.name.split("-")[-1]),
    )
    for path in reversed(checkpoints):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(path)
    return None
