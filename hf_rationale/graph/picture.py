"""Pictures of graphs with the selected nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .paths import path_lengths, undirected


SELECTED, OTHER, GOLD = "#d1495b", "#c9ced6", "#222222"
ITERATIONS = 200  # of the layout


def draw_graphs(graphs: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]], columns: int = 4) -> Figure:
    r"""
    Draw graphs next to each other. The selected nodes and the edges between them are red. A black ring is around every
    node that people marked, if `rationale` of a graph says so.

    Args:
        graphs: dicts with `features` and `edge_index`, such as rows of a dataset.
        results: of [`GraphRationalePipeline`], in the same order.
        columns (`int`, *optional*, defaults to 4): the number of graphs in a row.

    Raises:
        ValueError: if there is no graph, or if there are not as many results.
    """
    if not len(graphs) or len(graphs) != len(results):
        raise ValueError(f"Every graph needs a result, but there are {len(graphs)} graphs and {len(results)} results.")
    rows, columns = -(-len(graphs) // columns), min(columns, len(graphs))
    figure = Figure(figsize=(3 * columns, 3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for place in axes:
        place.axis("off")
    for place, graph, result in zip(axes, graphs, results, strict=False):
        draw_graph(place, graph, result)
    return figure


def draw_graph(axes: Axes, graph: dict[str, Any], result: dict[str, Any]):
    """Draw one graph into `axes`. Arguments as of [`draw_graphs`]."""
    count, chosen = len(graph["features"]), set(result["rationale"])
    edges = undirected(graph["edge_index"])
    places = layout(count, edges)
    for left, right in edges.tolist():
        read = {left, right} <= chosen
        axes.plot(
            *places[[left, right]].T, color=SELECTED if read else OTHER, linewidth=2.5 if read else 1.2, zorder=1
        )
    marks = graph.get("rationale") or [0] * count
    axes.scatter(
        *places.T,
        s=70,
        c=[SELECTED if node in chosen else OTHER for node in range(count)],
        edgecolors=[GOLD if mark == 1 else "white" for mark in marks],
        linewidths=1.5,
        zorder=2,
    )
    axes.set_title(f"{result['label']} ({result['score']:.2f})", fontsize=9)
    axes.set_aspect("equal")


def layout(count: int, edges: np.ndarray) -> np.ndarray:
    """Places (nodes, 2) whose distances are as close as possible to the lengths of the paths between the nodes (stress
    majorization, Gansner et al. 2004). `edges` (edges, 2) are pairs of nodes."""
    distances = path_lengths(count, edges)
    weights = 1 / np.where(distances == 0, np.inf, distances) ** 2
    laplacian = np.diag(weights.sum(1)) - weights
    inverse = np.linalg.pinv(laplacian)
    angles = 2 * np.pi * np.arange(count) / count
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1) * distances.max() / 2
    for _ in range(ITERATIONS if count > 1 else 0):
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
        pulls = -weights * distances / np.where(gaps < 1e-9, np.inf, gaps)
        np.fill_diagonal(pulls, 0)
        np.fill_diagonal(pulls, -pulls.sum(1))
        places = inverse @ (pulls @ places)
    return places
