"""The base of the text models: what goes in, what can be selected, and what the encoders need."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..modeling.base import Objective, RationalePreTrainedModel, is_readable
from ..modeling.outputs import RationaleClassifierOutput, RationaleInputs
from ..modeling.selection import Marks, Units, grouped_units, marks_of_positions, single_units
from .attention import make_maskable, supports_masked_attention
from .collator import RationaleDataCollator
from .encoder_traits import traits_of
from .encoders import find_special_token_ids
from .encoding import TokenReader, encode_rationale_dataset


logger = logging.get_logger(__name__)


class RationaleTextModel(RationalePreTrainedModel):
    """Base of the rationale classifiers over tokens. Its `reader` reads with masked attention or masked embeddings."""

    processing_auto_class = AutoTokenizer
    encoded_columns = ("word_ids",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        """The encoders that have an embedding matrix. The extractor's comes first."""
        raise NotImplementedError

    @property
    def reader(self) -> PreTrainedModel:
        return self.encoders[-1]

    # --- Embeddings and attention ------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Module:
        return self.encoders[0].get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        first, *others = self.encoders
        first.set_input_embeddings(value)
        for encoder in others:  # each player has its own matrix; tying makes them one again
            encoder.set_input_embeddings(copy.deepcopy(value))
        self.tie_weights()

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Module:
        """Resize the embeddings of every encoder, because all read the same token indices. Returns the extractor's."""
        self.drop_training_modules()  # they were made for the old vocabulary
        for encoder in self.encoders:
            encoder.resize_token_embeddings(*args, **kwargs)
        self.vocab_size = self.config.vocab_size
        self.tie_weights()
        return self.get_input_embeddings()

    def set_attn_implementation(self, *args, **kwargs):
        """As transformers', but an encoder that reads with masked attention keeps the attention that can be masked."""
        super().set_attn_implementation(*args, **kwargs)
        self.prepare_reader()

    def prepare_reader(self):
        """Give the predictor's encoder the attention that can be masked. Raises `ValueError` if it has none."""
        self.supports_gradient_checkpointing = any(one.supports_gradient_checkpointing for one in self.encoders)
        if self.config.masking != "attention":
            return
        if not supports_masked_attention(self.reader):
            raise ValueError(
                f"The attention of {type(self.reader).__name__} cannot be masked from outside"
                + ("; use masking='zero'." if hasattr(self.config, "predictor_config") else ".")
            )
        make_maskable(self.reader)
        if traits_of(self.reader.config).attention_class is not None:
            self.supports_gradient_checkpointing = False  # the mask is known during the call only

    # --- Forward -----------------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        word_ids: torch.LongTensor | None = None,
        unit_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        columns: dict[str, torch.Tensor] | None = None,
        rationale_mask: torch.Tensor | None = None,
        rationale_ratio: float | None = None,
        rationale_top_k: int | None = None,
        rationale_threshold: float | None = None,
        objective: Objective | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> RationaleClassifierOutput | tuple:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): token indices.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*): 1 for real tokens.
            token_type_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): segments. Of a
                pair, only the second segment can be selected, and the first is always read.
            word_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): index of the word that
                a token belongs to, -1 for tokens that cannot be selected. It is needed to select by word. Without
                `token_type_ids`, it also distinguishes a pair from a single text that contains special tokens.
            unit_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): index of the unit that
                a token belongs to, such as a sentence. Its tokens are selected together, whatever the model's
                `selection_level`.
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*): class indices.
            columns (`dict[str, torch.Tensor]`, *optional*): further columns of a dataset, for a method's objective.
            rationale_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*): the predictor reads
                exactly this instead of the extractor's choice, without special tokens and padding. (The extractor
                still computes its scores.)
            rationale_ratio (`float`, *optional*): a budget: the share of each text to select, best scores first.
            rationale_top_k (`int`, *optional*): a budget: the number of units to select in each text.
            rationale_threshold (`float`, *optional*): select from this score on, instead of the model's threshold.
            objective (*optional*): a function of the model and the prepared inputs that computes the output instead.
                Trainers pass theirs, so that a method runs inside one forward call of the wrapped module.
            output_attentions (`bool`, *optional*): return the predictor's attention weights.
            output_hidden_states (`bool`, *optional*): return the predictor's hidden states.
            return_dict (`bool`, *optional*): `False` to return a tuple.

        Raises:
            TypeError: if there are unknown arguments.
            ValueError: if the inputs are malformed.
        """
        if unknown := sorted(name for name, value in kwargs.items() if value is not None):
            raise TypeError(f"{type(self).__name__} has no argument {', '.join(unknown)}.")
        inputs = self.prepare(input_ids, attention_mask, token_type_ids, word_ids, unit_ids, labels, columns)
        return self.rationalize(
            inputs,
            rationale_mask,
            rationale_ratio,
            rationale_top_k,
            rationale_threshold,
            objective,
            output_attentions,
            output_hidden_states,
            return_dict,
        )

    def prepare(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        word_ids: torch.LongTensor | None = None,
        unit_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        columns: dict[str, torch.Tensor] | None = None,
    ) -> RationaleInputs:
        """Find out what can be selected, what is selected together and what is always read. Arguments as in
        `forward`."""
        self._check_inputs(input_ids, attention_mask, token_type_ids, word_ids, unit_ids)
        self.check_labels(labels, len(input_ids))
        real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        content = real.clone()
        for special in self.config.special_token_ids or ():
            content &= input_ids != special
        if word_ids is not None:
            selectable = content & (word_ids >= 0)
        else:
            selectable = content & _last_segment(content, token_type_ids)
        features = {"input_ids": input_ids}
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        return RationaleInputs(
            features=features,
            real=real.long(),
            units=self._units(selectable, word_ids, unit_ids),
            # What comes before the first selectable token. A closing [SEP] would tell how long the text is.
            context=(real & (selectable.long().cumsum(1) == 0)).to(self.dtype),
            marks=self.marks(word_ids),
            labels=labels,
            columns=columns or {},
            options={},
        )

    def marks(self, word_ids: torch.LongTensor | None = None, **inputs) -> Marks | None:
        return None if word_ids is None else marks_of_positions(word_ids)

    def _units(
        self, selectable: torch.BoolTensor, word_ids: torch.LongTensor | None, unit_ids: torch.LongTensor | None
    ) -> Units:
        """The units of a batch. Whatever they are, their sizes count words. Words are scored as wholes, unless the
        model selects tokens."""
        level = self.config.selection_level
        given = ["token"] + ["word"] * (word_ids is not None) + ["clause", "sentence"] * (unit_ids is not None)
        if level not in given and not torch.compiler.is_compiling():
            logger.warning_once(
                f"This model selects whole {level}s but was not told where they are, so it selects smaller units. "
                "RationaleDataCollator and pipeline('rationale-classification') supply word_ids and unit_ids."
            )
        if word_ids is None:
            return single_units(selectable) if unit_ids is None else grouped_units(unit_ids, selectable, selectable)
        words = grouped_units(word_ids, selectable)
        if level == "token":
            tokens = torch.arange(selectable.shape[1], device=selectable.device).expand_as(selectable)
            counts = torch.zeros_like(words.sizes).scatter_add(1, words.index, selectable.float())
            sizes = 1 / counts.gather(1, words.index).clamp_min(1)
            if unit_ids is None:
                return single_units(selectable, sizes)
            return grouped_units(unit_ids, selectable, sizes, part_ids=tokens)
        return words if unit_ids is None else grouped_units(unit_ids, selectable, words.first, part_ids=word_ids)

    def _check_inputs(self, input_ids, attention_mask, token_type_ids, word_ids, unit_ids):
        if input_ids is None or input_ids.dim() != 2:
            shape = None if input_ids is None else tuple(input_ids.shape)
            raise ValueError(f"input_ids must have the shape (batch_size, sequence_length), but has {shape}")
        given = {
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "word_ids": word_ids,
            "unit_ids": unit_ids,
        }
        for name, tensor in given.items():
            if tensor is not None and tensor.shape != input_ids.shape:
                raise ValueError(
                    f"{name} must have the shape of input_ids, {tuple(input_ids.shape)}, but has {tuple(tensor.shape)}"
                )
        if 0 in input_ids.shape:
            raise ValueError(f"There is no text to read: input_ids has the shape {tuple(input_ids.shape)}.")
        if input_ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"input_ids must contain token indices, which are integers, but has {input_ids.dtype}")
        if is_readable(input_ids) and input_ids.numel():
            low, high = int(input_ids.min()), int(input_ids.max())
            if low < 0 or high >= self.config.vocab_size:
                raise ValueError(
                    f"input_ids contains {low if low < 0 else high}, but the encoders know {self.config.vocab_size} "
                    "tokens. Tokenize with the tokenizer of this model."
                )
        if attention_mask is not None and is_readable(attention_mask):
            empty = ~attention_mask.bool().any(1)
            if empty.any():
                raise ValueError(
                    f"Row {int(empty.long().argmax())} of attention_mask is all 0. This is an empty text, from which "
                    "nothing can be selected. Leave it out."
                )

    # --- Datasets ----------------------------------------------------------------------------------------------------

    def encode_dataset(
        self,
        dataset: Dataset,
        processing_class: Any,
        max_length: int | None = None,
        columns: tuple[str, ...] = (),
        level: str | None = None,
    ) -> Dataset:
        level = self.unit_level(level)
        return encode_rationale_dataset(dataset, check_tokenizer(processing_class), max_length, columns, level)

    def unit_level(self, level: str | None = None) -> str | None:
        """The level of the `unit_ids` that the model needs to select by `level` (by default its own): None if it needs
        none."""
        own = self.config.selection_level
        level = level or own
        return None if level == own and level in ("token", "word") else level

    def data_collator(self, processing_class: Any, columns: tuple[str, ...] = ()) -> Callable:
        return RationaleDataCollator(check_tokenizer(processing_class), columns=columns)

    def is_encoded(self, dataset: Dataset) -> bool:
        return "input_ids" in dataset.column_names

    def text_reader(self, tokenizer) -> TokenReader:
        """A function that reads single texts for the pipeline."""
        return TokenReader(tokenizer, self.unit_level)

    # --- Configuration -----------------------------------------------------------------------------------------------

    @classmethod
    def _config_fields(cls, encoder, config: PreTrainedConfig, tokenizer, given: dict[str, Any]) -> dict[str, Any]:
        """`given`, and the fields that follow from the encoder. Raises `TypeError` if the config lacks a field."""
        cls.check_fields(given)
        found = {"pad_token_id": getattr(config, "pad_token_id", None)}
        if "special_token_ids" not in given:
            found["special_token_ids"] = find_special_token_ids(encoder, config, tokenizer)
        return found | given


def check_tokenizer(processing_class: Any) -> Any:
    """`processing_class`. Raises `ValueError` if there is none."""
    if processing_class is None:
        raise ValueError("Pass the tokenizer as processing_class. It encodes and pads the texts.")
    return processing_class


def _last_segment(content: torch.BoolTensor, token_type_ids: torch.LongTensor | None) -> torch.BoolTensor:
    """The second segment of a pair, and everything of a single text. Without `token_type_ids`, the segments of a pair
    are recognized by the special tokens between them."""
    if token_type_ids is not None:
        second = token_type_ids.bool() & content
        return second | ~second.any(1, keepdim=True)
    start = content.clone()
    start[:, 1:] &= ~content[:, :-1]
    run = start.long().cumsum(1)
    return (run == 2) | (run.amax(1, keepdim=True) != 2)
