"""The layers of torch-geometric, on the part of a graph that a mask selects.

They have no bias at the end, because a normalization follows, which has one.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GATConv, GCNConv, GINConv
from torch_geometric.utils import scatter


class GcnLayer(GCNConv):
    """D^(-1/2) (A + I) D^(-1/2) X W (Kipf and Welling 2017) with the degrees D of the selected part."""

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, hidden_size, bias=False)


class GinLayer(GINConv):
    """MLP((1 + ε) x_i + Σ_j x_j) (Xu et al. 2019). A node that is not selected has the state 0 and adds nothing."""

    def __init__(self, hidden_size: int):
        layers = nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size, bias=False)
        super().__init__(nn.Sequential(*layers), train_eps=True)

    def forward(self, hidden: torch.Tensor, edge_index: torch.LongTensor, weights: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden, edge_index)


class GatLayer(GATConv):
    """Attention over the selected neighbours and the node itself (Veličković et al. 2018)."""

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, hidden_size, heads=2, concat=False, fill_value=1.0, bias=False)

    def edge_update(self, alpha_j, alpha_i, edge_attr, index, ptr, dim_size):
        """The softmax over the neighbours whose edge has the weight 1, which is `edge_attr`."""
        alpha = F.leaky_relu(alpha_j + alpha_i, self.negative_slope)
        largest = scatter(alpha.detach(), index, dim_size=dim_size, reduce="max")
        alpha = (alpha - largest[index]).exp() * edge_attr.unsqueeze(-1)
        total = scatter(alpha, index, dim_size=dim_size, reduce="sum")
        return alpha / total[index].clamp_min(torch.finfo(alpha.dtype).tiny)


LAYERS = {"gcn": GcnLayer, "gin": GinLayer, "gat": GatLayer}
