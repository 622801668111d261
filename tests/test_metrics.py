import re
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from hf_rationale.metrics import rationale_f1


ROOT = Path(__file__).parent.parent
KEYS = ["precision", "recall", "f1", "sparsity", "gold_sparsity", "oracle_f1", "f1_over_oracle"]
SEEDS = range(10)


@pytest.fixture
def metric(monkeypatch, tmp_path):
    # By the path that the README gives, which is relative to the repository's root.
    monkeypatch.chdir(ROOT)
    return evaluate.load("hf_rationale/metrics/rationale_f1", cache_dir=str(tmp_path))


def random_masks(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two sides of documents of 0 to 20 units, each side with a density of its own."""
    rng = np.random.default_rng(seed)
    lengths = [1, *rng.integers(0, 21, size=12)]
    densities = rng.random(2)
    return tuple([(rng.random(length) < density).astype(int) for length in lengths] for density in densities)


def test_hand_computed():
    # 3 selected, 4 marked, 2 both, 8 units
    scores = rationale_f1([[0, 1, 1], [1, 0, 0, 0, 0]], [[0, 1, 0], [1, 1, 1, 0, 0]])
    assert list(scores) == KEYS
    assert all(type(score) is float for score in scores.values())
    assert scores == pytest.approx(
        {
            "precision": 2 / 3,
            "recall": 2 / 4,
            "f1": 4 / 7,
            "sparsity": 3 / 8,
            "gold_sparsity": 4 / 8,
            "oracle_f1": 6 / 7,
            "f1_over_oracle": 4 / 6,
        }
    )


def test_oracle_is_the_formula_in_shares():
    scores = rationale_f1(*random_masks(0))
    selected, gold = scores["sparsity"], scores["gold_sparsity"]
    assert scores["oracle_f1"] == pytest.approx(2 * min(selected, gold) / (selected + gold))
    assert scores["f1_over_oracle"] == pytest.approx(scores["f1"] / scores["oracle_f1"])


@pytest.mark.parametrize("seed", SEEDS)
def test_agrees_with_scikit_learn(seed):
    predictions, references = random_masks(seed)
    precision, recall, f1, _ = precision_recall_fscore_support(
        np.concatenate(references), np.concatenate(predictions), average="binary", zero_division=0.0
    )
    scores = rationale_f1(predictions, references)
    assert (scores["precision"], scores["recall"], scores["f1"]) == pytest.approx((precision, recall, f1))


@pytest.mark.parametrize("seed", SEEDS)
def test_f1_never_exceeds_the_oracle(seed):
    scores = rationale_f1(*random_masks(seed))
    assert scores["f1"] <= scores["oracle_f1"]
    assert all(0.0 <= score <= 1.0 for score in scores.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_an_oracle_reaches_the_oracle(seed):
    predictions, references = random_masks(seed)
    gold = np.concatenate(references)
    # As many units as before, the marked ones first.
    best = np.zeros_like(gold)
    best[np.argsort(-gold, kind="stable")[: sum(map(sum, predictions))]] = 1
    scores = rationale_f1([best], [gold])
    assert scores["f1"] == scores["oracle_f1"] == rationale_f1(predictions, references)["oracle_f1"]


@pytest.mark.parametrize("seed", SEEDS)
def test_order_and_borders_of_documents_do_not_matter(seed):
    predictions, references = random_masks(seed)
    scores = rationale_f1(predictions, references)
    order = np.random.default_rng(seed).permutation(len(predictions))
    assert rationale_f1([predictions[i] for i in order], [references[i] for i in order]) == scores
    split = [[half for mask in masks for half in (mask[:5], mask[5:])] for masks in (predictions, references)]
    assert rationale_f1(*split) == scores
    assert rationale_f1([np.concatenate(predictions)], [np.concatenate(references)]) == scores


def test_sides_swap_precision_and_recall():
    predictions, references = random_masks(1)
    scores, swapped = rationale_f1(predictions, references), rationale_f1(references, predictions)
    assert (swapped["precision"], swapped["recall"]) == (scores["recall"], scores["precision"])
    assert [swapped[key] for key in ("f1", "oracle_f1")] == [scores[key] for key in ("f1", "oracle_f1")]


def test_perfect():
    scores = rationale_f1([[0, 1, 1, 0]], [[0, 1, 1, 0]])
    assert scores == dict.fromkeys(KEYS, 1.0) | {"sparsity": 0.5, "gold_sparsity": 0.5}


@pytest.mark.parametrize(
    ("predictions", "references", "nonzero"),
    [
        ([[0, 0]], [[0, 1]], {"gold_sparsity": 0.5}),
        ([[0, 1]], [[0, 0]], {"sparsity": 0.5}),
        ([[0, 0]], [[0, 0]], {}),
        ([[0, 1]], [[1, 0]], {"sparsity": 0.5, "gold_sparsity": 0.5, "oracle_f1": 1.0}),
    ],
    ids=["nothing selected", "nothing marked", "neither", "no overlap"],
)
def test_zero_denominators_and_zero_hits(predictions, references, nonzero):
    assert rationale_f1(predictions, references) == dict.fromkeys(KEYS, 0.0) | nonzero


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        np.array,
        lambda mask: np.array(mask, dtype=bool),
        lambda mask: np.array(mask, dtype=np.float32),
        lambda mask: [bool(unit) for unit in mask],
        lambda mask: [float(unit) for unit in mask],
    ],
    ids=["ints", "tuple", "array", "bool array", "float array", "bools", "floats"],
)
def test_forms_of_a_mask(convert):
    predictions, references = [[0, 1, 1], [], [1]], [[0, 1, 0], [], [1]]
    expected = rationale_f1(predictions, references)
    assert rationale_f1([convert(mask) for mask in predictions], references) == expected
    assert rationale_f1(predictions, [convert(mask) for mask in references]) == expected


def test_accepts_a_matrix():
    assert rationale_f1(np.eye(3), np.eye(3, dtype=int))["sparsity"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("predictions", "references", "error", "message"),
    [
        ([[0], [1]], [[0]], ValueError, "must have the same number of documents, got 2 and 1"),
        ([[0], [1, 0, 1]], [[0], [1, 0]], ValueError, "document 1 has 3 units in `predictions` and 2 in `references`"),
        (
            [[0, 1], [], [2, 1]],
            [[0, 1], [], [0, 1]],
            ValueError,
            "`predictions`: every unit must be 0 or 1, but unit 0 of document 2 is 2",
        ),
        (
            [[0, 1]],
            [[-100, 1]],
            ValueError,
            "`references`: every unit must be 0 or 1, but unit 0 of document 0 is -100",
        ),
        ([[0.7]], [[1]], ValueError, "unit 0 of document 0 is 0.7"),
        (
            [[1]],
            [[float("nan")]],
            ValueError,
            "`references`: every unit must be 0 or 1, but unit 0 of document 0 is nan",
        ),
        (
            [0, 1],
            [0, 1],
            ValueError,
            "`predictions` must be a list of documents, each a sequence of 0/1, but element 0 is 0",
        ),
        (
            [[0, 1]],
            "01",
            ValueError,
            "`references` must be a list of documents, each a sequence of 0/1, but element 0 is '0'",
        ),
        (1, [[1]], TypeError, "`predictions` must be a list of documents, each a sequence of 0/1, got int"),
        ([[1]], None, TypeError, "`references` must be a list of documents, each a sequence of 0/1, got NoneType"),
        (
            [[[0, 1]]],
            [[0, 1]],
            ValueError,
            "`predictions`: document 0 must be one flat sequence of 0/1, got an array of shape (1, 2)",
        ),
        (
            [[0], [[0], [0, 1]]],
            [[0], [0, 1]],
            ValueError,
            "`predictions`: document 1 must be one flat sequence of 0/1, got a ragged one",
        ),
        ([["0", "1"]], [[0, 1]], ValueError, "`predictions`: document 0 must hold numbers or bools, got dtype <U1"),
        ([[0, None]], [[0, 1]], ValueError, "`predictions`: document 0 must hold numbers or bools, got dtype object"),
        ([], [], ValueError, "are empty: there is no unit to score"),
        ([[], []], [[], []], ValueError, "are empty: there is no unit to score"),
    ],
)
def test_errors(predictions, references, error, message):
    with pytest.raises(error, match=re.escape(message)):
        rationale_f1(predictions, references)


def test_evaluate_gives_the_same_numbers(metric):
    assert metric.compute(predictions=[[0, 1, 1]], references=[[0, 1, 0]]) == rationale_f1([[0, 1, 1]], [[0, 1, 0]])
    predictions, references = random_masks(2)
    assert metric.compute(predictions=predictions, references=references) == rationale_f1(predictions, references)


def test_evaluate_in_batches(metric):
    predictions, references = random_masks(3)
    for start in range(0, len(predictions), 4):
        metric.add_batch(
            predictions=predictions[start : start + 4],
            references=references[start : start + 4],
        )
    assert metric.compute() == rationale_f1(predictions, references)


@pytest.mark.parametrize(
    ("bad", "message"), [(0.7, "unit 1 of document 0 is 0.7"), (-100, "is -100"), (float("nan"), "is nan")]
)
def test_evaluate_refuses_what_the_function_refuses(metric, bad, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=[[0, bad]], references=[[0, 1]])


def test_loading_the_module_leaves_the_function(metric):
    """The folder `rationale_f1/` is loaded by its path, so the function of that name stays where it is."""
    assert sys.modules["hf_rationale.metrics"].rationale_f1 is rationale_f1
    assert callable(rationale_f1)
