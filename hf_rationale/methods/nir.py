"""NIR: noise injection into rationales (Storek et al. 2023, section 3), a baseline of N2R, VER and A2I."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ..modeling.outputs import Prediction, RationaleInputs
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class NIRArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the number of [`NIRTrainer`].

    Args:
        noise_rate (`float`, *optional*, defaults to 0.1): probability that a selected unit is replaced. N2R, VER and
            A2I report 0.1 as the best of 0.1, 0.2 and 0.3.
    """

    noise_rate: float = field(default=0.1, metadata={"help": "NIR: probability that a selected unit is replaced."})

    def __post_init__(self):
        self.check_probabilities("noise_rate")
        super().__post_init__()


class NIRTrainer(RationaleTrainer):
    r"""
    RNP, but in training some of the selected words are replaced by noise words before the predictor reads them. A
    rationale that carries its information in a single odd word becomes unreliable.

    The noise words are drawn from the texts of the batch, so that common words, which carry little information, are
    the most likely. (Storek et al. use TF-IDF instead: the less a word says, the more likely it is to be replaced, and
    to replace another.) There is no noise at evaluation.

    Raises:
        ValueError: if the inputs are not texts, because nothing else can be replaced by words.
    """

    name = "nir"
    description = "NIR: RNP whose rationales get noise words injected in training."
    paper = "Storek et al., ACL 2023"
    arguments_class = NIRArguments

    def prepare_model(self, model: PreTrainedModel) -> None:
        if model.main_input_name != "input_ids":
            raise ValueError(f"NIR replaces words by words, but {type(model).__name__} does not read words.")
        super().prepare_model(model)

    def read(self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> Prediction:
        noise, words = noise_words(inputs)
        replaced = (mask > 0) & (
            noise.gather(1, inputs.units.index) < self.args.noise_rate
        )  # the whole unit or nothing
        features = {**inputs.features, "input_ids": torch.where(replaced, words, inputs.features["input_ids"])}
        return super().read(model, inputs._replace(features=features), mask)


def noise_words(inputs: RationaleInputs) -> tuple[torch.Tensor, torch.LongTensor]:
    """For every position (batch, positions), noise uniform in [0, 1), and a token drawn from those of the batch."""
    tokens, selectable = inputs.features["input_ids"], inputs.units.selectable
    weights = selectable.flatten().float()
    weights = weights + (weights.sum() == 0)  # if nothing can be selected, nothing is replaced, whatever is drawn
    drawn = weights.multinomial(tokens.numel(), replacement=True)
    return torch.rand(tokens.shape, device=tokens.device), tokens.flatten()[drawn].view_as(tokens)
