"""Diagnostics of finished models: each a function of the papers' experiments, and the figure that they draw of it.

| function | what it shows | source |
|---|---|---|
| [`audit`] | what an attacker can make the predictor say | A2I, figure 6 |
| [`gold_replacement`] | accuracy, loss and norm as gold words give way to random ones | N2R, figure 3 |
| [`gold_against_selected`] | the predictor on what people marked, and on what is selected | VER, figures 3, 10 |
| [`SelectionChange`] | how much selection changes from step to step | VER, figure 2 |
| [`lipschitz`] | how steep the predictor is | VER, figure 4 |
| [`random_patterns`] | what a predictor learns from random words | A2I, figure 3 |
| [`failure_rate`] | right decisions from function words | PLMR, table 2 |
| [`homogeneity`] | how alike the tokens' states become with depth | PLMR, figure 4 |
| [`cross_aspect`] | what a model of one aspect says of the others | PLMR, figure 3 |
"""

from .attack import AttackReport, AttackTrainer, audit
from .cross_aspect import CrossAspect, cross_aspect
from .failure_rate import FailureRate, failure_rate
from .gold_against_selected import GoldAgainstSelected, gold_against_selected
from .gold_replacement import GoldReplacement, gold_replacement
from .homogeneity import Homogeneity, homogeneity
from .lipschitz import Lipschitz, lipschitz
from .random_patterns import RandomPatterns, random_patterns
from .selection_change import SelectionChange


__all__ = [
    "AttackReport",
    "AttackTrainer",
    "CrossAspect",
    "FailureRate",
    "GoldAgainstSelected",
    "GoldReplacement",
    "Homogeneity",
    "Lipschitz",
    "RandomPatterns",
    "SelectionChange",
    "audit",
    "cross_aspect",
    "failure_rate",
    "gold_against_selected",
    "gold_replacement",
    "homogeneity",
    "lipschitz",
    "random_patterns",
]
