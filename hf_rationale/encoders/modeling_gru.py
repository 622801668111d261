"""A bidirectional GRU over static word vectors, as a transformers encoder."""

from __future__ import annotations

import os

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from ..compat import init
from .configuration_gru import GruConfig
from .tokenization_word_level import SPECIAL_TOKENS, word_level_tokenizer
from .word_vectors import read_word_vectors


class GruPreTrainedModel(PreTrainedModel):
    config_class = GruConfig
    base_model_prefix = "gru"
    main_input_name = "input_ids"

    @torch.no_grad()
    def _init_weights(self, module):
        # The default of transformers knows neither nn.GRU nor this embedding's scale: left to it, a checkpoint that
        # lacks these weights would load uninitialised memory.
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.GRU):
            bound = module.hidden_size**-0.5
            for weight in module.parameters():
                init.uniform_(weight, -bound, bound)
        else:
            super()._init_weights(module)


class GruModel(GruPreTrainedModel):
    r"""
    One bidirectional GRU layer over word vectors. Both directions read real tokens only, so that a text has the same
    representation alone and in a padded batch: the backward direction starts at the last real token, not in the
    padding.

    Args:
        config ([`GruConfig`]): the shapes, and whether the word vectors are trained.
    """

    def __init__(self, config: GruConfig):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        # Two layers of one direction each, not one bidirectional layer: see `forward`.
        self.forward_gru = nn.GRU(config.embedding_size, config.hidden_size // 2, batch_first=True)
        self.backward_gru = nn.GRU(config.embedding_size, config.hidden_size // 2, batch_first=True)
        self.post_init()
        self.freeze_as_configured()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_as_configured()
        return loaded

    def freeze_as_configured(self):
        """Freeze the word vectors if the configuration says so. Loading replaces parameters by trainable ones."""
        if self.config.freeze_embeddings:
            self.embeddings.weight.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding):
        self.embeddings = value
        self.freeze_as_configured()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): word indices.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*): 1 for real tokens;
                padding may be on either side.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                word vectors instead of indices.
            output_hidden_states (`bool`, *optional*): return the word vectors and the states as `hidden_states`.

        Returns:
            `BaseModelOutput` with `last_hidden_state` of shape `(batch_size, sequence_length, hidden_size)`, zero at
            padding.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        if inputs_embeds is None:
            inputs_embeds = self.embeddings(input_ids)
        if attention_mask is None:
            attention_mask = inputs_embeds.new_ones(inputs_embeds.shape[:2])
        hidden = run_both_ways(self.forward_gru, self.backward_gru, inputs_embeds, attention_mask.bool())
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return BaseModelOutput(hidden, hidden_states=(inputs_embeds, hidden) if output_hidden_states else None)

    @classmethod
    def from_word_vectors(
        cls, path: str | os.PathLike, hidden_size: int = 200, freeze_embeddings: bool = True
    ) -> tuple[GruModel, PreTrainedTokenizerFast]:
        r"""
        A GRU with fresh weights over the vectors of a GloVe-style text file, and the tokenizer that belongs to it.

        Args:
            path: a text file, plain or gzip, of lines `word v1 v2 … vd` (see [`read_word_vectors`]).
            hidden_size: width of the output, both directions together.
            freeze_embeddings: keep the vectors as they are, as the papers do.

        Returns:
            the model and its tokenizer. Unknown words share the mean vector, never the padding's zero.
        """
        words, vectors = read_word_vectors(path)
        tokenizer = word_level_tokenizer(words)
        config = GruConfig(
            vocab_size=len(tokenizer),
            embedding_size=vectors.shape[1],
            hidden_size=hidden_size,
            freeze_embeddings=freeze_embeddings,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = cls(config)
        with torch.no_grad():
            own = torch.tensor([word not in SPECIAL_TOKENS for word in words])
            model.embeddings.weight[len(SPECIAL_TOKENS) :] = torch.from_numpy(vectors)[own]
            model.embeddings.weight[tokenizer.unk_token_id] = torch.from_numpy(vectors)[own].mean(0)
        return model, tokenizer


def run_both_ways(
    forward_gru: nn.GRU, backward_gru: nn.GRU, inputs: torch.Tensor, real: torch.BoolTensor
) -> torch.Tensor:
    """The states of two GRUs of one direction each, side by side, over the `real` (batch, seq) places of `inputs`
    (batch, seq, width); zero at padding."""
    # Real places to the front, in order and in reverse. Packed sequences would do the same, but training with them on
    # CPU is about three times slower than with padding.
    position = torch.arange(real.shape[1], device=real.device)
    length = real.sum(1, keepdim=True)
    ahead = real.int().argsort(dim=1, descending=True, stable=True)
    back = ahead.gather(1, (length - 1 - position) % real.shape[1])
    hidden = torch.cat([_run(forward_gru, inputs, ahead), _run(backward_gru, inputs, back)], dim=-1)
    return hidden * real.unsqueeze(-1).to(hidden.dtype)


def _run(gru: nn.GRU, inputs: torch.Tensor, order: torch.LongTensor) -> torch.Tensor:
    """Run `gru` over `inputs` (batch, seq, width) in the given order (batch, seq); its states go back in place."""
    states, _ = gru(inputs.gather(1, order.unsqueeze(-1).expand_as(inputs)))
    index = order.unsqueeze(-1).expand_as(states)
    return torch.zeros_like(states).scatter(1, index, states)
