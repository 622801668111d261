"""Labels and rationales of single graphs, in the manner of a pipeline of transformers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ..modeling.selection import BUDGETS
from ..reading import check_batch_size, evaluation_mode
from .encoding import GraphCollator, checked_graph
from .modeling_graph import RationaleForGraphClassification


class GraphRationalePipeline:
    r"""
    A function from graphs to their labels and rationales (the task `rationale-graph-classification`). transformers has
    no pipeline for graphs, so that this is a class of its own with the same use.

    Args:
        model ([`RationaleForGraphClassification`] or `str`): the model, or its folder or Hub id.
        device (*optional*): where to run the model. By default where it is.
        batch_size (`int`, *optional*, defaults to 32): the number of graphs in a batch.
        budget: the default budget of all calls: `rationale_ratio`, `rationale_top_k` or `rationale_threshold`.

    Example:

    ```python
    >>> from hf_rationale import GraphRationalePipeline

    >>> pipe = GraphRationalePipeline("outputs/rnp-ba2motifs")
    >>> pipe({"features": [[1.0]] * 4, "edge_index": [[0, 1, 2], [1, 2, 3]]})
    ```
    """

    task = "rationale-graph-classification"

    def __init__(
        self,
        model: RationaleForGraphClassification | str | os.PathLike,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        **budget,
    ):
        check_batch_size(batch_size)
        check_names(budget)
        if not isinstance(model, RationaleForGraphClassification):
            model = RationaleForGraphClassification.from_pretrained(model)
        self.model = model if device is None else model.to(device)
        self.batch_size, self.budget = batch_size, budget

    @torch.no_grad()
    def __call__(self, graphs: Any, batch_size: int | None = None, **budget) -> dict[str, Any] | list[dict[str, Any]]:
        r"""
        Classify one graph, or several.

        Args:
            graphs: a graph, or a list (or dataset, or one `Batch`) of graphs. A graph is a dict with `features`
                (nodes, features) and `edge_index` (2, edges), or a `torch_geometric.data.Data` with `x` and
                `edge_index`.
            batch_size (*optional*): the number of graphs in a batch, if not that of the pipeline.
            budget: another budget than that of the model: `rationale_ratio`, `rationale_top_k` or
                `rationale_threshold`.

        Returns:
            for every graph a dict of `label`, `score` (its probability), `rationale` (the numbers of the selected
            nodes), `edges` (those between two of them, which the predictor has read as well), `node_scores` (the
            extractor's probability for every node) and `sparsity` (the share of the nodes that is selected).

        Raises:
            TypeError: if there is no such argument.
            ValueError: if a graph is none, or has no node, other features than the model reads, or edges to missing
                nodes. The message has the number of the graph.
        """
        check_names(budget)
        if hasattr(graphs, "to_data_list"):  # a Batch of torch-geometric
            graphs = graphs.to_data_list()
        # A dataset of torch-geometric has edge_index too: that of all its graphs.
        single = not isinstance(graphs, torch.utils.data.Dataset) and (
            isinstance(graphs, dict) or hasattr(graphs, "edge_index") or not isinstance(graphs, Iterable)
        )
        rows = [self._read(number, graph) for number, graph in enumerate([graphs] if single else graphs)]
        batch_size = self.batch_size if batch_size is None else batch_size
        check_batch_size(batch_size)
        results: list[dict[str, Any]] = []
        with evaluation_mode(self.model):
            for start in range(0, len(rows), batch_size):
                results += self._classify(rows[start : start + batch_size], budget or self.budget)
        return results[0] if single else results

    def _read(self, number: int, graph: Any) -> dict[str, Any]:
        if not isinstance(graph, dict) and not hasattr(graph, "edge_index"):
            raise ValueError(
                f"Graph {number} is a {type(graph).__name__}, but must be a dict with features and edge_index, or a "
                "torch_geometric.data.Data with x and edge_index"
            )
        if hasattr(graph, "to_data_list"):
            raise ValueError(f"Graph {number} is a batch of several graphs. Pass batch.to_data_list().")
        if not isinstance(graph, dict):
            if missing := [name for name in ("x", "edge_index") if getattr(graph, name, None) is None]:
                raise ValueError(f"Graph {number} is a {type(graph).__name__} that needs {missing}, but has none")
            graph = {"features": graph.x.detach().cpu(), "edge_index": graph.edge_index.cpu()}
        if missing := {"features", "edge_index"} - set(graph):
            raise ValueError(f"Graph {number} needs {sorted(missing)}, but has {sorted(graph)}")
        if _depth(graph["features"]) > 2:
            raise ValueError(
                f"Graph {number} holds the columns of several graphs, as dataset[:3] does. Pass a list of rows, or "
                "dataset.select(range(3))."
            )
        features, edges = checked_graph(
            f"Graph {number}", graph["features"], graph["edge_index"], self.model.config.num_features
        )
        return {"features": features, "edges": edges, "length": len(features)}

    def _classify(self, rows: Sequence[dict[str, Any]], budget: dict[str, Any]) -> list[dict[str, Any]]:
        batch = {name: value.to(self.model.device) for name, value in GraphCollator()(rows).items()}
        output = self.model(**batch, **budget)
        results = []
        parts = (output.logits.float().softmax(-1), output.rationale_mask > 0, output.rationale_scores.float())
        for row, probabilities, mask, scores in zip(rows, *(part.cpu() for part in parts), strict=True):
            label = int(probabilities.argmax())
            chosen = mask.nonzero().flatten().tolist()
            results.append(
                {
                    "label": self.model.config.id2label[label],
                    "score": float(probabilities[label]),
                    "rationale": chosen,
                    "edges": [tuple(edge) for edge in row["edges"].tolist() if set(edge) <= set(chosen)],
                    "node_scores": scores[: row["length"]].tolist(),
                    "sparsity": len(chosen) / row["length"],
                }
            )
        return results


def check_names(budget: dict[str, Any]):
    """Raises `TypeError` if this is not the name of a budget."""
    if unknown := sorted(set(budget) - set(BUDGETS)):
        raise TypeError(f"Unknown arguments: {unknown}; there are {[*BUDGETS, 'batch_size']}")


def _depth(values: Any) -> int:
    """How many lists are inside each other. Those inside may differ in length."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return 1 + (_depth(values[0]) if values else 0)
    return np.ndim(values)
