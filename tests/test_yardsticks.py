"""The simple selectors, on texts for which their choice is known, and on a real corpus."""

import json

import numpy as np
import pytest
from datasets import Dataset
from training_common import toy_reviews

from hf_rationale.cli import main
from hf_rationale.data import load_rationale_dataset
from hf_rationale.metrics import rationale_f1
from hf_rationale.yardsticks import best_yardstick, select, summed, weak_marks, yardsticks, yardsticks_table


TEXT = ["a", "b", "c", "d", ".", "e", "f", "g", "h", "."]


def texts(**columns) -> Dataset:
    return Dataset.from_dict({"tokens": [TEXT], "rationale": [[0] * 5 + [1] * 5], **columns})


def test_positions():
    results = yardsticks(texts(), 0.5)
    for level in ("word", "sentence"):
        assert results[f"last_{level}"]["f1"] == results[f"last_{level}"]["iou_f1"] == 1
        assert results[f"first_{level}"]["f1"] == 0
        assert results[f"random_{level}"]["sparsity"] == 0.5
    assert best_yardstick(results).startswith("last_")


def test_overlap_and_keywords():
    results = yardsticks(texts(query=[["G", "x"]]), 0.5, keywords=["H"])
    for name in ("overlap_sentence", "keywords_sentence"):
        assert results[name]["f1"] == 1
    assert yardsticks(texts(), 0.1, keywords=["h"])["keywords_word"]["precision"] == 1


def test_overlap_ignores_punctuation_and_words_that_are_everywhere():
    """All three sentences have "film", so that it does not outweigh "won", which only the second one has."""
    words = ["A", "film", "film", ".", "Film", "it", "Won", ",", "twice", ".", "The", "film", ",", "a", "film", "."]
    numbers = [0] * 4 + [1] * 6 + [2] * 6
    dataset = Dataset.from_dict({"tokens": [words], "sentence_ids": [numbers], "query": [["film", "won."]]})
    assert weak_marks(dataset, "overlap_sentence", 0.3)["rationale"] == [[int(number == 1) for number in numbers]]


def letters(words: list[str]) -> np.ndarray:
    """Vectors of texts: how often each letter occurs."""
    return np.array([[text.count(letter) for letter in "abcdefgh"] for text in words], dtype=float)


def test_similarity():
    results = yardsticks(texts(), 0.5, keywords=["g", "h"], encode=letters)
    assert results["similarity_sentence"]["f1"] == 1
    assert "similarity_word" not in results and "similarity_sentence" not in yardsticks(texts(), 0.5, encode=letters)
    assert weak_marks(texts(), "similarity_clause", 0.5, keywords=["a"], encode=letters)["rationale"] == [
        [1] * 5 + [0] * 5
    ]


def test_hybrid_is_the_sum_of_overlap_and_similarity_to_the_query():
    """Each sentence shares one word with the query, and the second one has more of its letters."""
    dataset = texts(query=[["a", "g", "hhh"]])
    results = yardsticks(dataset, 0.5, encode=letters)
    assert results["similarity_sentence"]["f1"] == results["hybrid_sentence"]["f1"] == 1
    assert "hybrid_word" not in results
    with pytest.raises(ValueError, match="There is no yardstick"):
        weak_marks(dataset, "hybrid_sentence", 0.5)


def test_weak_marks_are_what_the_yardstick_selects():
    dataset = texts(query=[["G", "x"]], label=[1])
    assert weak_marks(dataset, "overlap_sentence", 0.5)["rationale"] == [[0] * 5 + [1] * 5]
    assert weak_marks(dataset, "first_word", 0.2)["rationale"] == [[1, 1] + [0] * 8]
    assert weak_marks(dataset, "keywords_word", 0.1, keywords=["c"])["rationale"] == [[0, 0, 1] + [0] * 7]
    train = toy_reviews(200)
    marked = weak_marks(train, "linear_word", 0.1)
    assert marked.remove_columns("rationale")[:] == train.remove_columns("rationale")[:]
    assert yardsticks(train, 0.1, train_dataset=train)["linear_word"]["f1"] == pytest.approx(
        rationale_f1(marked["rationale"], train["rationale"])["f1"]
    )
    for name in ("overlap_sentence", "similarity_sentence", "first_token", "first"):
        with pytest.raises(ValueError, match="There is no yardstick"):
            weak_marks(texts(), name, 0.5)


def test_a_number_of_units_in_place_of_a_share():
    """The rationale of both texts is one sentence, which is half of the short text, and a quarter of the long one."""
    tokens = [TEXT, TEXT * 2]
    query = [["g"], ["c"]]
    rationale = [[0] * 5 + [1] * 5, [1] * 5 + [0] * 15]
    dataset = Dataset.from_dict({"tokens": tokens, "query": query, "rationale": rationale})
    results = yardsticks(dataset, top_k=1, levels=("sentence",))
    assert results["overlap_sentence_1"]["f1"] == 1
    assert yardsticks(dataset, 0.5)["overlap_sentence"]["f1"] < 1
    assert weak_marks(dataset, "overlap_sentence", top_k=1)["rationale"] == rationale
    for budget in ({}, {"sparsity": 0.5, "top_k": 1}, {"top_k": 0}):
        with pytest.raises(ValueError, match="top_k"):
            yardsticks(dataset, **budget)


def test_the_linear_model_selects_what_decides():
    train, test = toy_reviews(200), toy_reviews(50, seed=1)
    results = yardsticks(test, 0.1, train_dataset=train, validation_dataset=toy_reviews(40, seed=2))
    assert results["linear_word"]["accuracy"] == 1
    assert results["linear_word"]["f1"] > 0.7
    assert results["random_word"]["f1"] < 0.3
    assert best_yardstick(results) == "linear_word"
    assert yardsticks_table(results).splitlines()[2].startswith("| linear_word |")


@pytest.mark.parametrize("sparsity", [0.05, 0.2, 0.5, 0.9])
def test_select_takes_whole_units_up_to_the_share(sparsity):
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = ["w"] * int(rng.integers(1, 40))
        units = np.sort(rng.integers(0, 8, len(words)))
        mask = select(words, rng.random(len(words)), units, summed, sparsity)
        for unit in set(units):
            assert len(set(mask[units == unit])) == 1
        largest = max(np.bincount(units))
        assert mask.sum() >= 1
        assert abs(mask.sum() - sparsity * len(words)) <= largest


def test_errors_name_what_is_missing():
    with pytest.raises(ValueError, match="Nobody marked"):
        yardsticks(toy_reviews(4, marked=False), 0.2)
    with pytest.raises(ValueError, match=r"need the columns \['rationale'\]"):
        yardsticks(Dataset.from_dict({"tokens": [TEXT]}), 0.2)


def test_the_command(tmp_path, capsys):
    main(["yardsticks", "--dataset", "aspect_reviews", "--sparsity", "0.15", "--output_dir", str(tmp_path)])
    results = json.loads((tmp_path / "yardsticks.json").read_text())
    assert {"random_word", "first_clause", "last_sentence", "linear_word"} <= set(results)
    assert set(results["random_word"]) == {"f1", "precision", "recall", "sparsity", "gold_sparsity", "iou_f1"}
    assert f"| {best_yardstick(results)} |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["yardsticks", "--dataset", "aspect_reviews", "--sparsity", "1.5", "--output_dir", str(tmp_path)])


@pytest.mark.slow
def test_known_figures_of_movies(data_dir):
    """N2R's published F1 on movies is .374; the last fifth of every review reaches it."""
    movies = load_rationale_dataset("movies", data_dir)
    results = yardsticks(movies["test"], 0.2, train_dataset=movies["train"], validation_dataset=movies["validation"])
    expected = {"last_word": 0.378, "linear_word": 0.267, "linear_clause": 0.313, "linear_sentence": 0.319}
    for name, value in expected.items():
        assert results[name]["f1"] == pytest.approx(value, abs=0.01)
