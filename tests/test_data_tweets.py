import csv

import pytest

from hf_rationale.data import MalformedDataError, load_rationale_dataset


HEADER = ["textID", "text", "selected_text", "sentiment"]
ROWS = [
    ["t1", " so good, really!", "so good", "positive"],
    ["t2", "whatever", "whatever", "neutral"],
    ["t3", "I`d say it sucks", "ucks", "negative"],
    ["t4", "a great day", " a ", "positive"],
    ["t5", "what an\nawful, awful day", "awful, awful", "negative"],
]


@pytest.fixture
def write(tmp_path):
    def write_rows(rows, header=HEADER):
        with open(tmp_path / "train.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return tmp_path

    return write_rows


def by_first_word(dataset):
    """Every row of every split, by its first word."""
    return {row["tokens"][0]: row for rows in dataset.values() for row in rows}


def test_words_and_marks(write):
    dataset = load_rationale_dataset("tweets", write(ROWS))
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 2, "validation": 1, "test": 1}
    rows = by_first_word(dataset)
    assert rows["so"] == {"tokens": ["so", "good", ",", "really", "!"], "label": 1, "rationale": [1, 1, 0, 0, 0]}
    assert rows["I"]["tokens"] == ["I", "`", "d", "say", "it", "sucks"]
    assert rows["I"]["rationale"] == [0, 0, 0, 0, 0, 1]  # a word that is marked in part is gold
    assert rows["what"]["tokens"] == ["what", "an", "awful", ",", "awful", "day"]
    assert rows["what"]["rationale"] == [0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    "text, selected, gold",
    [
        ("a great day", "a", ["a"]),
        ("great, eat", "eat", ["eat"]),  # whole word before part of a word
        ("a lot of allot", "lot o", ["lot", "of"]),  # no occurrence is whole: the first
        ("aa aaa", "aaa", ["aaa"]),
        ("ooo !!!", "!", ["!"]),
    ],
)
def test_the_occurrence_with_whole_words_is_taken(write, text, selected, gold):
    dataset = load_rationale_dataset("tweets", write([["x", text, selected, "positive"], *ROWS]))
    rows = [row for split in dataset.values() for row in split if "".join(row["tokens"]) == text.replace(" ", "")]
    assert rows
    for row in rows:
        assert [word for word, mark in zip(row["tokens"], row["rationale"], strict=True) if mark] == gold


def test_splits_are_disjoint_and_depend_on_the_seed_alone(write):
    rows = [[f"t{index}", f"word{index} good", "good", "positive"] for index in range(200)]
    folder = write(rows)
    first, again, other = (load_rationale_dataset("tweets", folder, seed=seed) for seed in (0, 0, 1))
    assert {split: len(part) for split, part in first.items()} == {"train": 158, "validation": 18, "test": 24}
    assert len(by_first_word(first)) == 200
    assert all(first[split][:] == again[split][:] for split in first)
    assert first["test"][:] != other["test"][:]
    # Fixed for good: published numbers are measured on these.
    assert [tokens[0] for tokens in first["test"]["tokens"][:4]] == ["word18", "word170", "word107", "word98"]


def test_blank_texts_are_counted(write, caplog):
    dataset = load_rationale_dataset(
        "tweets", write([["b1", "", "", "positive"], ["b2", "  ", " ", "negative"], *ROWS])
    )
    assert sum(map(len, dataset.values())) == 4
    assert "skipped 2 tweets with blank text" in caplog.text


@pytest.mark.parametrize(
    "row, problem",
    [
        (["t9", "text", "text"], "expected 4 columns, found 3"),
        (["t9", "text", "text", "angry"], "found 'angry'"),
        (["t9", "good day", "bad", "positive"], "found 'bad' in row t9"),
        (["t9", "good day", " ", "positive"], "found '' in row t9"),
    ],
)
def test_malformed_row_is_named(write, row, problem):
    # The last of ROWS runs over lines 6 and 7.
    with pytest.raises(MalformedDataError, match=rf"train\.csv, line 8: .*{problem}"):
        load_rationale_dataset("tweets", write([*ROWS, row]))


def test_unclosed_quote_is_named(write):
    folder = write(ROWS[:1])
    with open(folder / "train.csv", "a", encoding="utf-8") as file:
        file.write('t9,"never closed,x,positive\nmore\n')
    with pytest.raises(MalformedDataError, match=r"train\.csv, line 3: expected a row of comma-separated values"):
        load_rationale_dataset("tweets", folder)


def test_a_byte_order_mark_is_no_part_of_the_first_column(write):
    path = write(ROWS) / "train.csv"
    expected = load_rationale_dataset("tweets", path.parent)["train"][:]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Excel saves "CSV UTF-8"
    assert load_rationale_dataset("tweets", path.parent)["train"][:] == expected


def test_missing_columns_are_named(write):
    with pytest.raises(MalformedDataError, match=r"train\.csv, line 1: .*missing selected_text"):
        load_rationale_dataset("tweets", write([], header=["textID", "text", "sentiment"]))
    folder = write([])
    (folder / "train.csv").write_text("")
    with pytest.raises(MalformedDataError, match=r"train\.csv, line 1: .*empty file"):
        load_rationale_dataset("tweets", folder)


def test_missing_file_says_where_and_what(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.csv.*textID, text, selected_text, sentiment"):
        load_rationale_dataset("tweets", tmp_path)
