"""The `evaluate` module over [`hf_rationale.metrics.rationale_f1`]; the arithmetic and the checks are there."""

import datasets
import evaluate

from hf_rationale.metrics import rationale_f1


_DESCRIPTION = """
Agreement of the words that a rationale model selected with the words that people marked: precision, recall and F1 over
all words of all documents together (micro average), the two sparsities, and the highest F1 that any selection of the
same sparsity can have.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: one list of 0/1 per document, 1 for each selected unit (word).
    references: one list of 0/1 per document, 1 for each unit that people marked.
Returns:
    precision, recall, f1, sparsity, gold_sparsity, oracle_f1, f1_over_oracle: fractions in [0, 1].
Examples:
    >>> metric = evaluate.load("hf_rationale/metrics/rationale_f1")
    >>> metric.compute(predictions=[[0, 1, 1]], references=[[0, 1, 0]])["precision"]
    0.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class RationaleF1(evaluate.Metric):
    def _info(self):
        # Floats, because an integer feature would cut 0.7 down to 0 before it could be refused.
        mask = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": mask, "references": mask}),
        )

    def _compute(self, predictions, references):
        return rationale_f1(predictions, references)
