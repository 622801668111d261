"""Configuration of the bidirectional GRU encoder."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class GruConfig(PreTrainedConfig):
    r"""
    Configuration of a [`GruModel`]: one bidirectional GRU layer over static word vectors, the encoder of most of the
    rationalization literature (Lei et al. 2016; Bao et al. 2018; FR, N2R, VER and A2I).

    Args:
        vocab_size (`int`, *optional*, defaults to 30000):
            Number of rows of the embedding matrix.
        embedding_size (`int`, *optional*, defaults to 100):
            Width of a word vector (100 for GloVe 6B 100d).
        hidden_size (`int`, *optional*, defaults to 200):
            Width of the output, both directions together; even.
        freeze_embeddings (`bool`, *optional*, defaults to `False`):
            Keep the word vectors as they were read. The papers freeze GloVe; without vectors they have to be learned.
        pad_token_id (`int`, *optional*, defaults to 0):
            Row of the padding token; its vector is zero.
        initializer_range (`float`, *optional*, defaults to 0.1):
            Standard deviation of freshly initialised word vectors.
    """

    model_type = "rationale_gru"  # transformers may have a "gru" one day

    vocab_size: int = 30000
    embedding_size: int = 100
    hidden_size: int = 200
    freeze_embeddings: bool = False
    pad_token_id: int | None = 0
    initializer_range: float = 0.1

    def __post_init__(self, **kwargs):
        kwargs.pop("model_type", None)  # folders that earlier versions saved have another one
        super().__post_init__(**kwargs)

    def validate_hidden_size(self):
        """Raises `ValueError` if the two directions cannot have the same width."""
        if self.hidden_size <= 0 or self.hidden_size % 2:
            raise ValueError(f"hidden_size holds both directions, so it is positive and even; got {self.hidden_size}")
