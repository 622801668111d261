"""Plausibility: how well the selected units agree with the ones that people marked.

The definitions are those of ERASER (DeYoung et al. 2020, section 4.1), as its scorer computes them. Each metric is a
function of sums of a few statistics over documents. The statistics are computed once for all documents, and resampling
documents ([`bootstrap_intervals`], [`paired_test`]) only changes their weights.
"""

from collections.abc import Sequence

import numpy as np

from .documents import Documents, join_documents


IOU_THRESHOLD = 0.5  # a span counts as found from this overlap on

# The measures of spans. They make sense only where the units follow each other, as words do.
SPAN_SCORES = ("iou_micro", "iou_macro", "span_micro", "span_macro", "spans_per_document", "mean_span_length")

# The measures that a model card shows, and what it calls them. A report shows all measures.
LABELS = {
    "token micro precision": "rationale precision",
    "token micro recall": "rationale recall",
    "token micro f1": "rationale F1",
    "best yardstick f1": "rationale F1 of the best yardstick",
    "mask iou": "IoU of the masks, mean over texts",
    "best yardstick iou": "IoU of the masks of the best yardstick, mean over texts",
    "token macro f1": "rationale F1, mean over texts",
    "iou macro f1": "span F1 at half overlap, mean over texts",
    "auprc": "AUPRC of the scores",
    "sparsity": "sparsity (selected share)",
    "gold sparsity": "gold sparsity (marked share)",
    "oracle f1": "oracle F1 at this sparsity",
    "f1 over oracle": "F1 / oracle",
}


def rationale_scores(
    predictions: Sequence, references: Sequence, scores: Sequence | None = None
) -> dict[str, float | dict[str, float]]:
    """
    Agreement of selected and human-marked units, by all common measures.

    A *span* is a maximal run of selected (or marked) units. Two annotated spans that touch are one span, because a
    mask cannot distinguish them. *micro* measures count over all documents together, *macro* measures average over
    them.

    Args:
        predictions (`Sequence` of shape `(num_documents, num_units)`, ragged):
            The selection: one list or array of 0/1 (ints, bools or floats) per document. Cut padding off first.
        references (`Sequence` of shape `(num_documents, num_units)`, ragged):
            The human annotation, in the same units. A document may be empty or have nothing marked.
        scores (`Sequence` of shape `(num_documents, num_units)`, ragged, *optional*):
            How much each unit speaks for being selected, any finite numbers, to be ranked within the document.

    Returns:
        `dict`: fractions in [0, 1], except for the two that describe spans. A fraction with the denominator zero is
        0.0.

        - **token_micro**: `precision`, `recall` and `f1` of the units.
        - **token_macro**: the means of these over documents. A document that selects nothing has precision 0.0, and
          one with nothing marked has recall 0.0. Documents with neither are left out.
        - **mask_iou**: the intersection of what is selected and what is marked over their union, in units, averaged
          over documents. Documents with neither are left out.
        - **iou_micro**: a selected span is found if its intersection over union with a marked one is at least .5.
          `precision` is the found share of the selected spans, `recall` their number over that of the marked spans,
          `f1` the harmonic mean.
        - **iou_macro**: `precision` averaged over the documents that select something, `recall` over those that have
          something marked, and the harmonic mean of the two averages.
        - **span_micro**, **span_macro**: as for tokens, counting whole spans that agree exactly.
        - **auprc** (with `scores`): the area under the precision-recall curve, by trapezoids from (recall 0,
          precision 1), averaged over all documents that have a unit. With nothing marked the recall is 1 throughout
          (as scikit-learn has it), which makes the area of such a document 0.5. Its chance level is above the gold
          share, and ties raise it: with all scores equal it is (1 + gold share) / 2.
        - **average_precision**, **roc_auc** (with `scores`): averaged over the documents with both marked and unmarked
          units; NaN if there are none.
        - **sparsity**, **gold_sparsity**: the shares S and g of all units that are selected and marked.
        - **oracle_f1**: 2·min(S, g) / (S + g), the highest token_micro f1 of any selection with this sparsity.
        - **f1_over_oracle**: token_micro f1 / oracle_f1, which compares selections of different sparsity.
        - **spans_per_document**, **mean_span_length** (in units): of the selection; how coherent it is.

    Raises:
        `TypeError`: if an argument is not a sequence.
        `ValueError`: if the sides differ in the number of documents or in the length of a document, if a mask holds
            anything but 0 and 1 (NaN included), if a score is not finite, if a flat list is given in place of a list
            of documents, or if there is no unit at all.

    Example:

    ```python
    >>> from hf_rationale.metrics import rationale_scores

    >>> rationale_scores(predictions=[[0, 1, 1], [0, 1]], references=[[0, 1, 0], [1, 1]])["iou_micro"]["f1"]
    1.0
    ```
    """
    statistics = document_statistics(join_documents(predictions, references, scores))
    totals = summarize({name: values.sum() for name, values in statistics.items()})
    return {
        name: {part: float(score) for part, score in value.items()} if isinstance(value, dict) else float(value)
        for name, value in totals.items()
    }


def rationale_f1(predictions: Sequence, references: Sequence) -> dict[str, float]:
    """
    The measures of the papers on selective rationalization, all of them micro averages over units: `precision`,
    `recall`, `f1`, `sparsity`, `gold_sparsity`, `oracle_f1` and `f1_over_oracle` of [`rationale_scores`].

    Args:
        predictions, references: as of [`rationale_scores`].

    Returns:
        `dict[str, float]`: fractions in [0, 1].

    Example:

    ```python
    >>> from hf_rationale.metrics import rationale_f1

    >>> rationale_f1(predictions=[[0, 1, 1], [0, 1]], references=[[0, 1, 0], [1, 1]])["precision"]
    0.6666666666666666
    ```
    """
    scores = rationale_scores(predictions, references)
    shares = ("sparsity", "gold_sparsity", "oracle_f1", "f1_over_oracle")
    return {**scores["token_micro"], **{name: scores[name] for name in shares}}


def document_statistics(documents: Documents) -> dict[str, np.ndarray]:
    """The statistics that [`summarize`] needs: arrays of shape `(num_documents,)`."""
    units = documents.per_document(np.ones(len(documents.document)))
    selected, gold = documents.per_document(documents.selected), documents.per_document(documents.gold)
    statistics = {
        "documents": np.ones(documents.count),
        "units": units,
        "with_selected": selected > 0,
        "with_gold": gold > 0,
        "with_either": (selected > 0) | (gold > 0),
    }
    both = documents.per_document(documents.selected & documents.gold)
    statistics["mask_iou"] = _ratio(both, selected + gold - both)
    statistics |= _agreement("token", selected, gold, both)

    starts, ends, document = _spans(documents.selected, documents.document)
    gold_starts, gold_ends, gold_document = _spans(documents.gold, documents.document)
    spans, gold_spans = (documents.per_document(np.ones(len(d)), d) for d in (document, gold_document))
    iou = _best_iou(documents, starts, ends, gold_starts, gold_ends)
    exact, found = (documents.per_document(iou >= threshold, document) for threshold in (1.0, IOU_THRESHOLD))
    statistics |= _agreement("span", spans, gold_spans, exact) | _agreement("iou", spans, gold_spans, found)
    if documents.scores is not None:
        statistics |= _ranking(documents, units, gold)
    return statistics


@np.errstate(invalid="ignore")  # 0/0 is NaN: of no unit, or of no document with both classes
def summarize(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray | dict[str, np.ndarray]]:
    """The metrics of [`rationale_scores`] from sums over documents, each of any one shape."""
    selected, gold, both = (sums[f"token_{name}"] for name in ("selected", "gold", "both"))
    oracle = np.minimum(selected, gold)  # an oracle's hits with as many units
    metrics = {}
    for kind in ("token", "iou", "span"):
        metrics[f"{kind}_micro"] = _micro(*(sums[f"{kind}_{name}"] for name in ("selected", "gold", "both")))
        precision, recall, f1 = (sums[f"{kind}_{name}"] for name in ("precision", "recall", "f1"))
        if kind == "iou":
            precision, recall = _ratio(precision, sums["with_selected"]), _ratio(recall, sums["with_gold"])
            macro = precision, recall, _ratio(2 * precision * recall, precision + recall)
        else:
            macro = tuple(_ratio(value, sums["with_either"]) for value in (precision, recall, f1))
        metrics[f"{kind}_macro"] = dict(zip(("precision", "recall", "f1"), macro, strict=True))
    metrics["mask_iou"] = _ratio(sums["mask_iou"], sums["with_either"])
    if "auprc" in sums:
        metrics["auprc"] = sums["auprc"] / sums["with_units"]
        for name in ("average_precision", "roc_auc"):
            metrics[name] = sums[name] / sums["with_both_classes"]
    return metrics | {
        "sparsity": selected / sums["units"],
        "gold_sparsity": gold / sums["units"],
        "oracle_f1": _ratio(2 * oracle, selected + gold),
        "f1_over_oracle": _ratio(both, oracle),  # the two F1 have one denominator, so their ratio is that of the hits
        "spans_per_document": sums["span_selected"] / sums["documents"],
        "mean_span_length": _ratio(selected, sums["span_selected"]),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; 0 if the denominator is 0."""
    return numerator / np.where(denominator == 0, 1, denominator)


def _agreement(kind: str, selected: np.ndarray, gold: np.ndarray, both: np.ndarray) -> dict[str, np.ndarray]:
    """Counts, and each document's own scores, of tokens or spans."""
    scores = _micro(selected, gold, both)
    counts = {"selected": selected, "gold": gold, "both": both}
    return {f"{kind}_{name}": values for name, values in {**counts, **scores}.items()}


def _micro(selected: np.ndarray, gold: np.ndarray, both: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "precision": _ratio(both, selected),
        "recall": _ratio(both, gold),
        "f1": _ratio(2 * both, selected + gold),
    }


def _spans(mask: np.ndarray, document: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first unit of every maximal run, the one behind its last, and its document: `(num_spans,)` each."""
    goes_on = mask[1:] & mask[:-1] & (document[1:] == document[:-1])  # into the unit behind it
    starts = np.flatnonzero(mask & ~np.append(False, goes_on))
    ends = np.flatnonzero(mask & ~np.append(goes_on, False)) + 1
    return starts, ends, document[starts]


def _best_iou(
    documents: Documents, starts: np.ndarray, ends: np.ndarray, gold_starts: np.ndarray, gold_ends: np.ndarray
) -> np.ndarray:
    """Of every selected span, the highest intersection over union with a marked one."""
    best = np.zeros(len(starts))
    # The runs of units that are both are the intersections, each of one selected and one marked span.
    first, last, _ = _spans(documents.selected & documents.gold, documents.document)
    span = np.searchsorted(starts, first, side="right") - 1
    gold_span = np.searchsorted(gold_starts, first, side="right") - 1
    intersection = last - first
    union = (ends - starts)[span] + (gold_ends - gold_starts)[gold_span] - intersection
    np.maximum.at(best, span, intersection / union)
    return best


def _ranking(documents: Documents, units: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    """The areas under each document's curves, which go from one distinct score to the next, the highest first."""
    order = np.lexsort((-documents.scores, documents.document))
    document, scores = documents.document, documents.scores[order]  # sorting leaves each document in its place
    first_unit = np.cumsum(units) - units
    hits = np.cumsum(documents.gold[order])
    at = np.flatnonzero(np.append((scores[1:] != scores[:-1]) | (document[1:] != document[:-1]), True))
    document = document[at]
    before = np.append(0, hits)[first_unit.astype(int)]  # hits of the documents before
    hits = hits[at] - before[document]
    taken = at + 1 - first_unit[document]
    new = np.append(True, document[1:] != document[:-1])

    def since(values: np.ndarray, start: float) -> np.ndarray:
        """`values` at the point before; `start` before a document's first."""
        return np.where(new, start, np.append(start, values[:-1]))

    precision = hits / taken
    recall = np.where(gold[document] == 0, 1.0, _ratio(hits, gold[document]))
    false_positive_rate = _ratio(taken - hits, (units - gold)[document])
    gained = recall - since(recall, 0.0)
    areas = {
        "auprc": gained * (precision + since(precision, 1.0)) / 2,
        "average_precision": gained * precision,
        "roc_auc": (false_positive_rate - since(false_positive_rate, 0.0)) * (recall + since(recall, 0.0)) / 2,
    }
    both = (gold > 0) & (gold < units)
    areas = {name: documents.per_document(area, document) for name, area in areas.items()}
    return {
        "auprc": areas["auprc"],
        "average_precision": areas["average_precision"] * both,
        "roc_auc": areas["roc_auc"] * both,
        "with_units": units > 0,
        "with_both_classes": both,
    }
