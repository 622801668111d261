"""A dataset without what does not matter: every text is replaced by its rationale."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from huggingface_hub import DatasetCard, DatasetCardData
from transformers import PreTrainedTokenizerBase

from .modeling.base import RationalePreTrainedModel
from .reading import read_rationales


CARD_NAME = "README.md"
_DROPPED = ("rationale", "sentence_ids")  # these belong to the words of the whole text


def extract_rationales(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    filler: str | None = None,
    batch_size: int = 32,
    max_length: int | None = None,
) -> Dataset:
    r"""
    Keep of every text what the model selects.

    Args:
        model: a rationale model. It is not changed.
        dataset: a dataset with the column `tokens`.
        tokenizer: the model's tokenizer.
        filler (*optional*): a word that replaces every word that is not selected, such as `"[MASK]"`. By default these
            words are left out.
        batch_size: the number of texts in a batch.
        max_length: cut texts to this number of tokens. By default they are not cut.

    Returns:
        the dataset with the selected words as `tokens`, and with `row`, the row in `dataset`. Texts of which nothing
        is selected are left out.

    Raises:
        ValueError: if the dataset has no column `tokens`.
    """
    if "tokens" not in dataset.column_names:
        raise ValueError(f"The dataset needs a column 'tokens' (lists of words), but has {dataset.column_names}.")
    found = read_rationales(model, dataset, tokenizer, batch_size=batch_size, max_length=max_length)
    rows = [row for row, mask in enumerate(found.masks) if mask.any()]

    def cut(example: dict[str, Any], row: int) -> dict[str, Any]:
        pairs = zip(example["tokens"], found.masks[row], strict=True)
        if filler is None:
            return {"tokens": [word for word, kept in pairs if kept], "row": row}
        return {"tokens": [word if kept else filler for word, kept in pairs], "row": row}

    kept = dataset.remove_columns([name for name in _DROPPED if name in dataset.column_names])
    kept = kept.map(cut, with_indices=True, desc="Keeping rationales", load_from_cache_file=False)
    return kept.select(rows)


def save_rationales(rationales: DatasetDict, originals: DatasetDict, folder: str | os.PathLike, model: str):
    """Write every split as parquet, and a dataset card that says from what and by which model it was made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["| split | texts | left out | words before | words kept |", "|---|---|---|---|---|"]
    for name, split in rationales.items():
        split.to_parquet(folder / f"{name}.parquet")
        before, after = (sum(map(len, rows["tokens"])) for rows in (originals[name], split))
        out = len(originals[name]) - len(split)
        lines.append(f"| {name} | {len(split)} | {out} | {before} | {after} ({after / before:.1%}) |")
    info = next(iter(originals.values())).info
    files = [{"split": name, "path": f"{name}.parquet"} for name in rationales]
    header = DatasetCardData(
        task_categories=["text-classification"],
        tags=["hf_rationale"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    table = "\n".join(lines)
    text = f"""---
{header.to_yaml()}
---

# Rationales of {info.dataset_name or "a dataset"}

The texts are what the model `{model}` of hf_rationale has selected from the
original texts. `row` is the row of the original text in its split.

{table}

**Original data.** {info.description or "Not described."} Its licence holds for this dataset, too:
{info.license or "not given"}.

**Limits.** The model may have left out words that matter, and kept others that do not.
"""
    DatasetCard(text).save(folder / CARD_NAME)
