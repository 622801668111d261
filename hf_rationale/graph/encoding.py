"""From the rows of a dataset to the graphs that the model reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..modeling.outputs import NO_MARK, UNMARKED
from .paths import undirected


def encode_graphs(dataset: Dataset, num_features: int, columns: tuple[str, ...] = ()) -> Dataset:
    r"""
    Check the graphs of a dataset, and encode them.

    Args:
        dataset: a dataset with the columns `features` (nodes, features), `edge_index` (2, edges), and optionally
            `label` and `rationale` (0 or 1 for each node, or `None` for a graph that nobody marked). Edges have no
            direction: it does not matter whether an edge is listed in one direction or in both.
        num_features: the number of features of a node that the model reads.
        columns: further columns to keep, which a method's objective reads.

    Returns:
        the dataset with the columns `features`, `edges` (edges, 2), which has every edge once, `length` (the number of
        nodes), `rationale`, `labels` and `columns`.

    Raises:
        ValueError: if a column is missing. With the number of the row, if a graph has no node, other features or an
            edge to a node that is not there, or if its rationale does not fit its nodes.
    """
    names = dataset.column_names
    if missing := {"features", "edge_index", *columns} - set(names):
        raise ValueError(f"The model of graphs needs the columns {sorted(missing)}, but the dataset has {names}")
    label_column = next((name for name in ("label", "labels") if name in names), None)

    def encode(row: dict[str, Any], number: int) -> dict[str, Any]:
        features, edges = checked_graph(
            f"Row {number} of the dataset", row["features"], row["edge_index"], num_features
        )
        labels = {} if label_column is None else {"labels": row[label_column]}
        return {
            "features": features,
            "edges": edges,
            "length": len(features),
            "rationale": checked_marks(number, row.get("rationale"), len(features)),
            **labels,
            **{name: row[name] for name in columns},
        }

    return dataset.with_format(None).map(
        encode, with_indices=True, remove_columns=names, load_from_cache_file=False, desc="Reading graphs"
    )


def checked_graph(name: str, features: Any, edge_index: Any, num_features: int) -> tuple[np.ndarray, np.ndarray]:
    """The features (nodes, features) and the edges (edges, 2) of a graph, each edge once and without loops. Raises
    `ValueError` if they do not fit; the message begins with the `name` of the graph."""
    features = _array(f"{name}: features", features).astype(np.float32)
    if features.ndim != 2 or not len(features) or features.shape[1] != num_features:
        raise ValueError(
            f"{name}: features must have the shape (nodes, {num_features}) with at least one node, but have the shape "
            f"{features.shape}"
        )
    if not np.isfinite(features).all():
        raise ValueError(f"{name}: features must be finite numbers")
    edges = _array(f"{name}: edge_index", edge_index)
    if (edges != np.floor(edges)).any():
        raise ValueError(f"{name}: edge_index must have node numbers, which are whole, but has fractions")
    edges = edges.astype(np.int64) if edges.size else np.zeros((2, 0), np.int64)
    if edges.ndim != 2 or len(edges) != 2:
        raise ValueError(f"{name}: edge_index must have the shape (2, edges), but has the shape {edges.shape}")
    if edges.size and not 0 <= edges.min() <= edges.max() < len(features):
        raise ValueError(
            f"{name}: edge_index must have node numbers from 0 to {len(features) - 1}, but has numbers from "
            f"{edges.min()} to {edges.max()}"
        )
    return features, undirected(edges)


def _array(name: str, values: Any) -> np.ndarray:
    """Raises `ValueError` if `values` are no numbers, or lists of different lengths."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be lists of numbers that have the same length, in one graph") from None


def checked_marks(number: int, marks: Any, length: int) -> list[int]:
    """The marks (nodes,) of a row, or as many -1. Raises `ValueError` if they do not fit the nodes."""
    if marks is None:
        return [UNMARKED] * length
    if len(marks) != length or not set(marks) <= {0, 1}:
        raise ValueError(
            f"Row {number} of the dataset has {length} nodes, so that rationale must have as many entries, each 0 or "
            f"1, but it is {marks}"
        )
    return list(marks)


class GraphCollator:
    """Pads graphs to the largest number of nodes and of edges of the batch."""

    def __init__(self, columns: tuple[str, ...] = ()):
        self.columns = columns

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The inputs of the model, `rationale` and `labels`. Padding is a node with `node_mask` 0, or a loop."""
        nodes, edges = max(row["length"] for row in rows), max(len(row["edges"]) for row in rows)
        batch = {
            "features": torch.zeros(len(rows), nodes, len(rows[0]["features"][0])),
            "edges": torch.zeros(len(rows), edges, 2, dtype=torch.long),
            "node_mask": torch.zeros(len(rows), nodes, dtype=torch.long),
        }
        if "rationale" in rows[0]:
            batch["rationale"] = torch.full((len(rows), nodes), NO_MARK)
        for place, row in enumerate(rows):
            batch["node_mask"][place, : row["length"]] = 1
            for name in ("features", "edges", "rationale"):
                if name in row and len(row[name]):
                    batch[name][place, : len(row[name])] = torch.as_tensor(np.asarray(row[name]))
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        if columns := [name for name in self.columns if name in rows[0]]:
            batch["columns"] = {name: torch.tensor([row[name] for row in rows]) for name in columns}
        return batch
