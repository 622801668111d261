"""The base of the rationale classifiers: what goes in, the two halves, and what comes out."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file, logging

from .configuration_base import RationaleBaseConfig
from .masking import (
    budget_mask,
    mask_attention_in_training,
    masks_by_hooks,
    sample_mask,
    supports_masked_attention,
    threshold_mask,
    token_units,
    word_units,
)
from .methods.rnp import rnp
from .modeling_outputs import Prediction, RationaleClassifierOutput, RationaleInputs, Selection


logger = logging.get_logger(__name__)

# Beside an adapter, whose folder is no model's: a config.json would make transformers look for the weights there.
ADAPTER_CONFIG_NAME = "rationale_config.json"


class RationalePreTrainedModel(PreTrainedModel):
    r"""
    Base of the rationale classifiers: a module `extractor` selects in one stage or several, a module `predictor` reads
    what is selected, with the encoder `reader`.
    """

    config_class = RationaleBaseConfig
    base_model_prefix = "rationale"
    extractor: nn.Module
    predictor: nn.Module
    # Whether the predictor's layers go on, for the full text, from the states that extraction begins with.
    reads_full_text_from_states = False
    # The Trainer would leave the division by accumulation steps to the model, because forward takes **kwargs.
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    training_modules: tuple[str, ...] = ()

    def add_training_module(self, name: str, module: nn.Module) -> None:
        """Add a part that only training uses: `save_pretrained` leaves it out, the Trainer's checkpoints have it."""
        self.add_module(name, module)
        self.training_modules += (name,)
        left_out = [f"{name}.{key}" for key in module.state_dict()]
        self._keys_to_ignore_on_save = [*(self._keys_to_ignore_on_save or ()), *left_out]

    def drop_training_modules(self) -> None:
        """Take away what `add_training_module` has added."""
        for name in self.training_modules:
            delattr(self, name)
            self._keys_to_ignore_on_save = [
                key for key in self._keys_to_ignore_on_save if not key.startswith(f"{name}.")
            ]
        self.training_modules = ()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        # A safetensors file is mapped into memory, where its weights begin at any address, and CPU kernels may round
        # otherwise there. At torch's own alignment, the logits are to the bit those of the model that was saved.
        for parameter in (loaded[0] if isinstance(loaded, tuple) else loaded).parameters():
            if parameter.device.type == "cpu" and parameter.data_ptr() % 64:
                parameter.data = parameter.data.clone()
        return loaded

    def load_adapter(self, peft_model_id: str | None = None, *args, **kwargs):
        """Load an adapter, and with it the threshold that was calibrated for it."""
        loaded = super().load_adapter(peft_model_id, *args, **kwargs)
        if peft_model_id is not None:
            source = dict(kwargs.get("adapter_kwargs") or {}, local_files_only=kwargs.get("local_files_only", False))
            path = cached_file(
                peft_model_id, ADAPTER_CONFIG_NAME, _raise_exceptions_for_missing_entries=False, **source
            )
            if path is not None:
                self.config.rationale_threshold = type(self.config).from_json_file(path).rationale_threshold
        return loaded

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        """The encoders that have an embedding matrix: the extractor's first."""
        raise NotImplementedError

    @property
    def reader(self) -> PreTrainedModel:
        """The encoder with which the predictor reads."""
        return self.encoders[-1]

    @property
    def shared_weights(self) -> list[nn.Parameter]:
        """The trained weights that both players read with."""
        extractor = {id(weight) for weight in self.extractor.parameters()}
        return [w for w in self.reader.parameters() if w.requires_grad and id(w) in extractor]

    def get_input_embeddings(self) -> nn.Module:
        return self.encoders[0].get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        first, *others = self.encoders
        first.set_input_embeddings(value)
        for encoder in others:  # each player has a matrix of its own; tying makes them one again
            encoder.set_input_embeddings(copy.deepcopy(value))
        self.tie_weights()

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Module:
        """Resize the embeddings of every encoder, which read the same token indices; returns the extractor's."""
        self.drop_training_modules()  # made for the old vocabulary
        for encoder in self.encoders:
            encoder.resize_token_embeddings(*args, **kwargs)
        self.vocab_size = self.config.vocab_size
        self.tie_weights()
        return self.get_input_embeddings()

    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        word_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        rationale_mask: torch.Tensor | None = None,
        rationale_ratio: float | None = None,
        rationale_top_k: int | None = None,
        rationale_threshold: float | None = None,
        objective: Callable[[RationalePreTrainedModel, RationaleInputs], RationaleClassifierOutput] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> RationaleClassifierOutput | tuple:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): token indices.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*): 1 for real tokens.
            token_type_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): segments; of a
                pair only the second segment can be selected, and the first is always read.
            word_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): index of the word that
                a token belongs to, -1 for what cannot be selected. Needed to select by word; and, where the tokenizer
                gives no `token_type_ids`, to tell a pair from a text that itself names a special token.
            labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*): class indices.
            rationale_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*): the predictor reads
                exactly this instead of the extractor's choice; special tokens and padding are left out of it. (The
                extractor runs all the same, for its scores.)
            rationale_ratio (`float`, *optional*): a budget: the best-scored share of each text's real tokens (words).
            rationale_top_k (`int`, *optional*): a budget: so many of each text's tokens (words).
            rationale_threshold (`float`, *optional*): select from this score on, instead of the model's threshold.
            objective (*optional*): what to compute instead of the model's own objective; a trainer's, so that
                everything that a method does happens inside one forward call of the wrapped module.
            output_attentions (`bool`, *optional*): return the predictor's attention weights; of a model that has been
                loaded with `attn_implementation="eager"`, and not trained since.
            output_hidden_states (`bool`, *optional*): return the predictor's hidden states.
            return_dict (`bool`, *optional*): `False` for a tuple.

        Raises:
            TypeError: naming the arguments that there are not.
            ValueError: naming what is wrong with the inputs.
        """
        if unknown := sorted(name for name, value in kwargs.items() if value is not None):
            raise TypeError(f"{type(self).__name__} takes no {', '.join(unknown)}.")
        inputs = self.prepare(input_ids, attention_mask, token_type_ids, word_ids, labels)
        if objective is not None:
            return objective(self, inputs)
        selection = self.select(inputs, rationale_ratio, rationale_top_k, rationale_threshold)
        if rationale_mask is not None:
            if any(value is not None for value in (rationale_ratio, rationale_top_k, rationale_threshold)):
                raise ValueError("Give a budget or a rationale_mask, not both.")
            _check_mask(rationale_mask, input_ids)
            forced = rationale_mask.to(selection.mask.dtype) * inputs.units.selectable
            selection = selection._replace(masks=(*selection.masks[:-1], forced))
        options = {
            "output_attentions": self.config.output_attentions if output_attentions is None else output_attentions,
            "output_hidden_states": self.config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states,
        }
        inputs = inputs._replace(options={name: value for name, value in options.items() if value})
        output = rnp(self, inputs, selection)
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def prepare(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        word_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
    ) -> RationaleInputs:
        """Find out what can be selected, what goes together and what is always read. Arguments as in `forward`."""
        self._check_inputs(input_ids, attention_mask, token_type_ids, word_ids, labels)
        real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        content = real.clone()
        for special in self.config.special_token_ids or ():
            content &= input_ids != special
        if word_ids is not None:
            selectable = content & (word_ids >= 0)
        else:
            selectable = content & _last_segment(content, token_type_ids)
        if self.config.selection_level == "word" and word_ids is None and not torch.compiler.is_compiling():
            logger.warning_once(
                "This model selects whole words, but was given no word_ids, so it selects tokens one by one. "
                "RationaleDataCollator and pipeline('rationale-classification') supply word_ids."
            )
        by_word = self.config.selection_level == "word" and word_ids is not None
        tokens = {"input_ids": input_ids}
        if token_type_ids is not None:
            tokens["token_type_ids"] = token_type_ids
        return RationaleInputs(
            tokens=tokens,
            attention_mask=real.long(),
            units=word_units(word_ids, selectable) if by_word else token_units(selectable),
            # What comes before the first selectable token. A closing [SEP] would tell how long the text is.
            context=(real & (selectable.long().cumsum(1) == 0)).to(self.dtype),
            labels=labels,
            options={},
        )

    def shares(self, sparsity: float | torch.Tensor) -> list[float | torch.Tensor]:
        """The share of each text's units that every stage of extraction is to leave; the last is `sparsity`."""
        return [sparsity]

    def select(
        self,
        inputs: RationaleInputs,
        rationale_ratio: float | None = None,
        rationale_top_k: int | None = None,
        rationale_threshold: float | None = None,
        extractor: nn.Module | None = None,
    ) -> Selection:
        """The extractor's half: by the budget given; else sampled in training, by the model's threshold otherwise.

        Where there are several stages and nothing is sampled, all but the last leave their scheduled share of each
        text, the best-scored.

        `extractor`: another one that is to select, such as A2I's attacker.
        """
        check_budget(rationale_ratio, rationale_top_k, rationale_threshold)
        extractor, units = extractor or self.extractor, inputs.units
        budgeted = rationale_ratio is not None or rationale_top_k is not None
        sampling = self.training and not budgeted and rationale_threshold is None
        threshold = self.config.rationale_threshold if rationale_threshold is None else rationale_threshold
        target = self.config.sparsity if rationale_ratio is None else rationale_ratio
        if rationale_top_k is not None:
            target = (rationale_top_k / units.first.sum(1, keepdim=True).clamp_min(1)).clamp_max(1)

        if self.training and self.config.masking == "attention":
            mask_attention_in_training(self.reader)
        mask = scores = units.selectable.float()
        hidden, states, masks = None, [], []
        for stage, share in enumerate(shares := self.shares(target)):
            hidden, logits = extractor(inputs, stage, hidden, mask)
            logits, last = logits.float(), stage == len(shares) - 1
            scores = scores * logits.softmax(-1)[..., 1]
            if sampling:
                mask = mask * sample_mask(logits, units, self.config.temperature)
            elif not last or rationale_ratio is not None:
                mask = budget_mask(scores, units, ratio=share)
            elif rationale_top_k is not None:
                mask = budget_mask(scores, units, top_k=rationale_top_k)
            else:
                mask = mask * threshold_mask(scores, units, threshold)
            if not last:
                scores = scores * mask.detach()  # what is pruned is out
            states.append(hidden)
            masks.append(mask.to(hidden.dtype))
        return Selection(scores, tuple(masks), states[0] if self.reads_full_text_from_states else None)

    def predict(
        self, inputs: RationaleInputs, mask: torch.Tensor, full_text: torch.Tensor | None = None
    ) -> Prediction:
        r"""
        The predictor's half: classify from the tokens that `mask` (batch, seq) selects; from their embeddings, or from
        the states `full_text` (batch, seq, hidden) of a [`Selection`], which know of all the others.
        """
        return self.predictor(self.reader, inputs, mask, full_text)

    def _check_inputs(self, input_ids, attention_mask, token_type_ids, word_ids, labels):
        if input_ids is None or input_ids.dim() != 2:
            shape = None if input_ids is None else tuple(input_ids.shape)
            raise ValueError(f"input_ids is of shape (batch_size, sequence_length); got {shape}")
        given = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "word_ids": word_ids}
        for name, tensor in given.items():
            if tensor is not None and tensor.shape != input_ids.shape:
                raise ValueError(
                    f"{name} is of the shape of input_ids, {tuple(input_ids.shape)}; got {tuple(tensor.shape)}"
                )
        if 0 in input_ids.shape:
            raise ValueError(f"There is no text to read: input_ids is of shape {tuple(input_ids.shape)}.")
        limit = self.max_length
        if limit is not None and input_ids.shape[1] > limit:
            raise ValueError(
                f"A text of {input_ids.shape[1]} tokens is longer than the encoder's {limit} positions. Tokenize with "
                f"truncation=True, max_length={limit}; what is cut off cannot be selected."
            )
        if input_ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"input_ids holds token indices, whole numbers; got {input_ids.dtype}")
        if labels is not None and (labels.dtype != torch.int64 or labels.shape != input_ids.shape[:1]):
            raise ValueError(
                f"labels holds one class index for each text, torch.int64 of shape {tuple(input_ids.shape[:1])}; got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        if _is_readable(input_ids) and input_ids.numel():
            low, high = int(input_ids.min()), int(input_ids.max())
            if low < 0 or high >= self.config.vocab_size:
                raise ValueError(
                    f"input_ids hold {low if low < 0 else high}, but the encoders know {self.config.vocab_size} "
                    "tokens. Tokenize with the tokenizer of this model."
                )
        if attention_mask is not None and _is_readable(attention_mask):
            empty = ~attention_mask.bool().any(1)
            if empty.any():
                raise ValueError(
                    f"Row {int(empty.long().argmax())} of attention_mask is all 0: an empty text, from which there is "
                    "nothing to select. Leave it out."
                )
        if labels is not None and _is_readable(labels) and labels.numel():
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_labels:
                raise ValueError(
                    f"labels hold {low if low < 0 else high}, but the model has {self.num_labels} classes, "
                    f"0 to {self.num_labels - 1}. Set num_labels when the model is made."
                )

    def _check_reader(self):
        """Raises `ValueError` where the predictor's encoder cannot be masked as the config says."""
        masked = self.config.masking == "attention"
        if masked and not supports_masked_attention(self.reader):
            raise ValueError(
                f"The attention of {type(self.reader).__name__} cannot be masked from outside"
                + ("; use masking='zero'." if hasattr(self.config, "predictor_config") else ".")
            )
        self.supports_gradient_checkpointing = any(
            encoder.supports_gradient_checkpointing for encoder in self.encoders
        ) and not (masked and masks_by_hooks(self.reader))

    @classmethod
    def _config_fields(cls, encoder, config: PreTrainedConfig, tokenizer, given: dict[str, Any]) -> dict[str, Any]:
        """The fields that `given` and the encoder with this `config` determine. Raises where there is no such one."""
        known = {field.name for field in fields(cls.config_class)} | {"num_labels"}
        if unknown := sorted(set(given) - known):
            raise TypeError(f"{cls.config_class.__name__} has no {', '.join(unknown)}")
        found = {"pad_token_id": getattr(config, "pad_token_id", None)}
        if "special_token_ids" not in given:
            found["special_token_ids"] = _special_token_ids(encoder, config, tokenizer)
        return found | given

    @property
    def max_length(self) -> int | None:
        """The longest text, in tokens, that both encoders have positions for; None where there is no limit."""
        limits = [count_positions(encoder) for encoder in self.encoders]  # in a form that torch.compile traces
        limits = [limit for limit in limits if limit is not None]
        return min(limits) if limits else None


def count_positions(encoder: PreTrainedModel) -> int | None:
    """How many tokens `encoder` has positions for; None where there is no limit."""
    limit = getattr(encoder.config, "max_position_embeddings", None)
    if not limit or limit < 0:
        return None
    embeddings = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if getattr(embeddings, "padding_idx", None) is not None:
        limit -= embeddings.padding_idx + 1  # RoBERTa and MPNet count positions from behind the padding's
    return limit


def check_budget(ratio: float | None, top_k: int | None, threshold: float | None):
    """Raises `ValueError` where a budget makes no sense, or more than one is given."""
    given = {"rationale_ratio": ratio, "rationale_top_k": top_k, "rationale_threshold": threshold}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"Give one budget, not several: {given}")
    for name in ("rationale_ratio", "rationale_threshold"):
        if name in given and not (_is_number(given[name], Real) and 0 <= given[name] <= 1):
            raise ValueError(f"{name} is in [0, 1]; got {given[name]!r}")
    if top_k is not None and not (_is_number(top_k, Integral) and top_k >= 0):
        raise ValueError(f"rationale_top_k is a whole number of at least 0; got {top_k!r}")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_readable(tensor: torch.Tensor) -> bool:
    """Whether looking at values costs nothing: on an accelerator it would make the host wait in every step, and
    `torch.compile` cannot trace it."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _check_mask(mask: torch.Tensor, input_ids: torch.Tensor):
    if not isinstance(mask, torch.Tensor):
        raise ValueError(f"rationale_mask is a tensor; got {type(mask).__name__}")
    if mask.shape != input_ids.shape:
        raise ValueError(
            f"rationale_mask has an entry for every token, shape {tuple(input_ids.shape)}; got {tuple(mask.shape)}"
        )
    if _is_readable(mask) and not ((mask == 0) | (mask == 1)).all():  # NaN fails both
        raise ValueError("rationale_mask holds 0 and 1 alone (1 = the predictor reads the token)")


def _last_segment(content: torch.BoolTensor, token_type_ids: torch.LongTensor | None) -> torch.BoolTensor:
    """A pair's second segment; everything of single texts. Without segment ids, special tokens part the two."""
    if token_type_ids is not None:
        second = token_type_ids.bool() & content
        return second | ~second.any(1, keepdim=True)
    start = content.clone()
    start[:, 1:] &= ~content[:, :-1]
    run = start.long().cumsum(1)
    return (run == 2) | (run.amax(1, keepdim=True) != 2)


def load_encoder(encoder: str | os.PathLike | PreTrainedModel) -> PreTrainedModel:
    given = isinstance(encoder, PreTrainedModel)
    config = encoder.config if given else AutoConfig.from_pretrained(encoder)
    if isinstance(config, RationaleBaseConfig):
        name = type(encoder).__name__ if given else encoder
        raise ValueError(f"{name} is a rationale model already; load it with from_pretrained.")
    if given:
        return encoder.base_model
    return AutoModel.from_pretrained(encoder, dtype=torch.float32)


def load_weights(encoder: PreTrainedModel, source: PreTrainedModel):
    """Give `encoder` the weights of `source`, whose pooler is left out."""
    encoder.load_state_dict(
        {key: value for key, value in source.state_dict().items() if not key.startswith("pooler.")}
    )


def _special_token_ids(encoder, config: PreTrainedConfig, tokenizer) -> list[int]:
    """The tokens that carry no content. An unknown word is a word all the same, so [UNK] is not one of them."""
    if tokenizer is None:
        try:
            if isinstance(encoder, PreTrainedModel):
                raise ValueError("a model has no tokenizer")
            tokenizer = AutoTokenizer.from_pretrained(encoder)
            # Where there are no files, transformers makes up a tokenizer of special tokens alone, with other indices.
            if tokenizer.vocab_size <= len(tokenizer.all_special_ids):
                raise ValueError("no vocabulary")
        except (ImportError, OSError, ValueError):  # which one depends on the version and on what is installed
            tokenizer = None
            logger.warning(
                "No tokenizer was given or found, so the special tokens are taken from the encoder's config, which "
                "may lack some; these could then be selected. Pass tokenizer=…, or special_token_ids=[…]."
            )
    if tokenizer is not None:
        return sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    return sorted({token for name in names if isinstance(token := getattr(config, name, None), int)})
