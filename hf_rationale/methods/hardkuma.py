"""HardKuma: gates between 0 and 1 with exact zeros, and a Lagrangian that holds the share (Bastings et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from ..modeling.objective import selected_share, targets
from ..modeling.outputs import Selection
from ..modeling.selection import Units
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class HardKumaArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the number of [`HardKumaTrainer`].

    Args:
        multiplier_rate (`float`, *optional*, defaults to 0.02): the learning rate of λ.
    """

    multiplier_rate: float = field(default=0.02, metadata={"help": "HardKuma: learning rate of the multiplier."})

    def __post_init__(self):
        self.check_weights("multiplier_rate")
        super().__post_init__()


class HardKumaTrainer(RationaleTrainer):
    r"""
    RNP whose gates come from the stretched and rectified Kumaraswamy distribution. They are exactly 0 with a
    probability that has a closed form, so that the expected share and the expected number of changes are penalized,
    and not those of a sample. A multiplier λ holds the expected share at s:

        players:    min_{E,P} CE(P(z), y) + λ c + λ1/2 c² + λ2 E[Σ_t 1(m_t = 0 ≠ m_{t−1}, or the reverse)] / n
        multiplier: max_λ λ c
        with c = E[‖m‖₀] / n − s

    The square makes it an augmented Lagrangian (Hestenes 1969). The paper has λ c alone, with exponential steps of λ.
    In trainings as short as ours the share then swings from everything to nothing, where gates have no gradient. The
    paper has a second multiplier for the changes, and a recurrent extractor whose gates depend on each other. Both are
    left out.

    Raises:
        ValueError: if the model's sampler is another than `"kumaraswamy"`.
    """

    name = "hardkuma"
    description = "HardKuma: gates from a stretched Kumaraswamy distribution, with a multiplier that holds the share."
    paper = "Bastings et al., ACL 2019"
    arguments_class = HardKumaArguments
    model_options = {"sampler": "kumaraswamy"}

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        model.add_training_module("multiplier", Multiplier())

    def penalties(
        self, model: PreTrainedModel, selection: Selection, units: Units, shares: list[float]
    ) -> dict[str, torch.Tensor]:
        pairs = zip(selection.probabilities, targets(model, selection, units, shares), strict=True)
        excess = torch.stack([selected_share(p, units) - target for p, target in pairs])  # c (stages, batch)
        changes = torch.stack([expected_changes(p, units) for p in selection.probabilities]).mean()
        weight, multiplier = model.config.sparsity_weight, model.multiplier.value
        return {
            "compactness": (multiplier.detach() * excess + weight / 2 * excess.square()).mean(),
            "coherence": model.config.coherence_weight * changes,
            "multiplier": -multiplier * excess.detach().mean(),
        }

    def rate_factor(self, name: str) -> float:
        if name.startswith("multiplier."):
            return self.args.multiplier_rate / max(self.args.learning_rate, 1e-12)
        return super().rate_factor(name)


class Multiplier(nn.Module):
    """λ, which starts at 0."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))


def expected_changes(probabilities: torch.Tensor, units: Units) -> torch.Tensor:
    """E[Σ 1(exactly one of m_i and m_j is 0)] over the edges for independent gates that are not 0 with `probabilities`
    (batch, positions), divided by the weight of the input, averaged over inputs. A scalar."""
    left, right = units.edges.unbind(-1)
    p, q = probabilities.gather(1, left), probabilities.gather(1, right)
    changes = ((p * (1 - q) + (1 - p) * q) * (left != right)).sum(1)
    return (changes / units.weights.sum(1).clamp_min(1)).mean()
