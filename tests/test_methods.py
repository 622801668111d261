"""What sets each method apart: whose gradient goes where, and what the predictor reads."""

import copy
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from training_common import (
    BACKBONES,
    ROWS,
    fixed_noise,
    make_args,
    make_model,
    make_trainer,
    toy_reviews,
    words_by_position,
)
from training_common import METHODS as ROWS_BY_NAME
from transformers import HfArgumentParser

from hf_rationale import (
    METHODS,
    A2ITrainer,
    FRTrainer,
    N2RMMITrainer,
    N2RTrainer,
    NIRTrainer,
    PLMRTrainer,
    RationaleTrainer,
    RationaleTrainingArguments,
    RNPTrainer,
    VERTrainer,
    compose,
)
from hf_rationale.methods.a2i import attacked_labels
from hf_rationale.methods.n2r import log_norm
from hf_rationale.methods.nir import noise_words
from hf_rationale.methods.ver import perturb
from hf_rationale.modeling.objective import selected_share, targets
from hf_rationale.modeling.selection import cut_off, grouped_units, single_units, through


every_backbone = pytest.mark.parametrize("backbone", BACKBONES)


def a_batch(trainer, count=8):
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(count)])
    return {name: value for name, value in batch.items() if name != "rationale"}


def gradients(trainer, batch=None, component=None) -> dict[str, torch.Tensor]:
    """Of the objective (or of one component), by parameter; zero where there is none."""
    model = trainer.model.train()
    with fixed_noise():
        output = trainer.training_objective(model, model.prepare(**(batch or a_batch(trainer))))
    loss = output.loss if component is None else output.losses[component]
    names, parameters = zip(
        *((name, value) for name, value in model.named_parameters() if value.requires_grad), strict=True
    )
    values = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if value is None else value
        for name, parameter, value in zip(names, parameters, values, strict=True)
    }


def assert_gradients_of(trainer, components: tuple[str, str], loss: torch.Tensor):
    """The gradients of two components of the objective add up to those of `loss`."""
    parameters = [value for value in trainer.model.parameters() if value.requires_grad]
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    one, other = (gradients(trainer, component=component) for component in components)
    for name, value in zip(one, expected, strict=True):
        value = torch.zeros_like(one[name]) if value is None else value
        torch.testing.assert_close(one[name] + other[name], value, rtol=1e-4, atol=1e-7)


def of(player: str, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in values.items() if name.startswith(f"{player}.")}


def flipped(batch):
    return {**batch, "labels": 1 - batch["labels"]}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys() and one
    return all(torch.equal(value, other[name]) for name, value in one.items())


# --- N2R -------------------------------------------------------------------------------------------------------------


@every_backbone
@pytest.mark.parametrize("method", ["n2r", "n2r+ver"])
def test_n2r_extractor_does_not_see_the_labels(tmp_path, method, backbone):
    trainer = make_trainer(tmp_path, method, backbone)
    batch = a_batch(trainer)
    actual, other = gradients(trainer, batch), gradients(trainer, flipped(batch))
    assert same(of("extractor", actual), of("extractor", other))
    assert all(value.any() for value in of("extractor", actual).values())
    assert not same(of("predictor", actual), of("predictor", other))


@every_backbone
@pytest.mark.parametrize("method", ["rnp", "n2r_mmi"])
def test_other_extractors_do_see_the_labels(tmp_path, method, backbone):
    trainer = make_trainer(tmp_path, method, backbone)
    batch = a_batch(trainer)
    assert not same(of("extractor", gradients(trainer, batch)), of("extractor", gradients(trainer, flipped(batch))))


@every_backbone
@pytest.mark.parametrize("method", ["n2r", "n2r_mmi", "n2r+ver"])
def test_n2r_predictor_does_not_see_the_norm(tmp_path, method, backbone):
    weighed = [gradients(make_trainer(tmp_path, method, backbone, norm_weight=weight)) for weight in (0.0, 1.0, 50.0)]
    for other in weighed[1:]:
        assert same(of("predictor", other), of("predictor", weighed[0]))
        assert not same(of("extractor", other), of("extractor", weighed[0]))


@every_backbone
def test_n2r_in_one_pass_is_the_papers_two_passes(tmp_path, backbone):
    """(9) on a cut rationale; (8) through a predictor whose parameters are constants."""
    trainer = make_trainer(tmp_path, "n2r", backbone)
    model, batch = trainer.model.train(), a_batch(trainer)
    with fixed_noise():
        inputs = model.prepare(**batch)
        mask = model.select(inputs).mask
    cross_entropy = F.cross_entropy(model.predict(inputs, mask.detach()).logits, batch["labels"])
    fixed = copy.deepcopy(model).requires_grad_(False)
    norm = -log_norm(fixed.predict(inputs, mask).representation).mean()
    assert_gradients_of(trainer, ("cross_entropy", "norm"), cross_entropy + norm)


@every_backbone
def test_n2r_mmi_without_the_norm_is_rnp(tmp_path, backbone):
    rnp = gradients(make_trainer(tmp_path, "rnp", backbone))
    mmi = gradients(make_trainer(tmp_path, "n2r_mmi", backbone, norm_weight=0.0))
    assert same(mmi, rnp)


def test_norm_of_an_empty_rationale_has_a_finite_gradient():
    representation = torch.zeros(2, 3, requires_grad=True)
    log_norm(representation).sum().backward()
    assert torch.isfinite(log_norm(representation)).all() and torch.isfinite(representation.grad).all()


# --- VER -------------------------------------------------------------------------------------------------------------


def random_masks(seed: int, by_word: bool):
    """Masks over texts with special tokens around and padding behind, among them empty and full ones."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.tensor([20, 13, 5, 9, 20])
    place = torch.arange(22).expand(5, -1)
    selectable = (place > 0) & (place <= length[:, None])
    word_ids = torch.where(selectable, place // 3, -1)
    units = grouped_units(word_ids, selectable) if by_word else single_units(selectable)
    chosen = torch.rand(5, 22, generator=generator) < torch.tensor([0.3, 0.8, 0.5, 0.0, 1.0])[:, None]
    mask = (chosen.gather(1, units.index) & selectable).float()
    return mask, units


@pytest.mark.parametrize("by_word", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_ver_as_many_leave_as_enter_in_every_text(rate, by_word):
    left, selected = 0, 0
    for seed in range(50):
        mask, units = random_masks(seed, by_word)
        torch.manual_seed(1000 + seed)  # other noise than the mask's
        perturbed = perturb(mask, units, rate)
        assert ((perturbed == 0) | (perturbed == 1)).all()
        assert not perturbed[~units.selectable].any()
        leave = ((mask == 1) & (perturbed == 0) & units.first).sum(1)
        enter = ((mask == 0) & (perturbed == 1) & units.first).sum(1)
        assert torch.equal(leave, enter)
        # All the tokens of a unit go together.
        head = torch.zeros_like(mask).scatter_add(1, units.index, perturbed * units.first)
        assert torch.equal(perturbed[units.selectable], head.gather(1, units.index)[units.selectable])
        if rate == 1.0:  # whatever can leave does
            n = (mask * units.first).sum(1)
            assert torch.equal(leave, torch.minimum(n, units.first.sum(1) - n).long())
        assert not leave[3:].any()  # nothing selected; nothing left to enter
        left, selected = left + int(leave[0]), selected + int((mask * units.first)[0].sum())
    if rate < 1.0:  # else there is not always room for all to enter
        assert left / selected == pytest.approx(rate, abs=0.07)


def test_ver_draws_who_leaves_and_who_enters_uniformly():
    mask = torch.tensor([[1.0] * 4 + [0.0] * 6]).repeat(4000, 1)
    torch.manual_seed(0)
    flips = (perturb(mask, single_units(mask >= 0), 0.5) != mask).float().mean(0)
    torch.testing.assert_close(flips, torch.tensor([0.5] * 4 + [2 / 6] * 6), atol=0.04, rtol=0)


def test_ver_gradients_are_those_of_the_unperturbed_mask():
    mask, units = random_masks(0, False)
    mask.requires_grad_()
    slope = torch.randn(mask.shape)
    (perturb(mask, units, 0.5) * slope).sum().backward()
    assert torch.equal(mask.grad, slope)


@every_backbone
def test_ver_perturbs_what_is_read_and_nothing_else(tmp_path, backbone):
    rnp, ver = (make_trainer(tmp_path, name, backbone) for name in ("rnp", "ver"))
    batch, outputs, read = a_batch(rnp), [], []
    for trainer in (rnp, ver):
        model, predict = trainer.model.train(), trainer.model.predict
        model.predict = lambda inputs, mask, predict=predict: read.append(mask) or predict(inputs, mask)
        with fixed_noise():
            outputs.append(trainer.training_objective(model, model.prepare(**batch)))
    one, other = outputs
    assert torch.equal(one.rationale_mask, other.rationale_mask)
    assert torch.equal(read[0], one.rationale_mask) and not torch.equal(read[1], read[0])
    assert torch.equal(read[1].sum(1), read[0].sum(1))
    for name in ("compactness", "coherence", "sparsity"):
        assert torch.equal(one.losses[name], other.losses[name])
    assert not torch.equal(one.losses["cross_entropy"], other.losses["cross_entropy"])


@every_backbone
@pytest.mark.parametrize("method", ["ver", "nir", "n2r_mmi+ver+nir+a2i-full_text"])
def test_evaluation_is_unperturbed(tmp_path, method, backbone):
    one, other = make_trainer(tmp_path, "rnp", backbone), make_trainer(tmp_path, method, backbone)
    assert one.evaluate()["eval_loss"] == other.evaluate()["eval_loss"]
    expected, actual = one.predict(toy_reviews(6, seed=5)), other.predict(toy_reviews(6, seed=5))
    for left, right in zip(expected.predictions, actual.predictions, strict=True):
        assert np.array_equal(left, right)


# --- NIR -------------------------------------------------------------------------------------------------------------


@every_backbone
def test_nir_replaces_selected_words_alone(tmp_path, backbone):
    trainer = make_trainer(tmp_path, "nir", backbone)
    model, read = trainer.model.train(), []
    predict = model.predict
    model.predict = lambda inputs, mask, *_: read.append((inputs, mask)) or predict(inputs, mask)
    torch.manual_seed(0)
    given = model.prepare(**a_batch(trainer, 16))
    output = trainer.training_objective(model, given)
    ((inputs, mask),) = read
    changed = inputs.features["input_ids"] != given.features["input_ids"]
    assert torch.equal(mask, output.rationale_mask)
    assert changed.any() and not changed[mask == 0].any()
    assert 0.15 < changed[mask == 1].float().mean() <= 0.55  # some are replaced by themselves
    assert set(inputs.features["input_ids"][changed].tolist()) <= set(
        given.features["input_ids"][given.units.selectable].tolist()
    )


def test_nir_replaces_whole_words(tmp_path):
    model, _ = make_model("nir", "bert", selection_level="word")
    words = torch.arange(24).expand(8, -1) // 3
    inputs = model.prepare(input_ids=torch.randint(4, 20, (8, 24)), word_ids=words)
    read, trainer = [], make_trainer(tmp_path, "nir", "bert", noise_rate=0.5)
    model.predict = lambda inputs, mask, *_: read.append(inputs.features["input_ids"])
    # No text contains this noise, so that it shows what is replaced.
    noise = torch.rand(8, 24), torch.full((8, 24), 3)
    with mock.patch("hf_rationale.methods.nir.noise_words", return_value=noise):
        trainer.read(model, inputs, torch.ones(8, 24))
    replaced = (read[0] == 3).view(8, 8, 3)
    assert torch.equal(replaced.any(2), replaced.all(2)) and 0 < replaced.float().mean() < 1


def test_nir_draws_common_words_more_often(tmp_path):
    model, _ = make_model("nir", "gru")
    inputs = model.prepare(
        input_ids=torch.tensor([[5, 5, 5, 6], [5, 5, 0, 0]]), attention_mask=torch.tensor([[1] * 4, [1, 1, 0, 0]])
    )
    torch.manual_seed(0)
    drawn = torch.stack([noise_words(inputs)[1] for _ in range(500)])
    assert set(drawn.unique().tolist()) == {5, 6}
    assert (drawn == 5).float().mean() == pytest.approx(5 / 6, abs=0.03)


def test_nir_trains_on_a_text_from_which_nothing_can_be_selected(tmp_path):
    trainer = make_trainer(tmp_path, "nir", "bert")
    ids = torch.tensor([trainer.model.config.special_token_ids[:2]])
    output = trainer.training_objective(trainer.model.train(), trainer.model.prepare(ids, labels=torch.tensor([0])))
    output.loss.backward()
    assert output.rationale_mask.sum() == 0 and output.loss.isfinite()


# --- A2I -------------------------------------------------------------------------------------------------------------


@every_backbone
@pytest.mark.parametrize("method", ["a2i", "ver+a2i"])
def test_a2i_moves_the_attacker_by_the_attack_and_the_predictor_by_the_instruction(tmp_path, method, backbone):
    trainer = make_trainer(tmp_path, method, backbone)
    attack, instruction = (gradients(trainer, component=name) for name in ("attack", "instruction"))
    for player, by_attack, by_instruction in (
        ("attacker", True, False),
        ("predictor", False, True),
        ("extractor", False, False),
    ):
        assert any(value.any() for value in of(player, attack).values()) == by_attack, player
        assert any(value.any() for value in of(player, instruction).values()) == by_instruction, player


@every_backbone
def test_a2i_leaves_the_extractors_game_as_it_is(tmp_path, backbone):
    rnp, a2i = (gradients(make_trainer(tmp_path, name, backbone)) for name in ("rnp", "a2i"))
    assert same(of("extractor", a2i), of("extractor", rnp))


@every_backbone
def test_a2i_in_one_pass_is_the_papers_two_passes(tmp_path, backbone):
    trainer = make_trainer(tmp_path, "a2i", backbone)
    model, batch = trainer.model.train(), a_batch(trainer)
    with fixed_noise():
        inputs = model.prepare(**batch)
        mask = model.select(inputs, extractor=model.attacker).mask
    fixed = copy.deepcopy(model).requires_grad_(False)
    attack = F.cross_entropy(fixed.predict(inputs, mask).logits, 1 - batch["labels"])
    instructed = model.predict(inputs, mask.detach()).logits
    instruction = F.cross_entropy(instructed, torch.full_like(instructed, 0.5))
    assert_gradients_of(trainer, ("attack", "instruction"), attack + instruction)


@every_backbone
def test_the_attackers_compactness_is_that_of_its_own_mask(tmp_path, backbone):
    trainer = make_trainer(tmp_path, "a2i", backbone, config={"sparsity_weight": 7.0})
    model, batch = trainer.model.train(), a_batch(trainer)
    with fixed_noise():
        inputs = model.prepare(**batch)
        selection = model.select(inputs, extractor=model.attacker)
        losses = trainer.training_objective(model, inputs).losses
    wanted = targets(model, selection, inputs.units, model.shares(0.3))
    distances = [
        (selected_share(mask, inputs.units) - target).abs().mean().item()
        for mask, target in zip(selection.masks, wanted, strict=True)
    ]
    assert losses["attack_compactness"].item() == pytest.approx(7 * np.mean(distances), abs=1e-5)
    assert any(value.any() for value in of("attacker", gradients(trainer, batch, "attack_compactness")).values())


def test_attacked_labels_are_uniform_over_the_other_classes():
    labels = torch.arange(4).repeat(3000)
    torch.manual_seed(0)
    attacked = attacked_labels(labels, 4)
    assert not (attacked == labels).any()
    for label in range(4):
        shares = attacked[labels == label].bincount(minlength=4) / 3000
        expected = torch.full((4,), 1 / 3)
        expected[label] = 0
        torch.testing.assert_close(shares, expected, atol=0.04, rtol=0)
    assert torch.equal(attacked_labels(torch.tensor([0, 1, 1]), 2), torch.tensor([1, 0, 0]))


@pytest.mark.parametrize("method, backbone", [row for row in ROWS if row[0] in ("a2i", "fr+a2i")])
def test_the_attacker_is_in_checkpoints_and_not_in_the_model(tmp_path, method, backbone):
    trainer = make_trainer(tmp_path, method, backbone, save_strategy="epoch")
    trainer.train()
    trainer.save_model(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert not any(name.startswith("attacker") for name in weights)
    assert not (tmp_path / "model" / "training_modules.safetensors").exists()
    kept = load_file(tmp_path / f"checkpoint-{trainer.state.global_step}" / "training_modules.safetensors")
    expected = {
        f"attacker.{name}": value.detach()
        for name, value in trainer.model.attacker.named_parameters()
        if value.requires_grad
    }
    assert same(kept, expected)
    loaded = type(trainer.model).from_pretrained(tmp_path / "model")
    assert not hasattr(loaded, "attacker")
    batch = a_batch(trainer)
    assert torch.equal(loaded(**batch).logits, trainer.model.eval()(**batch).logits)


def test_frozen_word_vectors_are_not_copied_for_the_attacker(tmp_path):
    for frozen in (True, False):
        model, tokenizer = make_model("a2i", "gru")
        weight = model.extractor.encoder.embeddings.weight.requires_grad_(not frozen)
        A2ITrainer(model=model, args=make_args(tmp_path), processing_class=tokenizer)
        assert (model.attacker.encoder.embeddings.weight is weight) == frozen


def test_the_attackers_head_is_its_own_and_the_extractors_stays(tmp_path):
    """Also where the extractor is frozen."""
    model, tokenizer = make_model("a2i", "gru")
    model.extractor.requires_grad_(False)
    before = copy.deepcopy(model.extractor.state_dict())
    A2ITrainer(model=model, args=make_args(tmp_path), processing_class=tokenizer)
    assert same(model.extractor.state_dict(), before)
    attacker = model.attacker
    assert not torch.equal(attacker.mask_predictor.selector.weight, model.extractor.mask_predictor.selector.weight)
    assert attacker.mask_predictor.selector.weight.requires_grad and attacker.mask_predictor.norm.weight.requires_grad
    assert attacker.encoder.forward_gru.weight_hh_l0 is model.extractor.encoder.forward_gru.weight_hh_l0


def test_the_next_trainer_takes_the_attacker_away(tmp_path):
    model, tokenizer = make_model("a2i", "gru")
    given = {"args": make_args(tmp_path), "processing_class": tokenizer}
    for _ in range(2):
        A2ITrainer(model=model, **given)
        left_out = [f"attacker.{key}" for key in model.attacker.state_dict()]
        assert model._keys_to_ignore_on_save == left_out
    RationaleTrainer(model=model, **given)
    assert not hasattr(model, "attacker") and not model._keys_to_ignore_on_save
    bert, tokenizer = make_model("a2i", "bert")
    args = make_args(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="This process sees 2 GPUs"):
        A2ITrainer(model=bert, args=args, processing_class=tokenizer)
    assert not hasattr(bert, "attacker")
    A2ITrainer(model=model, **given)
    model.resize_token_embeddings(40)
    assert not hasattr(model, "attacker")


def test_resuming_from_another_methods_checkpoint_raises(tmp_path):
    make_trainer(tmp_path, "rnp", "gru", save_strategy="epoch", save_total_limit=None).train()
    with pytest.raises(ValueError, match=r"no training_modules\.safetensors.*another method"):
        make_trainer(tmp_path, "a2i", "gru").train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


# --- FR --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backbone", [backbone for method, backbone in ROWS if method == "fr" and backbone in BACKBONES]
)
def test_fr_gradient_is_the_sum_of_the_two_players(tmp_path, backbone):
    shared = make_trainer(tmp_path, "fr", backbone)
    apart = make_trainer(tmp_path, "rnp", backbone)
    weights = shared.model.state_dict()
    weights |= {
        name.replace("extractor", "predictor"): value
        for name, value in weights.items()
        if name.startswith("extractor.encoder")
    }
    apart.model.load_state_dict(weights)
    one, two = gradients(shared), gradients(apart)
    assert len(one) < len(two)
    for name, value in one.items():
        expected = two[name] + two.get(name.replace("extractor.encoder", "predictor.encoder"), 0) * (
            "extractor.encoder" in name
        )
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_fr_needs_one_encoder(tmp_path):
    model, tokenizer = make_model("rnp")
    with pytest.raises(ValueError, match=r"share_encoder=True, but .* has share_encoder=False"):
        FRTrainer(model=model, args=make_args(tmp_path), processing_class=tokenizer)


# --- Gradients through a mask ----------------------------------------------------------------------------------------


def test_through_carries_a_loss_to_the_mask_alone():
    parameter = torch.tensor(3.0, requires_grad=True)
    selected = torch.tensor([1.0, 0.0], requires_grad=True)
    read = cut_off(selected * 1)
    loss = through((read * parameter).sum() ** 2, read, selected * 1)
    assert loss.item() == 9
    loss.backward()
    assert parameter.grad is None
    assert selected.grad.tolist() == [18, 18]


# --- Combining -------------------------------------------------------------------------------------------------------


def test_composing_is_inheriting():
    trainer = compose(N2RTrainer, VERTrainer, A2ITrainer)
    assert issubclass(trainer, N2RTrainer | VERTrainer | A2ITrainer)
    # N2R replaces the game, so that the others add to it.
    assert trainer.__mro__.index(VERTrainer) < trainer.__mro__.index(A2ITrainer) < trainer.__mro__.index(N2RTrainer)
    assert trainer.model_options == {"share_encoder": False}
    for part in (N2RTrainer, VERTrainer, A2ITrainer):
        assert part.description in trainer.description
    assert compose(FRTrainer, A2ITrainer).model_options == {"share_encoder": True}


@pytest.mark.parametrize("order", [("ver", "nir"), ("nir", "ver")])
def test_the_method_named_first_acts_first(tmp_path, order):
    """With all words swapped and all words noise: noise that comes first is swapped out, and the last is read."""
    model, tokenizer = make_model("ver", "gru")
    trainer = compose(*(METHODS[name] for name in order))(
        model=model,
        args=compose(*(METHODS[name] for name in order)).arguments_class(
            str(tmp_path),
            use_cpu=True,
            report_to="none",
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            perturbation_rate=1.0,
            noise_rate=1.0,
        ),
        train_dataset=toy_reviews(16),
        processing_class=tokenizer,
    )
    read, predict = [], model.predict
    model.predict = lambda inputs, mask, *_: read.append((inputs, mask)) or predict(inputs, mask)
    given = model.train().prepare(**a_batch(trainer, 16))
    with fixed_noise():
        output = trainer.training_objective(model, given)
    ((inputs, mask),) = read
    noise = words_by_position(given)[1] == inputs.features["input_ids"]
    assert not torch.equal(mask, output.rationale_mask)
    assert noise[(mask if order[0] == "ver" else output.rationale_mask) == 1].all()
    assert (
        not noise[(mask == 1) & (given.features["input_ids"] != words_by_position(given)[1])].all()
        or order[0] == "ver"
    )


def test_rnp_adds_nothing():
    assert compose(RNPTrainer) is RNPTrainer
    with pytest.raises(TypeError, match="compose takes trainers, such as METHODS"):
        compose("n2r")
    assert compose(RNPTrainer, A2ITrainer) is A2ITrainer


@pytest.mark.parametrize(
    "methods, message",
    [
        ((VERTrainer, VERTrainer), "VERTrainer and VERTrainer: one of them contains"),
        ((N2RTrainer, A2ITrainer, N2RMMITrainer), "N2RTrainer and N2RMMITrainer: one of them contains the other"),
        ((FRTrainer, VERTrainer, N2RTrainer), "FRTrainer and N2RTrainer cannot be combined"),
    ],
)
def test_combinations_that_make_no_sense_raise(methods, message):
    with pytest.raises(ValueError, match=message):
        compose(*methods)


@pytest.mark.parametrize("method", [N2RTrainer, N2RMMITrainer, compose(N2RTrainer, A2ITrainer)])
def test_n2r_on_shared_weights_raises(tmp_path, method):
    model, tokenizer = make_model("fr")
    with pytest.raises(ValueError, match=r"share_encoder=False, but .* has share_encoder=True"):
        method(model=model, args=make_args(tmp_path, "n2r"), processing_class=tokenizer)
    model, tokenizer = make_model("n2r", tie_word_embeddings=True)
    with pytest.raises(ValueError, match="share embeddings that are trained"):
        method(model=model, args=make_args(tmp_path, "n2r"), processing_class=tokenizer)
    model.get_input_embeddings().weight.requires_grad_(False)
    method(model=model, args=make_args(tmp_path, "n2r"), processing_class=tokenizer)


# --- Arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, numbers, message",
    [
        (VERTrainer, {"perturbation_rate": 1.5}, "perturbation_rate must be a probability"),
        (VERTrainer, {"perturbation_rate": float("nan")}, "perturbation_rate must be a probability"),
        (NIRTrainer, {"noise_rate": -0.1}, "noise_rate must be a probability"),
        (N2RTrainer, {"norm_weight": -1.0}, "norm_weight must be finite"),
        (N2RTrainer, {"norm_weight": float("nan")}, "norm_weight must be finite"),
        (PLMRTrainer, {"full_text_weight": float("inf")}, "full_text_weight must be finite"),
        (PLMRTrainer, {"match_base": 1.0}, "match_base must be finite and above 1"),
        (compose(N2RTrainer, VERTrainer), {"norm_weight": -1.0}, "norm_weight must be finite"),
        (compose(N2RTrainer, VERTrainer), {"perturbation_rate": 2.0}, "perturbation_rate must be a probability"),
    ],
)
def test_numbers_out_of_range_raise(tmp_path, method, numbers, message):
    with pytest.raises(ValueError, match=message):
        method.arguments_class(str(tmp_path), **numbers)


def test_numbers_are_arguments_like_any_other(tmp_path):
    trainer = make_trainer(tmp_path, "n2r", norm_weight=0.25)
    assert trainer.args.norm_weight == 0.25
    assert trainer.args.to_dict()["norm_weight"] == trainer.args.to_sanitized_dict()["norm_weight"] == 0.25


@pytest.mark.parametrize("order", [(PLMRTrainer, N2RTrainer, VERTrainer), (VERTrainer, N2RTrainer, PLMRTrainer)])
def test_a_combination_takes_the_arguments_of_all_its_parts(tmp_path, order):
    method = compose(*order)
    args = method.arguments_class(str(tmp_path), norm_weight=2.0)
    assert (args.full_text_weight, args.match_weight) == (2.0, 1.0), "the defaults of PLMR"
    assert (args.norm_weight, args.perturbation_rate) == (2.0, 0.3)
    assert all(isinstance(args, part.arguments_class) for part in order)
    assert method is not compose(*order) and method.arguments_class is compose(*order).arguments_class


def test_the_arguments_are_flags(tmp_path):
    parser = HfArgumentParser(compose(N2RTrainer, VERTrainer).arguments_class)
    flags = ["--output_dir", str(tmp_path), "--norm_weight", "0.5", "--perturbation_rate", "0.1"]
    (args,) = parser.parse_args_into_dataclasses(flags)
    assert (args.norm_weight, args.perturbation_rate) == (0.5, 0.1)
    assert "weight of the norm" in parser.format_help()


def test_a_checkpoint_has_the_arguments(tmp_path):
    """Also those of a combination, whose class no module contains. Another process reads them."""
    args = compose(N2RTrainer, VERTrainer).arguments_class(str(tmp_path), norm_weight=0.5, perturbation_rate=0.1)
    torch.save(args, tmp_path / "training_args.bin")
    script = (
        "import torch, sys; args = torch.load(sys.argv[1], weights_only=False); "
        "print(args.norm_weight, args.perturbation_rate, type(args).__name__)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "training_args.bin")]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert output.split() == ["0.5", "0.1", "N2RVERArguments"]


def test_arguments_of_another_class_raise(tmp_path):
    model, tokenizer = make_model()
    args = RationaleTrainingArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match=r"needs arguments of the class N2RArguments.*N2RTrainer\.arguments_class"):
        N2RTrainer(model=model, args=args, processing_class=tokenizer)


def test_every_method_is_a_row_of_the_common_tester_and_described():
    assert set(METHODS.values()) <= {row.trainer for row in ROWS_BY_NAME.values()}
    assert len({method.description for method in METHODS.values()}) == len(METHODS)


def test_an_attacker_under_an_adapter_raises(tmp_path):
    from peft import LoraConfig, get_peft_model

    model, tokenizer = make_model("a2i", "bert")
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))
    with pytest.raises(ValueError, match="not to a Peft"):
        A2ITrainer(model=model, args=make_args(tmp_path), processing_class=tokenizer)
