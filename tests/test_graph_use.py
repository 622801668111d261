"""Graphs from files and generators, the pipeline, the yardsticks and the picture."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from test_kinds import graphs

from hf_rationale import GraphRationalePipeline, load_rationale_dataset
from hf_rationale.data import MalformedDataError
from hf_rationale.data.graphs import MOTIF_SIZE, MOTIFS
from hf_rationale.graph.paths import path_lengths, undirected
from hf_rationale.graph.picture import draw_graphs, layout
from hf_rationale.graph.yardsticks import graph_yardsticks


# --- Generated graphs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options",
    [("ba2motifs", {}), *(("goodmotif", {"shift": shift}) for shift in ("base", "size", "spurious"))],
)
def test_generated_graphs_are_connected_and_gold_is_the_motif(name, options):
    dataset = load_rationale_dataset(name, n_train=30, n_validation=6, n_test=30, **options)
    names = dataset["train"].features["label"].names
    for split in dataset.values():
        assert split.features == dataset["train"].features and split.info.dataset_name == name
        for row in split:
            nodes, edges = len(row["features"]), undirected(row["edge_index"])
            assert path_lengths(nodes, edges).max() < nodes
            gold = np.flatnonzero(row["rationale"])
            inside = np.isin(edges, gold).sum(1)
            assert len(gold) == MOTIF_SIZE and (inside == 1).sum() == 1
            assert (inside == 2).sum() == len(MOTIFS[names[row["label"]]])
        counts = np.bincount(split["label"])
        assert counts.max() - counts.min() <= 1


def test_a_split_without_graphs_is_refused():
    with pytest.raises(ValueError, match="n_test must be at least 1"):
        load_rationale_dataset("ba2motifs", n_test=0)


def test_the_same_seed_gives_the_same_graphs():
    one, same, more, other = (
        load_rationale_dataset("ba2motifs", n_train=n_train, n_validation=4, n_test=4, seed=seed)
        for n_train, seed in ((8, 0), (8, 0), (9, 0), (8, 1))
    )
    assert one["train"][:] == same["train"][:] and one["test"][:] == more["test"][:]
    assert one["train"][:] != other["train"][:]
    places = [np.flatnonzero(row).tolist() for row in one["train"]["rationale"]]
    assert len({tuple(place) for place in places}) > 1  # nodes are in random order


def test_shifts_of_goodmotif():
    def sizes(split):
        return [len(row) - MOTIF_SIZE for row in split["features"]]

    shifted = load_rationale_dataset("goodmotif", n_train=60, n_validation=6, n_test=60, shift="size")
    assert min(sizes(shifted["train"])) >= 10 and max(sizes(shifted["train"])) <= 20
    assert min(sizes(shifted["test"])) >= 30 and max(sizes(shifted["test"])) <= 60
    always = load_rationale_dataset("goodmotif", n_train=60, n_validation=6, n_test=60, shift="spurious", bias=1.0)
    wheels = [row["label"] for row in always["train"] if np.bincount(row["edge_index"][0]).max() > 8]
    assert set(wheels) == {0}
    assert {row["label"] for row in always["test"] if np.bincount(row["edge_index"][0]).max() > 8} == {0, 1, 2}
    for options in ({"shift": "colour"}, {"bias": 2}, {"data_dir": "."}):
        with pytest.raises(ValueError, match=next(iter(options))):
            load_rationale_dataset("goodmotif", **options)


# --- Files -----------------------------------------------------------------------------------------------------------


def test_published_ba2motifs(tmp_path):
    (tmp_path / "BA_2Motifs.pkl").write_bytes(b"anything")
    with pytest.raises(FileNotFoundError, match=r"is a pickle, which can run any code(.|\n)*numpy.savez"):
        load_rationale_dataset("ba2motifs", tmp_path)
    adjacency = np.zeros((20, 7, 7))
    adjacency[:, 0, 1] = adjacency[:, 1, 0] = 1
    arrays = {"adjacency": adjacency, "features": np.full((20, 7, 10), 0.1), "labels": np.eye(2)[np.arange(20) % 2]}
    np.savez(tmp_path / "BA_2Motifs.npz", **arrays)
    dataset = load_rationale_dataset("ba2motifs", tmp_path)
    assert {name: len(split) for name, split in dataset.items()} == {"train": 16, "validation": 2, "test": 2}
    row = dataset["train"][0]
    assert row["edge_index"] == [[0, 1], [1, 0]] and row["rationale"] == [0, 0, 1, 1, 1, 1, 1]
    assert len(row["features"][0]) == 10
    np.savez(tmp_path / "BA_2Motifs.npz", **arrays | {"labels": np.arange(20)})
    with pytest.raises(MalformedDataError, match="expected shapes"):
        load_rationale_dataset("ba2motifs", tmp_path)
    (tmp_path / "BA_2Motifs.npz").write_text("no archive")
    with pytest.raises(MalformedDataError, match="expected the arrays adjacency, features and labels"):
        load_rationale_dataset("ba2motifs", tmp_path)


def write_tu(folder, **changes):
    """Twelve triangles with a tail, of atoms 0 and 5 by turns."""
    triangles = [(4 * g + a, 4 * g + b) for g in range(12) for a, b in ((1, 2), (2, 3), (3, 1), (3, 4))]
    files = {
        "A": [f"{a}, {b}" for a, b in triangles],
        "graph_indicator": [str(1 + node // 4) for node in range(48)],
        "graph_labels": [str(1 - 2 * (g % 2)) for g in range(12)],
        "node_labels": [str(5 * (node % 2)) for node in range(48)],
        **changes,
    }
    for name, lines in files.items():
        if lines is not None:
            (folder / f"TINY_{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_tu_files(tmp_path):
    write_tu(tmp_path)
    dataset = load_rationale_dataset("tu", tmp_path)
    assert {name: len(split) for name, split in dataset.items()} == {"train": 10, "validation": 1, "test": 1}
    row = dataset["train"][0]
    assert row["features"] == [[1.0, 0.0], [0.0, 1.0]] * 2 and row["rationale"] is None
    assert undirected(row["edge_index"]).tolist() == [[0, 1], [0, 2], [1, 2], [2, 3]]
    assert dataset["train"].features["label"].names == ["-1", "1"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"A": ["1, 2", "1, two"]}, "TINY_A.txt, line 2: expected numbers"),
        ({"A": ["1, 2", "1, 5"]}, "TINY_A.txt, line 2: expected an edge between nodes of one graph"),
        ({"A": ["1, 99"]}, "expected pairs of nodes from 1 to 48"),
        ({"graph_labels": ["1"]}, "TINY_graph_labels.txt: expected 12 lines, found 1"),
        ({"graph_indicator": ["2", "1"]}, "expected numbers from 1 that increase"),
        ({"graph_indicator": ["1", "3"]}, "and none left out"),
        ({"graph_labels": ["1"] * 11 + ["nan"]}, "TINY_graph_labels.txt: expected whole numbers"),
        ({"graph_labels": ["1"] * 11 + ["0.5"]}, "TINY_graph_labels.txt: expected whole numbers"),
        ({"node_labels": ["1", "1, 2"]}, "line 2: expected 1 numbers, found 2"),
    ],
)
def test_malformed_tu_files_raise(tmp_path, changes, message):
    write_tu(tmp_path, **changes)
    with pytest.raises(MalformedDataError, match=message):
        load_rationale_dataset("tu", tmp_path)


def test_missing_tu_files_raise(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"_A\.txt"):
        load_rationale_dataset("tu", tmp_path)
    write_tu(tmp_path, graph_labels=None)
    with pytest.raises(FileNotFoundError, match=r"TINY_graph_labels\.txt"):
        load_rationale_dataset("tu", tmp_path)


# --- Use -------------------------------------------------------------------------------------------------------------


def two_graphs() -> list[dict]:
    random = np.random.default_rng(0)
    return [
        {
            "features": random.normal(size=(nodes, 4)).tolist(),
            "edge_index": [list(range(1, nodes)), [0] * (nodes - 1)],
        }
        for nodes in (6, 3)
    ]


def test_pipeline():
    from torch_geometric.data import Data

    model = graphs().model()
    pipe = GraphRationalePipeline(model, batch_size=1)
    rows = two_graphs()
    results = pipe(rows)
    together = GraphRationalePipeline(model)(rows)[1]
    assert together["rationale"] == results[1]["rationale"] and together["score"] == pytest.approx(results[1]["score"])
    assert pipe(rows[0]) == results[0]
    data = Data(x=torch.tensor(rows[0]["features"]), edge_index=torch.tensor(rows[0]["edge_index"]))
    assert pipe(data) == results[0] and pipe([data]) == results[:1]
    data.x.requires_grad_()
    assert pipe(data) == results[0]
    for row, result in zip(rows, results, strict=True):
        nodes = len(row["features"])
        assert result["sparsity"] == len(result["rationale"]) / nodes
        assert len(result["node_scores"]) == nodes
        chosen = set(result["rationale"])
        assert chosen == set(np.argsort(result["node_scores"])[::-1][: len(chosen)].tolist())
        assert all({left, right} <= chosen for left, right in result["edges"])
    assert len(pipe(rows[0], rationale_top_k=2)["rationale"]) == 2
    everything = GraphRationalePipeline(model, rationale_ratio=1.0)(rows[0])
    assert everything["edges"] == [(0, node) for node in range(1, 6)]
    with pytest.raises(ValueError, match="Graph 1: edge_index"):
        pipe([rows[0], rows[1] | {"edge_index": [[0], [4]]}])
    with pytest.raises(ValueError, match=r"Graph 0 needs \['edge_index'\]"):
        pipe({"features": [[1.0] * 4]})


NODES, EDGE = [[1.0] * 4] * 3, [[0], [1]]


@pytest.mark.parametrize(
    "graph, options, error, message",
    [
        ("hello", {}, ValueError, "Graph 0 is a str, but must be a dict with features and edge_index"),
        (
            {"features": [NODES] * 2, "edge_index": [EDGE] * 2},
            {},
            ValueError,
            "Pass a list of rows, or",
        ),
        ({"features": [NODES, NODES[:2]], "edge_index": [EDGE] * 2}, {}, ValueError, "Graph 0 holds the columns of"),
        ({"features": NODES, "edge_index": [[0.5], [1.0]]}, {}, ValueError, "Graph 0: .*but has fractions"),
        ({"features": [[1.0], [1.0, 2.0]], "edge_index": EDGE}, {}, ValueError, "Graph 0: features must be lists"),
        ({"features": NODES, "edge_index": [[0], [1, 2]]}, {}, ValueError, "Graph 0: edge_index must be lists"),
        ({"features": NODES, "edge_index": EDGE}, {"top_k": 2}, TypeError, "there are .*'batch_size'"),
        ({"features": NODES, "edge_index": EDGE}, {"batch_size": 0}, ValueError, "batch_size"),
    ],
)
def test_what_is_no_graph_is_refused_by_its_number(graph, options, error, message):
    with pytest.raises(error, match=message):
        GraphRationalePipeline(graphs().model())([graph], **options)


@pytest.mark.parametrize("graph", ["hello", None, 5])
def test_what_is_neither_a_graph_nor_a_list_is_refused(graph):
    with pytest.raises(ValueError, match=f"Graph 0 is a {type(graph).__name__}, but must be a dict"):
        GraphRationalePipeline(graphs().model())(graph)


def test_the_pipeline_itself_has_no_unknown_arguments():
    with pytest.raises(TypeError, match=r"Unknown arguments: \['top_k'\]; there are .*'batch_size'"):
        GraphRationalePipeline(graphs().model(), top_k=2)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"features": NODES, "edge_index": [[0.5, 1.0], [1.0, 2.0]]}, "edge_index .* but has fractions"),
        ({"features": [[1.0] * 4, [1.0]], "edge_index": [[0.0], [1.0]]}, "features must be lists of numbers"),
    ],
)
def test_rows_that_are_no_graph_are_refused_by_their_number(row, message):
    good = {"features": NODES, "edge_index": [[0.0], [1.0]]}
    with pytest.raises(ValueError, match=f"Row 1 of the dataset: {message}"):
        graphs().model().encode_dataset(Dataset.from_list([good, row]))


def test_batches_and_datasets_of_torch_geometric_are_their_graphs():
    from torch_geometric.data import Batch, Data, InMemoryDataset

    class Pair(InMemoryDataset):
        def __init__(self):
            super().__init__()
            self.data, self.slices = self.collate(pair)

    pair = [Data(x=torch.ones(size, 4), edge_index=torch.tensor([[0, 1], [1, 2]])) for size in (3, 4)]
    pipe = GraphRationalePipeline(graphs().model())
    assert pipe(Batch.from_data_list(pair)) == pipe(Pair()) == pipe(pair)
    with pytest.raises(ValueError, match=r"Graph 1 is a batch of several graphs. Pass batch.to_data_list\(\)"):
        pipe([pair[0], Batch.from_data_list(pair)])
    with pytest.raises(ValueError, match=r"Graph 0 is a Data that needs \['edge_index'\]"):
        pipe(Data(x=torch.ones(3, 4)))
    alone = pipe(pair, batch_size=1)
    assert [one["rationale"] for one in alone] == [one["rationale"] for one in pipe(pair)]


def test_pipeline_of_a_folder(tmp_path):
    model, row = graphs().model(), two_graphs()[0]
    model.save_pretrained(tmp_path)
    assert GraphRationalePipeline(str(tmp_path))(row) == GraphRationalePipeline(model)(row)


def test_yardsticks_of_graphs():
    dataset = load_rationale_dataset("ba2motifs", n_train=1, n_validation=1, n_test=40)["test"]
    scores = graph_yardsticks(dataset, sparsity=0.2)
    assert scores["core"]["f1"] == 1.0  # the base is a tree, so that the motif has the only cycles
    assert scores["random"]["f1"] < 0.4 and scores["degree"]["f1"] < 0.8
    assert all(row["sparsity"] == row["gold_sparsity"] == pytest.approx(0.2) for row in scores.values())
    with pytest.raises(ValueError, match="No graph of this dataset is marked"):
        graph_yardsticks(dataset.map(lambda row: {"rationale": None}), 0.2)
    with pytest.raises(ValueError, match=r"need the columns \['edge_index'\]"):
        graph_yardsticks(dataset.remove_columns("edge_index"), 0.2)


def test_picture():
    rows = load_rationale_dataset("ba2motifs", n_train=1, n_validation=1, n_test=3)["test"]
    results = [{"label": "house", "score": 0.9, "rationale": [0, 1, 2]}] * 3
    figure = draw_graphs(rows, results, columns=2)
    assert len(figure.axes) == 4 and figure.axes[0].get_title() == "house (0.90)"
    assert len(figure.axes[0].lines) == len(undirected(rows[0]["edge_index"]))
    with pytest.raises(ValueError, match="3 graphs and 1 results"):
        draw_graphs(rows, results[:1])


def test_layout_keeps_distances():
    places = layout(4, np.array([[0, 1], [1, 2], [2, 3]]))
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.testing.assert_allclose(gaps, np.abs(np.subtract.outer(np.arange(4), np.arange(4))), atol=0.05)
    assert np.isfinite(layout(3, np.zeros((0, 2), dtype=int))).all()
