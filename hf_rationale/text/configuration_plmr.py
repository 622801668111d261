"""Configuration of PLMR: one pretrained encoder, split by depth into extractor and predictor."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ..compat import INFERRED_TASK
from .configuration_base import RationaleTextConfig
from .encoder_traits import ENCODER_TRAITS, traits_of


@strict
class PlmrConfig(RationaleTextConfig):
    r"""
    Configuration of a [`PlmrForSequenceClassification`] (PLMR, section 5). In addition to the fields of
    [`RationaleTextConfig`]:

    Args:
        encoder_config (`PreTrainedConfig` or `dict`):
            Configuration of the encoder that is split: BERT, RoBERTa, ELECTRA, DistilBERT, ModernBERT or MPNet.
        split_layer (`int`, *optional*):
            l, the number of layers that extract. The other layers predict (section 6.3.3). Defaults to one more than
            half of the layers: 7 of 12 and 13 of 24, as in the paper, and 4 of 6.
        reduction_layers (`list[int]`, *optional*):
            The Dim-Reduction layers, counted from 1. Tokens are pruned after each of them. The last one is
            `split_layer`, and the tokens that remain after it are the rationale. Defaults to the last two of the
            extractor's layers, or the last three if the encoder has more than 12 layers, as in the paper.
        sparsity_schedule (`str`, *optional*, defaults to `"linear"`):
            How the shares α_j that the Dim-Reduction layers should keep fall to `sparsity`: `"linear"`, as in the
            paper, or `"log"`, which is linear in e^α, as in its public code.
        share_mask_predictor (`bool`, *optional*, defaults to `False`):
            Whether all Dim-Reduction layers use one mask predictor, as in the public code.
        freeze_embeddings (`bool`, *optional*, defaults to `True`):
            Whether the embeddings, which both players read, are not trained, as in the public code. N2R needs this.

    Example:

    ```python
    >>> from transformers import BertConfig
    >>> from hf_rationale import PlmrConfig, PlmrForSequenceClassification

    >>> config = PlmrConfig(encoder_config=BertConfig(), split_layer=7, reduction_layers=[6, 7], sparsity=0.15)
    >>> model = PlmrForSequenceClassification(config)
    ```
    """

    model_type = "plmr"
    sub_configs = {"encoder_config": AutoConfig}
    auto_classes = {
        "AutoConfig": "PlmrConfig",
        "AutoModelForSequenceClassification": "PlmrForSequenceClassification",
    }
    custom_pipelines = INFERRED_TASK
    masking = "attention"  # with zeroed embeddings, a token could not be pruned exactly
    share_encoder = False  # the players have different layers
    split_by_depth = True  # what PLMRTrainer needs

    encoder_config: PreTrainedConfig | dict | None = None
    split_layer: int | None = None
    reduction_layers: list[int] | None = None
    sparsity_schedule: str = "linear"
    share_mask_predictor: bool = False
    freeze_embeddings: bool = True

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.pooling = self.pooling or "mean"
        if self.encoder_config is not None:
            if not traits_of(self.encoder_config).splits:
                known = [name for name, traits in ENCODER_TRAITS.items() if traits.splits]
                raise ValueError(
                    f"An encoder of type {self.encoder_config.model_type!r} cannot be split by depth. The encoders "
                    f"that are known to be splittable are {', '.join(known)}."
                )
            depth = self.encoder_config.num_hidden_layers
            if self.split_layer is None:
                self.split_layer = (
                    self.reduction_layers[-1] if self.reduction_layers else min(depth // 2, depth - 2) + 1
                )
            if self.reduction_layers is None:
                count = min(2 if depth <= 12 else 3, self.split_layer)
                self.reduction_layers = list(range(self.split_layer - count + 1, self.split_layer + 1))

    @property
    def vocab_size(self) -> int:
        """Number of token indices that the encoder knows."""
        return self.encoder_config.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int):
        self.encoder_config.vocab_size = value

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's states."""
        return self.encoder_config.hidden_size

    def validate_plmr_choices(self):
        """Raises `ValueError` if a field has a value that does not exist."""
        self.check_choices(sparsity_schedule=("linear", "log"), masking=("attention",), share_encoder=(False,))

    def validate_layers(self):
        """Raises `ValueError` if the encoder cannot be split after these layers."""
        if self.encoder_config is None:
            return  # transformers builds a default config to find out what differs from it
        depth, layers = self.encoder_config.num_hidden_layers, self.reduction_layers
        if not 1 <= self.split_layer < depth:
            raise ValueError(
                f"split_layer must leave at least one of the {depth} layers to extract and one to predict, but is "
                f"{self.split_layer}"
            )
        if not layers or layers[0] < 1 or layers != sorted(set(layers)) or layers[-1] != self.split_layer:
            raise ValueError(
                f"reduction_layers must be layers in ascending order, counted from 1, and end with split_layer = "
                f"{self.split_layer}, but are {layers}"
            )
