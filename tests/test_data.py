"""What holds for every corpus, and the numbers of the real ones."""

import pickle

import pytest
from datasets import ClassLabel, List, Value

from hf_rationale.data import CORPORA, MalformedDataError, load_rationale_dataset


def check_schema(dataset):
    """One schema in all splits; a rationale is `None` or has a 0 or 1 for each word."""
    features = [split.features for split in dataset.values()]
    assert all(feature == features[0] for feature in features)
    assert features[0]["tokens"] == List(Value("string"))
    assert isinstance(features[0]["label"], ClassLabel)
    assert features[0]["rationale"] == List(Value("int8"))
    for split in dataset.values():
        columns = split[:]
        assert set(columns["label"]) <= {0, 1}
        for tokens, rationale in zip(columns["tokens"], columns["rationale"], strict=True):
            assert tokens
            assert rationale is None or (len(rationale) == len(tokens) and set(rationale) <= {0, 1})


def gold_share(split):
    """Gold tokens over tokens, in the texts that have a rationale."""
    marked = [rationale for rationale in split["rationale"] if rationale is not None]
    return sum(map(sum, marked)) / sum(map(len, marked))


def test_generated_corpus_has_the_schema():
    check_schema(load_rationale_dataset("aspect_reviews", n_train=20, n_validation=10, n_test=10))


def test_unknown_corpus_lists_the_choices():
    with pytest.raises(ValueError, match="beer, hotel, movies, multirc, fever, tweets, aspect_reviews"):
        load_rationale_dataset("wine")


def test_aspect_of_a_corpus_without_aspects(tmp_path):
    with pytest.raises(ValueError, match=r"with aspects are beer, hotel, aspect_reviews"):
        load_rationale_dataset("movies", tmp_path, aspect="plot")


@pytest.mark.parametrize("name", CORPORA)
def test_unknown_option_is_named(name, tmp_path):
    with pytest.raises(TypeError, match="colour"):
        load_rationale_dataset(name, tmp_path, colour="red")


@pytest.mark.parametrize("name", ["beer", "hotel", "movies", "multirc", "fever", "tweets", "tu", "waterbirds", "cub"])
def test_missing_folder_is_named(name, tmp_path):
    aspect = 0 if name in ("beer", "hotel") else None
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_rationale_dataset(name, tmp_path / "nowhere", aspect=aspect)
    with pytest.raises(FileNotFoundError, match="pass data_dir"):
        load_rationale_dataset(name, aspect=aspect)


def test_error_survives_a_process_border():
    error = pickle.loads(pickle.dumps(MalformedDataError("file.txt", 3, "expected more")))
    assert str(error) == "file.txt, line 3: expected more"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, options, sizes, shares",
    [
        ("beer", {"aspect": "appearance"}, (2849, 407, 936), {"test": 0.184}),
        ("beer", {"aspect": "aroma"}, (2134, 304, 877), {"test": 0.155}),
        ("beer", {"aspect": "palate"}, (2515, 359, 805), {"test": 0.125}),
        ("beer", {"aspect": "aroma", "variant": "260k"}, (38776, 3611, 877), {"test": 0.155}),
        ("hotel", {"aspect": "cleanliness"}, (1354, 150, 362), {"test": 0.068}),
        ("movies", {}, (1600, 200, 199), {"train": 0.086, "validation": 0.065, "test": 0.303}),
        ("multirc", {}, (3214, 4848), {"validation": 0.175, "test": 0.172}),
        ("fever", {}, (6122, 6111), {"validation": 0.147, "test": 0.155}),
        ("tweets", {}, (12863, 1500, 2000), {"train": 0.272, "validation": 0.277, "test": 0.268}),
    ],
)
def test_real_corpus(data_dir, name, options, sizes, shares):
    dataset = load_rationale_dataset(name, data_dir, **options)
    check_schema(dataset)
    assert tuple(map(len, dataset.values())) == sizes
    assert {split: round(gold_share(rows), 3) for split, rows in dataset.items() if split in shares} == shares
