import pytest

from hf_rationale.data import MalformedDataError, load_rationale_dataset


PLAIN = ["task\tlabel\ttext", 'hotel_Service\t1\tthe staff was kind , " really "', "hotel_Service\t0\tslow and rude"]
ANNOTATED = ["task\tlabel\ttext\trationale", "hotel_Service\t0\tthe staff was rude .\t0 1 0 1 0"]


@pytest.fixture
def hotel(tmp_path):
    folder = tmp_path / "hotel"
    (folder / "annotations").mkdir(parents=True)
    for name in ("hotel_Service.train", "hotel_Service.dev"):
        (folder / name).write_text("\n".join(PLAIN) + "\n", encoding="utf-8")
    (folder / "annotations/hotel_Service.train").write_text("\n".join(ANNOTATED) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("aspect", ["service", "Service", 1])
def test_reads_labels_and_marks(hotel, aspect):
    dataset = load_rationale_dataset("hotel", hotel.parent, aspect=aspect)
    assert list(dataset) == ["train", "validation", "test"]
    assert dataset["train"]["label"][:] == [1, 0]
    assert dataset["train"][0]["tokens"] == ["the", "staff", "was", "kind", ",", '"', "really", '"']
    assert dataset["validation"]["rationale"][:] == [None, None]
    assert dataset["test"]["rationale"][:] == [[0, 1, 0, 1, 0]]
    assert dataset["test"].features["label"].names == ["negative", "positive"]


@pytest.mark.parametrize(
    "line, problem",
    [
        ("hotel_Service\t1", "expected 4 columns, separated by TABs, found 2"),
        ("hotel_Service\tgood\ta b\t0 1", "expected label 0 or 1, found 'good'"),
        ("hotel_Service\t1\t \t", "found blank text"),
        ("hotel_Service\t1\ta b\t0 1 0", "expected a rationale of 2 marks, one a token, found 3"),
        ("hotel_Service\t1\ta b\t0 2", "expected rationale marks 0 or 1, found '2'"),
    ],
)
def test_malformed_line_is_named(hotel, line, problem):
    (hotel / "annotations/hotel_Service.train").write_text("\n".join([*ANNOTATED, line]), encoding="utf-8")
    with pytest.raises(MalformedDataError, match=rf"annotations.hotel_Service\.train, line 3: .*{problem}"):
        load_rationale_dataset("hotel", hotel, aspect="service")


@pytest.mark.parametrize("content", ["", "hotel_Service\t1\tno header\n"])
def test_missing_header_is_named(hotel, content):
    (hotel / "hotel_Service.dev").write_text(content, encoding="utf-8")
    with pytest.raises(MalformedDataError, match=r"hotel_Service\.dev, line 1: .*missing task label text"):
        load_rationale_dataset("hotel", hotel, aspect="service")


def test_test_split_needs_a_rationale_column(hotel):
    (hotel / "annotations/hotel_Service.train").write_text("\n".join(PLAIN), encoding="utf-8")
    with pytest.raises(MalformedDataError, match=r"line 1: .*missing rationale"):
        load_rationale_dataset("hotel", hotel, aspect="service")


def test_missing_file_says_where_and_what(hotel):
    with pytest.raises(FileNotFoundError, match=r"hotel_Location\.train.*columns task label text"):
        load_rationale_dataset("hotel", hotel, aspect="location")


def test_unknown_aspect_lists_the_choices(hotel):
    with pytest.raises(ValueError, match=r"Location \(0\), Service \(1\), Cleanliness \(2\)"):
        load_rationale_dataset("hotel", hotel, aspect="food")
