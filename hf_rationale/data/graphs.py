"""What the generated graphs share: a base that means nothing, and a motif that decides the label.

Every graph has a base (a random tree, a ladder …) and one motif of five nodes (a house, a cycle …), which is joined to
it by one edge. All nodes have the same feature, so that only the edges say where the motif is. The label is the motif,
and gold are its nodes. Nodes are in random order.

These graphs are not molecules. A method that finds the motif has passed a sanity check.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value


# The edges of the motifs, all over five nodes.
MOTIFS: dict[str, list[tuple[int, int]]] = {
    "house": [(0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (1, 4)],
    "cycle": [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)],
    "crane": [(0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (1, 4), (3, 4)],
}
MOTIF_SIZE = 5

# (split, label, random numbers) -> the number of nodes of a base, and its edges.
DrawBase = Callable[[str, int, np.random.Generator], tuple[int, list[tuple[int, int]]]]


def graph_features(label_names: Sequence[str], num_features: int) -> Features:
    """The columns of a corpus of graphs.

    Args:
        label_names (`Sequence[str]`): the class names in the order of their ids.
        num_features (`int`): the number of features of a node.

    Returns:
        `datasets.Features`: `features` (nodes, features), `edge_index` (2, edges), `label`, and `rationale` (0/1 for
        each node; the whole list is `None` if nobody marked the graph).
    """
    return Features(
        {
            "features": List(List(Value("float32"), length=num_features)),
            "edge_index": List(List(Value("int32")), length=2),
            "label": ClassLabel(names=list(label_names)),
            "rationale": List(Value("int8")),
        }
    )


def to_graph_dataset(rows: Sequence[dict[str, Any]], label_names: Sequence[str]) -> Dataset:
    """Puts rows with the columns of [`graph_features`] into a `Dataset`."""
    features = graph_features(label_names, len(rows[0]["features"][0]))
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


def divided(rows: Sequence[dict[str, Any]], label_names: Sequence[str], seed: int) -> DatasetDict:
    """Rows in a random order, of which 80 % are train, 10 % validation and 10 % test.

    Raises:
        ValueError: there are fewer than ten rows.
    """
    if len(rows) < 10:
        raise ValueError(f"There are only {len(rows)} graphs, which cannot be divided into three splits.")
    order, tenth = np.random.default_rng(seed).permutation(len(rows)), len(rows) // 10
    places = {"train": order[2 * tenth :], "validation": order[:tenth], "test": order[tenth : 2 * tenth]}
    return DatasetDict(
        {split: to_graph_dataset([rows[row] for row in numbers], label_names) for split, numbers in places.items()}
    )


def generated(sizes: dict[str, int], label_names: Sequence[str], draw_base: DrawBase, seed: int) -> DatasetDict:
    """Splits of graphs with one motif each. The labels are the motifs, as equal in number as possible. The splits are
    drawn independently: the size of one changes nothing in the others."""
    if empty := [f"n_{split}" for split, count in sizes.items() if count < 1]:
        raise ValueError(f"{', '.join(empty)} must be at least 1")
    splits = {}
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    for (split, count), stream in zip(sizes.items(), streams, strict=True):
        rng, rows = np.random.default_rng(stream), []
        for label in rng.permutation(np.arange(count) % len(label_names)).tolist():
            size, base = draw_base(split, label, rng)
            rows.append(join_motif(size, base, label_names[label], rng) | {"label": label})
        splits[split] = to_graph_dataset(rows, label_names)
    return DatasetDict(splits)


def join_motif(
    size: int, base: Iterable[tuple[int, int]], motif: str, rng: np.random.Generator
) -> dict[str, list[Any]]:
    """A base of `size` nodes and a motif, joined by an edge between a random node of each, in random order."""
    bridge = (int(rng.integers(size)), size + int(rng.integers(MOTIF_SIZE)))
    edges = np.array([*base, *((size + left, size + right) for left, right in MOTIFS[motif]), bridge])
    nodes = size + MOTIF_SIZE
    order = rng.permutation(nodes)
    edges, marks = order[edges], np.zeros(nodes, dtype=int)
    marks[order[size:]] = 1
    return {
        "features": [[1.0]] * nodes,
        "edge_index": np.concatenate([edges, edges[:, ::-1]]).T.tolist(),
        "rationale": marks.tolist(),
    }
