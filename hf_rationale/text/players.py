"""The two players over the tokens of a text: extractors that score tokens, and a predictor that reads the selected
ones."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from ..modeling.configuration import RationaleBaseConfig
from ..modeling.outputs import Prediction, RationaleInputs
from ..modeling.players import MaskPredictor, make_head, pool
from .configuration_plmr import PlmrConfig
from .encoders import count_positions
from .windows import read


class Extractor(nn.Module):
    """An encoder, and the mask predictor over its states: extraction in one stage."""

    def __init__(self, config: RationaleBaseConfig, encoder: PreTrainedModel):
        super().__init__()
        self.encoder = encoder
        self.mask_predictor = MaskPredictor(config, encoder.config.hidden_size)

    def forward(
        self, inputs: RationaleInputs, stage: int, hidden: torch.Tensor | None, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""
        One stage of extraction.

        Args:
            hidden (`torch.Tensor` of shape `(batch, seq, hidden)`): the states of the stage before; None at first.
            mask (`torch.Tensor` of shape `(batch, seq)`): what the stages before have kept; at first everything.

        Returns:
            the states (batch, seq, hidden), and the logits (batch, seq, 2), equal within a unit.
        """
        hidden = read(self.encoder, inputs, inputs.real, count_positions(self.encoder)).last_hidden_state
        return hidden, self.mask_predictor(hidden, inputs.units)


class PlmrExtractor(nn.Module):
    """The lower layers of an encoder, with a mask predictor after each Dim-Reduction layer (PLMR, equations 9-12)."""

    def __init__(self, config: PlmrConfig, encoders: list[PreTrainedModel]):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)  # each ends with a Dim-Reduction layer
        count = 1 if config.share_mask_predictor else len(encoders)
        self.mask_predictors = nn.ModuleList(MaskPredictor(config, config.hidden_size) for _ in range(count))

    def forward(
        self, inputs: RationaleInputs, stage: int, hidden: torch.Tensor | None, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As [`Extractor`]'s. No token attends to one that a stage before has pruned."""
        visible = inputs.real
        if stage > 0:
            visible = inputs.real * ~inputs.units.selectable + mask  # [CLS], [SEP] and the first segment stay
        limit = count_positions(self.encoders[0])
        hidden = read(self.encoders[stage], inputs, visible, limit, hidden).last_hidden_state
        mask_predictor = self.mask_predictors[min(stage, len(self.mask_predictors) - 1)]
        return hidden, mask_predictor(hidden, inputs.units)


class Predictor(nn.Module):
    """An encoder that reads only the visible tokens (its own, or that of the extractor), pooling, and a classifier."""

    def __init__(self, config: RationaleBaseConfig, encoder: PreTrainedModel | None):
        super().__init__()
        self.masking, self.pooling = config.masking, config.pooling
        self.encoder = encoder
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = make_head(config, config.hidden_size, config.num_labels)

    def forward(
        self,
        reader: PreTrainedModel,
        inputs: RationaleInputs,
        mask: torch.Tensor,
        full_text: torch.Tensor | None = None,
    ) -> Prediction:
        r"""
        Read the tokens that `mask` selects, and the context.

        Args:
            reader: the encoder to read with, for a predictor that has none of its own.
            mask (`torch.Tensor` of shape `(batch, seq)`): 1 for selected tokens.
            full_text (`torch.Tensor` of shape `(batch, seq, hidden)`, *optional*): states to read instead of the
                tokens' embeddings.
        """
        encoder = reader if self.encoder is None else self.encoder
        visible = (mask + inputs.context * (1 - mask)) * inputs.real
        zero = self.masking == "zero"
        output = read(encoder, inputs, visible, count_positions(encoder), full_text, zero, **inputs.options)
        hidden = output.last_hidden_state
        if zero:
            visible = inputs.real  # pooled over all real positions, as in the papers' code
        representation = pool(hidden, visible.to(hidden.dtype), self.pooling)
        return Prediction(
            logits=self.classifier(self.dropout(representation)),
            representation=representation,
            hidden_states=output.get("hidden_states") if "output_hidden_states" in inputs.options else None,
            attentions=output.get("attentions") if "output_attentions" in inputs.options else None,
        )
