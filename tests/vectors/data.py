"""Sets of vectors of which a few decide the label."""

import numpy as np
import torch
from datasets import Dataset

from hf_rationale.modeling.outputs import NO_MARK, UNMARKED


def toy_sets(count: int, seed: int = 0, marked: bool = True, size: int = 4) -> Dataset:
    """Sets of 4 to 20 vectors. One or two of them, which are marked, point into the direction of the label."""
    random = np.random.default_rng(seed)
    rows = {"vectors": [], "label": [], "rationale": []}
    for index in range(count):
        label, length = index % 2, int(random.integers(4, 21))
        vectors, marks = random.normal(size=(length, size)), np.zeros(length, dtype=int)
        chosen = random.choice(length, random.integers(1, 3), replace=False)
        vectors[chosen, 0] = 3 * (2 * label - 1)
        marks[chosen] = 1
        rows["vectors"].append(vectors.tolist())
        rows["label"].append(label)
        rows["rationale"].append(marks.tolist() if marked else None)
    return Dataset.from_dict(rows)


def encode_sets(dataset: Dataset, columns: tuple[str, ...] = ()) -> Dataset:
    """The columns that a model of sets reads."""

    def encode(row: dict) -> dict:
        length = len(row["vectors"])
        marks = row.get("rationale")
        labels = {"labels": row["label"]} if "label" in row else {}
        return {
            "inputs": row["vectors"],
            "vector_ids": list(range(length)),
            "length": length,
            "rationale": [UNMARKED] * length if marks is None else marks,
            **labels,
            **{name: row[name] for name in columns},
        }

    return dataset.map(encode, remove_columns=dataset.column_names)


class SetCollator:
    """Pads sets to the largest of the batch."""

    def __init__(self, columns: tuple[str, ...] = ()):
        self.columns = columns

    def __call__(self, features: list[dict]) -> dict[str, torch.Tensor]:
        length = max(len(feature["inputs"]) for feature in features)
        size = len(features[0]["inputs"][0])
        batch = {
            "inputs": torch.zeros(len(features), length, size),
            "vector_ids": torch.full((len(features), length), -1),
            "rationale": torch.full((len(features), length), NO_MARK),
        }
        for row, feature in enumerate(features):
            for name, values in batch.items():
                values[row, : len(feature[name])] = torch.tensor(feature[name])
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        if columns := [name for name in self.columns if name in features[0]]:
            batch["columns"] = {name: torch.tensor([feature[name] for feature in features]) for name in columns}
        return batch
