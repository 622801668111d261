"""Generated graphs with exact gold rationales: a base that means nothing, and a motif that decides the label.

What the data is: every graph has a base (a random tree, a ladder …) and one motif of five nodes (a house, a cycle …),
which is joined to it by one edge. All nodes have the same feature, so that only the edges say where the motif is. The
label is the motif, and gold are its nodes. Nodes are in random order.

What it is not: molecules. A method that finds the motif has passed a sanity check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value


# The edges of the motifs, all over five nodes.
MOTIFS: dict[str, list[tuple[int, int]]] = {
    "house": [(0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (1, 4)],
    "cycle": [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)],
    "crane": [(0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (1, 4), (3, 4)],
}
MOTIF_SIZE = 5

# size and random numbers -> the edges of a base
Base = Callable[[int, np.random.Generator], list[tuple[int, int]]]


def graph_features(label_names: Sequence[str], num_features: int = 1) -> Features:
    """The columns of a corpus of graphs: `features` (nodes, features), `edge_index` (2, edges), `label`, and
    `rationale`, which has 0 or 1 for every node, or is `None` if the graph is not marked."""
    return Features(
        {
            "features": List(List(Value("float32"), length=num_features)),
            "edge_index": List(List(Value("int32")), length=2),
            "label": ClassLabel(names=list(label_names)),
            "rationale": List(Value("int8")),
        }
    )


# --- Bases -----------------------------------------------------------------------------------------------------------


def barabasi_albert(size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """A tree in which every new node is joined to one old node, drawn in proportion to its degree."""
    edges, ends = [(0, 1)], [0, 1]
    for node in range(2, size):
        old = ends[rng.integers(len(ends))]
        edges.append((old, node))
        ends += [old, node]
    return edges


def wheel(size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    rim = [(node, node % (size - 1) + 1) for node in range(1, size)]
    return rim + [(0, node) for node in range(1, size)]


def tree(size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    return [((node - 1) // 2, node) for node in range(1, size)]


def ladder(size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    half = size // 2
    side = path(half, rng)
    return side + [(half + left, half + right) for left, right in side] + [(node, half + node) for node in range(half)]


def star(size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    return [(0, node) for node in range(1, size)]


def path(size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    return [(node, node + 1) for node in range(size - 1)]


BASES: dict[str, Base] = {"wheel": wheel, "tree": tree, "ladder": ladder, "star": star, "path": path}


# --- Corpora ---------------------------------------------------------------------------------------------------------


def join_motif(base: list[tuple[int, int]], size: int, motif: str, rng: np.random.Generator) -> dict:
    """A base of `size` nodes and a motif, joined by an edge between a random node of each, in random order."""
    edges = np.array(base + [(size + left, size + right) for left, right in MOTIFS[motif]])
    bridge = [rng.integers(size), size + rng.integers(MOTIF_SIZE)]
    edges = np.concatenate([edges, [bridge]])
    order = rng.permutation(size + MOTIF_SIZE)
    edges = order[edges]
    return {
        "features": [[1.0]] * (size + MOTIF_SIZE),
        "edge_index": np.concatenate([edges, edges[:, ::-1]]).T.tolist(),
        "rationale": np.isin(np.argsort(order), np.arange(size, size + MOTIF_SIZE)).astype(int).tolist(),
    }


def _to_dataset(rows: Sequence[dict], label_names: Sequence[str]) -> Dataset:
    features = graph_features(label_names)
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


def make_ba2motifs(
    n_train: int = 800, n_validation: int = 100, n_test: int = 100, base_size: int = 20, seed: int = 0
) -> DatasetDict:
    r"""
    BA-2motifs (Luo et al., NeurIPS 2020), generated: a Barabási-Albert tree of 20 nodes with a house or a cycle of
    five nodes. All graphs are connected, which some of the published ones are not.

    Args:
        n_train, n_validation, n_test (`int`, *optional*, default to 800, 100 and 100): number of graphs of each split.
            Half of them have a house.
        base_size (`int`, *optional*, defaults to 20): number of nodes of the base.
        seed (`int`, *optional*, defaults to 0): the seed. The size of a split changes nothing in the others.
    """
    names = ("house", "cycle")
    sizes = {"train": n_train, "validation": n_validation, "test": n_test}
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    splits = {}
    for (split, size), stream in zip(sizes.items(), streams, strict=True):
        rng, rows = np.random.default_rng(stream), []
        for label in rng.permutation(np.arange(size) % len(names)):
            base = barabasi_albert(base_size, rng)
            rows.append(join_motif(base, base_size, names[label], rng) | {"label": int(label)})
        splits[split] = _to_dataset(rows, names)
    return DatasetDict(splits)


SHIFTS = ("base", "size", "spurious")


def make_goodmotif(
    n_train: int = 1800,
    n_validation: int = 300,
    n_test: int = 600,
    shift: str = "base",
    bias: float = 0.8,
    seed: int = 0,
) -> DatasetDict:
    r"""
    Graphs in the manner of GOOD-Motif (Gui et al., NeurIPS 2022): a wheel, a tree or a ladder of 10 to 20 nodes, with
    one of three motifs: a house, a cycle of five nodes, or a crane (a square, and a node that is joined to three of
    its corners). The test set is drawn from another distribution than training and validation.

    Args:
        n_train, n_validation, n_test (`int`, *optional*, default to 1,800, 300 and 600): number of graphs of each
            split. A third of them has each motif.
        shift (`str`, *optional*, defaults to `"base"`): what is different in the test set. `"base"`: the bases are
            stars and paths. `"size"`: the bases have 30 to 60 nodes. `"spurious"`: in training and validation the base
            goes with the motif (wheel with house, tree with cycle, ladder with crane), and in the test set it does
            not.
        bias (`float`, *optional*, defaults to 0.8): with `shift="spurious"`, the share of the training graphs whose
            base goes with the motif. The others have any of the three.
        seed (`int`, *optional*, defaults to 0): the seed. The size of a split changes nothing in the others.

    Raises:
        ValueError: if there is no such shift, or if `bias` is not between 0 and 1.
    """
    if shift not in SHIFTS or not 0 <= bias <= 1:
        raise ValueError(f"shift must be one of {SHIFTS} and bias lie between 0 and 1, but they are {shift!r}, {bias}")
    names = tuple(MOTIFS)
    sizes = {"train": n_train, "validation": n_validation, "test": n_test}
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    splits = {}
    for (split, count), stream in zip(sizes.items(), streams, strict=True):
        rng, rows, shifted = np.random.default_rng(stream), [], split == "test"
        bases = ("star", "path") if shifted and shift == "base" else ("wheel", "tree", "ladder")
        low, high = (30, 61) if shifted and shift == "size" else (10, 21)
        for label in rng.permutation(np.arange(count) % len(names)):
            base = bases[rng.integers(len(bases))]
            if shift == "spurious" and not shifted and rng.random() < bias:
                base = bases[label]
            size = int(rng.integers(low, high)) // 2 * 2  # a ladder has an even number of nodes
            rows.append(join_motif(BASES[base](size, rng), size, names[label], rng) | {"label": int(label)})
        splits[split] = _to_dataset(rows, names)
    return DatasetDict(splits)
