"""Graphs in the manner of GOOD-Motif (Gui et al., NeurIPS 2022), whose test set is drawn from another distribution.

What the data is: a base (a wheel, a tree or a ladder of 10 to 20 nodes) with one of three motifs of five nodes, which
are gold, .26 of all nodes. In the test set the bases are others, or larger, or they do not go with the label any more.

What it is not: the published data, whose sizes and proportions are others.

Reference:
    Shurui Gui, Xiner Li, Limei Wang, Shuiwang Ji. GOOD: A Graph Out-of-Distribution Benchmark. NeurIPS, 2022.
    https://arxiv.org/abs/2206.08452
"""

from collections.abc import Callable

import numpy as np
from datasets import DatasetDict

from .corpus import Corpus
from .graphs import MOTIFS, generated


SHIFTS = ("base", "size", "spurious")


def wheel(size: int) -> list[tuple[int, int]]:
    return star(size) + [(node, node % (size - 1) + 1) for node in range(1, size)]


def tree(size: int) -> list[tuple[int, int]]:
    return [((node - 1) // 2, node) for node in range(1, size)]


def ladder(size: int) -> list[tuple[int, int]]:
    half = size // 2
    side = path(half)
    return side + [(half + left, half + right) for left, right in side] + [(node, half + node) for node in range(half)]


def star(size: int) -> list[tuple[int, int]]:
    return [(0, node) for node in range(1, size)]


def path(size: int) -> list[tuple[int, int]]:
    return [(node, node + 1) for node in range(size - 1)]


# The edges of a base of so many nodes, an even number.
Base = Callable[[int], list[tuple[int, int]]]
SEEN: tuple[Base, ...] = (wheel, tree, ladder)
UNSEEN: tuple[Base, ...] = (star, path)


def read_goodmotif(
    data_dir: None = None,
    n_train: int = 1800,
    n_validation: int = 300,
    n_test: int = 600,
    shift: str = "base",
    bias: float = 0.8,
    seed: int = 0,
) -> DatasetDict:
    """Generates the graphs.

    Args:
        data_dir (*optional*): there are no files.
        n_train, n_validation, n_test (`int`, *optional*, default to 1,800, 300 and 600): number of graphs of each
            split. A third of them has each motif: a house, a cycle, or a crane (a square, and a node that is joined to
            three of its corners).
        shift (`str`, *optional*, defaults to `"base"`): what is different in the test set. `"base"`: the bases are
            stars and paths. `"size"`: the bases have 30 to 60 nodes. `"spurious"`: in training and validation the base
            goes with the motif (wheel with house, tree with cycle, ladder with crane), and in the test set it does
            not.
        bias (`float`, *optional*, defaults to 0.8): with `shift="spurious"`, the share of the training graphs whose
            base goes with the motif. The others have any of the three.
        seed (`int`, *optional*, defaults to 0): the seed.

    Raises:
        ValueError: there is no such shift, `bias` is not between 0 and 1, or there is a `data_dir`.
    """
    if data_dir is not None:
        raise ValueError("goodmotif is generated and reads no files: leave data_dir out.")
    if shift not in SHIFTS:
        raise ValueError(f"shift must be one of {', '.join(SHIFTS)}, but is {shift!r}")
    if not 0 <= bias <= 1:
        raise ValueError(f"bias must lie between 0 and 1, but is {bias}")

    def draw_base(split: str, label: int, rng: np.random.Generator) -> tuple[int, list[tuple[int, int]]]:
        shifted = shift if split == "test" else None
        bases = UNSEEN if shifted == "base" else SEEN
        base = bases[rng.integers(len(bases))]
        if shift == "spurious" and split != "test" and rng.random() < bias:
            base = SEEN[label]
        low, high = (15, 30) if shifted == "size" else (5, 10)
        size = 2 * int(rng.integers(low, high + 1))  # both sides of a ladder are equally long
        return size, base(size)

    sizes = {"train": n_train, "validation": n_validation, "test": n_test}
    return generated(sizes, tuple(MOTIFS), draw_base, seed)


GOODMOTIF = Corpus(
    name="goodmotif",
    read=read_goodmotif,
    description="Graphs in the manner of GOOD-Motif (Gui et al. 2022), generated: a base with one of three motifs of "
    "five nodes, which are gold. The bases of the test set are drawn from another distribution.",
    license="Apache 2.0, as hf_rationale",
    files="none: the graphs are generated",
    source="this package",
    marked="all",
)
