"""The rationale classifier over graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional as F

from ..modeling.base import RationalePreTrainedModel, is_readable
from ..modeling.outputs import Prediction, RationaleClassifierOutput, RationaleInputs
from ..modeling.players import MaskPredictor, make_head, pool
from ..modeling.selection import Marks, marks_of_positions, single_units
from .configuration_graph import GraphRationaleConfig
from .encoding import GraphCollator, encode_graphs
from .yardsticks import graph_yardsticks


VARIANCE_FLOOR = 1e-3  # all nodes of a cycle have the same state


class GraphEncoder(nn.Module):
    """Layers over the part of a graph that a mask selects. What is not selected has the state 0 before every
    layer, and its edges have the weight 0."""

    def __init__(self, config: GraphRationaleConfig):
        super().__init__()
        try:
            from .layers import LAYERS  # torch-geometric is an extra
        except ImportError:
            raise ImportError("Graphs need torch-geometric: pip install 'hf_rationale[graph]'") from None
        size = config.hidden_size
        self.embedding = nn.Linear(config.num_features, size)
        self.layers = nn.ModuleList(LAYERS[config.layer_type](size) for _ in range(config.num_layers))
        self.norms = nn.ModuleList(GraphNorm(size) for _ in range(config.num_layers))

    def forward(self, inputs: RationaleInputs, mask: torch.Tensor) -> torch.Tensor:
        """States (batch, nodes, hidden) of a batch with a `mask` (batch, nodes)."""
        features, edges = inputs.features["features"], inputs.features["edges"]
        batch, nodes = mask.shape
        edges = (edges + nodes * torch.arange(batch, device=edges.device).view(-1, 1, 1)).flatten(0, 1)
        edges = edges[edges[:, 0] != edges[:, 1]].T  # without padding
        edge_index = torch.cat([edges, edges.flip(0)], dim=1)
        visible = mask.to(features.dtype)
        weights = visible.flatten()[edge_index].prod(0)
        total = visible.sum(1, keepdim=True)
        shares = (visible / total.masked_fill(total == 0, 1)).unsqueeze(1)
        hidden = self.embedding(features)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            states = layer((hidden * visible.unsqueeze(-1)).flatten(0, 1), edge_index, weights)
            hidden = hidden + F.relu(norm(states.view_as(hidden), shares))
        return hidden

    def reset_parameters(self):
        for module in (self.embedding, *self.layers, *self.norms):
            module.reset_parameters()


class GraphNorm(nn.Module):
    r"""
    γ (h_i − α μ) / σ + β with the mean μ and the deviation σ over the selected nodes of each graph (Cai et al., ICML
    2021). Layer normalization would not do: the number of equal neighbours only scales a state, and the scale is what
    it removes.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        self.mean_scale = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.mean_scale)

    def forward(self, hidden: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Normalized states of `hidden` (batch, nodes, hidden). `shares` (batch, 1, nodes) are those of the selected
        nodes in the mean."""
        centered = hidden - self.mean_scale * (shares @ hidden)
        variance = shares @ centered.square()
        return centered * (self.weight * (variance + VARIANCE_FLOOR).rsqrt()) + self.bias


class GraphExtractor(nn.Module):
    """An encoder of the whole graph, and the mask predictor."""

    def __init__(self, config: GraphRationaleConfig):
        super().__init__()
        self.encoder = GraphEncoder(config)
        self.mask_predictor = MaskPredictor(config, config.hidden_size)

    def forward(self, inputs: RationaleInputs, stage: int, hidden, mask) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.encoder(inputs, mask)
        return hidden, self.mask_predictor(hidden, inputs.units)


class GraphPredictor(nn.Module):
    """An encoder of the selected part of the graph, pooling over its nodes, and a classifier."""

    def __init__(self, config: GraphRationaleConfig, encoder: GraphEncoder | None):
        super().__init__()
        self.encoder, self.pooling = encoder, config.pooling
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = make_head(config, config.hidden_size, config.num_labels)

    def forward(self, reader: GraphEncoder, inputs: RationaleInputs, mask: torch.Tensor, full_text=None) -> Prediction:
        hidden = (reader if self.encoder is None else self.encoder)(inputs, mask)
        representation = pool(hidden, mask, self.pooling)
        return Prediction(self.classifier(self.dropout(representation)), representation, None, None)


class RationaleForGraphClassification(RationalePreTrainedModel):
    r"""
    A classifier of graphs that selects nodes and decides from the subgraph of these alone.

    The extractor reads the whole graph. The predictor reads the induced subgraph: the selected nodes with their
    features, and the edges between two selected nodes. Its decision is the same as if the other nodes were removed.

    All methods but PLMR, which splits a transformer by depth, and NIR, which replaces words, can train it. It needs
    torch-geometric (`pip install 'hf_rationale[graph]'`).

    Args:
        config ([`GraphRationaleConfig`]): the configuration. The model has fresh weights.

    Raises:
        ImportError: if torch-geometric is not installed.
    """

    config_class = GraphRationaleConfig
    main_input_name = "features"
    example_name, mark_name = "graph", "node"
    marks_form_spans = False
    hub_task = "graph-ml"
    usage = """from hf_rationale import GraphRationalePipeline

pipe = GraphRationalePipeline("{folder}")
print(pipe(graph))  # a dict with the lists features and edge_index
"""
    encoded_columns = ("edges",)

    def __init__(self, config: GraphRationaleConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.extractor = GraphExtractor(config)
        self.predictor = GraphPredictor(config, None if config.share_encoder else GraphEncoder(config))
        self.post_init()

    def _init_weights(self, module: nn.Module):
        # The layers keep the initialization of torch-geometric: with transformers' small weights, the first layers
        # have states near 0, which the normalization does not scale up.
        if isinstance(module, GraphEncoder):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    @property
    def reader(self) -> GraphEncoder:
        return self.extractor.encoder if self.predictor.encoder is None else self.predictor.encoder

    def prepare(
        self,
        features: torch.Tensor,
        edges: torch.LongTensor,
        node_mask: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        columns: dict[str, torch.Tensor] | None = None,
    ) -> RationaleInputs:
        """Check the graphs. Arguments as in `forward`."""
        if features.dim() != 3 or features.shape[-1] != self.config.num_features:
            raise ValueError(
                f"features must have the shape (batch, nodes, {self.config.num_features}), but have the shape "
                f"{tuple(features.shape)}"
            )
        if edges.dim() != 3 or edges.shape[-1] != 2 or len(edges) != len(features):
            raise ValueError(f"edges must have the shape (batch, edges, 2), but have {tuple(edges.shape)}")
        if is_readable(edges) and edges.numel() and not 0 <= edges.min() <= edges.max() < features.shape[1]:
            raise ValueError(f"edges must have node numbers from 0 to {features.shape[1] - 1}")
        marks = self.marks(features, node_mask)
        real = marks.ids >= 0
        if is_readable(real) and not real.any(1).all():
            raise ValueError("A graph has no node. Leave it out.")
        self.check_labels(labels, len(features))
        return RationaleInputs(
            features={"features": features, "edges": edges},
            real=real.long(),
            units=single_units(real, edges=edges),
            context=torch.zeros_like(real, dtype=features.dtype),
            marks=marks,
            labels=labels,
            columns=columns or {},
            options={},
        )

    def marks(self, features: torch.Tensor, node_mask: torch.LongTensor | None = None, **inputs) -> Marks:
        nodes = torch.arange(features.shape[1], device=features.device).expand(features.shape[:2])
        return marks_of_positions(nodes if node_mask is None else nodes.masked_fill(node_mask == 0, -1))

    def forward(
        self,
        features: torch.Tensor,
        edges: torch.LongTensor,
        node_mask: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        columns: dict[str, torch.Tensor] | None = None,
        **options,
    ) -> RationaleClassifierOutput | tuple:
        r"""
        Args:
            features (`torch.FloatTensor` of shape `(batch, nodes, num_features)`): the features of the nodes.
            edges (`torch.LongTensor` of shape `(batch, edges, 2)`): pairs of nodes, each edge once, in any direction.
                A loop `(i, i)` is padding.
            node_mask (`torch.LongTensor` of shape `(batch, nodes)`, *optional*): 1 for nodes, and 0 for padding.
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): class indices.
            columns (`dict[str, torch.Tensor]`, *optional*): further columns of a dataset, for a method's objective.
            options: as of [`RationalePreTrainedModel.rationalize`], such as `rationale_ratio`.

        Raises:
            ValueError: if the inputs are malformed.
        """
        return self.rationalize(self.prepare(features, edges, node_mask, labels, columns), **options)

    def encode_dataset(
        self,
        dataset: Dataset,
        processing_class: Any = None,
        max_length: int | None = None,
        columns: tuple[str, ...] = (),
    ) -> Dataset:
        if max_length is not None:
            raise ValueError("A model of graphs reads graphs of any size and cuts none. Leave max_length out.")
        return encode_graphs(dataset, self.config.num_features, columns)

    def data_collator(self, processing_class: Any = None, columns: tuple[str, ...] = ()) -> Callable:
        return GraphCollator(columns)

    def yardsticks(
        self, dataset: Dataset, sparsity: float, processing_class: Any = None
    ) -> dict[str, dict[str, float]]:
        return {} if self.is_encoded(dataset) else graph_yardsticks(dataset, sparsity)

    def is_encoded(self, dataset: Dataset) -> bool:
        return "edges" in dataset.column_names
