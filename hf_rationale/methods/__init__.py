"""The methods: what each trains its players to do. A method that is registered here appears everywhere by itself."""

from ..trainer import RationaleTrainer
from .a2i import A2ITrainer
from .a2r import A2RArguments, A2RTrainer
from .composition import compose
from .cr import CRArguments, CRTrainer
from .dmr import DMRArguments, DMRTrainer
from .dr import DRArguments, DRTrainer
from .fr import FRTrainer
from .grat import GRATArguments, GRATTrainer
from .hardkuma import HardKumaArguments, HardKumaTrainer
from .inter_rat import InterRATTrainer
from .invrat import INVRATArguments, INVRATTrainer
from .mcd import MCDArguments, MCDTrainer
from .mgr import MGRArguments, MGRTrainer
from .n2r import N2RArguments, N2RMMITrainer, N2RTrainer
from .nir import NIRArguments, NIRTrainer
from .plmr import PLMRArguments, PLMRTrainer
from .rnp import RNPTrainer
from .rtp import RTPArguments, RTPTrainer
from .three_player import ThreePlayerArguments, ThreePlayerTrainer
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
        HardKumaTrainer,
        ThreePlayerTrainer,
        INVRATTrainer,
        A2RTrainer,
        DMRTrainer,
        MGRTrainer,
        DRTrainer,
        MCDTrainer,
        InterRATTrainer,
        CRTrainer,
        GRATTrainer,
        RTPTrainer,
    )
}

__all__ = [
    "METHODS",
    "A2ITrainer",
    "A2RArguments",
    "A2RTrainer",
    "CRArguments",
    "CRTrainer",
    "DMRArguments",
    "DMRTrainer",
    "DRArguments",
    "DRTrainer",
    "FRTrainer",
    "GRATArguments",
    "GRATTrainer",
    "HardKumaArguments",
    "HardKumaTrainer",
    "INVRATArguments",
    "INVRATTrainer",
    "InterRATTrainer",
    "MCDArguments",
    "MCDTrainer",
    "MGRArguments",
    "MGRTrainer",
    "N2RArguments",
    "N2RMMITrainer",
    "N2RTrainer",
    "NIRArguments",
    "NIRTrainer",
    "PLMRArguments",
    "PLMRTrainer",
    "RNPTrainer",
    "RTPArguments",
    "RTPTrainer",
    "ThreePlayerArguments",
    "ThreePlayerTrainer",
    "VERArguments",
    "VERTrainer",
    "compose",
]
