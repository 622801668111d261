"""Compare the speed of scoring rationales to a plain Python loop over documents, spans and tokens.

    python benchmarks/plausibility.py                                    # 10,000 documents of 300 tokens
    python benchmarks/plausibility.py --documents 1000 --tokens 500

The loop follows ERASER's definitions with sets of tokens and spans, and uses scikit-learn for the curves. Both give
the same numbers (`tests/test_rationale_scores.py`). Seconds are medians over rounds, in turns. Memory is the peak of a
call without its input, as counted by tracemalloc, for half of the documents and for all of them.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from hf_rationale.metrics import rationale_scores


def plain_loop(predictions: list[list[int]], references: list[list[int]], scores: list[list[float]]) -> dict:
    """Compute the metrics of [`rationale_scores`] with one document, span and token at a time."""
    documents = range(len(references))
    spans = [[spans_of(document) for document in masks] for masks in (predictions, references)]
    tokens = [
        [{(i, i + 1) for i, unit in enumerate(document) if unit} for document in masks]
        for masks in (predictions, references)
    ]
    found = [{span for span in spans[0][d] if any(iou(span, gold) >= 0.5 for gold in spans[1][d])} for d in documents]
    selected, gold = (sum(map(len, side)) for side in tokens)
    units, both = sum(map(len, references)), sum(len(one & other) for one, other in zip(*tokens, strict=True))
    results = {"sparsity": selected / units, "gold_sparsity": gold / units}
    results["oracle_f1"] = 2 * min(selected, gold) / max(selected + gold, 1)
    results["f1_over_oracle"] = both / max(min(selected, gold), 1)
    results["spans_per_document"] = sum(map(len, spans[0])) / len(documents)
    results["mean_span_length"] = selected / max(sum(map(len, spans[0])), 1)

    for name, (ours, theirs) in {"token": tokens, "span": spans}.items():
        hits = [ours[d] & theirs[d] for d in documents]
        results[f"{name}_micro"] = agreement(sum(map(len, hits)), sum(map(len, ours)), sum(map(len, theirs)))
        macro = [agreement(len(hits[d]), len(ours[d]), len(theirs[d])) for d in documents if ours[d] or theirs[d]]
        results[f"{name}_macro"] = {part: mean([row[part] for row in macro]) for part in ("precision", "recall", "f1")}
    hits = list(map(len, found))
    results["iou_micro"] = agreement(sum(hits), sum(map(len, spans[0])), sum(map(len, spans[1])))
    precision = mean([hits[d] / len(spans[0][d]) for d in documents if spans[0][d]])
    recall = mean([hits[d] / len(spans[1][d]) for d in documents if spans[1][d]])
    results["iou_macro"] = {"precision": precision, "recall": recall, "f1": harmonic(precision, recall)}

    pairs = [pair for pair in zip(*tokens, strict=True) if any(pair)]
    results["mask_iou"] = mean([len(one & other) / len(one | other) for one, other in pairs])

    areas, average_precisions, roc_aucs = [], [], []
    for marked, score in zip(references, scores, strict=True):
        if len(marked):
            precisions, recalls, _ = precision_recall_curve(marked, score)
            areas.append(auc(recalls, precisions))
        if 0 < sum(marked) < len(marked):
            average_precisions.append(average_precision_score(marked, score))
            roc_aucs.append(roc_auc_score(marked, score))
    curves = {"auprc": areas, "average_precision": average_precisions, "roc_auc": roc_aucs}
    return results | {name: float(np.mean(values)) if values else np.nan for name, values in curves.items()}


def spans_of(mask: list[int]) -> set[tuple[int, int]]:
    spans, start = set(), None
    for i, unit in enumerate([*mask, 0]):
        if unit and start is None:
            start = i
        elif not unit and start is not None:
            spans.add((start, i))
            start = None
    return spans


def iou(span: tuple[int, int], other: tuple[int, int]) -> float:
    one, two = set(range(*span)), set(range(*other))
    return len(one & two) / len(one | two)


def agreement(hits: int, selected: int, gold: int) -> dict[str, float]:
    precision, recall = hits / max(selected, 1), hits / max(gold, 1)
    return {"precision": precision, "recall": recall, "f1": harmonic(precision, recall)}


def harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def random_documents(count: int, length: int, seed: int = 0) -> tuple[list, list, list]:
    """Return random selections, annotations in spans of about five tokens, and scores, as lists."""
    rng = np.random.default_rng(seed)
    gold = np.repeat(rng.random((count, length // 5 + 1)) < 0.15, 5, axis=1)[:, :length]
    return (
        (rng.random((count, length)) < 0.2).astype(int).tolist(),
        gold.astype(int).tolist(),
        rng.random((count, length)).tolist(),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    documents = random_documents(options.documents, options.tokens)
    seconds = {function: [] for function in (rationale_scores, plain_loop)}
    for _ in range(options.rounds):
        for function in seconds:
            seconds[function].append(seconds_of(function, documents))
    ours, loop = (statistics.median(values) for values in seconds.values())
    print(
        f"{options.documents:,} documents of {options.tokens} tokens: {ours:.2f} s; plain loop {loop:.2f} s, "
        f"{loop / ours:.1f} times as long"
    )
    for share in (0.5, 1.0):
        part = [side[: int(share * options.documents)] for side in documents]
        tracemalloc.start()
        rationale_scores(*part)
        print(f"{len(part[0]):,} documents: peak {tracemalloc.get_traced_memory()[1] / 2**20:.0f} MiB")
        tracemalloc.stop()


def seconds_of(function: Callable, documents: tuple) -> float:
    start = time.perf_counter()
    function(*documents)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
