"""The methods: what each trains its players to do. A method that is registered here appears everywhere by itself."""

from ..trainer import RationaleTrainer
from .a2i import A2ITrainer
from .composition import compose
from .fr import FRTrainer
from .n2r import N2RArguments, N2RMMITrainer, N2RTrainer
from .nir import NIRArguments, NIRTrainer
from .plmr import PLMRArguments, PLMRTrainer
from .rnp import RNPTrainer
from .ver import VERArguments, VERTrainer


# The trainers by the name of their method, as on the command line.
METHODS: dict[str, type[RationaleTrainer]] = {
    trainer.name: trainer
    for trainer in (
        RNPTrainer,
        FRTrainer,
        N2RTrainer,
        N2RMMITrainer,
        VERTrainer,
        A2ITrainer,
        NIRTrainer,
        PLMRTrainer,
    )
}

__all__ = [
    "METHODS",
    "A2ITrainer",
    "FRTrainer",
    "N2RArguments",
    "N2RMMITrainer",
    "N2RTrainer",
    "NIRArguments",
    "NIRTrainer",
    "PLMRArguments",
    "PLMRTrainer",
    "RNPTrainer",
    "VERArguments",
    "VERTrainer",
    "compose",
]
