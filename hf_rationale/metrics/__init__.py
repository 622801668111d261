"""Metrics of rationales, as plain functions over numpy arrays.

The folder `rationale_f1/` is not a subpackage. It holds the `evaluate` module of the function with that name, which
`evaluate` loads by its path.
"""

from . import classification, faithfulness, plausibility
from .classification import classification_scores, group_accuracy
from .faithfulness import AOPC_RATIOS, faithfulness_scores
from .plausibility import SPAN_SCORES, rationale_f1, rationale_scores
from .significance import bootstrap_intervals, paired_test


# The measures that a model card shows, by their row in a report, and what the card calls them.
LABELS = classification.LABELS | plausibility.LABELS | faithfulness.LABELS

__all__ = [
    "AOPC_RATIOS",
    "LABELS",
    "SPAN_SCORES",
    "bootstrap_intervals",
    "classification_scores",
    "faithfulness_scores",
    "group_accuracy",
    "paired_test",
    "rationale_f1",
    "rationale_scores",
]
