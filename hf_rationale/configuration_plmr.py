"""Configuration of PLMR: one pretrained encoder, split by depth into extractor and predictor."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_base import RationaleBaseConfig


# Encoders whose layers stand in one list, and whose forward does nothing between them.
SPLITTABLE = ("bert", "roberta", "electra", "distilbert", "modernbert", "mpnet")


@strict
class PlmrConfig(RationaleBaseConfig):
    r"""
    Configuration of a [`PlmrForSequenceClassification`] (PLMR, section 5). Beside the fields of
    [`RationaleBaseConfig`]:

    Args:
        encoder_config (`PreTrainedConfig` or `dict`):
            Configuration of the encoder that is split: BERT, RoBERTa, ELECTRA, DistilBERT, ModernBERT or MPNet.
        split_layer (`int`, *optional*):
            l, the number of layers that extract; the others predict (section 6.3.3). Defaults to one more than half of
            them: 7 of 12 and 13 of 24, as in the paper, and 4 of 6.
        reduction_layers (`list[int]`, *optional*):
            The Dim-Reduction layers, after each of which tokens are pruned, counted from 1; the last is `split_layer`,
            and what it leaves is the rationale. Defaults to the last two of the extractor's layers, three of encoders
            of more than 12 layers, as in the paper.
        sparsity_schedule (`str`, *optional*, defaults to `"linear"`):
            How the shares α_j, which the Dim-Reduction layers are held to, fall to `sparsity`: `"linear"`, as in the
            paper, or `"log"`, linear in e^α, as in its public code.
        share_mask_predictor (`bool`, *optional*, defaults to `False`):
            Whether one mask predictor serves all Dim-Reduction layers, as in the public code.
        freeze_embeddings (`bool`, *optional*, defaults to `True`):
            Whether the embeddings, which both players read, stay as they are, as in the public code. N2R needs it.

    `full_text_weight` is 2 and `match_weight` 1 here, as in the public code: 2 L_x + (L_r − L_x) leaves L_x in the
    sum, where the paper's equation 17 with h(x) = x cancels it.

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
    masking = "attention"  # a zeroed token could never be pruned exactly
    share_encoder = False  # the players' layers are different ones

    encoder_config: PreTrainedConfig | dict | None = None
    split_layer: int | None = None
    reduction_layers: list[int] | None = None
    sparsity_schedule: str = "linear"
    share_mask_predictor: bool = False
    freeze_embeddings: bool = True
    full_text_weight: float | int = 2.0
    match_weight: float | int = 1.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.pooling = self.pooling or "mean"
        if self.encoder_config is not None:
            if self.encoder_config.model_type not in SPLITTABLE:
                raise ValueError(
                    f"An encoder of type {self.encoder_config.model_type!r} cannot be split by depth; of these it is "
                    f"known that they can: {', '.join(SPLITTABLE)}."
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
        """Raises `ValueError` where a named choice does not exist."""
        self.check_choices(sparsity_schedule=("linear", "log"), masking=("attention",), share_encoder=(False,))

    def validate_layers(self):
        """Raises `ValueError` where the encoder cannot be split so."""
        if self.encoder_config is None:
            return  # transformers builds a default config to find out what differs from it
        depth, layers = self.encoder_config.num_hidden_layers, self.reduction_layers
        if not 1 <= self.split_layer < depth:
            raise ValueError(
                f"split_layer is the number of layers that extract, at least 1, with one left to predict; got "
                f"{self.split_layer} of {depth}"
            )
        if not layers or layers[0] < 1 or layers != sorted(set(layers)) or layers[-1] != self.split_layer:
            raise ValueError(
                f"reduction_layers are layers in ascending order, counted from 1, of which the last is split_layer, "
                f"{self.split_layer}; got {layers}"
            )
