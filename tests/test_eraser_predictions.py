import json
import os

import numpy as np
import pytest

from hf_rationale.data import MalformedDataError, load_rationale_dataset
from hf_rationale.data.eraser_predictions import (
    EraserInstance,
    EraserPrediction,
    ThresholdedScores,
    eraser_instances,
    numbered_instances,
    read_eraser_predictions,
    write_eraser_predictions,
)
from hf_rationale.metrics import rationale_scores


ONE = EraserInstance("one", (("a", 4),))
TWO = EraserInstance("two", (("b", 3), ("a", 4)))
INSTANCES = [ONE, TWO]
PROBABILITIES = {"NEG": 0.1, "POS": 0.9}


def classified(**fields):
    """All that a prediction can say of classes."""
    without, alone = {"NEG": 0.7, "POS": 0.3}, {"NEG": 1 / 3, "POS": 2 / 3}
    return {
        "classification": "POS",
        "classification_scores": PROBABILITIES,
        "comprehensiveness_classification_scores": without,
        "sufficiency_classification_scores": alone,
        "thresholded_scores": (ThresholdedScores(0.5, alone, without), ThresholdedScores(0.05, without, alone)),
        **fields,
    }


def random_predictions(seed=0, count=12, **fields):
    rng = np.random.default_rng(seed)
    predictions = []
    for number in range(count):
        documents = tuple((f"doc{position}", int(rng.integers(1, 9))) for position in range(rng.integers(1, 4)))
        instance = EraserInstance(f"annotation {number}", documents)
        mask = rng.random(instance.num_tokens) < rng.choice([0, 0.3, 0.7, 1])
        scores = rng.normal(size=instance.num_tokens) * 10.0 ** rng.integers(-300, 300)
        predictions.append(EraserPrediction(instance, mask, scores, **fields))
    return predictions


def check_same(read, written):
    assert len(read) == len(written)
    for one, other in zip(read, written, strict=True):
        for name in ("mask", "scores"):
            array, expected = getattr(one, name), getattr(other, name)
            assert (array is None) == (expected is None)
            if array is not None:
                assert array.dtype == expected.dtype
                np.testing.assert_array_equal(array, expected, strict=True)
        for name in ("instance", *classified()):
            assert getattr(one, name) == getattr(other, name)


def span(start, end):
    return {"start_token": start, "end_token": end}


def rationale(docid, *spans, **fields):
    return {"docid": docid, "hard_rationale_predictions": [span(*ends) for ends in spans], **fields}


def record(annotation_id, *rationales, **fields):
    return json.dumps({"annotation_id": annotation_id, "rationales": list(rationales), **fields})


def read_text(tmp_path, *lines, instances=INSTANCES):
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_eraser_predictions(path, instances)


@pytest.mark.parametrize("with_classes", [False, True])
@pytest.mark.parametrize("left_out", [(), ("mask",), ("scores",), ("mask", "scores")])
def test_round_trip_is_exact(tmp_path, left_out, with_classes):
    fields = classified() if with_classes else {}
    predictions = [
        EraserPrediction(
            prediction.instance,
            **{name: getattr(prediction, name) for name in ("mask", "scores") if name not in left_out},
            **fields,
        )
        for prediction in random_predictions()
    ]
    write_eraser_predictions(tmp_path / "file.jsonl", predictions)
    read = read_eraser_predictions(tmp_path / "file.jsonl", [prediction.instance for prediction in predictions])
    check_same(read, predictions)


def test_metrics_of_a_file_are_those_of_the_masks(tmp_path):
    predictions = random_predictions()
    rng = np.random.default_rng(1)
    gold = [(rng.random(len(prediction.mask)) < 0.3).astype(int) for prediction in predictions]
    write_eraser_predictions(tmp_path / "file.jsonl", iter(predictions))
    read = read_eraser_predictions(tmp_path / "file.jsonl", (prediction.instance for prediction in predictions))
    of_file, of_masks = (
        rationale_scores([p.mask for p in side], gold, [p.scores for p in side]) for side in (read, predictions)
    )
    assert of_file == of_masks
    assert of_file["token_micro"]["f1"] > 0


def test_writes_the_keys_of_the_format(tmp_path):
    predictions = [
        EraserPrediction(ONE, [0, 0, 0, 0], [0, 1, 2, 3], **classified()),
        EraserPrediction(TWO, [False] * 4 + [True, True, False], np.arange(7, dtype=np.float32) / 10, **classified()),
    ]
    write_eraser_predictions(tmp_path / "file.jsonl", predictions)
    text = (tmp_path / "file.jsonl").read_text(encoding="utf-8")
    without, alone = {"NEG": 0.7, "POS": 0.3}, {"NEG": 1 / 3, "POS": 2 / 3}
    scores = [float(np.float32(token) / np.float32(10)) for token in range(7)]
    # A selection comes first, in the file and in its line: there the scorer looks whether there is any.
    assert text.endswith("\n")
    assert [json.loads(line) for line in text.splitlines()] == [
        {
            "annotation_id": annotation_id,
            "rationales": rationales,
            "classification": "POS",
            "classification_scores": PROBABILITIES,
            "comprehensiveness_classification_scores": without,
            "sufficiency_classification_scores": alone,
            "thresholded_scores": [
                {
                    "threshold": threshold,
                    "comprehensiveness_classification_scores": one,
                    "sufficiency_classification_scores": other,
                }
                for threshold, one, other in ((0.5, alone, without), (0.05, without, alone))
            ],
        }
        for annotation_id, rationales in (
            (
                "two",
                [
                    rationale("a", (1, 3), soft_rationale_predictions=scores[3:]),
                    rationale("b", soft_rationale_predictions=scores[:3]),
                ],
            ),
            ("one", [rationale("a", soft_rationale_predictions=[0, 1, 2, 3])]),
        )
    ]


def test_what_is_not_given_has_no_key(tmp_path):
    write_eraser_predictions(tmp_path / "file.jsonl", [EraserPrediction(ONE, [1, 0, 1, 1])])
    line = (tmp_path / "file.jsonl").read_text(encoding="utf-8")
    assert json.loads(line) == {"annotation_id": "one", "rationales": [rationale("a", (0, 1), (2, 4))]}


def test_reads_a_file_of_the_field(tmp_path):
    read = read_text(
        tmp_path,
        # spans in any order, some that touch, an empty one; documents in any order; keys of others
        record("two", rationale("a", (3, 4), (0, 1), (1, 2), (1, 1)), rationale("b", (1, 3)), tokens_to_flip=3),
        record("one", {**rationale("a"), "soft_sentence_predictions": [0.5]}, classification=None),
        record("none"),
        record("some", rationale("b", (0, 1))),
        instances=[ONE, TWO, *(EraserInstance(name, TWO.documents) for name in ("some", "none"))],
    )
    assert [prediction.instance.annotation_id for prediction in read] == ["one", "two", "some", "none"]
    assert [prediction.mask.tolist() for prediction in read] == [
        [0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    assert {prediction.scores is None and prediction.classification is None for prediction in read} == {True}


def test_documents_without_hard_predictions_have_nothing_selected_if_others_have_them(tmp_path):
    soft = {"docid": "a", "soft_rationale_predictions": [0.5, 1, -2, 0]}
    hard = rationale("a", (0, 1), soft_rationale_predictions=[1, 0, 0, 0])
    instances = [ONE, EraserInstance("other", ONE.documents)]
    alone, other = read_text(tmp_path, record("one", soft), record("other", soft), instances=instances)
    assert alone.mask is None and other.mask is None
    assert alone.scores.tolist() == [0.5, 1, -2, 0]
    first, other = read_text(tmp_path, record("one", soft), record("other", hard), instances=instances)
    assert first.mask.tolist() == [0, 0, 0, 0] and other.mask.tolist() == [1, 0, 0, 0]


SOFT = {"soft_rationale_predictions": [0, 0.5, 1, 0]}
SCORED = {"classification": "POS", "classification_scores": PROBABILITIES}
THRESHOLDED = {
    **SCORED,
    "comprehensiveness_classification_scores": PROBABILITIES,
    "sufficiency_classification_scores": PROBABILITIES,
}


def thresholded(*thresholds, **fields):
    entries = [{**THRESHOLDED, "threshold": threshold, **fields} for threshold in thresholds]
    return {**THRESHOLDED, "thresholded_scores": entries}


@pytest.mark.parametrize(
    "line, problem",
    [
        ("{", "bad JSON"),
        ("", "bad JSON"),
        ("[]", "expected the field annotation_id"),
        (record(3), r"expected the field annotation_id \(str\), found 3"),
        (record("three"), "annotation_id of an instance, found 'three'; is the file of another split or corpus"),
        (record("one", rationale("a")), "expected one prediction for one, found a second"),
        (json.dumps({"annotation_id": "two"}), "expected the field rationales"),
        (record("two", "a"), "expected the field docid"),
        (record("two", rationale("c")), r"expected a document of two \(b, a\), found docid 'c'"),
        (record("two", rationale("a"), rationale("a")), "every document once, found docid 'a' twice"),
        (record("two", rationale("b", (0, 4))), r"within the 3 tokens of b, found \[0, 4\)"),
        (record("two", rationale("b", (-1, 2))), r"within the 3 tokens of b, found \[-1, 2\)"),
        (record("two", rationale("b", (2, 1))), r"within the 3 tokens of b, found \[2, 1\)"),
        (record("two", rationale("b", (0.0, 1))), r"start_token \(int\), found 0.0"),
        (record("two", rationale("a", (2, 4), (0, 3))), r"do not overlap in a, found \[0, 3\) on another"),
        (record("two", {"docid": "a", "hard_rationale_predictions": 1}), "expected the field hard_rationale"),
    ],
)
def test_malformed_line_is_named(tmp_path, line, problem):
    with pytest.raises(MalformedDataError, match=rf"predictions\.jsonl, line 2: .*{problem}"):
        read_text(tmp_path, record("one", rationale("a", (0, 1))), line)


@pytest.mark.parametrize(
    "fields, problem",
    [
        ({"soft_rationale_predictions": [0, 1, 0]}, "for the 4 tokens of a, found 3; were its tokens split"),
        ({"soft_rationale_predictions": 1}, "expected the field soft_rationale_predictions"),
        (
            {"soft_rationale_predictions": [0, 1, float("nan"), 0]},
            "a finite score .*, found nan for token 2",
        ),
        (
            {"soft_rationale_predictions": [0, float("inf"), 0, 0]},
            "a finite score .*, found inf for token 1",
        ),
        ({"soft_rationale_predictions": [0, "1", 0, 0]}, "expected scores to be one flat sequence of numbers"),
        ({"soft_rationale_predictions": [0, None, 0, 0]}, "expected scores to be one flat sequence of numbers"),
        ({"soft_rationale_predictions": [0, [1], 0, 0]}, "expected scores to be one flat sequence of numbers"),
    ],
)
def test_malformed_soft_predictions_are_named(tmp_path, fields, problem):
    with pytest.raises(MalformedDataError, match=rf"line 2: .*{problem}"):
        read_text(
            tmp_path,
            record("two", rationale("a", **SOFT), rationale("b", soft_rationale_predictions=[0, 0, 0])),
            record("one", rationale("a", **fields)),
        )


def test_soft_predictions_of_a_document_are_missing(tmp_path):
    with pytest.raises(MalformedDataError, match=r"line 1: .*for every document of two, found none for b"):
        read_text(tmp_path, record("two", rationale("a", **SOFT), rationale("b")))


@pytest.mark.parametrize(
    "fields, problem",
    [
        ({"classification": "POS"}, "classification and classification_scores together"),
        ({"classification_scores": PROBABILITIES}, "classification and classification_scores together"),
        ({**SCORED, "classification": 1}, "expected classification to be the name of a class, found 1"),
        ({**SCORED, "classification": "GOOD"}, r"a scored class \(NEG, POS\), found 'GOOD'"),
        ({**SCORED, "classification_scores": [0.1, 0.9]}, r"finite numbers by class, found \[0.1, 0.9\]"),
        ({**SCORED, "classification_scores": {}}, r"finite numbers by class, found \{\}"),
        ({**SCORED, "classification_scores": {"POS": float("nan")}}, "finite numbers by class, found nan for 'POS'"),
        ({**SCORED, "classification_scores": {"POS": 10**400}}, "finite numbers by class, found 10+ for 'POS'"),
        ({**SCORED, "classification_scores": {"POS": "1"}}, "finite numbers by class, found '1' for 'POS'"),
        (
            {"sufficiency_classification_scores": PROBABILITIES},
            "beside sufficiency_.*, found neither",
        ),
        (
            {**SCORED, "comprehensiveness_classification_scores": {"POS": 1}},
            r"classes of classification_scores \(NEG, POS\), found POS",
        ),
        (
            {**SCORED, "thresholded_scores": []},
            "comprehensiveness_.*, sufficiency_.* beside thresholded",
        ),
        ({**THRESHOLDED, "thresholded_scores": 0.1}, "expected the field thresholded_scores"),
        ({**THRESHOLDED, "thresholded_scores": [0.1]}, "list of objects, found 0.1"),
        (thresholded(None), "threshold to be a finite number, found None"),
        (thresholded(0.1, 0.1), r"every threshold once, found \[0.1, 0.1\]"),
        (
            thresholded(0.1, sufficiency_classification_scores=None),
            "sufficiency_classification_scores to be finite numbers by class, found None",
        ),
        (
            thresholded(0.1, sufficiency_classification_scores={"NEG": 1}),
            r"sufficiency_classification_scores at 0.1 for .* \(NEG, POS\), found NEG",
        ),
    ],
)
def test_malformed_classification_is_named(tmp_path, fields, problem):
    with pytest.raises(MalformedDataError, match=rf"line 1: .*{problem}"):
        read_text(tmp_path, record("one", rationale("a"), **fields), instances=[ONE])


@pytest.mark.parametrize(
    "first, second, problem",
    [
        (SCORED, {}, "expected classification for all .*, found the first with it and here without it"),
        ({}, SCORED, "expected classification for all .*, found the first without it and here with it"),
        (
            {**SCORED, "sufficiency_classification_scores": PROBABILITIES},
            SCORED,
            "expected sufficiency_classification_scores for all",
        ),
        (thresholded(0.1), THRESHOLDED, "expected thresholded_scores for all"),
        (thresholded(0.1, 0.2), thresholded(0.1, 0.3), r"expected the thresholds of .*, \[0.1, 0.2\], found"),
    ],
)
def test_lines_have_the_same_fields(tmp_path, first, second, problem):
    with pytest.raises(MalformedDataError, match=rf"line 2: {problem}"):
        read_text(tmp_path, record("one", rationale("a"), **first), record("two", rationale("a"), **second))


def test_soft_predictions_are_for_all_instances_or_none(tmp_path):
    with pytest.raises(MalformedDataError, match="line 2: expected soft_rationale_predictions for all instances"):
        read_text(tmp_path, record("one", rationale("a", **SOFT)), record("two", rationale("a")))


def test_every_instance_is_predicted(tmp_path):
    with pytest.raises(MalformedDataError, match=r"predictions\.jsonl: .* found none for two; was the file cut short"):
        read_text(tmp_path, record("one"))
    (tmp_path / "predictions.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(MalformedDataError, match=r"predictions\.jsonl: .* found none for one and 1 more"):
        read_eraser_predictions(tmp_path / "predictions.jsonl", INSTANCES)


def test_instances_are_of_one_split(tmp_path):
    with pytest.raises(ValueError, match="an annotation_id twice"):
        read_text(tmp_path, record("one"), instances=[ONE, ONE])
    with pytest.raises(ValueError, match="one: expected every document once"):
        EraserInstance("one", (("a", 1), ("a", 2)))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_eraser_predictions(tmp_path / "nowhere.jsonl", INSTANCES)


@pytest.mark.parametrize(
    "mask, scores, problem",
    [
        ([0, 1], None, "expected mask for the 4 tokens of one, found 2; tokens that the model does not read need one"),
        ([0, 1, 2, 0], None, "0 or 1 for every token of the mask, found 2.0 for token 2"),
        ([0, float("nan"), 1, 0], None, "0 or 1 for every token of the mask, found nan for token 1"),
        ([[0, 1, 1, 0]], None, "expected mask to be one flat sequence"),
        ([[0], [1, 1], 0], None, "expected mask to be one flat sequence"),
        ("0110", None, "expected mask to be one flat sequence"),
        (None, [0.5], "expected scores for the 4 tokens of one, found 1"),
        (None, [0, 0, 0, float("-inf")], "a finite score for every token, found -inf for token 3"),
    ],
)
def test_invalid_prediction(mask, scores, problem):
    with pytest.raises(ValueError, match=problem):
        EraserPrediction(ONE, mask, scores)


@pytest.mark.parametrize(
    "predictions, problem",
    [
        ([EraserPrediction(ONE, [0, 0, 0, 1])] * 2, "prediction 1: expected one prediction for one"),
        ([EraserPrediction(ONE, [0, 0, 0, 1]), EraserPrediction(TWO)], "prediction 1: expected hard_rationale_pred"),
        ([EraserPrediction(ONE), EraserPrediction(TWO, scores=[0] * 7)], "prediction 1: expected soft_rationale_pred"),
    ],
)
def test_predictions_that_cannot_be_in_one_file(tmp_path, predictions, problem):
    with pytest.raises(ValueError, match=problem):
        write_eraser_predictions(tmp_path / "file.jsonl", predictions)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file.jsonl"
    write_eraser_predictions(path, [EraserPrediction(ONE, [0, 0, 0, 1])])
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space left"):
            write_eraser_predictions(path, [EraserPrediction(ONE, [1, 1, 0, 0])])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_eraser_predictions(path, [EraserPrediction(ONE, [1, 1, 0, 0])])
    assert read_eraser_predictions(path, [ONE])[0].mask.tolist() == [1, 1, 0, 0]


def write_corpus(folder, **splits):
    (folder / "docs").mkdir(parents=True)
    for docid, text in {"a": "A film .\nNot good .\n", "b": "It was great ."}.items():
        (folder / "docs" / docid).write_text(text, encoding="utf-8")
    for name, instances in splits.items():
        lines = (json.dumps({"classification": "True", "query": "Is it good ?", **fields}) for fields in instances)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def evidence(docid):
    return [{"docid": docid, "start_token": 0, "end_token": 1}]


def test_instances_go_with_the_rows(tmp_path):
    rows = [
        {"annotation_id": "listed", "docids": ["b", "a"], "evidences": [evidence("a")]},
        {"annotation_id": "named", "evidences": [evidence("a"), evidence("b"), evidence("a")]},
        {"annotation_id": "b", "evidences": []},
    ]
    write_corpus(tmp_path / "multirc", val=rows, test=rows[:1])
    instances = eraser_instances("multirc", tmp_path, "validation")
    assert instances == [
        EraserInstance("listed", (("b", 4), ("a", 6))),
        EraserInstance("named", (("a", 6), ("b", 4))),
        EraserInstance("b", (("b", 4),)),
    ]
    dataset = load_rationale_dataset("multirc", tmp_path)
    assert [instance.num_tokens for instance in instances] == list(map(len, dataset["validation"]["tokens"]))
    assert eraser_instances("multirc", tmp_path, "test") == instances[:1]


def test_instances_that_are_not_there(tmp_path):
    write_corpus(tmp_path / "multirc", val=[{"docids": ["a"], "evidences": []}])
    with pytest.raises(MalformedDataError, match=r"val\.jsonl, line 1: expected the field annotation_id"):
        eraser_instances("multirc", tmp_path, "validation")
    with pytest.raises(FileNotFoundError, match=r"has no split test: expected test\.jsonl"):
        eraser_instances("multirc", tmp_path, "test")
    with pytest.raises(ValueError, match="no split 'val'; choose one of train, validation, test"):
        eraser_instances("multirc", tmp_path, "val")


def test_texts_without_ids_are_numbered():
    instances = numbered_instances([["It", "was"], [], ["great"]])
    assert instances == [EraserInstance(str(row), ((str(row), n),)) for row, n in enumerate((2, 0, 1))]


@pytest.mark.slow
def test_real_movies(data_dir, tmp_path):
    dataset = load_rationale_dataset("movies", data_dir)
    for split, rows in dataset.items():
        instances = eraser_instances("movies", data_dir, split)
        assert [instance.num_tokens for instance in instances] == list(map(len, rows["tokens"]))
        assert len({instance.annotation_id for instance in instances}) == len(instances)
        assert all(instance.documents[0][0] == instance.annotation_id for instance in instances)
    gold = [mask or [0] * len(tokens) for mask, tokens in zip(rows["rationale"], rows["tokens"], strict=True)]
    predictions = [EraserPrediction(instance, mask) for instance, mask in zip(instances, gold, strict=True)]
    write_eraser_predictions(tmp_path / "gold.jsonl", predictions)
    read = read_eraser_predictions(tmp_path / "gold.jsonl", instances)
    assert [prediction.mask.tolist() for prediction in read] == gold
