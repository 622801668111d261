"""The places at which a new method can be attached, each used by a small method of its own."""

from __future__ import annotations

import copy

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from training_common import make_args, make_model, toy_reviews

from hf_rationale import RationaleTrainer, RNPTrainer
from hf_rationale.modeling.selection import SAMPLERS, GumbelSampler, budget_mask


def trained(trainer_class, tmp_path, dataset: Dataset | None = None, **config):
    model, tokenizer = make_model(**config)
    dataset = toy_reviews(16) if dataset is None else dataset
    trainer = trainer_class(
        model=model, args=make_args(tmp_path), train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer
    )
    trainer.train()
    return trainer


def logged(trainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


class TopKSampler(GumbelSampler):
    """Selects a third of the units of each input, straight-through."""

    @classmethod
    def sample(cls, logits, units, temperature):
        probability = cls.probability(logits)
        hard = budget_mask(probability, units, ratio=1 / 3)
        return hard + (probability - probability.detach()) * units.selectable


class TestSampler:
    def test_a_sampler_that_is_registered_can_be_chosen(self, tmp_path, monkeypatch):
        monkeypatch.setitem(SAMPLERS, "top_k", TopKSampler)
        trainer = trained(RNPTrainer, tmp_path, sampler="top_k")
        assert all(share == pytest.approx(1 / 3, abs=0.05) for share in logged(trainer, "sparsity"))

    def test_kumaraswamy_gates_are_between_0_and_1_in_training_and_0_or_1_at_evaluation(self, tmp_path):
        trainer = trained(RNPTrainer, tmp_path, sampler="kumaraswamy")
        model = trainer.model
        batch = next(iter(trainer.get_train_dataloader()))
        inputs = model.prepare(**{name: value for name, value in batch.items() if name != "rationale"})
        sampled = model.select(inputs, sample=True).mask
        assert ((sampled > 0) & (sampled < 1)).any() and (sampled == 0).any() and sampled.amax() <= 1
        assert set(model.eval().select(inputs).mask.unique().tolist()) <= {0.0, 1.0}


class WeightedTrainer(RationaleTrainer):
    """The cross-entropy of every example is multiplied by a weight from the dataset."""

    columns = ("weight",)

    def game(self, model, inputs, selection):
        prediction = self.read(model, inputs, selection.mask)
        losses = F.cross_entropy(prediction.logits.float(), inputs.labels, reduction="none")
        return prediction, {"cross_entropy": (losses * inputs.columns["weight"]).mean()}


class TestColumns:
    @pytest.mark.parametrize("weight", [0.0, 2.0])
    def test_a_column_of_the_dataset_reaches_the_objective(self, weight, tmp_path):
        dataset = toy_reviews(16)
        weighted = trained(WeightedTrainer, tmp_path, dataset.add_column("weight", [weight] * 16))
        first = logged(weighted, "cross_entropy")[0]
        assert first == pytest.approx(weight * logged(trained(RNPTrainer, tmp_path, dataset), "cross_entropy")[0])

    def test_a_missing_column_raises(self, tmp_path):
        with pytest.raises(ValueError, match=r"needs the columns \['weight'\]"):
            trained(WeightedTrainer, tmp_path)

    def test_the_validation_set_needs_no_column(self, tmp_path):
        model, tokenizer = make_model()
        trainer = WeightedTrainer(
            model=model,
            args=make_args(tmp_path),
            train_dataset=toy_reviews(16).add_column("weight", [1.0] * 16),
            eval_dataset=toy_reviews(8, seed=1),
            processing_class=tokenizer,
        )
        assert "eval_accuracy" in trainer.evaluate()


class ComplementTrainer(RationaleTrainer):
    """A second predictor reads what is not selected (as in 3PLAYER). It trains alone."""

    def add_players(self, model):
        super().add_players(model)
        model.add_training_module("complement_predictor", copy.deepcopy(model.predictor))

    def training_objective(self, model, inputs):
        output = super().training_objective(model, inputs)
        complement = inputs.units.selectable * (1 - output.rationale_mask.detach())
        logits = model.predict(inputs, complement, predictor=model.complement_predictor).logits
        output.add_losses({"complement": F.cross_entropy(logits, inputs.labels)})
        return output


class TestSecondPredictor:
    @pytest.mark.parametrize("config", [{}, {"share_encoder": True}], ids=["two encoders", "shared encoder"])
    def test_it_reads_with_its_own_weights_and_is_not_saved(self, config, tmp_path):
        trainer = trained(ComplementTrainer, tmp_path, **config)
        model = trainer.model
        assert len(logged(trainer, "complement")) == 4
        own, other = model.complement_predictor.classifier.weight, model.predictor.classifier.weight
        assert not torch.equal(own, other)
        model.save_pretrained(tmp_path / "saved")
        assert not hasattr(type(model).from_pretrained(tmp_path / "saved"), "complement_predictor")

    def test_its_loss_reaches_no_other_player(self, tmp_path):
        trainer = trained(ComplementTrainer, tmp_path)
        model = trainer.model
        batch = next(iter(trainer.get_train_dataloader()))
        inputs = model.prepare(**{name: value for name, value in batch.items() if name != "rationale"})
        model.zero_grad()
        mask = inputs.units.selectable.float()
        model.predict(inputs, mask, predictor=model.complement_predictor).logits.sum().backward()
        moved = {name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None}
        assert moved == {"complement_predictor"}


class SoftTrainer(RationaleTrainer):
    """The predictor also reads the text weighted by the extractor's scores (as in A2R)."""

    def game(self, model, inputs, selection):
        prediction, losses = super().game(model, inputs, selection)
        soft = self.read(model, inputs, selection.scores)
        return prediction, losses | {"soft": F.cross_entropy(soft.logits.float(), inputs.labels)}


def test_a_game_gets_the_whole_selection(tmp_path):
    trainer = trained(SoftTrainer, tmp_path)
    assert len(logged(trainer, "soft")) == 4 and logged(trainer, "soft") != logged(trainer, "cross_entropy")
