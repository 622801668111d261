"""What sets each of the baselines apart, by values and gradients computed by hand."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_methods import a_batch, gradients
from torch.nn import functional as F
from training_common import fixed_noise, make_args, make_model, make_trainer, toy_reviews

from hf_rationale import METHODS as REGISTERED
from hf_rationale import HardKumaTrainer, compose
from hf_rationale.methods.a2r import jensen_shannon
from hf_rationale.methods.cr import one_selected_unit
from hf_rationale.methods.dmr import central_moment_discrepancy
from hf_rationale.methods.grat import attention
from hf_rationale.methods.hardkuma import expected_changes
from hf_rationale.methods.mcd import dependence
from hf_rationale.modeling.guidance import agreement
from hf_rationale.modeling.objective import selected_share
from hf_rationale.modeling.players import span_logits
from hf_rationale.modeling.selection import KumaraswamySampler, grouped_units, single_units


def step(tmp_path, method: str, backbone: str = "gru", **options):
    """A trainer, its inputs, and the output of its objective with fixed noise."""
    trainer = make_trainer(tmp_path, method, backbone, **options)
    model = trainer.model.train()
    inputs = model.prepare(**a_batch(trainer))
    with fixed_noise():
        return trainer, inputs, trainer.training_objective(model, inputs)


def cross_entropies(model, inputs, mask, **predictor) -> torch.Tensor:
    return F.cross_entropy(model.predict(inputs, mask, **predictor).logits, inputs.labels, reduction="none")


# --- 3PLAYER ---------------------------------------------------------------------------------------------------------


def test_3player_pays_for_what_the_complement_tells(tmp_path):
    trainer, inputs, output = step(tmp_path, "3player", complement_weight=2.0)
    model, mask = trainer.model, output.rationale_mask
    complement = inputs.units.selectable.float() - mask
    of_rationale = cross_entropies(model, inputs, mask)
    of_rest = cross_entropies(model, inputs, complement, predictor=model.complement_predictor)
    assert output.losses["complement"].item() == pytest.approx(of_rest.mean().item(), rel=1e-5)
    excess = (of_rationale.mean() - of_rest.mean() + 0.2).clamp_min(0)
    assert excess > 0
    assert output.losses["complement_control"].item() == pytest.approx(2 * excess.item(), rel=1e-5)


def test_3player_moves_the_extractor_as_the_excess_does(tmp_path):
    trainer, inputs, output = step(tmp_path, "3player")
    model, weights = trainer.model, list(trainer.model.extractor.mask_predictor.parameters())
    found = torch.autograd.grad(output.losses["complement_control"], weights, retain_graph=True)
    with fixed_noise():
        mask = model.select(inputs).mask
    rest = cross_entropies(model, inputs, inputs.units.selectable.float() - mask, predictor=model.complement_predictor)
    excess = (cross_entropies(model, inputs, mask).mean() - rest.mean() + 0.2).clamp_min(0)
    for value, expected in zip(found, torch.autograd.grad(excess, weights), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-7)


# --- INVRAT ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worse", ["predictor", "aware_predictor"])
def test_invrat_pays_for_what_the_environment_adds(tmp_path, worse):
    trainer = make_trainer(tmp_path, "invrat", invariance_weight=3.0)
    model = trainer.model.train()
    inputs = model.prepare(**a_batch(trainer))
    with torch.no_grad():  # it is sure of the same label for every text, and often wrong
        model.get_submodule(worse).classifier.bias[0] += 5
    with fixed_noise():
        output = trainer.training_objective(model, inputs)
    mask, aware = output.rationale_mask, model.aware_predictor
    read = model.predict(inputs, mask, predictor=aware).representation
    logits = aware.classifier(read + model.environments(inputs.columns["environment"]))
    with_environment = F.cross_entropy(logits, inputs.labels)
    without = cross_entropies(model, inputs, mask).mean()
    assert output.losses["aware"].item() == pytest.approx(with_environment.item(), rel=1e-5)
    assert (without > with_environment) == (worse == "predictor")
    excess = (without - with_environment).clamp_min(0)
    assert output.losses["invariance"].item() == pytest.approx(3 * excess.item(), rel=1e-5)


def test_invrat_s_predictor_knows_no_environment(tmp_path):
    trainer = make_trainer(tmp_path, "invrat")
    with torch.no_grad():  # otherwise it is better than the aware predictor, and the extractor has nothing to pay
        trainer.model.predictor.classifier.bias[0] += 5
    one, other = gradients(trainer, a_batch(trainer)), a_batch(trainer)
    other["columns"] = {"environment": 1 - other["columns"]["environment"]}
    changed = gradients(trainer, other)
    assert all(torch.equal(one[name], changed[name]) for name in one if name.startswith("predictor."))
    assert not all(torch.equal(one[name], changed[name]) for name in one if name.startswith("extractor."))


@pytest.mark.parametrize("environment", [2, -1])
def test_an_environment_out_of_range_raises(tmp_path, environment):
    texts = toy_reviews(3).add_column("environment", [0, 1, environment])
    with pytest.raises(ValueError, match=rf"Row 2 .* has the environment {environment}, .* from 0 to 1"):
        make_trainer(tmp_path, "invrat", train_dataset=texts)


def test_invrat_needs_environments(tmp_path):
    model, tokenizer = make_model("invrat")
    with pytest.raises(ValueError, match=r"needs the columns \['environment'\]"):
        REGISTERED["invrat"](
            model=model,
            args=make_args(tmp_path, "invrat"),
            train_dataset=toy_reviews(8),
            processing_class=tokenizer,
        )


# --- A2R -------------------------------------------------------------------------------------------------------------


def test_a2r_s_extractor_hears_of_every_word(tmp_path):
    """Also of those that are not selected, and of nothing by the selection itself."""
    trainer, inputs, _ = step(tmp_path, "a2r")
    model = trainer.model
    with fixed_noise():
        selection = model.select(inputs)
    mask = selection.mask.detach().requires_grad_()
    scores = selection.scores.detach().requires_grad_()
    _, losses = trainer.game(model, inputs, selection._replace(masks=(mask,), probabilities=(scores,)))
    sum(losses.values()).backward()
    assert mask.grad is None
    assert scores.grad[inputs.units.selectable & (mask == 0)].all()


def test_the_jensen_shannon_divergence():
    logits = torch.tensor([[2.0, -1.0], [0.0, 0.5]])
    assert jensen_shannon(logits, logits).item() == pytest.approx(0, abs=1e-7)
    certain = torch.tensor([[50.0, -50.0]])
    assert jensen_shannon(certain, -certain).item() == pytest.approx(torch.tensor(2.0).log().item(), rel=1e-5)
    assert jensen_shannon(logits, -logits) == jensen_shannon(-logits, logits)


# --- DMR -------------------------------------------------------------------------------------------------------------


def test_the_discrepancy_sees_moments_beyond_the_mean():
    noise = torch.randn(400, 3)
    assert central_moment_discrepancy(noise, noise).item() < 1e-5
    centered = noise - noise.mean(0)
    assert central_moment_discrepancy(centered, 2 * centered) > 1
    moved = central_moment_discrepancy(noise, noise + torch.tensor([3.0, 0.0, 4.0]))
    assert moved.item() == pytest.approx(5, rel=1e-4)


def test_dmr_s_teacher_reads_everything(tmp_path):
    trainer, inputs, output = step(tmp_path, "dmr")
    model, everything = trainer.model, inputs.units.selectable.float()
    losses = cross_entropies(model, inputs, everything, predictor=model.teacher_predictor)
    assert output.losses["teacher"].item() == pytest.approx(losses.mean().item(), rel=1e-5)


def test_dmr_s_match_has_the_weights_of_the_classes(tmp_path):
    trainer, inputs, output = step(tmp_path, "dmr")
    weighted = inputs._replace(weights=torch.full((len(inputs.labels),), 2.0))
    with fixed_noise():
        twice = trainer.training_objective(trainer.model, weighted)
    for name in ("output_match", "teacher", "cross_entropy"):
        assert twice.losses[name].item() == pytest.approx(2 * output.losses[name].item(), rel=1e-5)


# --- MGR -------------------------------------------------------------------------------------------------------------


def test_mgr_trains_several_extractors_and_keeps_the_first(tmp_path):
    trainer = make_trainer(tmp_path, "mgr", num_extractors=3)
    first = trainer.model.extractor.mask_predictor.selector.weight
    assert not torch.equal(trainer.model.extractor_2.mask_predictor.selector.weight, first)
    trainer.train()
    reads, predict = [], trainer.model.predict
    trainer.model.predict = lambda inputs, mask, *rest: reads.append(mask) or predict(inputs, mask, *rest)
    trainer.training_objective(trainer.model, trainer.model.prepare(**a_batch(trainer)))
    assert len(reads) == 3 and not torch.equal(reads[0], reads[1])
    del trainer.model.predict
    trainer.save_model()
    saved = type(trainer.model).from_pretrained(tmp_path)
    assert torch.equal(saved.extractor.mask_predictor.selector.weight, first)
    assert not hasattr(saved, "extractor_2")


def rates(trainer) -> dict[str, float]:
    """The learning rate of every player."""
    optimizer = trainer.create_optimizer()
    by_id = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    return {name.split(".")[0]: by_id[id(w)] for name, w in trainer.model.named_parameters() if w.requires_grad}


def test_mgr_s_players_have_rates_of_their_own(tmp_path):
    found = rates(make_trainer(tmp_path, "mgr", num_extractors=3, learning_rate=0.3))
    assert found == pytest.approx({"extractor": 0.3, "extractor_2": 0.6, "extractor_3": 0.9, "predictor": 0.1})


# --- DR --------------------------------------------------------------------------------------------------------------


def test_dr_s_predictor_learns_more_slowly(tmp_path):
    assert rates(make_trainer(tmp_path, "dr", learning_rate=0.1)) == pytest.approx(
        {"extractor": 0.1, "predictor": 0.1 * 0.3}
    )
    both = make_trainer(tmp_path, "mgr", num_extractors=2, learning_rate=0.1, scale_predictor_rate=True)
    assert rates(both)["predictor"] == pytest.approx(0.1 * 0.3 / 2)


def test_dr_finds_the_predictor_inside_an_adapter(tmp_path):
    model, tokenizer = make_model("dr", "bert", selection_level="word")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = type(model).from_pretrained(tmp_path / "base")
    adapter = LoraConfig(
        task_type="SEQ_CLS", target_modules=["query"], modules_to_save=[".norm", "selector", "classifier"]
    )
    trainer = REGISTERED["dr"](
        model=get_peft_model(base, adapter),
        args=make_args(tmp_path, "dr", learning_rate=0.1),
        train_dataset=toy_reviews(8),
        eval_dataset=toy_reviews(8),
        processing_class=tokenizer,
    )
    by_id = {id(w): group["lr"] for group in trainer.create_optimizer().param_groups for w in group["params"]}
    found = {(".predictor." in name, by_id[id(w)]) for name, w in trainer.model.named_parameters() if w.requires_grad}
    assert {(inside, round(rate, 6)) for inside, rate in found} == {(False, 0.1), (True, 0.03)}


# --- MCD -------------------------------------------------------------------------------------------------------------


def test_mcd_s_extractor_sees_no_label(tmp_path):
    trainer = make_trainer(tmp_path, "mcd")
    batch = a_batch(trainer)
    one, other = gradients(trainer, batch), gradients(trainer, {**batch, "labels": 1 - batch["labels"]})
    assert all(torch.equal(one[name], other[name]) for name in one if name.startswith("extractor."))
    assert any(one[name].any() for name in one if name.startswith("extractor."))


def test_the_dependence_is_the_divergence_from_the_full_text():
    full, rationale = torch.tensor([[1.0, -1.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    p, q = full.softmax(-1), rationale.softmax(-1)
    assert dependence(full, rationale).item() == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-5)
    assert dependence(full, full).item() == pytest.approx(0, abs=1e-7)


# --- CR --------------------------------------------------------------------------------------------------------------


def test_cr_removes_one_selected_unit():
    units = grouped_units(torch.tensor([[0, 0, 1, 2, 2, 3]] * 2), torch.ones(2, 6, dtype=torch.bool))
    mask = torch.tensor([[1.0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]])
    seen = {tuple(one_selected_unit(mask, units)[0].tolist()) for _ in range(40)}
    assert seen == {(True, True, False, False, False, False), (False, False, False, True, True, False)}
    assert not one_selected_unit(mask, units)[1].any()


def test_cr_rewards_what_lowers_the_probability_when_it_is_removed(tmp_path):
    trainer, inputs, output = step(tmp_path, "cr", necessity_weight=0.5)
    model, mask = trainer.model, output.rationale_mask
    with fixed_noise():
        removed = one_selected_unit(mask, inputs.units)
    chosen = inputs.labels.unsqueeze(1)
    full, left = (model.predict(inputs, m).logits.softmax(-1).gather(1, chosen) for m in (mask, mask * ~removed))
    expected = (1 + (full - left).clamp_min(0)).log().mean()
    assert output.losses["necessity"].item() == pytest.approx(-0.5 * expected.item(), rel=1e-3)


# --- G-RAT -----------------------------------------------------------------------------------------------------------


def test_g_rat_guides_the_extractor_first_and_the_predictor_later(tmp_path):
    trainer, inputs, start = step(tmp_path, "grat")
    assert start.losses["guidance"] > 0 and start.losses["guide_match"] == 0
    trainer.state.global_step = trainer.state.max_steps = 10
    end = trainer.training_objective(trainer.model, inputs)
    assert end.losses["guidance"] == 0 and end.losses["guide_match"] > 0


def test_g_rat_s_targets_are_without_noise(tmp_path):
    trainer, inputs, output = step(tmp_path, "grat")
    model = trainer.model
    scores = model.select(inputs, extractor=model.guide_extractor, rationale_ratio=1.0).scores
    expected = agreement(output.rationale_scores, attention(scores, inputs.units), inputs.units).mean()
    assert output.losses["guidance"].item() == pytest.approx(10 * expected.item(), rel=1e-5)


def test_g_rat_s_attention_is_at_most_1_and_that_of_whole_units():
    units = grouped_units(torch.tensor([[0, 0, 1, 2, 3, 3]]), torch.tensor([[True] * 5 + [False]]))
    q = attention(torch.tensor([[0.9, 0.9, 0.1, 0.5, 0.2, 0.2]]), units, torch.rand(1, 6))
    assert q[0, 0] == q[0, 1] and q[0, 5] == 0 and q[0, :5].min() > 0 and q.max() <= 1


# --- HardKuma --------------------------------------------------------------------------------------------------------


def test_hardkuma_s_penalties_are_the_means_over_samples():
    logits, units = torch.randn(1, 8, 2) * 2, single_units(torch.ones(1, 8, dtype=torch.bool))
    samples = torch.stack([KumaraswamySampler.sample(logits, units, 1.0) for _ in range(4000)]) > 0
    p = KumaraswamySampler.probability(logits)
    share = samples.float().mean()
    assert selected_share(p, units).item() == pytest.approx(share.item(), abs=0.01)
    changes = (samples[..., 1:] != samples[..., :-1]).float().sum(-1).mean() / 8
    assert expected_changes(p, units).item() == pytest.approx(changes.item(), abs=0.01)


def test_hardkuma_pays_for_the_excess_of_every_text(tmp_path):
    """λ c + λ1/2 c², and λ rises with c."""
    trainer = make_trainer(tmp_path, "hardkuma", config={"sparsity": 0.3, "sparsity_weight": 4.0})
    model = trainer.model
    with torch.no_grad():
        model.multiplier.value.fill_(0.5)
    inputs = model.prepare(**a_batch(trainer))
    selection = model.train().select(inputs)
    penalties = trainer.penalties(model, selection, inputs.units, [0.3])
    wanted = selected_share(model.select(inputs, rationale_ratio=0.3).mask, inputs.units)  # what evaluation selects
    excess = selected_share(selection.probabilities[0], inputs.units) - wanted
    assert penalties["compactness"].item() == pytest.approx((0.5 * excess + 2 * excess**2).mean().item(), rel=1e-5)
    (slope,) = torch.autograd.grad(penalties["multiplier"], model.multiplier.value)
    assert slope.item() == pytest.approx(-excess.mean().item(), rel=1e-5)


@pytest.mark.parametrize("sparsity, direction", [(0.05, 1), (0.95, -1)])
def test_hardkuma_s_multiplier_rises_while_too_much_is_selected(tmp_path, sparsity, direction):
    trainer = make_trainer(tmp_path, "hardkuma", config={"sparsity": sparsity})
    trainer.train()
    assert direction * trainer.model.multiplier.value.item() > 0


def test_the_multiplier_has_a_rate_of_its_own_and_no_decay(tmp_path):
    trainer = make_trainer(tmp_path, "hardkuma", learning_rate=1e-4, weight_decay=0.1, multiplier_rate=0.03)
    value = trainer.model.multiplier.value
    groups = [one for one in trainer.create_optimizer().param_groups if any(w is value for w in one["params"])]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(pytest.approx(0.03), 0.0)]


def test_hardkuma_needs_its_gates(tmp_path):
    model, tokenizer = make_model("rnp")
    with pytest.raises(ValueError, match="needs a model with sampler=kumaraswamy"):
        HardKumaTrainer(model=model, args=make_args(tmp_path, "hardkuma"), processing_class=tokenizer)


# --- RTP -------------------------------------------------------------------------------------------------------------


def test_a_weight_lifts_its_neighbours_as_far_as_they_are_wide():
    selectable = torch.ones(1, 40, dtype=torch.bool)
    selectable[0, 22] = False
    outputs = torch.zeros(1, 40, 2)
    outputs[0, 20, 1] = 2.0  # one weight
    outputs[0, 21:, 0] = 2.0  # those to its right are wide
    odds = span_logits(outputs, selectable).diff(dim=-1)[0, :, 0]
    assert odds[20].item() == pytest.approx(2)
    assert odds[17].item() == pytest.approx(2 * torch.tensor(-9 / 3).exp().item())
    assert odds[23] > odds[17] > odds[10] and odds[4] == odds[36] == 0
    outputs[0, 22, 1] = 5.0  # cannot be selected, so that it has no weight
    assert torch.equal(span_logits(outputs, selectable).diff(dim=-1)[0, :, 0], odds)


def test_rtp_judges_what_is_kept_and_what_is_left(tmp_path):
    trainer, inputs, output = step(tmp_path, "rtp", judge_weight=2.0)
    model, p = trainer.model, output.rationale_scores
    kept = cross_entropies(model, inputs, p).mean()
    assert output.losses["sufficiency"].item() == pytest.approx(2 * kept.item(), rel=1e-5)
    left = model.predict(inputs, inputs.units.selectable.float() - p).logits.softmax(-1)
    excess = (left.gather(1, inputs.labels.unsqueeze(1)) - 0.5).clamp_min(0).mean()
    assert excess > 0
    assert output.losses["comprehensiveness"].item() == pytest.approx(2 * excess.item(), rel=1e-5)


# --- Players and their weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["3player", "invrat", "a2r", "dmr", "grat"])
def test_further_predictors_do_not_train_the_encoder_of_the_sentences(tmp_path, method):
    """It is trained by the model's own predictor alone."""
    trainer = make_trainer(tmp_path, method, "sentences", config={"train_encoder": True})
    model = trainer.model.train()
    inputs = model.prepare(**a_batch(trainer))
    output = trainer.training_objective(model, inputs)
    weights = [weight for weight in model.encoder.parameters() if weight.requires_grad]
    for name in {"complement", "aware", "soft", "teacher", "guide"} & set(output.losses):
        found = torch.autograd.grad(output.losses[name], weights, retain_graph=True, allow_unused=True)
        assert all(value is None for value in found), name
    found = torch.autograd.grad(output.losses["cross_entropy"], weights, allow_unused=True)
    assert any(value is not None and value.any() for value in found)


FURTHER = {
    "3player": ("complement", {"complement_predictor"}),
    "invrat": ("aware", {"aware_predictor", "environments"}),
    "a2r": ("soft", {"soft_predictor"}),
    "dmr": ("teacher", {"teacher_predictor"}),
    "grat": ("guide", {"guide_extractor", "guide_predictor"}),
}


@pytest.mark.parametrize("method", FURTHER)
def test_further_players_learn_before_the_game(tmp_path, method):
    trainer = make_trainer(tmp_path, method, predictor_first_ratio=0.5)
    model = trainer.model.train()
    output = trainer.predictor_first(model, model.prepare(**a_batch(trainer)))
    name, players = FURTHER[method]
    assert set(output.losses) == {"cross_entropy", name, "sparsity"}
    weights = dict(model.named_parameters())
    found = torch.autograd.grad(output.losses[name], list(weights.values()), allow_unused=True)
    learning = {key.split(".")[0] for key, slope in zip(weights, found, strict=True) if slope is not None}
    assert learning == players


@pytest.mark.parametrize("method", ["mcd", "a2r", "rtp"])
def test_players_that_share_trained_embeddings_raise(tmp_path, method):
    model, tokenizer = make_model(method, tie_word_embeddings=True)
    with pytest.raises(ValueError, match="share embeddings that are trained"):
        REGISTERED[method](model=model, args=make_args(tmp_path, method), processing_class=tokenizer)


# --- Combining -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["n2r+3player", "invrat+a2r+ver", "3player+cr+mgr+a2i", "mcd+grat+dr"])
def test_baselines_combine(tmp_path, name):
    """Whatever the order: a method that replaces the game is what the others add to."""
    classes = [REGISTERED[one] for one in name.split("+")]
    for order in (classes, classes[::-1]):
        method = compose(*order)
        model, tokenizer = make_model()
        dataset = toy_reviews(16).add_column("environment", [0, 1] * 8)
        options = vars(make_args(tmp_path))
        args = method.arguments_class(
            str(tmp_path),
            **{key: options[key] for key in ("use_cpu", "disable_tqdm", "load_best_model_at_end", "logging_steps")},
            report_to="none",
            eval_strategy="no",
            save_strategy="no",
            num_train_epochs=1,
        )
        trainer = method(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
        trainer.train()
        logged = trainer.state.log_history[0]
        components = {
            "3player": "complement_control",
            "n2r": "norm",
            "invrat": "invariance",
            "a2r": "divergence",
            "cr": "necessity",
            "mgr": "cross_entropy_2",
            "a2i": "attack",
            "mcd": "dependence",
            "grat": "guidance",
        }
        assert {components[one] for one in name.split("+") if one in components} <= set(logged)


def test_two_games_cannot_be_combined():
    with pytest.raises(ValueError, match="A2RTrainer and MCDTrainer cannot be combined, because each replaces"):
        compose(REGISTERED["a2r"], REGISTERED["mcd"])
