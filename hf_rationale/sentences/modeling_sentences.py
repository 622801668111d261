"""The rationale classifier over sentences, of which each has one vector."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer, PreTrainedModel

from ..encoders.modeling_gru import run_both_ways
from ..modeling.base import RationalePreTrainedModel, is_readable
from ..modeling.outputs import Prediction, RationaleClassifierOutput, RationaleInputs
from ..modeling.players import MaskPredictor, make_head, pool
from ..modeling.selection import Marks, single_units
from ..text.base import check_tokenizer
from ..text.encoders import build_encoder, count_positions, load_encoder, load_weights
from ..text.segmentation import SEGMENTERS
from .configuration_sentences import SentenceRationaleConfig
from .encoding import RELEVANCE_SIZE, SentenceCollator, SentenceReader, encode_documents


class SentenceLayer(nn.Module):
    """The layer through which a player reads the vectors."""

    def __init__(self, config: SentenceRationaleConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.vector_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.dense = nn.Linear(config.vector_size, config.hidden_size)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """States (batch, sentences, hidden) of vectors (batch, sentences, width), each on its own."""
        return F.gelu(self.dense(self.dropout(self.norm(vectors))))


class SentenceExtractor(nn.Module):
    """A bidirectional GRU over the sentences, and the mask predictor. Only the extractor reads how relevant a sentence
    is to the query, as this is relative to the other sentences."""

    def __init__(self, config: SentenceRationaleConfig):
        super().__init__()
        self.layer = SentenceLayer(config)
        self.relevance = nn.Linear(RELEVANCE_SIZE, config.hidden_size) if config.compare_query else None
        self.forward_gru = nn.GRU(config.hidden_size, config.hidden_size // 2, batch_first=True)
        self.backward_gru = nn.GRU(config.hidden_size, config.hidden_size // 2, batch_first=True)
        self.mask_predictor = MaskPredictor(config, config.hidden_size)

    def forward(self, inputs: RationaleInputs, stage: int, hidden, mask) -> tuple[torch.Tensor, torch.Tensor]:
        states = self.layer(inputs.features["vectors"].detach())  # a trained encoder belongs to the predictor
        if self.relevance is not None:
            states = states + self.relevance(inputs.features["relevance"])
        hidden = run_both_ways(self.forward_gru, self.backward_gru, states, inputs.real.bool())
        return hidden, self.mask_predictor(hidden, inputs.units)


class SentencePredictor(nn.Module):
    """A layer over each selected vector, the mean, and a classifier."""

    def __init__(self, config: SentenceRationaleConfig, layer: SentenceLayer | None):
        super().__init__()
        self.encoder, self.pooling = layer, config.pooling
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = make_head(config, config.hidden_size, config.num_labels)

    def forward(
        self, reader: SentenceLayer, inputs: RationaleInputs, mask: torch.Tensor, full_text=None
    ) -> Prediction:
        hidden = (reader if self.encoder is None else self.encoder)(inputs.features["vectors"])
        representation = pool(hidden, mask, self.pooling)
        return Prediction(self.classifier(self.dropout(representation)), representation, None, None)


class SentenceRationaleForSequenceClassification(RationalePreTrainedModel):
    r"""
    A classifier of documents of any length that selects sentences and decides from these alone.

    Every sentence is encoded on its own into one vector. (Of a pair, the vector is compared with that of the query; a
    trained encoder reads the sentence together with the query.) The extractor reads the sequence of the vectors. The
    predictor reads the selected ones, so that its decision depends on nothing else. With a frozen encoder the vectors
    are computed once, and training takes minutes on a CPU.

    All methods but PLMR, which splits a transformer by depth, and NIR, which replaces words, can train it.

    Args:
        config ([`SentenceRationaleConfig`]): the configuration. The model has fresh weights. For a pretrained encoder,
            see [`~SentenceRationaleForSequenceClassification.from_encoder_pretrained`].
    """

    config_class = SentenceRationaleConfig
    main_input_name = "vectors"
    processing_auto_class = AutoTokenizer
    encoded_columns = ("sizes", "sentence_ids")

    def __init__(self, config: SentenceRationaleConfig):
        super().__init__(config)
        if config.encoder_config is None:
            raise ValueError(
                "A SentenceRationaleConfig needs encoder_config. To start from an encoder, use "
                "SentenceRationaleForSequenceClassification.from_encoder_pretrained(path_or_hub_id)."
            )
        self.num_labels = config.num_labels
        self.encoder = build_encoder(config.encoder_config)
        self.extractor = SentenceExtractor(config)
        self.predictor = SentencePredictor(config, None if config.share_encoder else SentenceLayer(config))
        self.post_init()
        self.freeze_as_configured()

    @classmethod
    def from_encoder_pretrained(
        cls, encoder: str | os.PathLike | PreTrainedModel, tokenizer=None, **kwargs
    ) -> SentenceRationaleForSequenceClassification:
        r"""
        A classifier with fresh players over a pretrained encoder of sentences.

        Args:
            encoder: folder or Hub id of any transformers encoder, or the encoder itself (copied).
            tokenizer (*optional*): is not needed, and accepted as by the other models.
            kwargs: fields of [`SentenceRationaleConfig`], such as `num_labels`, `id2label`, `sparsity`.

        Raises:
            OSError: if the encoder does not exist.
            StrictDataclassError: if a field is out of range.
            TypeError: if the config has no such field.
        """
        cls.check_fields(kwargs)
        source = load_encoder(encoder)
        model = cls(cls.config_class(encoder_config=copy.deepcopy(source.config), **kwargs))
        load_weights(model.encoder, source)
        return model.eval()

    def freeze_as_configured(self):
        super().freeze_as_configured()
        if not self.config.train_encoder:
            self.encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True):
        """As PyTorch's, but a frozen encoder has no dropout, because its vectors are computed once."""
        super().train(mode)
        if not self.config.train_encoder:
            self.encoder.eval()
        return self

    @property
    def reader(self) -> SentenceLayer:
        return self.extractor.layer if self.predictor.encoder is None else self.predictor.encoder

    def level(self, level: str | None = None) -> str:
        """`level`, or that of the model. Raises `ValueError` if its units have no vectors."""
        level = level or self.config.selection_level
        if level not in SEGMENTERS:
            raise ValueError(f"A model of sentences selects by {' or '.join(SEGMENTERS)}, but the level is {level!r}")
        return level

    def check_query(self, has_query: bool):
        """Raises `ValueError` if the model does not fit texts with, or without, a query."""
        if not self.config.train_encoder and has_query != self.config.compare_query:
            need, cure = ("no query", True) if has_query else ("a query", False)
            raise ValueError(
                f"This model was made for texts with {need}. Make it with from_encoder_pretrained(…, "
                f"compare_query={cure})."
            )

    @property
    def sentence_length(self) -> int | None:
        """The number of tokens of a sentence (with its query) that the encoder can read."""
        return count_positions(self.encoder)

    # --- Vectors -----------------------------------------------------------------------------------------------------

    def encode_sentences(self, input_ids: torch.LongTensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Vectors (sentences, width) of tokens (sentences, tokens): the means of the last states."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)

    @torch.no_grad()
    def sentence_vectors(self, tokens: Sequence[list[int]], pad_token_id: int, batch_size: int = 64) -> np.ndarray:
        """Vectors (sentences, width) of sentences of any lengths, computed in batches of similar length. A frozen
        encoder is always in evaluation mode."""
        vectors = np.zeros((len(tokens), self.config.encoder_config.hidden_size), dtype=np.float32)
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            input_ids = nn.utils.rnn.pad_sequence(
                [torch.tensor(tokens[row]) for row in rows], batch_first=True, padding_value=pad_token_id
            ).to(self.device)
            lengths = torch.tensor([len(tokens[row]) for row in rows], device=self.device)
            mask = (torch.arange(input_ids.shape[1], device=self.device) < lengths.unsqueeze(1)).long()
            vectors[rows] = self.encode_sentences(input_ids, mask).float().cpu().numpy()
        return vectors

    # --- Forward -----------------------------------------------------------------------------------------------------

    def prepare(
        self,
        vectors: torch.Tensor | None = None,
        input_ids: torch.LongTensor | None = None,
        sizes: torch.LongTensor | None = None,
        sentence_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        columns: dict[str, torch.Tensor] | None = None,
        relevance: torch.Tensor | None = None,
    ) -> RationaleInputs:
        """Encode the sentences if only their tokens are given. Arguments as in `forward`."""
        if self.config.compare_query and relevance is None:
            raise ValueError("This model compares every text with a query, so that it needs the input relevance.")
        if (vectors is None) == (input_ids is None):
            raise ValueError("Give exactly one of vectors and input_ids.")
        given = input_ids if vectors is None else vectors
        if given.dim() != 3:
            raise ValueError(f"The shape must be (batch, sentences, …), but is {tuple(given.shape)}")
        if sizes is None:
            sizes = torch.ones(given.shape[:2], dtype=torch.long, device=given.device)
        real = sizes > 0
        if is_readable(real) and not real.any(1).all():
            raise ValueError("A document has no sentence. Leave it out.")
        self.check_labels(labels, len(given))
        if vectors is None:
            tokens = input_ids[real]
            encoded = self.encode_sentences(tokens.clamp_min(0), (tokens >= 0).long())
            vectors = encoded.new_zeros(*real.shape, encoded.shape[-1]).masked_scatter(real.unsqueeze(-1), encoded)
        features = {"vectors": vectors}
        if self.config.compare_query:
            features["relevance"] = relevance.to(vectors.dtype)
        return RationaleInputs(
            features=features,
            real=real.long(),
            units=single_units(real, sizes),
            context=torch.zeros_like(real, dtype=vectors.dtype),
            marks=self.marks(sentence_ids),
            labels=labels,
            columns=columns or {},
            options={},
        )

    def marks(self, sentence_ids: torch.LongTensor | None = None, **inputs) -> Marks | None:
        if sentence_ids is None:
            return None
        words = torch.arange(sentence_ids.shape[1], device=sentence_ids.device).expand_as(sentence_ids)
        return Marks(sentence_ids.clamp_min(0), words.masked_fill(sentence_ids < 0, -1))

    def forward(
        self,
        vectors: torch.Tensor | None = None,
        input_ids: torch.LongTensor | None = None,
        sizes: torch.LongTensor | None = None,
        sentence_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        columns: dict[str, torch.Tensor] | None = None,
        relevance: torch.Tensor | None = None,
        **options,
    ) -> RationaleClassifierOutput | tuple:
        r"""
        Args:
            vectors (`torch.FloatTensor` of shape `(batch, sentences, width)`, *optional*): the vectors of the
                sentences.
            input_ids (`torch.LongTensor` of shape `(batch, sentences, tokens)`, *optional*): their tokens instead, -1
                at padding.
            sizes (`torch.LongTensor` of shape `(batch, sentences)`, *optional*): the number of words of each sentence,
                0 at padding.
            sentence_ids (`torch.LongTensor` of shape `(batch, words)`, *optional*): the sentence of each word, -1 at
                padding.
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): class indices.
            columns (`dict[str, torch.Tensor]`, *optional*): further columns of a dataset, for a method's objective.
            relevance (`torch.FloatTensor` of shape `(batch, sentences, 2)`, *optional*): of a model that compares with
                a query, the number of shared words and the cosine, as the reader of texts computes them.
            options: as of [`RationalePreTrainedModel.rationalize`], such as `rationale_ratio`.

        Raises:
            ValueError: if the inputs are malformed.
        """
        inputs = self.prepare(vectors, input_ids, sizes, sentence_ids, labels, columns, relevance)
        return self.rationalize(inputs, **options)

    # --- Datasets ----------------------------------------------------------------------------------------------------

    def encode_dataset(
        self,
        dataset: Dataset,
        processing_class: Any,
        max_length: int | None = None,
        columns: tuple[str, ...] = (),
        level: str | None = None,
    ) -> Dataset:
        if max_length is not None:
            raise ValueError("A model of sentences reads texts of any length and cuts none. Leave max_length out.")
        return encode_documents(self, dataset, check_tokenizer(processing_class), columns, level)

    def data_collator(self, processing_class: Any, columns: tuple[str, ...] = ()) -> Callable:
        return SentenceCollator(columns)

    def is_encoded(self, dataset: Dataset) -> bool:
        return "sizes" in dataset.column_names

    def text_reader(self, tokenizer) -> SentenceReader:
        """A function that reads single texts for the pipeline."""
        return SentenceReader(self, tokenizer)
