"""What teaches the players besides the game: random subsets, attributions, marks, the prior and scaled rates."""

import numpy as np
import pytest
import torch
from common import CASES_BY_NAME, random_texts
from torch.distributions import Bernoulli, kl_divergence
from training_common import examples, make_args, make_trainer, toy_reviews

from hf_rationale.modeling.guidance import agreement, attributions, imitation, marks_loss, occlusion, random_subset
from hf_rationale.modeling.objective import prior_divergence, selected_share
from hf_rationale.modeling.players import pool
from hf_rationale.modeling.selection import Marks, grouped_units, marks_of_positions, single_units


def chain(rows: int = 3, length: int = 12):
    return single_units(torch.ones(rows, length, dtype=torch.bool))


def test_random_subsets_hold_from_the_lowest_share_to_everything():
    units = single_units(torch.ones(4000, 20, dtype=torch.bool))
    torch.manual_seed(0)
    mask = random_subset(units, 0.3)
    shares = selected_share(mask, units)
    assert shares.min() >= 0.3 - 1e-6 and shares.max() == 1
    assert shares.mean().item() == pytest.approx(0.65, abs=0.02)
    assert (mask.mean(0) - 0.65).abs().max() < 0.03, "every position is as likely as the others"


def test_random_subsets_consist_of_whole_units():
    everything = torch.ones(50, 12, dtype=torch.bool)
    units = grouped_units(torch.arange(12).expand(50, -1) // 3, everything, everything)
    mask = random_subset(units, 0.2).reshape(50, 4, 3)
    assert (mask.amax(-1) == mask.amin(-1)).all()


@pytest.mark.parametrize("name", ["gru-zero-token", "gru-zero-word", "bert-zero-word"])
def test_attributions_are_slopes(name: str):
    """Against what log P(y | x) loses when a unit is let in a little less."""
    case = CASES_BY_NAME[name]
    model = case.model().double()
    inputs = model.prepare(**case.batch(random_texts(7, 5)), labels=torch.tensor([0, 2]))
    found = attributions(model, inputs)
    assert all(weight.grad is None for weight in model.parameters())
    everything, step = inputs.units.selectable.double(), 1e-5
    likelihood = likelihoods(model, inputs, everything)
    for row, place in inputs.units.first.nonzero().tolist():
        unit = (inputs.units.index[row] == inputs.units.index[row, place]) & inputs.units.selectable[row]
        for token in unit.nonzero().flatten().tolist():
            assert found[row, token] == found[row, place]
        less = everything.clone()
        less[row, unit] -= step
        change = (likelihood - likelihoods(model, inputs, less))[row] / step / inputs.units.weights[row, place]
        assert found[row, place].item() == pytest.approx(change.item(), rel=2e-3, abs=1e-6)


def test_recurrent_layers_are_in_training_mode_while_attributions_are_computed():
    """cuDNN has no backward pass for them otherwise."""
    model = CASES_BY_NAME["gru-zero-token"].model().eval()
    inputs = model.prepare(**CASES_BY_NAME["gru-zero-token"].batch(random_texts(7, 5)), labels=torch.tensor([0, 2]))
    layers = [layer for layer in model.predictor.modules() if isinstance(layer, torch.nn.RNNBase)]
    modes = []
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, args: modes.append(layer.training))
    attributions(model, inputs)
    assert modes and all(modes)
    assert not any(module.training for module in model.modules())


def test_the_mean_of_a_soft_selection_is_a_mean():
    hidden, weights = torch.tensor([[[2.0], [4.0]]] * 3), torch.tensor([[0.05, 0.05], [0.5, 0.5], [0.0, 0.0]])
    assert pool(hidden, weights, "mean").flatten().tolist() == pytest.approx([3.0, 3.0, 0.0])


@pytest.mark.parametrize("name", ["gru-zero-token", "bert-zero-word", "bert-attention-word"])
def test_occlusion_is_what_a_removed_unit_costs(name: str):
    model = CASES_BY_NAME[name].model()
    inputs = model.prepare(**CASES_BY_NAME[name].batch(random_texts(7, 5)), labels=torch.tensor([0, 2]))
    found = occlusion(model, inputs)
    everything = inputs.units.selectable.float()
    likelihood = likelihoods(model, inputs, everything)
    for row, place in inputs.units.first.nonzero().tolist():
        unit = (inputs.units.index[row] == inputs.units.index[row, place]) & inputs.units.selectable[row]
        left = everything.clone()
        left[row, unit] = 0
        cost = (likelihood - likelihoods(model, inputs, left))[row] / inputs.units.weights[row, place]
        torch.testing.assert_close(found[row, unit], cost.expand(int(unit.sum())), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def likelihoods(model, inputs, mask: torch.Tensor) -> torch.Tensor:
    return model.predict(inputs, mask).logits.log_softmax(-1)[torch.arange(len(mask)), inputs.labels]


def test_imitation_asks_for_the_most_important_units():
    units = chain(1, 5)
    importance = torch.tensor([[-3.0, 9.0, 0.5, -1.0, 2.0]])
    target = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0]])
    assert imitation(target, importance, units, 0.4) == pytest.approx(0, abs=1e-5)
    assert imitation(1 - target, importance, units, 0.4) > 10
    scores = torch.tensor([[0.1, 0.8, 0.3, 0.2, 0.6]])
    expected = -np.log([0.9, 0.8, 0.7, 0.8, 0.6]).mean()
    assert imitation(scores, importance, units, 0.4).item() == pytest.approx(expected, rel=1e-5)


class TestMarks:
    def inputs(self, units, marks):
        class Inputs:
            pass

        Inputs.units, Inputs.marks = units, marks
        return Inputs

    def test_a_text_without_marks_costs_nothing(self):
        units = chain(2, 4)
        inputs = self.inputs(units, marks_of_positions(torch.arange(4).expand(2, -1)))
        scores = torch.full((2, 4), 0.3, requires_grad=True)
        marks = torch.tensor([[1, 0, 0, 1], [-1, -1, -1, -100]])
        loss = marks_loss(scores, inputs, marks)
        assert loss.item() == pytest.approx(-(np.log(0.3) + np.log(0.7)) / 2 / 2, rel=1e-5)
        loss.backward()
        assert scores.grad[0].all() and not scores.grad[1].any()

    def test_the_target_of_a_sentence_is_the_share_of_its_words(self):
        sizes = torch.tensor([[3, 1, 0]])
        units = single_units(sizes > 0, sizes)
        words = Marks(torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 1, 2, 3]]))
        assert words.shares(torch.tensor([[1.0, 0.0, 0.0, 1.0]]), 3).tolist() == [[pytest.approx(1 / 3), 1.0, 0.0]]
        loss = marks_loss(torch.tensor([[0.2, 0.9, 0.0]]), self.inputs(units, words), torch.tensor([[1, 0, 0, 1]]))
        first = -(np.log(0.2) + 2 * np.log(0.8)) / 3
        assert loss.item() == pytest.approx((3 * first - np.log(0.9)) / 4, rel=1e-5)

    def test_few_marks_teach_the_extractor(self, tmp_path):
        scores = []
        for weight in (0.0, 3.0):
            trainer = make_trainer(
                tmp_path,
                backbone="gru",
                train_dataset=toy_reviews(64, marked=True),
                marks_weight=weight,
                optim="adamw_torch",
                num_train_epochs=8,
            )
            trainer.train()
            scores.append(trainer.evaluate()["eval_rationale_f1"])
        assert scores[1] > max(0.5, scores[0])

    def test_without_marks_it_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="marks_weight needs rationales that people marked"):
            make_trainer(tmp_path, train_dataset=toy_reviews(8, marked=False), marks_weight=1.0)


def test_the_prior_is_a_divergence():
    units = chain(2, 3)
    p = torch.tensor([[0.2, 0.5, 0.9], [0.2, 0.2, 0.2]])
    expected = kl_divergence(Bernoulli(p), Bernoulli(torch.full_like(p, 0.2))).mean()
    torch.testing.assert_close(prior_divergence(p, units, 0.2), expected)
    assert prior_divergence(p[1:], chain(1, 3), 0.2).item() == pytest.approx(0, abs=1e-6)


def test_agreement_counts_weights():
    units = single_units(torch.ones(1, 2, dtype=torch.bool), torch.tensor([[3, 1]]))
    losses = agreement(torch.tensor([[0.5, 0.25]]), torch.tensor([[1.0, 0.0]]), units)
    assert losses.item() == pytest.approx((3 * np.log(2) - np.log(0.75)) / 4, rel=1e-5)


def test_the_predictor_has_the_rate_in_the_ratio_of_the_share(tmp_path):
    trainer = make_trainer(tmp_path, scale_predictor_rate=True, learning_rate_mapping={"classifier|selector": 0.1})
    trainer.create_optimizer()
    rates = {id(weight): group["lr"] for group in trainer.optimizer.param_groups for weight in group["params"]}
    for name, weight in trainer.model.named_parameters():
        if weight.requires_grad:
            rate = 0.1 if "classifier" in name or "selector" in name else 0.01
            assert rates[id(weight)] == pytest.approx(rate * (0.3 if name.startswith("predictor.") else 1)), name


def test_without_a_game_the_extractor_only_imitates(tmp_path):
    """FRESH: the extractor never gets a gradient from what the predictor pays for its selection."""
    trainer = make_trainer(
        tmp_path,
        train_dataset=examples("gru", 32),
        predictor_first_ratio=0.5,
        predictor_tuning_ratio=0.5,
        distillation_weight=1.0,
        num_train_epochs=1,
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "cross_entropy" in entry]
    assert ["distillation" in entry for entry in logs] == [True, True, False, False]
    assert ["compactness" in entry for entry in logs] == [False, False, True, True]


def test_no_checkpoint_from_before_the_game_is_the_best(tmp_path):
    """Even if it predicts best: here every accuracy is lower than the one before."""
    accuracies = iter([0.9, 0.8, 0.7, 0.6])
    trainer = make_trainer(
        tmp_path,
        train_dataset=examples("gru", 16),
        eval_dataset=examples("gru", 8),
        predictor_first_ratio=0.5,
        num_train_epochs=4,
        load_best_model_at_end=True,
        eval_strategy="epoch",
        save_strategy="epoch",
    )
    trainer.compute_metrics = lambda prediction: {"accuracy": next(accuracies)}
    trainer.train()
    assert trainer.state.best_metric == 0.7
    assert trainer.state.best_global_step == 3 * trainer.state.max_steps // 4


def test_the_smallest_share_of_the_random_units_can_be_chosen(tmp_path):
    trainer = make_trainer(tmp_path, predictor_first_ratio=1.0, predictor_first_share=0.8, max_steps=4)
    trainer.train()
    shares = [entry["sparsity"] for entry in trainer.state.log_history if "sparsity" in entry]
    assert len(shares) == 4 and all(0.8 <= share <= 1 for share in shares)


@pytest.mark.parametrize(
    "args, message",
    [
        ({"predictor_first_share": 0.5}, "predictor_first_share has an effect only with predictor_first_ratio"),
        ({"predictor_first_ratio": 0.5, "predictor_first_share": 2.0}, "predictor_first_share must be a probability"),
        ({"distillation_from": "lime"}, "distillation_from must be one of gradient, occlusion, but is 'lime'"),
        ({"predictor_first_ratio": 0.7, "predictor_tuning_ratio": 0.4}, "add up to more than 1"),
        ({"distillation_weight": 1.0}, "has an effect only with predictor_first_ratio"),
        ({"marks_weight": -1.0}, "marks_weight must be finite and at least 0"),
        ({"predictor_first_ratio": 2.0}, "predictor_first_ratio must be a probability"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, args, message):
    with pytest.raises(ValueError, match=message):
        make_args(tmp_path, **args)
