"""The rows of the common tester: tiny random models of every class, backbone and shared option.

`test_modeling.py` holds every row to every invariant. A new backbone is one entry of `ENCODERS`, a new model class one
entry of `CASES`; neither needs a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    set_seed,
)

from hf_rationale import (
    GruConfig,
    PlmrConfig,
    PlmrForSequenceClassification,
    RationaleConfig,
    RationaleForSequenceClassification,
)


VOCAB_SIZE = 64
FIRST_WORD = 5  # token indices below are special, or unknown words
MAX_LENGTH = 40  # in tokens

# Large initial weights: the logits of a tiny model then move visibly with what it reads.
_SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.3,
}


@dataclass(frozen=True)
class Backbone:
    """An encoder, and the special tokens of the tokenizer that would belong to it."""

    config: Callable[[], PreTrainedConfig]
    pad: int = 0
    first: int | None = 1  # [CLS]; None for an encoder whose texts have no special tokens around them
    last: int = 2  # [SEP]; also between the segments of a pair
    masking: tuple[str, ...] = ("attention", "zero")
    # Whether the encoder, run on the visible tokens alone with their own positions, must agree with masked attention.
    # Relative positions (MPNet, DeBERTa) and sliding windows (ModernBERT) are counted from the index in the sequence,
    # and `position_ids` cannot tell these encoders otherwise: there the shortened text is another text.
    gathers: bool = False
    segments: bool = False  # whether it reads token_type_ids


ENCODERS = {
    "gru": Backbone(
        lambda: GruConfig(
            vocab_size=VOCAB_SIZE, embedding_size=8, hidden_size=16, pad_token_id=0, initializer_range=1.0
        ),
        first=None,
        masking=("zero",),
    ),
    "bert": Backbone(lambda: BertConfig(**_SHAPE), gathers=True, segments=True),
    "roberta": Backbone(
        lambda: RobertaConfig(
            **_SHAPE | {"max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1},
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        ),
        pad=1,
        first=0,
        gathers=True,
    ),
    "electra": Backbone(lambda: ElectraConfig(**_SHAPE, embedding_size=8), gathers=True, segments=True),
    "distilbert": Backbone(
        lambda: DistilBertConfig(
            vocab_size=VOCAB_SIZE,
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=24,
            max_position_embeddings=MAX_LENGTH,
            initializer_range=0.3,
        ),
        gathers=True,
    ),
    # One layer in three attends globally; the others to two tokens on either side, so that the window matters.
    "modernbert": Backbone(
        lambda: ModernBertConfig(
            **_SHAPE | {"num_hidden_layers": 3},
            local_attention=4,
            pad_token_id=0,
            bos_token_id=1,
            cls_token_id=1,
            eos_token_id=2,
            sep_token_id=2,
        ),
    ),
    # A window as wide as any text here: all layers attend globally.
    "modernbert_global": Backbone(
        lambda: ModernBertConfig(
            **_SHAPE,
            local_attention=1024,
            pad_token_id=0,
            bos_token_id=1,
            cls_token_id=1,
            eos_token_id=2,
            sep_token_id=2,
        ),
        masking=("attention",),
        gathers=True,
    ),
    "mpnet": Backbone(
        lambda: MPNetConfig(
            **_SHAPE | {"max_position_embeddings": MAX_LENGTH + 2},
            relative_attention_num_buckets=32,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        ),
        pad=1,
        first=0,
    ),
    "deberta-v2": Backbone(
        lambda: DebertaV2Config(
            **_SHAPE,
            relative_attention=True,
            position_buckets=8,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
        ),
    ),
}


@dataclass(frozen=True)
class ModelCase:
    """One row: how to make a model, and what is to be expected of it."""

    name: str
    make: Callable[..., PreTrainedModel]  # takes fields of the config; fresh random weights
    backbone: Backbone
    options: dict[str, Any] = field(default_factory=dict)
    gathers: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def by_word(self) -> bool:
        return self.options.get("selection_level") == "word"

    @property
    def attention(self) -> bool:
        return self.options.get("masking", "attention") == "attention"

    @property
    def shortens(self) -> bool:
        return self.attention and "deberta" not in self.name

    @property
    def special_token_ids(self) -> list[int]:
        """The special tokens, [MASK] (3) among them. 4 would be [UNK], which is a word like others."""
        return [0, 1, 2, 3]

    def model(self, **options) -> PreTrainedModel:
        """A model with random weights, the same in every call, in evaluation mode."""
        set_seed(1)
        return self.make(**self.options, special_token_ids=self.special_token_ids, **options).eval()

    def batch(
        self,
        texts: list[list[int]],
        queries: list[list[int]] | None = None,
        side: str = "right",
        extra: int = 0,
        word_ids: bool = True,
    ) -> dict[str, torch.Tensor]:
        """`texts` (or pairs) with their special tokens, padded to the longest and by `extra`.

        Words are of one, two and three tokens in turn.
        """
        backbone = self.backbone
        rows = []
        for index, text in enumerate(texts):
            first = [] if backbone.first is None else [backbone.first]
            last = [] if backbone.first is None else [backbone.last]
            if queries is not None:
                first = [*first, *queries[index], backbone.last]
            rows.append((first, text, last))
        length = max(len(first) + len(text) + len(last) for first, text, last in rows) + extra
        batch = {"input_ids": [], "attention_mask": [], "word_ids": [], "token_type_ids": []}
        for first, text, last in rows:
            columns = {
                "input_ids": (first + text + last, backbone.pad),
                "attention_mask": ([1] * len(first + text + last), 0),
                "word_ids": ([-1] * len(first) + words_of(len(text)) + [-1] * len(last), -1),
                "token_type_ids": (
                    [0] * len(first) + [int(queries is not None)] * len(text + last),
                    0,
                ),
            }
            for key, (values, filler) in columns.items():
                padding = [filler] * (length - len(values))
                batch[key].append(padding + values if side == "left" else values + padding)
        if not word_ids:
            del batch["word_ids"]
        if queries is None or not backbone.segments:
            del batch["token_type_ids"]
        return {key: torch.tensor(value) for key, value in batch.items()}


def words_of(length: int) -> list[int]:
    """Word indices of `length` tokens: words of one, two and three tokens in turn."""
    sizes = [word for word in range(length) for _ in range(word % 3 + 1)]
    return sizes[:length]


def random_texts(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Texts of ordinary words."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(FIRST_WORD, VOCAB_SIZE, (length,), generator=generator).tolist() for length in lengths]


def rationale_model(extractor: str, predictor: str | None = None, **options) -> RationaleForSequenceClassification:
    """A two-player model over encoders of `ENCODERS`."""
    return RationaleForSequenceClassification(
        RationaleConfig(
            extractor_config=ENCODERS[extractor].config(),
            predictor_config=ENCODERS[predictor or extractor].config(),
            pad_token_id=ENCODERS[extractor].pad,
            initializer_range=0.5,
            **{"num_labels": 3, **options},
        )
    )


def plmr_model(
    encoder: str, layers: int = 4, positions: int | None = None, **options
) -> PlmrForSequenceClassification:
    """A model over an encoder of `ENCODERS`, of more layers than there, so that it can be split."""
    config = ENCODERS[encoder].config()
    changes = {"num_hidden_layers": layers, "layer_types": None}
    if positions is not None:
        changes["max_position_embeddings"] = positions
    config = type(config)(**config.to_diff_dict() | changes)
    return PlmrForSequenceClassification(
        PlmrConfig(
            encoder_config=config,
            pad_token_id=ENCODERS[encoder].pad,
            initializer_range=0.5,
            **{"num_labels": 3, **options},
        )
    )


def _two_player_cases() -> list[ModelCase]:
    cases = []
    for name, backbone in ENCODERS.items():
        for masking in backbone.masking:
            for level in ("token", "word"):
                # Mean pooling sees every visible token; with [CLS] alone, all that is read and all gradients that come
                # back have gone through attention.
                pooling = "max" if name == "gru" else {"token": "mean", "word": "cls"}[level]
                cases.append(
                    ModelCase(
                        f"{name}-{masking}-{level}",
                        lambda name=name, **options: rationale_model(name, **options),
                        backbone,
                        {"masking": masking, "selection_level": level, "pooling": pooling},
                        gathers=backbone.gathers and masking == "attention",
                    )
                )
    return cases


def _variant(name: str, encoder: str, predictor: str | None = None, **options) -> ModelCase:
    return ModelCase(
        name,
        lambda **fields: rationale_model(encoder, predictor, **fields),
        ENCODERS[encoder],
        options,
        gathers=options["masking"] == "attention" and ENCODERS[predictor or encoder].gathers,
    )


def _plmr(name: str, encoder: str, **options) -> ModelCase:
    return ModelCase(
        f"plmr-{name}",
        lambda **fields: plmr_model(encoder, **fields),
        ENCODERS[encoder],
        options,
        gathers=ENCODERS[encoder].gathers,
    )


CASES = [
    *_two_player_cases(),
    _variant("gru-tied", "gru", masking="zero", tie_word_embeddings=True),
    _variant("gru-mean", "gru", masking="zero", pooling="mean"),
    _variant("gru-shared", "gru", masking="zero", share_encoder=True),
    _variant("bert-shared", "bert", masking="attention", share_encoder=True),
    _variant("mpnet-shared", "mpnet", masking="attention", share_encoder=True, selection_level="word"),
    _variant("bert-max", "bert", masking="attention", pooling="max"),
    _variant("bert-tied", "bert", masking="attention", tie_word_embeddings=True),
    _variant("bert-batch-level", "bert", masking="attention", sparsity_level="batch"),
    _variant("bert+distilbert", "bert", "distilbert", masking="attention"),
    _variant("distilbert+bert", "distilbert", "bert", masking="attention", pooling="cls"),
    _variant("bert+gru", "bert", "gru", masking="zero"),
    *(
        _plmr(f"{name}-{level}", name, selection_level=level, pooling=pooling)
        for name in ("bert", "roberta", "electra", "distilbert", "modernbert", "mpnet")
        for level, pooling in (("token", "mean"), ("word", "cls"))
    ),
    _plmr("one-layer", "bert", reduction_layers=[2], layers=3),
    _plmr("three-layers", "bert", reduction_layers=[1, 3, 4], layers=5, sparsity_schedule="log"),
    _plmr("shared", "bert", share_mask_predictor=True, freeze_embeddings=False),
    _plmr("max", "electra", pooling="max", sparsity_level="batch"),
]
CASES_BY_NAME = {case.name: case for case in CASES}
