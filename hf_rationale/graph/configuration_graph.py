"""Configuration of the rationale classifier over graphs."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict

from ..modeling.configuration import RationaleBaseConfig


@strict
class GraphRationaleConfig(RationaleBaseConfig):
    r"""
    Configuration of [`RationaleForGraphClassification`]. In addition to the fields of [`RationaleBaseConfig`]:

    Args:
        num_features (`int`, *optional*, defaults to 1):
            The number of features of a node.
        layer_type (`str`, *optional*, defaults to `"gin"`):
            The layers of both players: `"gcn"` (Kipf and Welling 2017), `"gin"` (Xu et al. 2019) or `"gat"`
            (Veličković et al. 2018).
        num_layers (`int`, *optional*, defaults to 3):
            The number of layers of each player. A node knows its neighbourhood up to this distance.
        hidden_size (`int`, *optional*, defaults to 32):
            The width of the states of both players.
        share_encoder (`bool`, *optional*, defaults to `False`):
            Whether both players read the graph with the same layers (FR).
    """

    model_type = "rationale_graph"
    auto_classes = {
        "AutoConfig": "GraphRationaleConfig",
        "AutoModelForSequenceClassification": "RationaleForGraphClassification",
    }

    num_features: int = 1
    layer_type: str = "gin"
    num_layers: int = 3
    hidden_size: int = 32
    share_encoder: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.pooling = self.pooling or "mean"

    def validate_layers(self):
        """Raises `ValueError` if there are no such layers, or if a field is only for sequences."""
        self.check_choices(layer_type=("gcn", "gin", "gat"), pooling=("mean", "max"))
        if self.mask_head == "spans" or self.switch_cost:
            raise ValueError(
                "The nodes of a graph are no sequence: leave out mask_head='spans' (RTP) and switch_cost."
            )
        for name in ("num_features", "num_layers", "hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}")
