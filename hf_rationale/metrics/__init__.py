"""Metrics of rationales, as plain functions over numpy arrays.

The folder `rationale_f1/` is the `evaluate` module over the function of that name; `evaluate` loads it by its path.
"""

import sys

from .classification import classification_scores
from .faithfulness import AOPC_RATIOS, faithfulness_scores
from .plausibility import rationale_f1, rationale_scores
from .significance import bootstrap_intervals, paired_test


# Importing that folder as a subpackage would put it in the function's place here, so Python is told not to.
sys.modules[f"{__name__}.rationale_f1"] = None

__all__ = [
    "AOPC_RATIOS",
    "bootstrap_intervals",
    "classification_scores",
    "faithfulness_scores",
    "paired_test",
    "rationale_f1",
    "rationale_scores",
]
