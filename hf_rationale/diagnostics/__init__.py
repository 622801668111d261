"""Diagnostics of trained models: the experiments of the papers, each as a function with a report and a figure.

| function | what it shows | source |
|---|---|---|
| [`audit`] | how often an attacker can make the predictor choose another class | A2I, figure 6 |
| [`gold_replacement`] | accuracy, loss and norm if gold words are replaced by random ones | N2R, figure 3 |
| [`gold_against_selected`] | the predictor on the words that people marked, and on the selected ones | VER, figures 3,
10 | | [`SelectionChange`] | how much the selection changes from step to step in training | VER, figure 2 | |
[`lipschitz`] | an estimate of the predictor's Lipschitz constant | VER, figure 4 | | [`random_patterns`] | what a
predictor learns from selections that do not depend on the label | A2I, figure 3 | | [`failure_rate`] | how often the
model is right although it reads mostly function words | PLMR, table 2 | | [`homogeneity`] | how similar the states of
tokens become with depth | PLMR, figure 4 | | [`cross_aspect`] | how well a model of one aspect predicts the labels of
the others | PLMR, figure 3 |
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
