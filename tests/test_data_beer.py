import gzip
import json
import logging

import pytest

from hf_rationale.data import MalformedDataError, load_rationale_dataset


TRAIN = [
    "0.80 0.90 0.40 0.90 0.75\tnice head , smells of citrus .",
    "0.40 0.40 0.80 0.50 0.60\tdull and flat .",
    "0.80 0.50 0.80 0.80 0.80\taroma is neither good nor bad .",
]
ANNOTATED = {
    "x": ["clear", "gold", ",", "smells", "of", "hops", "."],
    "y": [0.8, 0.9, 0.2, 0.5, 0.6],
    "0": [[0, 2]],
    "1": [[3, 4], [5, 6]],
    "2": [],
    "3": [],
    "4": [[0, 7]],
}


@pytest.fixture
def beer(tmp_path):
    """A folder in the field's format, one file compressed and one not."""
    folder = tmp_path / "beer"
    folder.mkdir()
    with gzip.open(folder / "reviews.aspect1.train.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(TRAIN) + "\n")
    (folder / "reviews.aspect1.heldout.txt").write_text("\n".join(TRAIN), encoding="utf-8")
    (folder / "annotations.json").write_text(json.dumps(ANNOTATED) + "\n", encoding="utf-8")
    return folder


def test_reads_scores_spans_and_drops_the_unclear(beer):
    dataset = load_rationale_dataset("beer", beer, aspect="aroma")
    assert list(dataset) == ["train", "validation", "test"]
    assert dataset["train"]["label"][:] == [1, 0]
    assert dataset["train"]["rationale"][:] == [None, None]
    assert dataset["train"][1]["tokens"] == ["dull", "and", "flat", "."]
    assert dataset["test"][:] == {"tokens": [ANNOTATED["x"]], "label": [1], "rationale": [[0, 0, 0, 1, 0, 1, 0]]}


def test_parent_folder_and_number_of_the_aspect(beer):
    by_name, by_number = (load_rationale_dataset("beer", beer.parent, aspect=aspect) for aspect in ("Aroma", 1))
    assert by_name["train"][:] == by_number["train"][:]


def test_variant_260k_takes_the_score_of_the_aspect(beer):
    for part in ("train", "heldout"):
        (beer / f"reviews.260k.{part}.txt").write_text("\n".join(TRAIN), encoding="utf-8")
    dataset = load_rationale_dataset("beer", beer, aspect="overall", variant="260k")
    assert dataset["train"]["label"][:] == [1, 1, 1]
    assert dataset["test"]["rationale"][:] == [[1] * 7]


def test_counts_of_dropped_reviews_are_logged(beer, caplog):
    unclear, unmarked = {**ANNOTATED, "y": [0.5] * 5}, {**ANNOTATED, "1": []}
    with open(beer / "annotations.json", "a", encoding="utf-8") as file:
        file.write(f"{json.dumps(unclear)}\n{json.dumps(unmarked)}\n{json.dumps(unmarked)}\n")
    with caplog.at_level(logging.INFO, logger="hf_rationale.data"):
        dataset = load_rationale_dataset("beer", beer, aspect="aroma")
    assert len(dataset["test"]) == 1
    assert "kept 1 reviews, dropped 1 with a score between .4 and .6, 2 with nothing marked" in caplog.text


def test_a_split_with_nothing_left_is_an_error(beer):
    (beer / "annotations.json").write_text(json.dumps({**ANNOTATED, "1": []}), encoding="utf-8")
    with pytest.raises(ValueError, match="test split has no usable example"):
        load_rationale_dataset("beer", beer, aspect="aroma")


@pytest.mark.parametrize(
    "line, problem",
    [
        ("0.8 0.8 0.8 0.8\tfour scores", "expected 5 scores, found 4"),
        ("0.8 0.8 0.8 0.8 good\tword as score", "expected scores between 0 and 1, found 'good'"),
        ("0.8 0.8 nan 0.8 0.8\tnan", "expected scores between 0 and 1, found 'nan'"),
        ("0.8 0.8 8.0 0.8 0.8\tout of range", "expected scores between 0 and 1, found '8.0'"),
        ("0.8 0.8 0.8 0.8 0.8 no tab", "found no TAB"),
        ("0.8 0.8 0.8 0.8 0.8\t ", "found blank text"),
        ("", "found no TAB"),
    ],
)
def test_malformed_review_is_named(beer, line, problem):
    path = beer / "reviews.aspect1.heldout.txt"
    path.write_text("\n".join([TRAIN[0], line, TRAIN[1]]), encoding="utf-8")
    with pytest.raises(MalformedDataError, match=rf"reviews\.aspect1\.heldout\.txt, line 2: .*{problem}") as error:
        load_rationale_dataset("beer", beer, aspect="aroma")
    assert error.value.path == path
    assert error.value.line == 2


@pytest.mark.parametrize(
    "line, problem",
    [
        ('{"x": ["a"], ', "bad JSON"),
        ("[1, 2]", "expected a JSON object"),
        (json.dumps({key: value for key, value in ANNOTATED.items() if key != "1"}), r"missing \['1'\]"),
        (json.dumps({**ANNOTATED, "x": []}), "blank text"),
        (json.dumps({**ANNOTATED, "x": ["a", 1]}), "list of strings"),
        (json.dumps({**ANNOTATED, "y": [0.8, 0.8]}), "expected 5 scores, found 2"),
        (json.dumps({**ANNOTATED, "y": [0.8, float("nan"), 0.8, 0.8, 0.8]}), "between 0 and 1, found nan"),
        (json.dumps({**ANNOTATED, "1": [[5, 8]]}), r"within the review's 7 tokens, found \[5, 8\]"),
        (json.dumps({**ANNOTATED, "1": [[3, 2]]}), r"within the review's 7 tokens, found \[3, 2\]"),
        (json.dumps({**ANNOTATED, "1": [[-1, 2]]}), r"within the review's 7 tokens, found \[-1, 2\]"),
        (json.dumps({**ANNOTATED, "1": [3]}), "within the review's 7 tokens, found 3"),
    ],
)
def test_malformed_annotation_is_named(beer, line, problem):
    (beer / "annotations.json").write_text(f"{json.dumps(ANNOTATED)}\n{line}\n", encoding="utf-8")
    with pytest.raises(MalformedDataError, match=rf"annotations\.json, line 2: .*{problem}"):
        load_rationale_dataset("beer", beer, aspect="aroma")


def test_invalid_utf8_is_named(beer):
    (beer / "reviews.aspect1.heldout.txt").write_bytes(TRAIN[0].encode() + b"\n0.8 0.8 0.8 0.8 0.8\tna\xefve\n")
    with pytest.raises(MalformedDataError, match=r"heldout\.txt, line 2: expected UTF-8, found byte 0xef"):
        load_rationale_dataset("beer", beer, aspect="aroma")


@pytest.mark.parametrize("keep", [0, 5, -8])
def test_damaged_gzip_is_named(beer, keep):
    path = beer / "reviews.aspect1.train.txt.gz"
    path.write_bytes(path.read_bytes()[:keep] if keep else b"not gzip at all")
    with pytest.raises(MalformedDataError, match=r"train\.txt\.gz, line \d+: the gzip stream is damaged"):
        load_rationale_dataset("beer", beer, aspect="aroma")


def test_other_line_separators_do_not_end_a_line(beer):
    (beer / "reviews.aspect1.heldout.txt").write_bytes("0.8 0.8 0.8 0.8 0.8\tnice\x85 \x0b head\r\n".encode())
    dataset = load_rationale_dataset("beer", beer, aspect="aroma")
    assert dataset["validation"]["tokens"][:] == [["nice", "head"]]


def test_missing_file_says_where_and_what(beer):
    with pytest.raises(FileNotFoundError, match=r"reviews\.aspect0\.train\.txt\.gz nor .*s0 s1 s2 s3 s4"):
        load_rationale_dataset("beer", beer, aspect="appearance")
    (beer / "annotations.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"annotations\.json.*annotated test reviews"):
        load_rationale_dataset("beer", beer, aspect="aroma")


@pytest.mark.parametrize("aspect", [None, "smell", 5, -1, True])
def test_unknown_aspect_lists_the_choices(beer, aspect):
    with pytest.raises(ValueError, match=r"appearance \(0\), aroma \(1\), palate \(2\), taste \(3\), overall \(4\)"):
        load_rationale_dataset("beer", beer, aspect=aspect)


def test_unknown_variant_lists_the_choices(beer):
    with pytest.raises(ValueError, match=r"decorrelated, 260k; found 'all'"):
        load_rationale_dataset("beer", beer, aspect="aroma", variant="all")
