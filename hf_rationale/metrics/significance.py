"""How sure a score is, and whether one system is better than another: resampling of documents."""

from collections.abc import Callable, Sequence

import numpy as np

from .documents import join_documents
from .plausibility import document_statistics, summarize


CHUNK = 256  # resamples computed at once, so that memory stays linear in the documents


def bootstrap_intervals(
    predictions: Sequence,
    references: Sequence,
    scores: Sequence | None = None,
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float] | dict[str, tuple[float, float]]]:
    """
    Percentile bootstrap intervals (Efron 1979) of [`rationale_scores`]: documents are drawn with replacement.

    Args:
        predictions, references, scores: as of [`rationale_scores`].
        num_resamples (`int`, *optional*, defaults to 1000): how often the documents are drawn.
        confidence (`float`, *optional*, defaults to 0.95): the share of the resamples inside the interval.
        seed (`int`, *optional*, defaults to 0): of the draws.

    Returns:
        `dict`: with the keys of [`rationale_scores`], `(low, high)` each, of the resamples in which the measure is
            defined; NaN if it is defined in none.

    Raises:
        `ValueError`: as [`rationale_scores`]; and where `confidence` is not between 0 and 1 or `num_resamples` not
            positive.
    """
    _check_resampling(num_resamples, confidence)
    statistics = document_statistics(join_documents(predictions, references, scores))
    resampled = _resample(statistics, num_resamples, _drawn_with_replacement, seed)
    return _map(lambda values: _interval(values, confidence), summarize(resampled))


def paired_test(
    predictions: Sequence,
    other_predictions: Sequence,
    references: Sequence,
    *,
    scores: Sequence | None = None,
    other_scores: Sequence | None = None,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, dict]:
    """
    Whether a system differs from another on the same documents: the paired randomization test (Noreen 1989; Yeh 2000),
    in which the two swap their output of a document or not, at random, and a paired bootstrap of the difference.

    Args:
        predictions, scores: of the one system, as of [`rationale_scores`].
        other_predictions, other_scores: of the other.
        references: what people marked.
        num_resamples (`int`, *optional*, defaults to 10000): of each of the two.
        confidence (`float`, *optional*, defaults to 0.95): of the interval of the difference.
        seed (`int`, *optional*, defaults to 0): of the draws.

    Returns:
        `dict`: with the keys of [`rationale_scores`], each with `difference` (the one minus the other), `low` and
        `high` (its bootstrap interval) and `p_value` (two-sided: the share of the swaps, the observed one among them,
        that differ by as much).

    Raises:
        `ValueError`: as [`bootstrap_intervals`], and where only one of the systems has scores.
    """
    _check_resampling(num_resamples, confidence)
    if (scores is None) != (other_scores is None):
        raise ValueError("Give scores of both systems, or of neither.")
    one = document_statistics(join_documents(predictions, references, scores))
    other = document_statistics(join_documents(other_predictions, references, other_scores))

    drawn = [
        summarize(_resample(statistics, num_resamples, _drawn_with_replacement, seed)) for statistics in (one, other)
    ]
    totals = [{name: values.sum() for name, values in statistics.items()} for statistics in (one, other)]
    moved = _resample({name: other[name] * 1.0 - one[name] for name in one}, num_resamples, _swapped, seed)
    swapped = [
        summarize({name: total[name] + sign * moved[name] for name in moved})
        for total, sign in zip(totals, (1, -1), strict=True)
    ]

    def test(observed, other_observed, swap, other_swap, draw, other_draw) -> dict[str, float]:
        difference = observed - other_observed
        # Sums of the same numbers in another order differ in the last digits.
        as_large = np.abs(swap - other_swap) >= abs(difference) - 1e-12
        low, high = _interval(draw - other_draw, confidence)
        p_value = (1 + as_large.sum()) / (1 + num_resamples) if np.isfinite(difference) else np.nan
        return {"difference": float(difference), "low": low, "high": high, "p_value": float(p_value)}

    return _map(test, *map(summarize, totals), *swapped, *drawn)


def _check_resampling(num_resamples: int, confidence: float):
    if num_resamples < 1:
        raise ValueError(f"num_resamples is at least 1; got {num_resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is between 0 and 1, such as 0.95; got {confidence}")


def _resample(
    statistics: dict[str, np.ndarray],
    num_resamples: int,
    draw: Callable[[np.random.Generator, int, int], np.ndarray],
    seed: int,
) -> dict[str, np.ndarray]:
    """The sums of each statistic, of shape `(num_resamples,)`, weighted as `draw` says."""
    table = np.stack(list(statistics.values()), axis=1).astype(float)
    rng = np.random.default_rng(seed)
    sums = [draw(rng, min(CHUNK, num_resamples - done), len(table)) @ table for done in range(0, num_resamples, CHUNK)]
    return dict(zip(statistics, np.concatenate(sums).T, strict=True))


def _drawn_with_replacement(rng: np.random.Generator, num_resamples: int, num_documents: int) -> np.ndarray:
    """How often each document is drawn."""
    return rng.multinomial(num_documents, np.full(num_documents, 1 / num_documents), size=num_resamples).astype(float)


def _swapped(rng: np.random.Generator, num_resamples: int, num_documents: int) -> np.ndarray:
    """1 for the documents whose outputs are swapped."""
    return rng.integers(0, 2, size=(num_resamples, num_documents)).astype(float)


def _interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    defined = values[np.isfinite(values)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _map(function: Callable, metrics: dict, *others: dict) -> dict:
    """`function` of each metric (and the others' of that name), in the nesting of [`rationale_scores`]."""
    return {
        name: _map(function, value, *(other[name] for other in others))
        if isinstance(value, dict)
        else function(value, *(other[name] for other in others))
        for name, value in metrics.items()
    }
