"""What only graphs have: edges, the layers, and the rows of a dataset."""

import sys

import pytest
import torch
from datasets import Dataset
from test_kinds import graphs, graphs_batch
from transformers import AutoModelForSequenceClassification

from hf_rationale import GraphRationaleConfig, NIRTrainer, RationaleForGraphClassification
from hf_rationale.graph.encoding import encode_graphs


LAYERS = ("gcn", "gin", "gat")


def subgraph(batch: dict[str, torch.Tensor], row: int, nodes: list[int]) -> dict[str, torch.Tensor]:
    """The graph of a row without the other nodes."""
    places = {node: place for place, node in enumerate(nodes)}
    pairs = [(left, right) for left, right in batch["edges"][row].tolist() if {left, right} <= set(nodes)]
    edges = torch.tensor([[places[left], places[right]] for left, right in pairs], dtype=torch.long).view(1, -1, 2)
    return {"features": batch["features"][row : row + 1, nodes], "edges": edges}


@torch.no_grad()
@pytest.mark.parametrize("layer_type", LAYERS)
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_masked_is_removed(layer_type, pooling):
    """The predictor reads the induced subgraph of the selected nodes, and nothing else."""
    model, batch = graphs(layer_type=layer_type, pooling=pooling).model(), graphs_batch(sizes=(9, 9))
    for nodes in ([0, 1, 2, 5], [3, 4, 7], [8]):
        mask = torch.zeros(2, 9)
        mask[:, nodes] = 1
        masked = model(**batch, rationale_mask=mask).logits
        for row in range(2):
            alone = subgraph(batch, row, nodes)
            removed = model(**alone, rationale_mask=torch.ones(1, len(nodes))).logits
            torch.testing.assert_close(masked[row], removed[0], atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layer_type", LAYERS)
def test_edges_of_unselected_nodes_never_change_the_logits(layer_type):
    model, batch = graphs(layer_type=layer_type).model(), graphs_batch(sizes=(9,))
    mask = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0, 0, 0]])
    logits = model(**batch, rationale_mask=mask).logits
    for more in ([[4, 0], [8, 1], [6, 2]], [[5, 6], [4, 8], [7, 5]]):
        edges = torch.cat([batch["edges"], torch.tensor([more])], dim=1)
        torch.testing.assert_close(model(**batch | {"edges": edges}, rationale_mask=mask).logits, logits)
    fewer = batch["edges"][:, [pair.max() < 4 for pair in batch["edges"][0]]]
    torch.testing.assert_close(model(**batch | {"edges": fewer}, rationale_mask=mask).logits, logits)
    between = torch.cat([batch["edges"], torch.tensor([[[1, 3], [2, 3]]])], dim=1)
    assert not torch.allclose(model(**batch | {"edges": between}, rationale_mask=mask).logits, logits)


@torch.no_grad()
@pytest.mark.parametrize("layer_type", LAYERS)
def test_the_numbers_of_the_nodes_do_not_matter(layer_type):
    model, batch = graphs(layer_type=layer_type).model(), graphs_batch(sizes=(9,))
    order = torch.randperm(9)
    places = order.argsort()
    turned = batch | {"features": batch["features"][:, order], "edges": places[batch["edges"]].flip(-1)}
    for name in ("logits", "rationale_scores"):
        expected, actual = model(**batch)[name], model(**turned)[name]
        torch.testing.assert_close(actual, expected[:, order] if name == "rationale_scores" else expected)


def rows(**changes) -> Dataset:
    row = {"features": [[1.0], [2.0], [3.0]], "edge_index": [[0, 1, 1], [1, 0, 2]], "label": 1, "rationale": [0, 1, 1]}
    return Dataset.from_list([row, row | changes])


def test_an_encoded_graph_has_every_edge_once():
    encoded = encode_graphs(rows(edge_index=[[0, 2, 1], [0, 0, 2]], rationale=None), num_features=1)
    assert encoded["edges"][:] == [[[0, 1], [1, 2]], [[0, 2], [1, 2]]]
    assert encoded["rationale"][:] == [[0, 1, 1], [-1, -1, -1]]
    assert encoded["length"][:] == [3, 3] and encoded["labels"][:] == [1, 1]
    model = RationaleForGraphClassification(GraphRationaleConfig(hidden_size=8))
    batch = model.data_collator()(list(encode_graphs(rows(edge_index=[[], []]), num_features=1)))
    assert batch["edges"][1].tolist() == [[0, 0], [0, 0]]
    assert model(**{name: value for name, value in batch.items() if name != "rationale"}).loss.isfinite()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"edge_index": [[0], [3]]}, "Row 1 of the dataset: edge_index must have node numbers from 0 to 2"),
        ({"edge_index": [[0, 1]]}, r"Row 1 of the dataset: edge_index must have the shape \(2, edges\)"),
        ({"features": []}, "Row 1 of the dataset: features must have the shape"),
        ({"features": [[1.0, 2.0]] * 3}, "Row 1 of the dataset: features must have the shape"),
        ({"features": [[1.0], [float("nan")], [3.0]]}, "Row 1 of the dataset: features must be finite"),
        ({"rationale": [1, 0]}, "Row 1 of the dataset has 3 nodes"),
    ],
)
def test_a_malformed_graph_raises(changes, message):
    with pytest.raises(ValueError, match=message):
        encode_graphs(rows(**changes), num_features=1)


def test_a_missing_column_raises():
    with pytest.raises(ValueError, match=r"needs the columns \['edge_index'\]"):
        encode_graphs(rows().remove_columns("edge_index"), num_features=1)


def test_malformed_inputs_raise():
    model, batch = graphs().model(), graphs_batch(sizes=(4, 2))
    for changes, message in (
        ({"features": batch["features"][..., :2]}, "features must have the shape"),
        ({"edges": batch["edges"][..., :1]}, "edges must have the shape"),
        ({"edges": batch["edges"] + 3}, "node numbers from 0 to 3"),
        ({"node_mask": torch.zeros(2, 4)}, "A graph has no node"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**batch | changes)


def test_methods_and_options_of_texts_raise_by_name(tmp_path):
    model = graphs().model()
    with pytest.raises(ValueError, match="NIR replaces words by words, but RationaleForGraphClassification"):
        NIRTrainer(model=model, args=NIRTrainer.arguments_class(str(tmp_path)))
    with pytest.raises(ValueError, match="Leave max_length out"):
        model.encode_dataset(rows(), max_length=5)
    with pytest.raises(Exception, match="layer_type must be one of"):
        GraphRationaleConfig(layer_type="transformer")
    for options in ({"mask_head": "spans"}, {"decoding": "threshold", "switch_cost": 0.1}):
        with pytest.raises(Exception, match="nodes of a graph are no sequence"):
            GraphRationaleConfig(**options)


def test_the_auto_class_loads_a_model_of_graphs(tmp_path):
    graphs().model().save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, RationaleForGraphClassification)


def test_without_torch_geometric_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "hf_rationale.graph.layers", None)
    with pytest.raises(ImportError, match=r"pip install 'hf_rationale\[graph\]'"):
        RationaleForGraphClassification(GraphRationaleConfig())
