"""Yardsticks of graphs: simple selectors of nodes, beside which the rationales of a model should be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..metrics import rationale_f1
from ..modeling.selection import budget_mask, single_units
from .paths import path_lengths, undirected


# (number of nodes, edges (edges, 2)) -> a score for every node
NodeScores = Callable[[int, np.ndarray], np.ndarray]


def degree(count: int, edges: np.ndarray) -> np.ndarray:
    """The number of neighbours."""
    return np.bincount(edges.flatten(), minlength=count).astype(float)


def center(count: int, edges: np.ndarray) -> np.ndarray:
    """Minus the mean distance to the other nodes."""
    return -path_lengths(count, edges).mean(1)


def core(count: int, edges: np.ndarray) -> np.ndarray:
    """1 for what is left when nodes with one neighbour are removed again and again: cycles, and paths between them."""
    left = np.ones(count, dtype=bool)
    while True:
        inside = edges[left[edges].all(1)]
        kept = left & (degree(count, inside) > 1)
        if (kept == left).all():
            return left.astype(float)
        left = kept


YARDSTICKS: dict[str, NodeScores] = {"degree": degree, "center": center, "core": core}


def graph_yardsticks(dataset: Dataset, sparsity: float, seed: int = 0) -> dict[str, dict[str, float]]:
    r"""
    Score the yardsticks on the graphs of `dataset` that are marked.

    Args:
        dataset: a split of a corpus of graphs, with the columns `features`, `edge_index` and `rationale`.
        sparsity (`float`): the share of the nodes of each graph to select.
        seed (`int`, *optional*, defaults to 0): of the random selection, and of the order of nodes with equal scores.

    Returns:
        for every yardstick (`"random"`, `"degree"`, `"center"`, `"core"`) a dict of `f1`, `precision`, `recall`,
        `sparsity` and `gold_sparsity` (micro averages over nodes).

    Raises:
        ValueError: if a column is missing, or if no graph is marked.
    """
    if missing := {"features", "edge_index", "rationale"} - set(dataset.column_names):
        raise ValueError(f"The yardsticks of graphs need the columns {sorted(missing)}.")
    graphs = [row for row in dataset if row["rationale"] is not None]
    if not graphs:
        raise ValueError("No graph of this dataset is marked.")
    rng = np.random.default_rng(seed)
    noise = [rng.random(len(row["features"])) for row in graphs]
    scores = {"random": noise}
    for name, function in YARDSTICKS.items():
        found = [function(len(row["features"]), undirected(row["edge_index"])) for row in graphs]
        scores[name] = [one + 1e-9 * ties for one, ties in zip(found, noise, strict=True)]
    return {name: score_nodes(graphs, one, sparsity) for name, one in scores.items()}


def score_nodes(graphs: Sequence[dict[str, Any]], scores: Sequence[np.ndarray], sparsity: float) -> dict[str, float]:
    """The scores of the selection of the best nodes of each graph, by `scores` (nodes,), against its `rationale`."""
    masks = [
        budget_mask(torch.from_numpy(one)[None], single_units(torch.ones(1, len(one), dtype=torch.bool)), sparsity)
        for one in scores
    ]
    measured = rationale_f1([mask[0].long().numpy() for mask in masks], [row["rationale"] for row in graphs])
    return {name: measured[name] for name in ("f1", "precision", "recall", "sparsity", "gold_sparsity")}
