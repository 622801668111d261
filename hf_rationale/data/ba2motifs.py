r"""BA-2motifs (Luo et al., NeurIPS 2020): a random tree with a house or a cycle of five nodes.

What the data is: 1,000 graphs. The base is a Barabási-Albert tree of 20 nodes, and gold are the five nodes of the
motif, .20 of all. They are generated here. In the published file some graphs are not connected
(https://github.com/flyingdoog/PGExplainer/issues/10); ours are.

Reference:
    Dongsheng Luo et al. Parameterized Explainer for Graph Neural Network. NeurIPS, 2020.
    https://arxiv.org/abs/2011.04573
"""

import os
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from .corpus import Corpus
from .files import corpus_folder
from .graphs import MOTIF_SIZE, divided, generated
from .schema import MalformedDataError


BASE_SIZE = 20
FILE_NAME = "BA_2Motifs.npz"
# What converts the published file, for somebody who trusts it.
CONVERT = (
    "import numpy, pickle; names = ('adjacency', 'features', 'labels'); "
    "arrays = pickle.load(open('BA_2Motifs.pkl', 'rb')); "
    "numpy.savez('BA_2Motifs.npz', **dict(zip(names, arrays)))"
)


def read_ba2motifs(
    data_dir: str | os.PathLike | None = None,
    n_train: int = 800,
    n_validation: int = 100,
    n_test: int = 100,
    seed: int = 0,
) -> DatasetDict:
    """Generates the graphs, or reads the published ones if `data_dir` is given.

    Args:
        data_dir (`str` or `os.PathLike`, *optional*): folder with `BA_2Motifs.npz`, or its parent, if the folder is
            named `ba2motifs`. The published `BA_2Motifs.pkl` is a pickle, which runs the code that it contains, so
            that it is not read. The error says how to convert it.
        n_train, n_validation, n_test (`int`, *optional*, default to 800, 100 and 100): number of generated graphs of
            each split. Half of them have a house.
        seed (`int`, *optional*, defaults to 0): of the generated graphs, or of the division of the published ones
            (80 % are train, 10 % validation and 10 % test).

    Raises:
        FileNotFoundError: the file is missing, or there is only the pickle.
        MalformedDataError: the file breaks the format.
    """
    if data_dir is None:
        sizes = {"train": n_train, "validation": n_validation, "test": n_test}
        return generated(
            sizes, ("house", "cycle"), lambda split, label, rng: (BASE_SIZE, barabasi_albert(BASE_SIZE, rng)), seed
        )
    path = corpus_folder("ba2motifs", data_dir, FILE_NAME) / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"Found no {path}. Leave data_dir out to generate the graphs. The published BA_2Motifs.pkl is a pickle, "
            f'which can run any code. If you trust it, convert it: python -c "{CONVERT}"'
        )
    return divided(_read_arrays(path), ("0", "1"), seed)


def barabasi_albert(size: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """The edges of a tree in which every new node is joined to one old node, drawn in proportion to its degree."""
    edges, ends = [(0, 1)], [0, 1]
    for node in range(2, size):
        old = ends[rng.integers(len(ends))]
        edges.append((old, node))
        ends += [old, node]
    return edges


def _read_arrays(path: Path) -> list[dict]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            adjacency, features, labels = (np.asarray(arrays[name]) for name in ("adjacency", "features", "labels"))
    except (ValueError, KeyError, OSError) as error:
        raise MalformedDataError(
            path, None, f"expected the arrays adjacency, features and labels ({error})"
        ) from error
    count, nodes = adjacency.shape[:2] if adjacency.ndim == features.ndim == 3 else (0, 0)
    expected = [(count, nodes, nodes), (count, nodes), (count, 2)]
    if not count or [adjacency.shape, features.shape[:2], labels.shape] != expected:
        shapes = ", ".join(str(array.shape) for array in (adjacency, features, labels))
        problem = f"expected shapes (graphs, nodes, nodes), (graphs, nodes, features) and (graphs, 2), found {shapes}"
        raise MalformedDataError(path, None, problem)
    return [
        {
            "features": features[row].tolist(),
            "edge_index": np.stack(adjacency[row].nonzero()).tolist(),
            "label": int(labels[row].argmax()),
            "rationale": [int(node >= nodes - MOTIF_SIZE) for node in range(nodes)],  # the last five are the motif
        }
        for row in range(count)
    ]


BA2MOTIFS = Corpus(
    name="ba2motifs",
    read=read_ba2motifs,
    description="BA-2motifs (Luo et al. 2020), graphs: a random tree of 20 nodes with a house or a cycle of five "
    "nodes, which are gold. All nodes have the same feature.",
    license="Apache 2.0, as hf_rationale, for generated graphs",
    files="none: the graphs are generated; or `BA_2Motifs.npz`, the published ones",
    source="this package, or <https://github.com/flyingdoog/PGExplainer>",
    marked="all",
)
