"""DR: decoupled rationalization with asymmetric learning rates (Liu et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class DRArguments(RationaleTrainingArguments):
    """[`RationaleTrainingArguments`] with `scale_predictor_rate=True`."""

    scale_predictor_rate: bool = field(
        default=True, metadata={"help": "Multiply the learning rates of the predictor by the sparsity."}
    )


class DRTrainer(RationaleTrainer):
    r"""
    RNP whose predictor learns more slowly than the extractor. A predictor with a small Lipschitz constant cannot tell
    labels apart by small differences, so that the extractor has to find informative words:

        η_P = s η_E

    The paper multiplies by the share that is selected at each step. Here it is s, the share that is asked for.
    """

    name = "dr"
    description = "DR: RNP whose predictor has a lower learning rate, in the ratio of the selected share."
    paper = "Liu et al., KDD 2023"
    arguments_class = DRArguments
