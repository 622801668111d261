"""The two players: an extractor that scores every token, a predictor that reads what is selected."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from .configuration_base import RationaleBaseConfig
from .configuration_plmr import PlmrConfig
from .masking import Units, encode_visible, mask_attention_in_training, mean_over_units
from .modeling_outputs import Prediction, RationaleInputs


class MaskPredictor(nn.Module):
    """The head that scores every token: leave out or select."""

    def __init__(self, config: RationaleBaseConfig, hidden_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.selector = nn.Linear(hidden_size, 2)

    def forward(self, hidden: torch.Tensor, units: Units) -> torch.Tensor:
        """Logits (batch, seq, 2) of states (batch, seq, hidden), equal within a unit."""
        # In float32: padding is a unit as well, and the sum over a long one is beyond float16, which ends in NaN.
        return mean_over_units(self.selector(self.dropout(self.norm(hidden))).float(), units)

    def reset_parameters(self):
        self.norm.reset_parameters()
        self.selector.reset_parameters()


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
            hidden (`torch.Tensor` of shape `(batch, seq, hidden)`): what the stage before has left; None at first.
            mask (`torch.Tensor` of shape `(batch, seq)`): what the stages before have selected; at first all.

        Returns:
            the states (batch, seq, hidden), and the logits (batch, seq, 2), equal within a unit.
        """
        tokens = encoder_inputs(self.encoder, inputs)
        hidden = encode_visible(self.encoder, inputs.attention_mask, inputs.attention_mask, **tokens).last_hidden_state
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
        """As [`Extractor`]'s, where no token attends to one that a stage before has pruned."""
        encoder = self.encoders[stage]
        if self.training:
            mask_attention_in_training(encoder)  # all parts share a config, and stage 0 runs before anything is masked
        if stage == 0:
            visible, tokens = inputs.attention_mask, encoder_inputs(encoder, inputs)
        else:
            kept = inputs.attention_mask * ~inputs.units.selectable  # [CLS], [SEP] and a pair's first segment stay
            visible, tokens = kept + mask, {"inputs_embeds": hidden}
        hidden = encode_visible(encoder, visible, inputs.attention_mask, **tokens).last_hidden_state
        mask_predictor = self.mask_predictors[min(stage, len(self.mask_predictors) - 1)]
        return hidden, mask_predictor(hidden, inputs.units)


class Predictor(nn.Module):
    """An encoder that reads the visible tokens alone (its own, or the extractor's), pooling, and the classifier."""

    def __init__(self, config: RationaleBaseConfig, encoder: PreTrainedModel | None):
        super().__init__()
        self.masking, self.pooling = config.masking, config.pooling
        self.encoder = encoder
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(
        self,
        encoder: PreTrainedModel,
        inputs: RationaleInputs,
        mask: torch.Tensor,
        hidden: torch.Tensor | None = None,
    ) -> Prediction:
        """Read, with `encoder`, the tokens that `mask` (batch, seq) selects, and the context; from their embeddings,
        or from states `hidden` (batch, seq, hidden)."""
        visible = (mask + inputs.context * (1 - mask)) * inputs.attention_mask
        tokens = encoder_inputs(encoder, inputs) if hidden is None else {"inputs_embeds": hidden}
        if self.masking == "zero":
            embeddings = encoder.get_input_embeddings()(tokens.pop("input_ids"))
            output = encoder(
                inputs_embeds=embeddings * visible.unsqueeze(-1).to(embeddings.dtype),
                attention_mask=inputs.attention_mask,
                **tokens,
                **inputs.options,
            )
            visible = inputs.attention_mask  # as the papers' code: pooled over all real positions
        else:
            output = encode_visible(encoder, visible, inputs.attention_mask, **tokens, **inputs.options)
        hidden = output.last_hidden_state
        representation = pool(hidden, visible.to(hidden.dtype), self.pooling)
        return Prediction(
            logits=self.classifier(self.dropout(representation)),
            representation=representation,
            hidden_states=output.get("hidden_states") if "output_hidden_states" in inputs.options else None,
            attentions=output.get("attentions") if "output_attentions" in inputs.options else None,
        )


def pool(hidden: torch.Tensor, weights: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool states (batch, seq, hidden) over the positions with `weights` (batch, seq) = 1; zero where there are none.

    `"cls"` takes the first of them: [CLS] is not at index 0 where padding is on the left.
    """
    if pooling == "cls":
        first = (weights > 0).long().argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), first] * (weights > 0).any(1, keepdim=True)
    if pooling == "mean":
        return (hidden * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True).clamp_min(1)
    outside = (weights == 0).unsqueeze(-1)
    largest = hidden.masked_fill(outside, torch.finfo(hidden.dtype).min).amax(1)
    return largest.masked_fill(outside.all(1), 0.0)


def encoder_inputs(encoder: PreTrainedModel, inputs: RationaleInputs) -> dict[str, torch.Tensor]:
    """What `encoder` takes of a batch: segments where it knows them, and positions that count real tokens alone.

    Left to themselves, most encoders count positions from the first column, so that padding on the left moves a text.
    """
    tokens = dict(inputs.tokens)
    accepted = inspect.signature(encoder.forward).parameters
    if "token_type_ids" not in accepted or getattr(encoder.config, "type_vocab_size", 2) < 2:
        tokens.pop("token_type_ids", None)
    embeddings = getattr(encoder, "embeddings", None)
    if "position_ids" in accepted and getattr(embeddings, "position_embeddings", None) is not None:
        count = (inputs.attention_mask.cumsum(1) - 1).clamp_min(0)
        if (padding_index := embeddings.position_embeddings.padding_idx) is not None:
            tokens["position_ids"] = count + padding_index + 1  # RoBERTa and MPNet count from behind the padding's
        elif (positions := getattr(embeddings, "position_ids", None)) is not None:
            tokens["position_ids"] = positions[0][count]
    return tokens


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder with fresh weights, without a pooler."""
    # In the dtype that the whole model is made in, whatever its encoder was once loaded in.
    encoder = AutoModel.from_config(config, dtype=torch.get_default_dtype())
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # never used: its parameters would get no gradient, which DDP refuses
    return encoder
