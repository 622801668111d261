import io
import json
import shutil
import tarfile

import pytest

from hf_rationale.data import MalformedDataError, load_rationale_dataset
from hf_rationale.data.eraser import eraser_instances


DOCS = {"a": "A film .\nNot good at all .\n", "b": "It was great ."}


def instance(classification, *spans, **fields):
    """An instance with one evidence group for each `(docid, start, end)`."""
    groups = [[{"docid": docid, "start_token": start, "end_token": end}] for docid, start, end in spans]
    record = {"annotation_id": "a", "classification": classification, "evidences": groups, "query": "Is it good ?"}
    return json.dumps({**record, **fields})


def write_corpus(folder, splits, docs=DOCS):
    (folder / "docs").mkdir(parents=True)
    for docid, text in docs.items():
        (folder / "docs" / docid).write_text(text, encoding="utf-8")
    for name, lines in splits.items():
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def movies(tmp_path):
    """The folder of a small movies corpus."""
    lines = [instance("NEG", ("a", 3, 5), ("a", 4, 6)), instance("POS", ("b", 2, 3), annotation_id="b")]
    return write_corpus(tmp_path / "movies", {"train": lines, "val": lines[:1], "test": lines[1:]})


def pack(folder, prefix=""):
    archive = folder.parent / f"{folder.name}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=f"{prefix}{folder.name}")
    shutil.rmtree(folder)
    return archive


def check_movies(dataset):
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 2, "validation": 1, "test": 1}
    assert dataset["train"][0]["tokens"] == ["A", "film", ".", "Not", "good", "at", "all", "."]
    assert dataset["train"]["rationale"][:] == [[0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 0]]
    assert dataset["train"]["label"][:] == [0, 1]
    assert dataset["train"].column_names == ["tokens", "label", "rationale", "sentence_ids"]
    assert dataset["train"]["sentence_ids"][:] == [[0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0]]


def test_reads_folder_or_parent(movies):
    check_movies(load_rationale_dataset("movies", movies))
    check_movies(load_rationale_dataset("movies", movies.parent))


@pytest.mark.parametrize("packed", [False, True])
def test_reads_a_file_of_documents(movies, packed):
    shutil.rmtree(movies / "docs")
    lines = [json.dumps({"docid": docid, "document": text}) for docid, text in DOCS.items()]
    (movies / "docs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    check_movies(load_rationale_dataset("movies", pack(movies) if packed else movies))


def test_a_bad_file_of_documents_is_named_with_its_line(movies):
    (movies / "docs.jsonl").write_text('{"docid": "a", "document": "x"}\n{"docid": "b"}\n', encoding="utf-8")
    with pytest.raises(MalformedDataError, match=r"docs\.jsonl, line 2: expected the field document"):
        load_rationale_dataset("movies", movies)


@pytest.mark.parametrize("prefix", ["", "./"])
def test_reads_archive_or_its_folder_without_writing(movies, prefix):
    archive = pack(movies, prefix)
    check_movies(load_rationale_dataset("movies", archive))
    check_movies(load_rationale_dataset("movies", archive.parent))
    assert list(archive.parent.iterdir()) == [archive]


def test_pair_corpora_have_a_query_and_only_the_splits_that_exist(tmp_path):
    write_corpus(tmp_path / "fever", {"val": [instance("SUPPORTS", ("b", 0, 4), docids=["b"])]})
    dataset = load_rationale_dataset("fever", tmp_path)
    assert list(dataset) == ["validation"]
    assert dataset["validation"][0]["query"] == ["Is", "it", "good", "?"]
    assert dataset["validation"].features["label"].names == ["REFUTES", "SUPPORTS"]


def test_without_a_training_file_validation_is_divided_by_document(tmp_path):
    documents = {str(number): f"It is film {number} .\n" for number in range(40)}
    lines = [instance("SUPPORTS", (name, 0, 2), docids=[name]) for name in documents for _ in range(2)]
    write_corpus(tmp_path / "fever", {"val": lines, "test": lines[:1]}, documents)
    dataset = load_rationale_dataset("fever", tmp_path)
    assert list(dataset) == ["train", "validation", "test"]
    assert len(dataset["train"]) + len(dataset["validation"]) == 80
    films = [{row["tokens"][3] for row in dataset[split]} for split in ("train", "validation")]
    assert not films[0] & films[1] and len(films[0]) > 2 * len(films[1]) > 0
    for split in dataset:
        assert len(eraser_instances("fever", tmp_path, split)) == len(dataset[split])


def test_several_documents_follow_one_another(tmp_path):
    listed = instance("True", ("a", 0, 1), ("b", 2, 3), docids=["b", "a"])
    by_evidence = instance("False", ("a", 0, 1), ("b", 2, 3), docids=None)
    write_corpus(tmp_path / "multirc", {"val": [listed, by_evidence]})
    validation = load_rationale_dataset("multirc", tmp_path)["validation"]
    assert validation[0]["tokens"][:5] == ["It", "was", "great", ".", "A"]
    assert [index for index, mark in enumerate(validation[0]["rationale"]) if mark] == [2, 4]
    assert validation[1]["tokens"][7:10] == [".", "It", "was"]
    assert [index for index, mark in enumerate(validation[1]["rationale"]) if mark] == [0, 10]


def test_no_evidence_is_no_rationale_and_an_empty_span_marks_nothing(tmp_path):
    lines = [instance("NEG"), instance("NEG", ("a", 2, 2))]
    write_corpus(tmp_path / "movies", {"train": lines})
    train = load_rationale_dataset("movies", tmp_path)["train"]
    assert train["rationale"][:] == [None, [0] * 8]
    assert train[0]["tokens"][:2] == ["A", "film"]


@pytest.mark.parametrize(
    "line, problem",
    [
        ("{", "bad JSON"),
        ("[]", "expected the field classification"),
        ("", "bad JSON"),
        (instance("neutral", ("a", 0, 1)), "expected classification NEG or POS, found 'neutral'"),
        (instance("NEG", evidences=None), "expected the field evidences"),
        (instance("NEG", evidences=[{"docid": "a"}]), "list of lists of spans"),
        (instance("NEG", evidences=[["a"]]), "expected the field docid"),
        (instance("NEG", ("a", 0, 9)), r"within the 8 tokens of a, found \[0, 9\)"),
        (instance("NEG", ("a", 3, 2)), r"within the 8 tokens of a, found \[3, 2\)"),
        (instance("NEG", ("a", -1, 2)), r"within the 8 tokens of a, found \[-1, 2\)"),
        (instance("NEG", ("a", None, 2)), "expected the field start_token"),
        (instance("NEG", ("nowhere", 0, 1)), "expected the document docs/nowhere, which is not there"),
        (instance("NEG", docids=["empty"]), "found blank text in empty"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_malformed_instance_is_named(tmp_path, packed, line, problem):
    lines = [instance("NEG", ("a", 0, 1)), line]
    folder = write_corpus(tmp_path / "movies", {"val": lines}, {**DOCS, "empty": " \n"})
    place = pack(folder) if packed else folder
    with pytest.raises(MalformedDataError, match=rf"movies(\.tar\.gz)?/val\.jsonl, line 2: .*{problem}"):
        load_rationale_dataset("movies", place)


def test_blank_query_is_named(tmp_path):
    write_corpus(tmp_path / "multirc", {"val": [instance("True", ("a", 0, 1), query=" ")]})
    with pytest.raises(MalformedDataError, match=r"val\.jsonl, line 1: expected a query, found blank text"):
        load_rationale_dataset("multirc", tmp_path)


def test_invalid_utf8_is_named(movies):
    (movies / "docs/b").write_bytes(b"It was\ngr\xe9at .")
    with pytest.raises(MalformedDataError, match=r"docs/b, line 2: expected UTF-8, found byte 0xe9"):
        load_rationale_dataset("movies", movies)


def test_damaged_archive_is_named(movies):
    archive = pack(movies)
    whole = archive.read_bytes()
    for damaged in (b"not an archive", whole[: len(whole) // 2], whole[:200] + b"\0" * 50 + whole[250:], b""):
        archive.write_bytes(damaged)
        with pytest.raises(MalformedDataError, match=r"movies\.tar\.gz: expected a whole \.tar\.gz archive"):
            load_rationale_dataset("movies", archive)


def test_no_split_at_all(tmp_path):
    write_corpus(tmp_path / "movies", {})
    with pytest.raises(
        FileNotFoundError, match=r"has no split: expected any of train\.jsonl, val\.jsonl, test\.jsonl"
    ):
        load_rationale_dataset("movies", tmp_path)
    with tarfile.open(tmp_path / "empty.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(FileNotFoundError, match=r"empty\.tar\.gz has no split"):
        load_rationale_dataset("movies", tmp_path / "empty.tar.gz")


def test_nothing_there_says_where_and_what(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"no movies at .*movies\.tar\.gz\. Put train\.jsonl, .* and docs/ \(or docs\.jsonl\) there",
    ):
        load_rationale_dataset("movies", tmp_path)
    with pytest.raises(FileNotFoundError, match="pass data_dir"):
        load_rationale_dataset("movies")
