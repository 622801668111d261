"""INVRAT: rationales that predict equally well in all environments (Chang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel

from ..modeling.objective import cross_entropy
from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.players import add_copy
from ..modeling.selection import cut_off, through_excess
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class INVRATArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the numbers of [`INVRATTrainer`].

    Args:
        invariance_weight (`float`, *optional*, defaults to 3.0): λ, weight of the difference of the two predictors.
        num_environments (`int`, *optional*, defaults to 2): the number of environments.
    """

    invariance_weight: float = field(
        default=3.0, metadata={"help": "INVRAT: weight of the difference of the two predictors."}
    )
    num_environments: int = field(default=2, metadata={"help": "INVRAT: the number of environments."})

    def __post_init__(self):
        self.check_weights("invariance_weight")
        if self.num_environments < 2:
            raise ValueError(f"num_environments must be at least 2, but is {self.num_environments}.")
        super().__post_init__()


class INVRATTrainer(RationaleTrainer):
    r"""
    A third player, the environment-aware predictor, reads the rationale and knows the environment e that the text
    comes from. The extractor pays for what this knowledge adds, so that it selects what predicts equally well
    everywhere:

        extractor:       min_E CE(P(z), y) + λ max(0, CE(P(z), y) − CE(P_e(z, e), y)) + Ω(m)
        predictor:       min_P CE(P(z), y)
        aware predictor: min_{P_e} CE(P_e(sg(z), e), y)

    In the term with λ both predictors are fixed, and the cross-entropies are means over a batch. The environment is
    the column `environment` of the training set, a number from 0. All players step at once, while the paper takes
    turns. The aware predictor starts as a copy of the predictor with a fresh classifier. Before its classifier, it
    adds a learned vector of the environment to the representation. (The public code joins the environment to every
    word's embedding.)

    Raises:
        ValueError: if the training set has no column `environment`, if a number in it is out of range, or if the two
            players share one encoder.
    """

    name = "invrat"
    description = "INVRAT: the extractor selects what predicts equally well in all environments."
    paper = "Chang et al., ICML 2020"
    arguments_class = INVRATArguments
    model_options = {"share_encoder": False}
    columns = ("environment",)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if isinstance(self.train_dataset, Dataset):
            check_environments(self.train_dataset["environment"][:], self.args.num_environments)

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        add_copy(model, "aware_predictor", model.predictor)
        hidden_size = model.predictor.classifier.in_features
        model.add_training_module(
            "environments", nn.Embedding(self.args.num_environments, hidden_size, dtype=model.dtype)
        )

    def further_players_first(
        self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        aware = cross_entropy(self.aware_logits(model, inputs, mask), inputs)
        return super().further_players_first(model, inputs, mask) | {"aware": aware.mean()}

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        prediction, losses = super().game(model, inputs, selection)
        z = cut_off(selection.mask)
        logits = self.aware_logits(model, inputs, z)
        agnostic, aware = (cross_entropy(one, inputs) for one in (prediction.logits, logits))
        difference = through_excess(agnostic, prediction.read, selection.mask, aware, z, selection.mask)
        return prediction, losses | {
            "aware": aware.mean(),
            "invariance": self.args.invariance_weight * difference,
        }

    def aware_logits(self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> torch.Tensor:
        """P_e(z, e) (batch, labels), of what `mask` (batch, positions) selects."""
        predictor = model.aware_predictor
        representation = model.predict(inputs, mask, predictor=predictor).representation
        environment = model.environments(inputs.columns["environment"].long())
        return predictor.classifier(predictor.dropout(representation + environment))


def check_environments(environments: Sequence[object], count: int) -> None:
    """Raises `ValueError` if one of the `environments` is not a number from 0 to `count` - 1."""
    for row, value in enumerate(environments):
        if not isinstance(value, int) or not 0 <= value < count:
            raise ValueError(
                f"Row {row} of the training set has the environment {value!r}, but it must be a number from 0 to "
                f"{count - 1}. Number the environments, and set num_environments."
            )
