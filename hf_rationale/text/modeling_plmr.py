"""PLMR: the lower layers of one pretrained encoder select and prune tokens, and its upper layers predict."""

from __future__ import annotations

import copy
import os

import torch
from torch import nn
from transformers import PreTrainedModel

from .attention import make_maskable
from .base import RationaleTextModel
from .configuration_plmr import PlmrConfig
from .encoders import build_encoder, load_encoder, load_weights
from .players import PlmrExtractor, Predictor
from .splitting import split_encoder


class PlmrForSequenceClassification(RationaleTextModel):
    r"""
    A text classifier that selects a rationale with the first l layers of an encoder and decides from it with the
    others (PLMR, section 5).

    The last of the extractor's layers are Dim-Reduction layers. Each of them scores the tokens, and later layers do
    not read the tokens that it prunes. The predictor starts again from the *embeddings* of the remaining tokens, as in
    the public code, because the states of the extractor contain information about tokens that are not selected. For a
    given mask, the logits therefore depend neither on the content nor on the number of unselected tokens.

    [`PLMRTrainer`] trains it with L_r + w L_x + λ h(L_r − L_x) + L_s (equation 17): the cross-entropies on the
    rationale and on the full text, and the mean over the Dim-Reduction layers of compactness and coherence. For L_x,
    the predictor's layers read the states of the full text after the transformer layer of the first Dim-Reduction
    layer, before anything is pruned. (Equation 15 takes the states in front of that layer.)

    Args:
        config ([`PlmrConfig`]): the configuration. The model has fresh weights. For pretrained ones, see
            [`~PlmrForSequenceClassification.from_encoder_pretrained`] and `from_pretrained`.
    """

    config_class = PlmrConfig
    reads_full_text_from_states = True

    def __init__(self, config: PlmrConfig):
        super().__init__(config)
        if config.encoder_config is None:
            raise ValueError(
                "A PlmrConfig needs encoder_config. To start from an encoder, use "
                "PlmrForSequenceClassification.from_encoder_pretrained(path_or_hub_id)."
            )
        self.num_labels = config.num_labels
        *stages, reader = split_encoder(build_encoder(config.encoder_config), config.reduction_layers)
        self.extractor = PlmrExtractor(config, stages)
        self.predictor = Predictor(config, reader)
        self.prepare_reader()
        self.post_init()
        self.freeze_as_configured()

    @classmethod
    def from_encoder_pretrained(
        cls, encoder: str | os.PathLike | PreTrainedModel, tokenizer=None, **kwargs
    ) -> PlmrForSequenceClassification:
        r"""
        Split a pretrained encoder and add fresh heads.

        Args:
            encoder: folder or Hub id of the encoder, or the encoder itself (copied).
            tokenizer (*optional*): the encoder's tokenizer, which knows the special tokens. By default it is loaded
                from the encoder's folder.
            kwargs: fields of [`PlmrConfig`], such as `num_labels`, `id2label`, `sparsity`, `split_layer`.

        Raises:
            OSError: if the encoder does not exist.
            StrictDataclassError: if a field is out of range.
            TypeError: if the config has no such field.
            ValueError: if the encoder cannot be split.
        """
        source = load_encoder(encoder)
        config = cls.config_class(
            encoder_config=copy.deepcopy(source.config),
            **cls._config_fields(encoder, source.config, tokenizer, kwargs),
        )
        model = cls(config)
        parts = split_encoder(copy.deepcopy(source), config.reduction_layers)
        for part, pretrained in zip((*model.extractor.encoders, model.reader), parts, strict=True):
            load_weights(part, pretrained)
        return model.eval()

    def set_input_embeddings(self, value: nn.Module):
        super().set_input_embeddings(value)
        self.freeze_as_configured()

    def prepare_reader(self):
        super().prepare_reader()
        for encoder in self.extractor.encoders:  # they prune with masked attention as well
            make_maskable(encoder)

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        """The first part of the encoder, which has the embeddings."""
        return (self.extractor.encoders[0],)

    @property
    def reader(self) -> PreTrainedModel:
        """The last part of the encoder."""
        return self.predictor.encoder

    @property
    def shared_weights(self) -> list[nn.Parameter]:
        """The embeddings, if they are trained."""
        return [weight for module in self._embeddings for weight in module.parameters() if weight.requires_grad]

    def shares(self, sparsity: float | torch.Tensor) -> list[float | torch.Tensor]:
        """α_j of every Dim-Reduction layer: falling to `sparsity` at the last (section 5.2.2)."""
        count = len(self.config.reduction_layers)
        left = [(count - stage) / count for stage in range(1, count)]
        if self.config.sparsity_schedule == "linear":
            return [*(sparsity + part * (1 - sparsity) for part in left), sparsity]
        low = torch.as_tensor(sparsity).exp()
        return [*((low + part * (torch.e - low)).log() for part in left), sparsity]

    @property
    def _embeddings(self) -> list[nn.Module]:
        first = self.encoders[0]
        return [module for name in ("embeddings", "embeddings_project") if (module := getattr(first, name, None))]

    def freeze_as_configured(self):
        super().freeze_as_configured()
        if self.config.freeze_embeddings:
            for module in self._embeddings:
                for name, weight in module.named_parameters():
                    if "lora_" not in name:  # the weights of an adapter are trained
                        weight.requires_grad_(False)
