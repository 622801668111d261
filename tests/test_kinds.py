"""The common tester of every kind of input: what the core promises whatever a position stands for.

A new kind of input adds its rows to `KINDS`. `test_modeling.py` holds the text models to what only texts have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from common import ENCODERS, FIRST_WORD, VOCAB_SIZE, ModelCase, plmr_model, random_texts, rationale_model
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    ConvNextConfig,
    PreTrainedConfig,
    ResNetConfig,
    ViTConfig,
    set_seed,
)
from vectors import RationaleForVectorsClassification, VectorsConfig

from hf_rationale import (
    GraphRationaleConfig,
    RationaleForGraphClassification,
    RationaleForImageClassification,
    RationaleImageConfig,
    SentenceRationaleConfig,
    SentenceRationaleForSequenceClassification,
)
from hf_rationale.modeling.objective import selected_share


SIZES = (9, 4, 1)  # positions of the examples of a batch


@dataclass(frozen=True)
class Kind:
    """A row: how to make a model and a batch, and how to change the content of positions.

    Args:
        make: a model with random weights, from fields of its configuration.
        batch: a batch of examples with these sizes, from a seed, padded by so many positions.
        content: the model input that holds the content, and a function that gives other content of the same shape.
        options: fields of the configuration.
        places: from a mask (batch, positions) to one of the shape of the content.
        pads: whether examples of a batch differ in size.
    """

    make: Callable[..., torch.nn.Module]
    batch: Callable[..., dict[str, torch.Tensor]]
    content: str
    other: Callable[[torch.Tensor], torch.Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    places: Callable[[torch.Tensor], torch.Tensor] = lambda where: where
    pads: bool = True

    def model(self):
        set_seed(1)
        return self.make(num_labels=3, sparsity=0.3, **self.options).eval()

    def changed(self, batch: dict[str, torch.Tensor], where: torch.Tensor) -> dict[str, torch.Tensor]:
        content = batch[self.content]
        where = self.places(where.bool())
        where = where.reshape(*where.shape, *[1] * (content.dim() - where.dim()))
        return batch | {self.content: torch.where(where, self.other(content), content)}


def text_batch(case: ModelCase, sizes=SIZES, seed: int = 0, extra: int = 0) -> dict[str, torch.Tensor]:
    return case.batch(random_texts(*sizes, seed=seed), extra=extra)


def other_words(ids: torch.Tensor) -> torch.Tensor:
    return torch.where(ids >= FIRST_WORD, FIRST_WORD + (ids + 7) % (VOCAB_SIZE - FIRST_WORD), ids)


def text(encoder: str, make=rationale_model, **options) -> Kind:
    case = ModelCase(encoder, lambda **fields: make(encoder, **fields), ENCODERS[encoder])
    options |= {"special_token_ids": case.special_token_ids}
    return Kind(
        case.make, lambda *args, **kwargs: text_batch(case, *args, **kwargs), "input_ids", other_words, options
    )


def vectors_batch(sizes=SIZES, seed: int = 0, extra: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    length = max(sizes) + extra
    real = torch.arange(length) < torch.tensor(sizes).unsqueeze(1)
    vectors = torch.zeros(len(sizes), length, 4)
    for row, size in zip(vectors, sizes, strict=True):
        row[:size] = torch.randn(size, 4, generator=generator)
    return {"inputs": vectors, "vector_ids": torch.where(real, torch.arange(length), -1)}


def vectors(**options) -> Kind:
    def make(**fields):
        return RationaleForVectorsClassification(VectorsConfig(initializer_range=0.5, **fields))

    return Kind(make, vectors_batch, "inputs", lambda content: 3 - 2 * content, options)


def sentences_batch(sizes=SIZES, seed: int = 0, extra: int = 0) -> dict[str, torch.Tensor]:
    batch = vectors_batch(sizes, seed, extra)
    words = torch.where(batch["vector_ids"] < 0, 0, 1 + batch["vector_ids"] % 3)  # sentences of one to three words
    numbers = [torch.arange(len(row)).repeat_interleave(row) for row in words]
    numbers = torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=-1)
    return {"vectors": batch["inputs"], "sizes": words, "sentence_ids": numbers}


def compared_batch(*args, **kwargs) -> dict[str, torch.Tensor]:
    """Sentences that are compared with a query, which makes their vectors three times as wide."""
    batch = sentences_batch(*args, **kwargs)
    return batch | {"vectors": batch["vectors"].repeat(1, 1, 3), "relevance": batch["vectors"][..., :2]}


def sentences(batch: Callable = sentences_batch, **options) -> Kind:
    encoder = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)

    def make(**fields):
        config = SentenceRationaleConfig(encoder_config=encoder, hidden_size=8, initializer_range=0.5, **fields)
        return SentenceRationaleForSequenceClassification(config)

    return Kind(make, batch, "vectors", lambda content: 3 - 2 * content, options)


def graphs_batch(sizes=SIZES, seed: int = 0, extra: int = 0) -> dict[str, torch.Tensor]:
    """Trees, of which the larger ones have cycles."""
    batch = vectors_batch(sizes, seed, extra)
    edges = torch.zeros(len(sizes), 2 * max(sizes), 2, dtype=torch.long)
    for row, size in zip(edges, sizes, strict=True):
        pairs = [(node // 2, node) for node in range(1, size)] + [(node, node + 3) for node in range(size - 3)]
        row[: len(pairs)] = torch.tensor(pairs).view(-1, 2)
    return {"features": batch["inputs"], "edges": edges, "node_mask": (batch["vector_ids"] >= 0).long()}


def graphs(**options) -> Kind:
    def make(**fields):
        config = GraphRationaleConfig(num_features=4, num_layers=2, hidden_size=8, initializer_range=0.5, **fields)
        return RationaleForGraphClassification(config)

    return Kind(make, graphs_batch, "features", lambda content: 3 - 2 * content, options)


def images_batch(sizes=SIZES, seed: int = 0, extra: int = 0) -> dict[str, torch.Tensor]:
    """As many images as there are sizes. All images of a batch have one size."""
    return {"pixel_values": torch.randn(len(sizes), 3, 8, 8, generator=torch.Generator().manual_seed(seed))}


def images(backbone: PreTrainedConfig | None = None, patch_size: int = 2, **options) -> Kind:
    def make(**fields):
        config = RationaleImageConfig(
            backbone_config=backbone, patch_size=patch_size, unet_sizes=[8, 8], initializer_range=0.5, **fields
        )
        return RationaleForImageClassification(config)

    def places(where: torch.Tensor) -> torch.Tensor:
        side = 8 // patch_size
        return where.view(-1, 1, side, side).repeat_interleave(patch_size, 2).repeat_interleave(patch_size, 3)

    return Kind(make, images_batch, "pixel_values", lambda content: 3 - 2 * content, options, places, pads=False)


CONVNEXT = ConvNextConfig(num_stages=2, hidden_sizes=[8, 12], depths=[1, 1], patch_size=1, initializer_range=0.3)
RESNET = ResNetConfig(layer_type="basic", embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], hidden_act="gelu")
VIT = ViTConfig(
    hidden_size=12,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    image_size=8,
    patch_size=4,
    initializer_range=0.3,
)


KINDS = {
    "gru": text("gru"),
    "bert": text("bert", masking="attention"),
    "bert-words": text("bert", masking="attention", selection_level="word"),
    "plmr": text("bert", make=plmr_model),
    "vectors": vectors(),
    "vectors-max": vectors(pooling="max"),
    "vectors-kumaraswamy": vectors(sampler="kumaraswamy"),
    "vectors-shared": vectors(share_encoder=True),
    "vectors-split": vectors(split_by_depth=True),
    "sentences": sentences(),
    "sentences-shared": sentences(share_encoder=True),
    "sentences-compared": sentences(compared_batch, compare_query=True),
    "sentences-threshold": sentences(decoding="threshold"),
    "sentences-top-k": sentences(decoding="top_k", rationale_top_k=2),
    "sentences-spans": sentences(decoding="threshold", switch_cost=0.05),
    "graphs-gcn": graphs(layer_type="gcn"),
    "graphs-gin": graphs(),
    "graphs-gat": graphs(layer_type="gat"),
    "graphs-max": graphs(pooling="max"),
    "graphs-shared": graphs(share_encoder=True),
    "images": images(CONVNEXT),
    "images-pixels": images(RESNET, patch_size=1, fill="learned"),
    "images-vit": images(VIT, patch_size=4, decoding="top_k", rationale_top_k=1),
    "images-shared": images(share_encoder=True),
    "images-kumaraswamy": images(CONVNEXT, sampler="kumaraswamy", decoding="threshold"),
}


@pytest.fixture(params=KINDS)
def kind(request) -> Kind:
    return KINDS[request.param]


def forced(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """A mask of about half of the positions."""
    generator = torch.Generator().manual_seed(3)
    return torch.rand(model.prepare(**batch).real.shape, generator=generator).round()


@torch.no_grad()
def test_unselected_content_never_changes_the_logits(kind):
    model, batch = kind.model(), kind.batch()
    mask = forced(model, batch) * model.prepare(**batch).units.selectable
    hidden = model.prepare(**batch).units.selectable & (mask == 0)
    assert hidden.any()
    logits = model(**batch, rationale_mask=mask).logits
    changed = model(**kind.changed(batch, hidden), rationale_mask=mask).logits
    torch.testing.assert_close(changed, logits)
    seen = model(**kind.changed(batch, mask > 0), rationale_mask=mask).logits
    assert not torch.allclose(seen, logits)


@torch.no_grad()
def test_padding_is_never_selected_nor_counted_nor_read(kind):
    if not kind.pads:
        pytest.skip("examples of one size have no padding")
    model = kind.model()
    short, long = (model(**kind.batch(extra=extra), rationale_ratio=0.4) for extra in (0, 5))
    torch.testing.assert_close(long.logits, short.logits)
    assert torch.equal(long.rationale_mask.sum(1), short.rationale_mask.sum(1))
    padding = ~model.prepare(**kind.batch(extra=5)).units.selectable
    assert not long.rationale_mask[padding].any() and not long.rationale_scores[padding].any()


@torch.no_grad()
def test_an_example_alone_is_the_same_in_a_batch(kind):
    model, batch = kind.model(), kind.batch()
    together = model(**batch).logits
    real = model.prepare(**batch).real.bool()
    for row in range(len(SIZES)):
        alone = {
            name: value[row : row + 1, real[row]] if value.shape[1] == real.shape[1] else value[row : row + 1]
            for name, value in batch.items()
        }
        torch.testing.assert_close(model(**alone).logits, together[row : row + 1])


@torch.no_grad()
@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 1.0])
def test_a_budget_takes_the_best_scored_units(kind, ratio):
    model, batch = kind.model(), kind.batch(sizes=(10, 5, 1))
    output, units = model(**batch, rationale_ratio=ratio), model.prepare(**batch).units
    for row, first in enumerate(units.first):
        mask, scores = output.rationale_mask[row], output.rationale_scores[row]
        weights = units.weights[row, first]
        order = scores[first].argsort(descending=True, stable=True)
        before = weights[order].cumsum(0) - weights[order]
        expected = 0 if ratio == 0 else max(1, int((before + weights[order] / 2 <= ratio * weights.sum()).sum()))
        assert int(mask[first].sum()) == expected
        if 0 < expected < len(weights):
            assert scores[first & (mask > 0)].min() >= scores[first & (mask == 0)].max()


@torch.no_grad()
def test_what_a_budget_selects_has_the_right_size(kind):
    model, batch = kind.model(), kind.batch(sizes=(10, 5, 1))
    for sparsity in (0.05, 0.4):  # 0.05 of these is less than one of them
        model.config.sparsity, model.config.decoding = sparsity, "budget"
        assert model(**batch, labels=torch.tensor([0, 1, 2])).losses["compactness"] == 0


@torch.no_grad()
def test_evaluation_is_deterministic_and_training_samples(kind):
    model, batch = kind.model(), kind.batch()
    assert torch.equal(model(**batch).logits, model(**batch).logits)
    inputs = model.prepare(**batch)
    masks = [model.select(inputs, sample=True).mask for _ in range(6)]
    assert any(not torch.equal(masks[0], mask) for mask in masks[1:])
    assert not model.training


def test_every_position_gets_a_gradient_through_the_mask(kind):
    model, batch = kind.model(), kind.batch(sizes=(9, 4))
    inputs = model.prepare(**batch)
    for mask in (torch.zeros_like(inputs.units.weights), inputs.units.selectable.float()):
        mask = mask.requires_grad_()
        logits = model.predict(inputs, mask).logits
        gradient = torch.autograd.grad(logits[:, 0].sum(), mask)[0]
        if model.config.pooling != "max":
            assert gradient[inputs.units.selectable].all()


def test_a_training_step_reaches_every_weight_that_is_trained(kind):
    model, batch = kind.model().train(), kind.batch(sizes=(9, 4, 6))
    losses = [model(**batch, labels=torch.tensor([0, 1, 2])).loss for _ in range(4)]
    sum(losses).backward()
    missing = [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.isfinite().all())
    ]
    assert not missing


def test_loss_components_and_sparsity(kind):
    model, batch = kind.model(), kind.batch(sizes=(9, 4, 6))
    output = model(**batch, labels=torch.tensor([0, 1, 2]))
    share = selected_share(output.rationale_mask, model.prepare(**batch).units).mean()
    assert float(output.losses["sparsity"]) == pytest.approx(float(share))
    total = sum(value for name, value in output.losses.items() if name != "sparsity")
    torch.testing.assert_close(total, output.loss)


@torch.no_grad()
def test_saved_and_loaded_models_agree(kind, tmp_path):
    model, batch = kind.model(), kind.batch()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, atol=1e-6, rtol=1e-6)
    assert loaded.config.to_dict().keys() == model.config.to_dict().keys()
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen == {name for name, weight in loaded.named_parameters() if not weight.requires_grad}


def test_using_a_model_leaves_it_as_it_was(kind):
    model, batch = kind.model(), kind.batch(sizes=(9, 4, 6))

    def state() -> tuple:
        return (
            model.config.to_dict(),
            [
                getattr(part.config, "_attn_implementation", None)
                for part in model.modules()
                if hasattr(part, "config")
            ],
            [(name, type(module), len(module._forward_pre_hooks)) for name, module in model.named_modules()],
            [weight.requires_grad for weight in model.parameters()],
        )

    before = state()
    model(**batch)
    model.train()
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    model.eval()
    model(**batch, rationale_ratio=0.5)
    assert state() == before


@pytest.mark.parametrize("budget", [{"rationale_ratio": 1.5}, {"rationale_top_k": -1}, {"rationale_threshold": "x"}])
def test_a_bad_budget_raises(kind, budget):
    with pytest.raises(ValueError, match=next(iter(budget))):
        kind.model()(**kind.batch(), **budget)


@pytest.mark.parametrize("labels", [[0, 1, 3], [0, -1, 0], [0, 1]])
def test_bad_labels_raise(kind, labels):
    with pytest.raises(ValueError, match="labels"):
        kind.model()(**kind.batch(), labels=torch.tensor(labels))


def test_a_mask_of_another_shape_raises(kind):
    with pytest.raises(ValueError, match="rationale_mask must have an entry for every position"):
        kind.model()(**kind.batch(), rationale_mask=torch.ones(3, 2))


def test_a_kind_of_input_can_be_registered_with_the_auto_classes(tmp_path):
    KINDS["vectors"].model().save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, RationaleForVectorsClassification)


@torch.no_grad()
def test_given_units_are_selected_as_a_whole_and_count_their_words():
    """Sentences of 2 and 4 words, of which some are two tokens: `unit_ids` and `word_ids` are separate inputs."""
    model = rationale_model("bert", special_token_ids=[0, 1, 2, 3], sparsity=0.3).eval()
    ids = torch.tensor([[1, 9, 8, 7, 6, 5, 9, 8, 7, 2]])
    word_ids = torch.tensor([[-1, 0, 0, 1, 2, 3, 4, 4, 5, -1]])
    unit_ids = torch.tensor([[-1, 0, 0, 0, 1, 1, 1, 1, 1, -1]])
    batch = {"input_ids": ids, "word_ids": word_ids, "unit_ids": unit_ids}
    units = model.prepare(**batch).units
    assert units.weights[units.first].tolist() == [2, 4]
    assert torch.equal(model.prepare(**batch).marks.ids, word_ids)
    mask = model(**batch, rationale_top_k=1).rationale_mask[0]
    assert mask.tolist() in ([0, 1, 1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    output = model(**batch, rationale_top_k=1, labels=torch.tensor([0]))
    assert float(output.losses["sparsity"]) == pytest.approx(2 / 6 if mask[1] else 4 / 6)
