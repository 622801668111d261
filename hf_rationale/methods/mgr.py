"""MGR: multi-generator rationalization (Liu et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import PreTrainedModel

from ..modeling.objective import objective
from ..modeling.outputs import RationaleClassifierOutput, RationaleInputs
from ..modeling.players import add_copy
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class MGRArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the number of [`MGRTrainer`].

    Args:
        num_extractors (`int`, *optional*, defaults to 3): n, the number of extractors.
    """

    num_extractors: int = field(default=3, metadata={"help": "MGR: the number of extractors."})

    def __post_init__(self):
        if self.num_extractors < 2:
            raise ValueError(f"num_extractors must be at least 2, but is {self.num_extractors}.")
        super().__post_init__()


class MGRTrainer(RationaleTrainer):
    r"""
    Several extractors select from the same texts for one predictor. They start differently and learn at different
    rates. If one of them selects a meaningless word, the others keep the predictor from relying on it:

        min_{E_1 … E_n, P} Σ_i CE(P(z_i), y) + Ω(m_i),    η_{E_i} = i η,    η_P = η / n

    The first extractor is kept. The others start as copies of it with fresh heads. They are saved in checkpoints, but
    not in the model.
    """

    name = "mgr"
    description = "MGR: several extractors select for one predictor, and the first one is kept."
    paper = "Liu et al., ACL 2023"
    arguments_class = MGRArguments

    def add_players(self, model: PreTrainedModel) -> None:
        super().add_players(model)
        for number in range(2, self.args.num_extractors + 1):
            add_copy(model, f"extractor_{number}", model.extractor)

    def training_objective(self, model: PreTrainedModel, inputs: RationaleInputs) -> RationaleClassifierOutput:
        output = super().training_objective(model, inputs)
        tuning = self.args.predictor_tuning_ratio
        if tuning and not self.is_before(1 - tuning):
            return output  # the predictor is tuned on what the first extractor selects
        sparsity = self.target_sparsity(model.config.sparsity)
        for number in range(2, self.args.num_extractors + 1):
            selection = model.select(inputs, extractor=getattr(model, f"extractor_{number}"))
            losses = objective(model, inputs, selection, sparsity, self.game, self.penalties).losses
            del losses["sparsity"]  # that of the first extractor is reported
            output.add_losses({f"{name}_{number}": loss for name, loss in losses.items()})
        return output

    def rate_factor(self, name: str) -> float:
        player, factor = name.split(".")[0], super().rate_factor(name)
        if player.startswith("extractor_"):
            return factor * int(player.removeprefix("extractor_"))
        return factor / self.args.num_extractors if player == "predictor" else factor
