import itertools
import math
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from hf_rationale.metrics import bootstrap_intervals, paired_test, rationale_f1, rationale_scores


ROOT = Path(__file__).parent.parent
PARTS = ["precision", "recall", "f1"]
KINDS = [f"{kind}_{average}" for kind in ("token", "iou", "span") for average in ("micro", "macro")]
CURVES = ["auprc", "average_precision", "roc_auc"]
OTHERS = ["sparsity", "gold_sparsity", "oracle_f1", "f1_over_oracle", "spans_per_document", "mean_span_length"]
SEEDS = range(20)


@pytest.fixture(scope="module")
def plain_loop():
    return runpy.run_path(str(ROOT / "benchmarks" / "plausibility.py"))["plain_loop"]


def random_documents(seed: int, count: int = 12) -> tuple[list[list], list[list], list[list]]:
    """Documents of 0 to 24 units, some with nothing or everything selected or marked, with ties in the scores."""
    rng = np.random.default_rng(seed)
    lengths = [3, *rng.integers(0, 25, size=count - 1)]
    masks = [[(rng.random(n) < rng.choice([0, 0.2, 0.5, 0.9, 1])).astype(int).tolist() for n in lengths] for _ in "pr"]
    return *masks, [rng.integers(0, 6, size=n).tolist() for n in lengths]


def flat(scores: dict) -> dict[str, float]:
    return {
        key: value
        for name, score in scores.items()
        for key, value in (
            {f"{name} {part}": v for part, v in score.items()} if isinstance(score, dict) else {name: score}
        ).items()
    }


def approx(scores: dict):
    return pytest.approx(flat(scores), nan_ok=True, abs=1e-12)


def test_hand_computed():
    # document 0: spans [0, 2) and [4, 5) against [1, 5); document 1: [1, 3) against [1, 4)
    predictions, references = [[1, 1, 0, 0, 1, 0], [0, 1, 1, 0]], [[0, 1, 1, 1, 1, 0], [0, 1, 1, 1]]
    scores = rationale_scores(predictions, references)
    assert list(scores) == [*KINDS, "mask_iou", *OTHERS]
    assert flat(scores) == pytest.approx(
        flat(
            {
                "token_micro": {"precision": 4 / 5, "recall": 4 / 7, "f1": 8 / 12},
                "token_macro": {
                    "precision": (2 / 3 + 1) / 2,
                    "recall": (1 / 2 + 2 / 3) / 2,
                    "f1": (4 / 7 + 4 / 5) / 2,
                },
                # overlaps 1/5 and 1/4 in document 0, 2/3 in document 1
                "iou_micro": {"precision": 1 / 3, "recall": 1 / 2, "f1": 2 / 5},
                "iou_macro": {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2},
                "span_micro": dict.fromkeys(PARTS, 0.0),
                "span_macro": dict.fromkeys(PARTS, 0.0),
                "mask_iou": (2 / 5 + 2 / 3) / 2,
                "sparsity": 5 / 10,
                "gold_sparsity": 7 / 10,
                "oracle_f1": 10 / 12,
                "f1_over_oracle": 4 / 5,
                "spans_per_document": 3 / 2,
                "mean_span_length": 5 / 3,
            }
        )
    )


def test_hand_computed_curves():
    # In order of score: gold, other | gold and other tied | other. Two are marked.
    scores = rationale_scores([[1, 0, 0, 0, 0]], [[1, 0, 1, 0, 0]], [[0.9, 0.8, 0.5, 0.5, 0.1]])
    points = [(0, 1), (1 / 2, 1), (1 / 2, 1 / 2), (1, 2 / 4), (1, 2 / 5)]
    assert scores["auprc"] == pytest.approx(
        sum((r - q) * (p + o) / 2 for (q, o), (r, p) in itertools.pairwise(points))
    )
    assert scores["average_precision"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 4)
    # pairs of a marked and another unit: 3 + (1 of the first other lost, 1/2 of the tie, 1)
    assert scores["roc_auc"] == pytest.approx((3 + 0 + 1 / 2 + 1) / 6)


@pytest.mark.filterwarnings("ignore:No positive class")
@pytest.mark.parametrize("seed", SEEDS)
def test_agrees_with_a_loop_over_sets_and_scikit_learn(plain_loop, seed):
    documents = random_documents(seed)
    assert flat(rationale_scores(*documents)) == approx(plain_loop(*documents))


def test_every_value_is_a_plain_float():
    scores = flat(rationale_scores(*random_documents(0)))
    assert all(type(value) is float for value in scores.values())


def test_perfect():
    masks = [[0, 1, 1, 0], [1, 0, 0, 1]]
    scores = flat(rationale_scores(masks, masks, masks))
    expected = dict.fromkeys(scores, 1.0) | {"sparsity": 0.5, "gold_sparsity": 0.5}
    assert scores == expected | {"spans_per_document": 1.5, "mean_span_length": 4 / 3}


def test_nothing_selected():
    scores = flat(rationale_scores([[0, 0], [0]], [[0, 1], [1]]))
    assert scores == dict.fromkeys(scores, 0.0) | {"gold_sparsity": 2 / 3}


def test_nothing_selected_and_nothing_marked():
    scores = flat(rationale_scores([[0, 0]], [[0, 0]], [[0, 1]]))
    undefined = dict.fromkeys(["average_precision", "roc_auc"], math.nan)
    assert scores == pytest.approx(dict.fromkeys(scores, 0.0) | {"auprc": 0.5} | undefined, nan_ok=True)


def test_documents_with_neither_count_in_no_average_but_the_area():
    predictions, references, scores = [[1, 0, 1], [0, 1]], [[1, 1, 0], [0, 1]], [[3, 2, 1], [1, 2]]
    without, more = (
        rationale_scores(predictions + 2 * extra, references + 2 * extra, scores + 2 * extra)
        for extra in ([], [[0, 0]])
    )
    assert {name: more[name] for name in KINDS} == {name: without[name] for name in KINDS}
    assert more["auprc"] == pytest.approx((without["auprc"] + 0.5) / 2)
    assert (more["average_precision"], more["roc_auc"]) == (without["average_precision"], without["roc_auc"])


@pytest.mark.parametrize("seed", SEEDS)
def test_empty_documents_change_spans_per_document_alone(seed):
    documents = random_documents(seed)
    scores, more = (rationale_scores(*documents), rationale_scores(*([*side, [], []] for side in documents)))
    count = len(documents[0])
    assert more.pop("spans_per_document") * (count + 2) == pytest.approx(scores.pop("spans_per_document") * count)
    assert flat(more) == approx(scores)


@pytest.mark.parametrize("seed", SEEDS)
def test_order_of_documents_does_not_matter(seed):
    documents = random_documents(seed)
    order = np.random.default_rng(seed).permutation(len(documents[0]))
    permuted = [[side[i] for i in order] for side in documents]
    assert flat(rationale_scores(*permuted)) == approx(rationale_scores(*documents))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_document_split_between_spans_counts_the_same_units_and_spans(seed):
    documents = random_documents(seed)[:2]
    scores = rationale_scores(*documents)
    split = []
    for selected, marked in zip(*documents, strict=True):
        steps = zip(itertools.pairwise(selected), itertools.pairwise(marked), strict=True)
        between = [i for i, step in enumerate(steps, start=1) if not any(map(all, step))]
        borders = [0, *between, len(selected)]
        split += [(selected[start:end], marked[start:end]) for start, end in itertools.pairwise(borders)]
    again = rationale_scores(*zip(*split, strict=True))
    for name in ("token_micro", "iou_micro", "span_micro", "sparsity", "gold_sparsity", "oracle_f1"):
        assert again[name] == scores[name]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_split_inside_a_span_makes_two_of_it(seed):
    size = int(np.random.default_rng(seed).integers(2, 9))
    whole = rationale_scores([[1] * size], [[1] * size])
    halves = rationale_scores([[1], [1] * (size - 1)], [[1], [1] * (size - 1)])
    assert whole["span_micro"] == halves["span_micro"] == dict.fromkeys(PARTS, 1.0)
    assert (whole["mean_span_length"], halves["mean_span_length"]) == (size, size / 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_order_of_scores_within_a_document_matters(seed):
    predictions, references, scores = random_documents(seed)
    moved = [[math.exp(score) * (d + 1) - 100 * d for score in document] for d, document in enumerate(scores)]
    expected = rationale_scores(predictions, references, scores)
    assert flat(rationale_scores(predictions, references, moved)) == approx(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_tied_units_are_interchangeable(seed):
    _, references, scores = random_documents(seed)
    rng = np.random.default_rng(seed)
    shuffled = [np.array(document) for document in references]
    for marked, document in zip(shuffled, scores, strict=True):
        for score in set(document):
            tied = np.flatnonzero(np.array(document) == score)
            marked[tied] = marked[rng.permutation(tied)]
    expected, again = (rationale_scores(gold, gold, scores) for gold in (references, shuffled))
    assert {name: again[name] for name in CURVES} == pytest.approx(
        {name: expected[name] for name in CURVES}, nan_ok=True
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_rationale_f1_is_a_part(seed):
    predictions, references, _ = random_documents(seed)
    scores = rationale_scores(predictions, references)
    assert rationale_f1(predictions, references) == scores["token_micro"] | {name: scores[name] for name in OTHERS[:4]}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[0.5, 0.5]], "`scores` and `references` must have the same number of documents, got 1 and 2"),
        ([[0.5], [0.5, 0.5]], "document 0 has 1 units in `scores` and 2 in `references`"),
        ([[0.5, 0.5], [math.nan]], "`scores`: every unit must be finite, but unit 0 of document 1 is nan"),
        ([[0.5, -math.inf], [1]], "`scores`: every unit must be finite, but unit 1 of document 0 is -inf"),
        ([0.5, 0.5], "`scores` must be a list of documents, each a sequence of numbers, but element 0 is 0.5"),
    ],
)
def test_errors(scores, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        rationale_scores([[0, 1], [1]], [[0, 1], [1]], scores)


# --- Resampling ------------------------------------------------------------------------------------------------------


def test_intervals_have_the_scores_keys_and_hold_them():
    documents = random_documents(0, count=60)
    scores, intervals = rationale_scores(*documents), bootstrap_intervals(*documents)
    assert flat(intervals).keys() == flat(scores).keys()
    for name, (low, high) in flat(intervals).items():
        assert low <= flat(scores)[name] <= high
        assert low < high


def test_intervals_are_the_binomial_s():
    rng = np.random.default_rng(0)
    count, share = 400, 0.3
    references = [[1]] * count
    low, high = bootstrap_intervals((rng.random((count, 1)) < share).astype(int), references)["token_micro"]["recall"]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / count), rel=0.1)
    assert low < share < high


def test_intervals_do_not_depend_on_the_size_of_a_chunk(monkeypatch):
    documents = random_documents(1)
    expected = bootstrap_intervals(*documents, num_resamples=50)
    assert flat(bootstrap_intervals(*documents, num_resamples=50)) == flat(expected)  # the seed is fixed
    assert flat(bootstrap_intervals(*documents, num_resamples=50, seed=1)) != flat(expected)
    monkeypatch.setattr("hf_rationale.metrics.significance.CHUNK", 7)
    assert flat(bootstrap_intervals(*documents, num_resamples=50)) == flat(expected)


def test_an_interval_of_equal_documents_is_a_point():
    intervals = flat(bootstrap_intervals([[1, 0, 1]] * 20, [[1, 1, 0]] * 20))
    assert all(high - low < 1e-12 for low, high in intervals.values())


@pytest.mark.filterwarnings("error")
def test_resamples_without_both_classes_do_not_count():
    documents = [[[1, 0]] * 2 + [[0, 0]] * 10, [[1, 0]] + [[0, 1]] + [[0, 0]] * 10, [[1, 0]] * 12]
    low, high = bootstrap_intervals(*documents)["roc_auc"]
    assert (low, high) == (0.0, 1.0)
    test = paired_test(*documents[:2], documents[1], scores=documents[2], other_scores=documents[2])["roc_auc"]
    assert test == {"difference": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0}
    undefined = bootstrap_intervals([[0, 1]], [[0, 0]], [[1, 2]])["average_precision"]
    assert np.isnan(undefined).all()


def test_each_system_has_its_own_scores():
    references = [[1, 0, 0], [0, 1, 0]]
    good, bad = [[3, 2, 1], [1, 3, 2]], [[1, 2, 3], [3, 1, 2]]
    result = paired_test(references, references, references, scores=good, other_scores=bad, num_resamples=10)
    assert result["roc_auc"]["difference"] == 1.0


def test_a_system_does_not_differ_from_itself():
    predictions, references, scores = random_documents(2)
    result = paired_test(predictions, predictions, references, scores=scores, other_scores=scores, num_resamples=200)
    for name, test in result.items():
        for one in [test] if name not in KINDS else test.values():
            assert one == {"difference": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0}


def test_p_value_is_the_share_of_all_swaps():
    rng = np.random.default_rng(0)
    references = [(rng.random(9) < 0.5).astype(int).tolist() for _ in range(8)]
    one, other = (
        [[int(unit) if rng.random() < right else 1 - int(unit) for unit in marked] for marked in references]
        for right in (0.8, 0.6)
    )
    observed = rationale_f1(one, references)["f1"] - rationale_f1(other, references)["f1"]
    differences = []
    for swaps in itertools.product([False, True], repeat=len(references)):
        sides = [
            [b if swap else a for a, b, swap in zip(first, second, swaps, strict=True)]
            for first, second in ((one, other), (other, one))
        ]
        differences.append(rationale_f1(sides[0], references)["f1"] - rationale_f1(sides[1], references)["f1"])
    exact = np.mean(np.abs(differences) >= abs(observed) - 1e-12)
    assert 0.01 < exact < 0.5
    result = paired_test(one, other, references, num_resamples=20_000)["token_micro"]["f1"]
    assert result["difference"] == pytest.approx(observed)
    assert result["p_value"] == pytest.approx(exact, abs=0.01)
    assert result["low"] < observed < result["high"]


def test_a_clear_difference_is_significant_and_changes_sign_with_the_sides():
    predictions = [[1, 0, 0, 1]] * 30
    worse = [[0, 1, 0, 1]] * 30
    result, swapped = (
        paired_test(*sides, predictions, num_resamples=999)["token_micro"]["f1"]
        for sides in ((predictions, worse), (worse, predictions))
    )
    assert result == {"difference": 0.5, "low": 0.5, "high": 0.5, "p_value": 0.001}
    assert swapped == {"difference": -0.5, "low": -0.5, "high": -0.5, "p_value": 0.001}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_resamples": 0}, "num_resamples is at least 1; got 0"),
        ({"confidence": 95}, "confidence is between 0 and 1, such as 0.95; got 95"),
    ],
)
def test_resampling_errors(options, message):
    for test in (bootstrap_intervals, lambda p, r, **o: paired_test(p, p, r, **o)):
        with pytest.raises(ValueError, match=message):
            test([[1]], [[1]], **options)


def test_scores_of_one_system_alone_are_refused():
    with pytest.raises(ValueError, match="scores of both systems, or of neither"):
        paired_test([[1]], [[1]], [[1]], scores=[[1]])
