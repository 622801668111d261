"""Generated reviews of several aspects, with exact gold rationales.

What the data is: each review has a sentence for every aspect (what it looks like, smells like, costs …) among neutral
sentences, in random order. The aspects' opinions are drawn independently of each other. The label is the opinion on
one aspect, the target; gold are exactly the words that decide it: the nouns and opinion words of the target's
sentence, with the negators ("not bad"). Many opinion words serve several aspects, some with opposite meaning, so that
the label cannot be read off without finding the target.

What it is not: human language. The sentences come from a small grammar (`aspect_lexicon.py`). A method that finds
these rationales has passed a sanity check; one that does not has failed it.
"""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset, DatasetDict

from .aspect_lexicon import (
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
from .corpus import Corpus
from .schema import Example, resolve_aspect, to_dataset


REVIEW_ASPECTS = tuple(ASPECT_NOUNS)
LABEL_NAMES = ("negative", "positive")

TAIL_SHARE = 0.9  # of the aspect sentences have a tail
NEGATED_SHARE = 0.2  # of the opinion words that may be negated are
SHARED_SHARE = 0.6  # of the opinion words are such as serve every aspect

# Words with their 0/1 gold marks (for the sentence's own aspect).
Sentence = tuple[list[str], list[int]]


def make_aspect_reviews(
    n_samples: int = 100,
    n_aspects: int = 3,
    aspect: str | int = 0,
    length: int = 45,
    noise: float = 0.3,
    class_balance: float = 0.5,
    spurious_strength: float = 0.0,
    random_state: int | np.random.SeedSequence | np.random.Generator | None = None,
) -> Dataset:
    """Generates reviews, in the manner of scikit-learn's `make_…` functions.

    Args:
        n_samples (`int`, *optional*, defaults to 100):
            Number of reviews.
        n_aspects (`int`, *optional*, defaults to 3):
            Number of aspects in each review: the first of appearance, aroma, palate, taste, service, price.
        aspect (`str` or `int`, *optional*, defaults to 0):
            The target, by name or number: one of these first `n_aspects`.
        length (`int`, *optional*, defaults to 45):
            Neutral sentences are added until a review has at least this many tokens. The aspects' own sentences take
            about 15 tokens each and are never shortened.
        noise (`float`, *optional*, defaults to 0.3):
            Share of the neutral sentences that are replaced by distractors: an opinion, good or bad at random, on
            something that is no aspect ("the drive that weekend was awful"). They change neither label nor gold.
        class_balance (`float`, *optional*, defaults to 0.5):
            Share of positive labels. It is met exactly, up to rounding. The other aspects' opinions stay balanced.
        spurious_strength (`float`, *optional*, defaults to 0.0):
            P("anyway" occurs | positive) − P("anyway" occurs | negative), between 0 and 1. The word opens a sentence
            picked at random and is never gold. It occurs in half of the reviews of a balanced sample; at strength 0
            independently of the label, at 1 in the positive ones alone.
        random_state (`int`, `np.random.SeedSequence` or `np.random.Generator`, *optional*):
            Seed. The same seed gives the same reviews in any process.

    Returns:
        `datasets.Dataset`: columns `tokens`, `label` and `rationale` (of the tokens' length, 1 for gold).

    Raises:
        ValueError: an argument is out of its range; the aspect is not among the first `n_aspects`.

    Example:

    ```python
    >>> from hf_rationale.data import make_aspect_reviews

    >>> reviews = make_aspect_reviews(n_samples=1000, aspect="aroma", random_state=0)
    ```
    """
    if not 1 <= n_aspects <= len(REVIEW_ASPECTS):
        raise ValueError(f"n_aspects has to be between 1 and {len(REVIEW_ASPECTS)}; found {n_aspects}.")
    for name, minimum, value in (("n_samples", 1, n_samples), ("length", 0, length)):
        if value < minimum:
            raise ValueError(f"{name} has to be at least {minimum}; found {value}.")
    shares = {"noise": noise, "class_balance": class_balance, "spurious_strength": spurious_strength}
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} has to be between 0 and 1; found {share}.")
    aspects = REVIEW_ASPECTS[:n_aspects]
    target = resolve_aspect("aspect_reviews", aspect, aspects)

    rng = np.random.default_rng(random_state)
    labels = rng.permutation(n_samples) < round(n_samples * class_balance)
    opinions = rng.integers(2, size=(n_samples, n_aspects))
    opinions[:, target] = labels
    marked = rng.random(n_samples) < 0.5 + (labels - 0.5) * spurious_strength
    examples = [
        _write_review(rng, aspects, opinions[index].tolist(), target, length, noise, bool(marked[index]))
        for index in range(n_samples)
    ]
    return to_dataset(examples, LABEL_NAMES)


def read_aspect_reviews(
    aspect: str | int | None = None,
    n_train: int = 5_000,
    n_validation: int = 500,
    n_test: int = 1_000,
    seed: int = 0,
    spurious_strength: float = 0.0,
    **options,
) -> DatasetDict:
    """Generates the three splits of a corpus with [`make_aspect_reviews`].

    The splits are drawn independently: the size of one changes nothing in the others. "anyway" goes with the label in
    train and validation only; in test it is independent of it, so that a model that relies on it is found out.

    Args:
        aspect (`str` or `int`, *optional*, defaults to the first, appearance):
            The target.
        n_train, n_validation, n_test (`int`, *optional*, default to 5,000, 500 and 1,000):
            Number of reviews in each split.
        seed (`int`, *optional*, defaults to 0):
            Seed.
        spurious_strength (`float`, *optional*, defaults to 0.0):
            As in [`make_aspect_reviews`], for train and validation.
        options:
            `n_aspects`, `length`, `noise`, `class_balance` of [`make_aspect_reviews`].

    Returns:
        `datasets.DatasetDict`: train, validation and test, each with `rationale`.
    """
    sizes = {"train": n_train, "validation": n_validation, "test": n_test}
    streams = np.random.SeedSequence(seed).spawn(len(sizes))
    return DatasetDict(
        {
            split: make_aspect_reviews(
                n_samples=size,
                aspect=0 if aspect is None else aspect,
                spurious_strength=0.0 if split == "test" else spurious_strength,
                random_state=stream,
                **options,
            )
            for (split, size), stream in zip(sizes.items(), streams, strict=True)
        }
    )


def _write_review(
    rng: np.random.Generator,
    aspects: Sequence[str],
    opinions: list[int],
    target: int,
    length: int,
    noise: float,
    marked: bool,
) -> Example:
    sentences = []
    for position, (aspect, polarity) in enumerate(zip(aspects, opinions, strict=True)):
        words, gold = _write_aspect_sentence(rng, aspect, polarity)
        sentences.append((words, gold if position == target else [0] * len(words)))
    size = sum(len(words) for words, _ in sentences)
    while size < length:
        words = _write_neutral_sentence(rng, distract=rng.random() < noise)
        sentences.append((words, [0] * len(words)))
        size += len(words)

    order = rng.permutation(len(sentences))
    if marked:
        words, gold = sentences[rng.integers(len(sentences))]
        words.insert(0, SPURIOUS_TOKEN)
        gold.insert(0, 0)
    return {
        "tokens": [word for index in order for word in sentences[index][0]],
        "label": opinions[target],
        "rationale": [mark for index in order for mark in sentences[index][1]],
    }


def _write_aspect_sentence(rng: np.random.Generator, aspect: str, polarity: int) -> Sentence:
    template = _pick(rng, MAIN_CLAUSES)
    if rng.random() < TAIL_SHARE:
        template = f"{template} {_pick(rng, TAILS)}"
    nouns = [ASPECT_NOUNS[aspect][index] for index in rng.permutation(len(ASPECT_NOUNS[aspect]))]
    words, gold = [], []
    for slot in template.split():
        filled = [slot]
        if slot == "N":
            filled = [nouns.pop()]
        elif slot == "P" and rng.random() < NEGATED_SHARE:
            filled = [_pick(rng, NEGATORS), _pick_opinion(rng, aspect, 1 - polarity, words)]
        elif slot in ("O", "P"):
            filled = [_pick_opinion(rng, aspect, polarity, words)]
        words.extend(filled)
        gold.extend([int(slot in ("N", "O", "P"))] * len(filled))
    return _fit_articles([*words, "."]), [*gold, 0]


def _write_neutral_sentence(rng: np.random.Generator, distract: bool) -> list[str]:
    words = []
    for slot in _pick(rng, DISTRACTORS if distract else FILLERS).split():
        if slot == "O":
            words.append(_pick(rng, SHARED[rng.integers(2)]))
        else:
            words.append(_pick(rng, NEUTRAL[slot]) if slot in NEUTRAL else slot)
    return _fit_articles([*words, "."])


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[rng.integers(len(options))]  # `rng.choice` would be ten times slower


def _pick_opinion(rng: np.random.Generator, aspect: str, polarity: int, used: Sequence[str]) -> str:
    """An opinion word that the sentence does not have yet."""
    word = _pick(rng, SHARED[polarity] if rng.random() < SHARED_SHARE else SPECIFIC[aspect][polarity])
    return word if word not in used else _pick_opinion(rng, aspect, polarity, used)


def _fit_articles(words: list[str]) -> list[str]:
    """Turns `a` into `an` before a vowel."""
    following = [*words[1:], ""]
    return [
        "an" if word == "a" and next_word.startswith(("a", "e", "i", "o", "u")) else word
        for word, next_word in zip(words, following, strict=True)
    ]


ASPECT_REVIEWS = Corpus(
    name="aspect_reviews",
    read=lambda data_dir=None, aspect=None, **options: read_aspect_reviews(aspect, **options),
    aspects=REVIEW_ASPECTS,
    description="Reviews that a small grammar generates (`make_aspect_reviews`), with exact gold rationales. They are "
    "not human language. They only show whether a method finds words that are known to decide the label.",
    license="Apache 2.0, as hf_rationale",
    example="the aroma is rotten and stale . the head is gorgeous , and the mouthfeel seems smooth .",
    source="this package",
    files="none: the reviews are generated, and the gold rationales are exact",
    marked="all",
)
