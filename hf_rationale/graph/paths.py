"""Edges without direction, and the lengths of the paths between nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def undirected(edge_index: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """Every edge of `edge_index` (2, edges) once, without loops: (edges, 2)."""
    pairs = np.sort(np.asarray(edge_index, dtype=np.int64).reshape(2, -1).T, axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def path_lengths(count: int, edges: np.ndarray) -> np.ndarray:
    """The number of steps (nodes, nodes) between `count` nodes, along `edges` (edges, 2). Nodes that no path joins are
    two steps farther apart than any others."""
    lengths = np.full((count, count), np.inf)
    np.fill_diagonal(lengths, 0)
    left, right = edges.T
    lengths[left, right] = lengths[right, left] = 1
    for node in range(count):
        lengths = np.minimum(lengths, lengths[:, [node]] + lengths[[node]])
    reachable = np.isfinite(lengths)
    lengths[~reachable] = lengths[reachable].max() + 2
    return lengths
