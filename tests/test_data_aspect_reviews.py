import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest

from hf_rationale.data import load_rationale_dataset, make_aspect_reviews
from hf_rationale.data.aspect_lexicon import (
    ASPECT_NOUNS,
    DISTRACTORS,
    FILLERS,
    MAIN_CLAUSES,
    NEGATORS,
    NEUTRAL,
    SHARED,
    SPECIFIC,
    SPURIOUS_TOKEN,
    TAILS,
)


ASPECTS = list(ASPECT_NOUNS)
OPINIONS = {
    aspect: [set(SHARED[polarity]) | set(SPECIFIC[aspect][polarity]) for polarity in (0, 1)] for aspect in ASPECTS
}


def gold_words(row):
    return [word for word, mark in zip(row["tokens"], row["rationale"], strict=True) if mark]


def read_label(words, aspect):
    """The polarity of each opinion word, turned by a negator before it; they have to agree."""
    polarities = set()
    for before, word in pairwise(["", *words]):
        if word in OPINIONS[aspect][0] | OPINIONS[aspect][1]:
            polarities.add(int(word in OPINIONS[aspect][1]) ^ (before in NEGATORS))
    assert len(polarities) == 1, words
    return polarities.pop()


def association(rows):
    """P(spurious token | positive) − P(spurious token | negative)."""
    marked = np.array([SPURIOUS_TOKEN in tokens for tokens in rows["tokens"]])
    labels = np.array(rows["label"], dtype=bool)
    return marked[labels].mean() - marked[~labels].mean()


@pytest.mark.parametrize("aspect", ASPECTS)
def test_gold_is_exact(aspect):
    """Gold words belong to the target aspect, decide the label alone, and no such word is left out."""
    nouns = set(ASPECT_NOUNS[aspect])
    for row in make_aspect_reviews(200, n_aspects=6, aspect=aspect, noise=0.5, random_state=0):
        assert len(row["tokens"]) == len(row["rationale"])
        gold = gold_words(row)
        assert set(gold) <= nouns | OPINIONS[aspect][0] | OPINIONS[aspect][1] | set(NEGATORS)
        assert read_label(gold, aspect) == row["label"]
        # Gold is in one sentence, the only one that has the aspect's nouns, and all its opinion words are gold.
        sentences = " ".join(row["tokens"]).split(" .")
        marks = iter(row["rationale"])
        for sentence in filter(None, map(str.split, sentences)):
            marked = [word for word in sentence if next(marks)]
            next(marks)  # the full stop
            if nouns & set(sentence):
                assert read_label([word for word in sentence if word != SPURIOUS_TOKEN], aspect) == row["label"]
                expected = nouns | OPINIONS[aspect][0] | OPINIONS[aspect][1] | set(NEGATORS)
                assert marked == [word for word in sentence if word in expected]
            else:
                assert not marked


def test_lexicon():
    nouns = [word for words in ASPECT_NOUNS.values() for word in words]
    opinions = set().union(*(words for polarities in OPINIONS.values() for words in polarities))
    templates = [
        word for group in (MAIN_CLAUSES, TAILS, FILLERS, DISTRACTORS) for line in group for word in line.split()
    ]
    neutral = [word for words in NEUTRAL.values() for word in words]
    assert len(nouns) == len(set(nouns))
    assert not opinions & {*nouns, *templates, *neutral, *NEGATORS, SPURIOUS_TOKEN}
    assert not set(nouns) & {*templates, *neutral, SPURIOUS_TOKEN}
    assert not {*NEGATORS, SPURIOUS_TOKEN} & {*templates, *neutral}
    for aspect, (negative, positive) in OPINIONS.items():
        assert not negative & positive, aspect
        assert min(len(negative), len(positive)) >= 36
        assert all(len(words) == len(set(words)) for words in SPECIFIC[aspect])
    changing = {
        word for aspect in ASPECTS[:3] for other in ASPECTS[:3] for word in OPINIONS[aspect][0] & OPINIONS[other][1]
    }
    assert {"thick", "warm", "sweet"} <= changing


def test_defaults_make_short_reviews_with_sparse_gold():
    reviews = make_aspect_reviews(1000, random_state=0)
    lengths = np.array([len(tokens) for tokens in reviews["tokens"]])
    assert lengths.min() >= 45
    assert 45 <= lengths.mean() <= 55
    assert 0.1 <= sum(map(sum, reviews["rationale"])) / lengths.sum() <= 0.2
    assert len({" ".join(tokens) for tokens in reviews["tokens"]}) == 1000


def test_the_other_aspects_are_independent_of_the_label():
    reviews = make_aspect_reviews(2000, aspect="aroma", random_state=0)
    opinions = []
    for tokens in reviews["tokens"]:
        sentences = [sentence.split() for sentence in " ".join(tokens).split(" .")]
        about = next(sentence for sentence in sentences if set(sentence) & set(ASPECT_NOUNS["palate"]))
        opinions.append(read_label(about, "palate"))
    assert abs(np.corrcoef(opinions, reviews["label"])[0, 1]) < 0.06


@pytest.mark.parametrize("balance, positive", [(0.5, 500), (0.1, 100), (0.0, 0), (1.0, 1000)])
def test_class_balance_is_exact(balance, positive):
    reviews = make_aspect_reviews(1000, class_balance=balance, random_state=0)
    assert sum(reviews["label"]) == positive
    if positive == 100:
        assert sum(reviews["label"][:500]) > 25  # not sorted


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_the_spurious_token_goes_with_the_label_outside_test_only(strength):
    sizes = {"n_train": 1500, "n_validation": 1500, "n_test": 1500}
    dataset = load_rationale_dataset("aspect_reviews", spurious_strength=strength, **sizes)
    for split, expected in (("train", strength), ("validation", strength), ("test", 0.0)):
        assert association(dataset[split]) == pytest.approx(expected, abs=0.08)
        assert all(SPURIOUS_TOKEN not in gold_words(row) for row in dataset[split])
    share = np.mean([SPURIOUS_TOKEN in tokens for tokens in dataset["test"]["tokens"]])
    assert share == pytest.approx(0.5, abs=0.05)


def test_noise_is_the_share_of_distractors():
    things = set(NEUTRAL["THING"]) | {"it was a"}

    def share(noise):
        reviews = make_aspect_reviews(300, n_aspects=1, length=100, noise=noise, random_state=0)
        sentences = [sentence for tokens in reviews["tokens"] for sentence in " ".join(tokens).split(" .") if sentence]
        distractors = [sentence for sentence in sentences if any(thing in sentence for thing in things)]
        return len(distractors) / (len(sentences) - 300)

    assert share(0.0) == 0.0
    assert share(0.4) == pytest.approx(0.4, abs=0.05)
    assert share(1.0) == 1.0


def test_length_and_number_of_aspects():
    assert min(map(len, make_aspect_reviews(50, length=200, random_state=0)["tokens"])) >= 200
    short = make_aspect_reviews(50, n_aspects=1, length=0, random_state=0)
    assert max(map(len, short["tokens"])) < 25
    for n_aspects in range(1, 7):
        tokens = make_aspect_reviews(1, n_aspects=n_aspects, random_state=0)["tokens"][0]
        present = [bool(set(tokens) & set(nouns)) for nouns in ASPECT_NOUNS.values()]
        assert present == [True] * n_aspects + [False] * (6 - n_aspects)


def test_the_same_seed_gives_the_same_reviews_in_any_process():
    reviews = make_aspect_reviews(200, aspect="aroma", spurious_strength=0.5, random_state=0)
    digest = hashlib.sha256(json.dumps(reviews[:]).encode()).hexdigest()
    assert digest[:16] == "b3f90e4bdbfa6245"
    assert reviews[:] != make_aspect_reviews(200, aspect="aroma", spurious_strength=0.5, random_state=1)[:]


def test_splits_differ_and_do_not_depend_on_each_others_size():
    small = load_rationale_dataset("aspect_reviews", n_train=20, n_validation=20, n_test=20, seed=3)
    large = load_rationale_dataset("aspect_reviews", n_train=50, n_validation=20, n_test=20, seed=3)
    assert small["test"][:] == large["test"][:]
    texts = [" ".join(tokens) for split in large.values() for tokens in split["tokens"]]
    assert len(set(texts)) == len(texts)
    assert all(rationale is not None for split in small.values() for rationale in split["rationale"])


@pytest.mark.parametrize(
    "arguments, problem",
    [
        ({"n_samples": 0}, "n_samples has to be at least 1"),
        ({"n_aspects": 0}, "n_aspects has to be between 1 and 6"),
        ({"n_aspects": 7}, "n_aspects has to be between 1 and 6"),
        ({"length": -1}, "length has to be at least 0"),
        ({"noise": 1.1}, "noise has to be between 0 and 1"),
        ({"class_balance": -0.1}, "class_balance has to be between 0 and 1"),
        ({"spurious_strength": float("nan")}, "spurious_strength has to be between 0 and 1"),
        ({"aspect": "taste"}, r"appearance \(0\), aroma \(1\), palate \(2\); 'taste'"),
    ],
)
def test_arguments_out_of_range(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        make_aspect_reviews(**arguments)
