"""PLMR: one pretrained encoder, whose lower layers extract and prune, and whose upper layers predict."""

from __future__ import annotations

import copy
import os

import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_plmr import PlmrConfig
from .modeling_base import RationalePreTrainedModel, load_encoder, load_weights
from .players import PlmrExtractor, Predictor, build_encoder
from .splitting import split_encoder


class PlmrForSequenceClassification(RationalePreTrainedModel):
    r"""
    A text classifier that selects a rationale with the first l layers of an encoder and decides from it with the rest
    (PLMR, section 5).

    The last of the extractor's layers are Dim-Reduction layers: each scores the tokens, and those that are pruned are
    read by none of the layers behind it. The predictor restarts from the *embeddings* of the tokens that are left, as
    the public code does: states of the extractor would smuggle in what has not been selected. So, for a given mask,
    the logits do not depend on what unselected tokens say, nor on how many there are.

    The objective is L_r + w L_x + λ h(L_r − L_x) + L_s (equation 17): the cross-entropies on the rationale and on the
    full text, and the mean over the Dim-Reduction layers of compactness and coherence. For L_x the predictor's layers
    read the states of the full text behind the transformer layer of the first Dim-Reduction layer, before anything is
    pruned (equation 15 has those in front of it); the other Dim-Reduction layers have no part in it.

    Args:
        config ([`PlmrConfig`]): the encoder and where it is split. Fresh weights; see
            [`~PlmrForSequenceClassification.from_encoder_pretrained`] and `from_pretrained` for trained ones.
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
        self._check_reader()
        self.post_init()
        self._freeze_embeddings()

    @classmethod
    def from_encoder_pretrained(
        cls, encoder: str | os.PathLike | PreTrainedModel, tokenizer=None, **kwargs
    ) -> PlmrForSequenceClassification:
        r"""
        A pretrained encoder, split, with fresh heads.

        Args:
            encoder: folder or Hub id of the encoder, or the encoder itself (copied).
            tokenizer (*optional*): the encoder's tokenizer, which tells the special tokens; looked for beside the
                encoder by default.
            kwargs: fields of [`PlmrConfig`], such as `num_labels`, `id2label`, `sparsity`, `split_layer`.

        Raises:
            OSError: where there is no such encoder.
            StrictDataclassError: where a field is out of its range.
            TypeError: where the config has no such field.
            ValueError: where the encoder is none that can be split.
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
        self._freeze_embeddings()

    def train(self, mode: bool = True) -> PlmrForSequenceClassification:
        self._freeze_embeddings()  # loading a checkpoint makes new parameters, which are trainable
        return super().train(mode)

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        """The first part, which has the embeddings."""
        return (self.extractor.encoders[0],)

    @property
    def reader(self) -> PreTrainedModel:
        """The last part."""
        return self.predictor.encoder

    @property
    def shared_weights(self) -> list[nn.Parameter]:
        """The embeddings, where they are trained."""
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

    def _freeze_embeddings(self):
        if self.config.freeze_embeddings:
            for module in self._embeddings:
                for name, weight in module.named_parameters():
                    if "lora_" not in name:  # an adapter's own weights are no pretrained ones
                        weight.requires_grad_(False)
