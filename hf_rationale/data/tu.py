"""Graphs in the format of TU Dortmund (Morris et al. 2020), such as the molecules of MUTAG.

What the data is: text files with the prefix of the data set's name, such as `MUTAG_A.txt`. Nobody marked the graphs.

Reference:
    Christopher Morris et al. TUDataset: A collection of benchmark datasets for learning with graphs. 2020.
    https://chrsmrrs.github.io/datasets/
"""

import os
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from .corpus import Corpus
from .files import corpus_folder, read_lines
from .graphs import divided
from .schema import MalformedDataError


HOLDS = "NAME_A.txt, NAME_graph_indicator.txt and NAME_graph_labels.txt of one data set, such as MUTAG"


def read_tu(data_dir: str | os.PathLike | None, seed: int = 0) -> DatasetDict:
    """Reads the graphs of one data set.

    Args:
        data_dir (`str` or `os.PathLike`): folder with `NAME_A.txt` (the edges), `NAME_graph_indicator.txt` (the graph
            of each node), `NAME_graph_labels.txt`, and optionally `NAME_node_labels.txt` and
            `NAME_node_attributes.txt`. The features of a node are its label, one-hot, and its attributes; or 1, if it
            has none. What is known of the edges, such as the types of bonds, is not read.
        seed (`int`, *optional*, defaults to 0): of the division into train (80 %), validation and test (10 % each).

    Raises:
        FileNotFoundError: a file is missing.
        MalformedDataError: a line is not made of numbers, a file has the wrong number of lines, or an edge joins
            different graphs.
    """
    folder = corpus_folder("tu", data_dir, HOLDS)
    edges_path = next(iter(sorted(folder.glob("*_A.txt"))), None)
    if edges_path is None:
        raise FileNotFoundError(f"Found no {folder / '*_A.txt'}. Put {HOLDS} there.")
    name = edges_path.name.removesuffix("_A.txt")

    def numbers(suffix: str, lines: int | None = None, optional: bool = False) -> np.ndarray | None:
        path = folder / f"{name}_{suffix}.txt"
        if path.is_file():
            return _read_numbers(path, lines)
        if optional:
            return None
        raise FileNotFoundError(f"Found no {path}. Put {HOLDS} there.")

    def whole_numbers(suffix: str, lines: int | None = None) -> np.ndarray:
        values = numbers(suffix, lines)
        if not np.array_equal(values, np.floor(values)):  # NaN is not equal to itself
            raise MalformedDataError(folder / f"{name}_{suffix}.txt", None, "expected whole numbers")
        return values.astype(int)

    graph_of = whole_numbers("graph_indicator")[:, 0] - 1
    if graph_of[0] != 0 or not set(np.diff(graph_of)) <= {0, 1}:
        problem = "expected numbers from 1 that increase, and none left out"
        raise MalformedDataError(folder / f"{name}_graph_indicator.txt", None, problem)
    graphs, nodes = int(graph_of[-1]) + 1, len(graph_of)
    values = whole_numbers("graph_labels", graphs)[:, 0]
    edges = whole_numbers("A")[:, :2] - 1
    if edges.shape[1] != 2 or edges.min() < 0 or edges.max() >= nodes:
        raise MalformedDataError(edges_path, None, f"expected pairs of nodes from 1 to {nodes}")
    if (apart := graph_of[edges[:, 0]] != graph_of[edges[:, 1]]).any():
        raise MalformedDataError(edges_path, int(apart.argmax()) + 1, "expected an edge between nodes of one graph")
    features = _node_features(numbers("node_labels", nodes, True), numbers("node_attributes", nodes, True), nodes)

    names = np.unique(values)
    bounds = np.searchsorted(graph_of, np.arange(graphs + 1))
    order = np.argsort(graph_of[edges[:, 0]], kind="stable")
    edge_bounds = np.searchsorted(graph_of[edges[order, 0]], np.arange(graphs + 1))
    rows = [
        {
            "features": features[bounds[row] : bounds[row + 1]].tolist(),
            "edge_index": (edges[order[edge_bounds[row] : edge_bounds[row + 1]]] - bounds[row]).T.tolist(),
            "label": int(np.searchsorted(names, values[row])),
            "rationale": None,
        }
        for row in range(graphs)
    ]
    return divided(rows, [str(one) for one in names], seed)


def _read_numbers(path: Path, lines: int | None) -> np.ndarray:
    """The numbers (lines, columns) of a file, separated by commas."""
    rows = []
    for number, line in read_lines(path):
        try:
            rows.append([float(cell) for cell in line.split(",")])
        except ValueError:
            raise MalformedDataError(path, number, f"expected numbers separated by commas, found {line!r}") from None
        if len(rows[-1]) != len(rows[0]):
            raise MalformedDataError(path, number, f"expected {len(rows[0])} numbers, found {len(rows[-1])}")
    if not rows or len(rows) != (lines or len(rows)):
        raise MalformedDataError(path, None, f"expected {lines or 'some'} lines, found {len(rows)}")
    return np.array(rows)


def _node_features(labels: np.ndarray | None, attributes: np.ndarray | None, nodes: int) -> np.ndarray:
    parts = [] if attributes is None else [attributes]
    if labels is not None:
        parts = [(column[:, None] == np.unique(column)).astype(float) for column in labels.T] + parts
    return np.concatenate(parts, axis=1) if parts else np.ones((nodes, 1))


TU = Corpus(
    name="tu",
    read=read_tu,
    description="Graphs in the format of TU Dortmund (Morris et al. 2020). The splits are random.",
    license="that of the data set",
    files="`NAME_A.txt`, `NAME_graph_indicator.txt`, `NAME_graph_labels.txt` and optionally `NAME_node_labels.txt` "
    "and `NAME_node_attributes.txt` of a data set such as MUTAG",
    source="<https://chrsmrrs.github.io/datasets/>",
    marked="none",
)
