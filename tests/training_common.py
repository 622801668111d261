"""The common tester of training: every method is a row of `METHODS`, on every backbone of `BACKBONES`.

A new method adds its row, and a new kind of input its backbones. With them it goes through all invariants of
`test_trainer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
    ViTConfig,
    ViTImageProcessorPil,
    set_seed,
)
from vectors import RationaleForVectorsClassification, VectorsConfig, toy_sets

from hf_rationale import METHODS as REGISTERED
from hf_rationale import (
    A2ITrainer,
    A2RTrainer,
    CRTrainer,
    DMRTrainer,
    DRTrainer,
    FRTrainer,
    GraphRationaleConfig,
    GRATTrainer,
    GruConfig,
    GruModel,
    HardKumaTrainer,
    InterRATTrainer,
    INVRATTrainer,
    MCDTrainer,
    MGRTrainer,
    N2RMMITrainer,
    N2RTrainer,
    NIRTrainer,
    PlmrForSequenceClassification,
    PLMRTrainer,
    RationaleForGraphClassification,
    RationaleForImageClassification,
    RationaleForSequenceClassification,
    RationaleImageConfig,
    RationaleTrainer,
    RationaleTrainingArguments,
    RNPTrainer,
    RTPTrainer,
    SentenceRationaleForSequenceClassification,
    ThreePlayerTrainer,
    VERTrainer,
    compose,
    word_level_tokenizer,
)
from hf_rationale.data.schema import to_dataset
from hf_rationale.modeling.outputs import RationaleInputs


# --- Texts -----------------------------------------------------------------------------------------------------------

NEUTRAL = ("the", "beer", "was", "served", "in", "a", "tall", "glass", "by", "someone", "else", "today")
OPINIONS = (("awful", "stale"), ("lovely", "fresh"))  # by label
WORDS = (*NEUTRAL, *OPINIONS[0], *OPINIONS[1])


def toy_reviews(count: int, seed: int = 0, marked: bool = True) -> Dataset:
    """Texts of 4 to 20 words; the one or two that decide the label are marked."""
    random = np.random.default_rng(seed)
    examples = []
    for index in range(count):
        label, length = index % 2, int(random.integers(4, 21))
        tokens = [str(word) for word in random.choice(NEUTRAL, length)]
        rationale = [0] * length
        for place in random.choice(length, random.integers(1, 3), replace=False):
            tokens[place] = str(random.choice(OPINIONS[label]))
            rationale[place] = 1
        examples.append({"tokens": tokens, "label": label, "rationale": rationale if marked else None})
    return to_dataset(examples, ("negative", "positive"))


# --- Images ----------------------------------------------------------------------------------------------------------


def toy_images(count: int, seed: int = 0, marked: bool = True, side: int = 12) -> Dataset:
    """Gray noise with a marked square of four pixels, whose brightness decides the label."""
    random = np.random.default_rng(seed)
    rows: dict[str, list] = {"image": [], "label": [], "rationale": []}
    for index in range(count):
        label, (top, left) = index % 2, random.integers(0, side - 3, 2)
        image, mask = random.integers(100, 156, (side, side, 3)), np.zeros((side, side), dtype=int)
        image[top : top + 4, left : left + 4] = (20, 235)[label]
        mask[top : top + 4, left : left + 4] = 1
        for name, value in (("image", image), ("label", label), ("rationale", mask if marked else None)):
            rows[name].append(value)
    return Dataset.from_dict(rows)


# --- Backbones: for text, an encoder with random weights and its tokenizer -------------------------------------------


def tiny_gru(dropout: float) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = word_level_tokenizer(WORDS)
    config = GruConfig(
        vocab_size=len(tokenizer), embedding_size=8, hidden_size=12, pad_token_id=tokenizer.pad_token_id
    )
    return GruModel(config), tokenizer


def tiny_bert(dropout: float, layers: int = 2) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    tokenizer = word_piece_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=48,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,  # far enough from zero for two layers to tell words apart
    )
    return BertModel(config), tokenizer


def word_piece_tokenizer() -> PreTrainedTokenizerFast:
    """Of `WORDS` some are two pieces, so that words and tokens differ."""
    split = {"served": "ser ##ved", "someone": "some ##one", "awful": "aw ##ful", "lovely": "love ##ly"}
    pieces = [piece for word in WORDS for piece in split.get(word, word).split()]
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


BACKBONES: dict[str, Callable[[float], tuple[PreTrainedModel, PreTrainedTokenizerFast]]] = {
    "gru": tiny_gru,
    "bert": tiny_bert,
    "plmr": partial(tiny_bert, layers=3),
}
# Another kind of input: sets of vectors, with two encoders (or a shared one), and split by depth.
VECTORS = {"vectors": {}, "vectors-split": {"split_by_depth": True}}
SENTENCES = "sentences"  # and a third: the sentences of a text, each encoded by a frozen encoder
GRAPHS = "graphs"  # and a fourth: vectors with edges
IMAGES = "images"  # and a fifth: patches of images
SPLIT = ("plmr", "vectors-split")


def examples(backbone: str, count: int, seed: int = 0, marked: bool = True) -> Dataset:
    """What a model over this backbone reads."""
    make = toy_images if backbone == IMAGES else toy_sets if backbone in (*VECTORS, GRAPHS) else toy_reviews
    texts = make(count, seed, marked)
    if backbone == SENTENCES:
        texts = texts.add_column(
            "sentence_ids", [[place // 3 for place in range(len(row))] for row in texts["tokens"]]
        )
    if backbone == GRAPHS:  # every node is joined to the next one and to that after it
        texts = texts.rename_column("vectors", "features")
        edges = [
            [(node, node + step) for step in (1, 2) for node in range(len(row) - step)] for row in texts["features"]
        ]
        texts = texts.add_column("edge_index", [list(zip(*row, strict=True)) for row in edges])
    return texts.add_column("environment", [index // 2 % 2 for index in range(count)])


# --- Methods ---------------------------------------------------------------------------------------------------------

# Stand-ins for what draws random numbers in training: they depend on a token's position alone, not on the batch around
# it, so that runs which cut the same examples differently can be compared.
_GENERATOR = torch.Generator().manual_seed(0)
_UNIFORM = torch.rand(64, generator=_GENERATOR)
_GUMBEL = -torch.empty(64, 2).exponential_(generator=_GENERATOR).log()


def gumbel_by_position(logits: torch.Tensor) -> torch.Tensor:
    return _GUMBEL[: logits.shape[1]].to(logits).expand_as(logits)


def uniform_by_position(mask: torch.Tensor) -> torch.Tensor:
    return _UNIFORM[: mask.shape[1]].to(mask).expand_as(mask)


def words_by_position(inputs: RationaleInputs) -> tuple[torch.Tensor, torch.LongTensor]:
    tokens = inputs.features["input_ids"]
    places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return uniform_by_position(inputs.context), 5 + places % 7


NOISE = {
    "hf_rationale.modeling.selection.uniform_noise": uniform_by_position,
    "hf_rationale.modeling.guidance.uniform_noise": uniform_by_position,
    "hf_rationale.modeling.selection.gumbel_noise": gumbel_by_position,
    "hf_rationale.methods.ver.uniform_noise": uniform_by_position,
    "hf_rationale.methods.cr.uniform_noise": uniform_by_position,
    "hf_rationale.methods.grat.uniform_noise": uniform_by_position,
    "hf_rationale.methods.nir.noise_words": words_by_position,
}

PLAYERS = {"cross_entropy": {"extractor", "predictor"}, "compactness": {"extractor"}, "coherence": {"extractor"}}
ATTACK = {"attack": {"attacker"}, "attack_compactness": {"attacker"}, "instruction": {"predictor"}}
NORM = {"norm": {"extractor"}}
SEPARATE = {"cross_entropy": {"predictor"}} | NORM
# A model that is split reads the full text from the states of the extractor's lower layers.
FULL_TEXT = {"full_text": {"extractor", "predictor"}, "match": {"extractor", "predictor"}}
# With one encoder, whatever moves the predictor's moves the extractor's.
SHARED = {"share_encoder": True}


@dataclass(frozen=True)
class Method:
    """A row of the common tester.

    Args:
        trainer: the Trainer subclass.
        reaches: for every component of the loss, the players that get a gradient from it, if they are not those of
            RNP.
        config, args: fields of the model's configuration, and of the training arguments.
        by_batch: whether a loss is not a sum over examples, so that it depends on how a step is divided.
    """

    trainer: type[RationaleTrainer] = RNPTrainer
    reaches: dict[str, set[str]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
    by_batch: bool = False

    def components(self, backbone: str) -> dict[str, set[str]]:
        components = PLAYERS | self.reaches | (FULL_TEXT if issubclass(self.trainer, PLMRTrainer) else {})
        if backbone in SPLIT:
            components |= {name: players for name, players in FULL_TEXT.items() if name in components}
        if backbone in VECTORS:  # vectors of a set have no neighbours
            components |= {name: set() for name in components if name.startswith("coherence")}
        return components

    def trains(self, backbone: str) -> bool:
        return self.trainer.model_options.get("share_encoder" if backbone in SPLIT else "split_by_depth") in (
            None,
            False,
        )


@contextmanager
def fixed_noise() -> Iterator[None]:
    with ExitStack() as stack:
        for name, stand_in in NOISE.items():
            stack.enter_context(mock.patch(name, stand_in))
        yield


METHODS = {
    "rnp": Method(),
    "rnp-words": Method(config={"selection_level": "word"}),
    "rnp-kumaraswamy": Method(config={"sampler": "kumaraswamy"}),
    "rnp-full_text": Method(args={"full_text_weight": 0.7}, reaches={"full_text": {"predictor"}}),
    "rnp-match": Method(args={"match_weight": 0.7, "match_base": 2.0}, reaches={"match": {"extractor", "predictor"}}),
    "rnp-guided": Method(
        config={"sparsity_level": "unit", "sparsity_weight": 1.0},
        args={
            "predictor_first_ratio": 0.5,
            "distillation_weight": 0.7,
            "marks_weight": 0.7,
            "scale_predictor_rate": True,
        },
        reaches={"marks": {"extractor"}},
    ),
    "rnp-occluded": Method(
        args={
            "predictor_first_ratio": 0.5,
            "predictor_first_share": 0.8,
            "distillation_weight": 0.7,
            "distillation_from": "occlusion",
        },
    ),
    "rnp-annealed": Method(args={"initial_sparsity": 0.9, "sparsity_warmup_ratio": 0.8}),
    "fr": Method(FRTrainer, config=SHARED),
    "n2r": Method(N2RTrainer, SEPARATE),
    "n2r_mmi": Method(N2RMMITrainer, NORM),
    "ver": Method(VERTrainer),
    "ver-words": Method(VERTrainer, config={"selection_level": "word"}, args={"perturbation_rate": 0.5}),
    "nir": Method(NIRTrainer, args={"noise_rate": 0.4}),
    "a2i": Method(A2ITrainer, ATTACK),
    "fr+a2i": Method(
        compose(FRTrainer, A2ITrainer), ATTACK | {"instruction": {"extractor", "predictor"}}, config=SHARED
    ),
    "ver+a2i": Method(compose(VERTrainer, A2ITrainer), ATTACK),
    "n2r+ver": Method(compose(N2RTrainer, VERTrainer), SEPARATE),
    "n2r_mmi+ver+nir+a2i-full_text": Method(
        compose(N2RMMITrainer, VERTrainer, NIRTrainer, A2ITrainer),
        NORM | ATTACK | {"full_text": {"predictor"}},
        args={"full_text_weight": 0.7},
    ),
    "hardkuma": Method(HardKumaTrainer, {"multiplier": {"multiplier"}}, config={"sampler": "kumaraswamy"}),
    "3player": Method(
        ThreePlayerTrainer,
        {"complement": {"complement_predictor"}, "complement_control": {"extractor"}},
        args={"complement_margin": 0.2},
        by_batch=True,
    ),
    "invrat": Method(
        INVRATTrainer,
        {"aware": {"aware_predictor", "environments"}, "invariance": {"extractor"}},
        by_batch=True,
    ),
    "a2r": Method(
        A2RTrainer,
        {
            "cross_entropy": {"predictor"},
            "soft": {"extractor", "soft_predictor"},
            "divergence": {"extractor", "predictor", "soft_predictor"},
        },
    ),
    "dmr": Method(
        DMRTrainer,
        {
            "teacher": {"teacher_predictor"},
            "output_match": {"extractor", "predictor"},
            "feature_match": {"extractor", "predictor"},
        },
        by_batch=True,
    ),
    "mgr": Method(
        MGRTrainer,
        {
            "cross_entropy_2": {"extractor_2", "predictor"},
            "compactness_2": {"extractor_2"},
            "coherence_2": {"extractor_2"},
        },
        args={"num_extractors": 2},
    ),
    "dr": Method(DRTrainer),
    "mcd": Method(
        MCDTrainer,
        {"cross_entropy": {"predictor"}, "dependence": {"extractor"}, "full_text": {"predictor"}},
    ),
    "inter_rat": Method(InterRATTrainer, config={"backdoor_adjustment": True}),
    "cr": Method(CRTrainer, {"necessity": {"extractor", "predictor"}}),
    "grat": Method(
        GRATTrainer,
        {
            "guide": {"guide_extractor", "guide_predictor"},
            "guidance": {"extractor"},
            "guide_match": {"extractor", "predictor"},
        },
    ),
    "rtp": Method(
        RTPTrainer,
        {
            "cross_entropy": {"predictor"},
            "sufficiency": {"extractor"},
            "comprehensiveness": {"extractor"},
            "full_text": {"predictor"},
        },
        config={"mask_head": "spans"},
        args={"learning_rate": 0.002},  # neighbours add up, so that the gradients are large
    ),
    "plmr": Method(PLMRTrainer),
    "plmr+n2r+ver+a2i": Method(compose(PLMRTrainer, N2RTrainer, VERTrainer, A2ITrainer), SEPARATE | ATTACK),
}

ROWS = [
    *((name, backbone) for name, method in METHODS.items() for backbone in BACKBONES if method.trains(backbone)),
    # Every method by itself. NIR is missing, because vectors are not words.
    *((name, "vectors-split" if name == "plmr" else "vectors") for name in REGISTERED if name != "nir"),
    *((name, SENTENCES) for name in REGISTERED if name not in ("nir", "plmr")),
    *((name, GRAPHS) for name in REGISTERED if name not in ("nir", "plmr", "rtp")),  # and they have no order
    *((name, IMAGES) for name in REGISTERED if name not in ("nir", "plmr", "rtp")),
]
# One row of every method, with one backbone after the other, for tests that train several times. Slow tests take all.
ONE_ROW_EACH = [
    rows[index % len(rows)] for index, rows in enumerate([row for row in ROWS if row[0] == name] for name in METHODS)
]
# A row whose encoders can compute their layers again.
ONE_TRANSFORMER = [("rnp", "bert")]


# --- Runs ------------------------------------------------------------------------------------------------------------


def make_model(
    method: str = "rnp", backbone: str = "gru", dropout: float = 0.0, **config
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model with the same weights in every call, and its tokenizer if it reads text."""
    set_seed(0)
    if backbone in VECTORS:
        config = {"classifier_dropout": dropout, **METHODS[method].config, **VECTORS[backbone], **config}
        return RationaleForVectorsClassification(VectorsConfig(num_labels=2, sparsity=0.3, **config)), None
    if backbone == GRAPHS:
        config = {
            "hidden_size": 12,
            "num_layers": 1,
            "classifier_dropout": dropout,
            **METHODS[method].config,
            **config,
        }
        config = GraphRationaleConfig(num_labels=2, sparsity=0.3, num_features=4, **config)
        return RationaleForGraphClassification(config), None
    if backbone == SENTENCES:
        encoder, tokenizer = tiny_bert(0.0)
        config = {"hidden_size": 12, "classifier_dropout": dropout, **METHODS[method].config, **config}
        return SentenceRationaleForSequenceClassification.from_encoder_pretrained(
            encoder, num_labels=2, sparsity=0.3, **config
        ), tokenizer
    if backbone == IMAGES:
        config = {"sparsity": 0.3, "classifier_dropout": dropout, **METHODS[method].config, **config}
        if not config.get("share_encoder"):
            # Without batch normalization, with which the loss of an image depends on its batch.
            config["backbone_config"] = ViTConfig(
                hidden_size=12,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                image_size=12,
                patch_size=4,
                initializer_range=0.2,
            )
        config = RationaleImageConfig(num_labels=2, patch_size=2, unet_sizes=[8, 8], **config)
        processor = ViTImageProcessorPil(size={"height": 12, "width": 12})
        return RationaleForImageClassification(config), processor
    encoder, tokenizer = BACKBONES[backbone](dropout)
    config = {"num_labels": 2, "sparsity": 0.3, "classifier_dropout": dropout, **METHODS[method].config, **config}
    model_class = PlmrForSequenceClassification if backbone == "plmr" else RationaleForSequenceClassification
    return model_class.from_encoder_pretrained(encoder, tokenizer=tokenizer, **config), tokenizer


def make_args(output_dir: str | Path, method: str = "rnp", **args) -> RationaleTrainingArguments:
    """Eight texts a step, in their order, logged at every step; plain gradient descent without clipping.

    Adam divides by the gradient's size, so it would blow up what rounding leaves of a gradient that is zero.
    """
    return METHODS[method].trainer.arguments_class(
        **{
            "output_dir": str(output_dir),
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 4,
            "num_train_epochs": 2,
            "learning_rate": 0.01,
            "lr_scheduler_type": "constant",
            "optim": "sgd",
            "max_grad_norm": 0.0,
            "train_sampling_strategy": "sequential",
            "logging_steps": 1,
            "eval_strategy": "no",
            "save_strategy": "no",
            "load_best_model_at_end": False,
            **METHODS[method].args,
            **args,
        }
    )


def make_trainer(
    output_dir: str | Path,
    method: str = "rnp",
    backbone: str = "gru",
    dropout: float = 0.0,
    config: dict[str, Any] | None = None,
    train_dataset: Dataset | None = None,
    eval_dataset: Dataset | None = None,
    callbacks: list[TrainerCallback] | None = None,
    **args,
) -> RationaleTrainer:
    model, tokenizer = make_model(method, backbone, dropout, **(config or {}))
    return METHODS[method].trainer(
        model=model,
        args=make_args(output_dir, method, **args),
        train_dataset=examples(backbone, 16) if train_dataset is None else train_dataset,
        eval_dataset=examples(backbone, 7, seed=1) if eval_dataset is None else eval_dataset,
        processing_class=tokenizer,
        callbacks=callbacks,
    )


class Recorder(TrainerCallback):
    """Keeps the gradients that every optimizer step uses, and the weights that it leaves."""

    def __init__(self):
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients.append(
            {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        )

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append({name: value.detach().clone() for name, value in model.named_parameters()})


def train_and_record(output_dir: str | Path, method: str, backbone: str, **options):
    """Train with the method's noise fixed; returns the trainer, the recorder, and what was logged at every step."""
    recorder = Recorder()
    with fixed_noise():
        trainer = make_trainer(output_dir, method, backbone, callbacks=[recorder], **options)
        trainer.train()
    return trainer, recorder, step_logs(trainer)


TIMES = ("runtime", "per_second", "total_flos")


def step_logs(trainer: RationaleTrainer) -> list[dict[str, float]]:
    """What was logged, without what depends on the clock."""
    return [
        {name: value for name, value in entry.items() if not name.endswith(TIMES)}
        for entry in trainer.state.log_history
    ]


def assert_close(actual: list[dict], expected: list[dict], rtol: float = 1e-4, atol: float = 1e-6):
    """Two lists, an entry a step, of dictionaries of numbers or tensors agree; the message says where they do not."""
    assert len(actual) == len(expected)
    for step, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert one.keys() == other.keys(), f"entry {step}"
        for name, value in one.items():
            torch.testing.assert_close(
                torch.as_tensor(value),
                torch.as_tensor(other[name]),
                rtol=rtol,
                atol=atol,
                msg=lambda text, place=f"{name} in entry {step}": f"{place}: {text}",
            )
