"""Rationale corpora, one module a format, all read into one shape.

Every split of every corpus has the columns `tokens` (`List[str]`, the words), `label` (`ClassLabel`) and `rationale`
(`List[int8]`, 0/1 for each word, or `None` where no person marked the text). Pair corpora (multirc, fever) have one
more, `query` (`List[str]`): a first segment of which no word can be selected.
"""

import os
from functools import partial

from datasets import DatasetDict

from .aspect_reviews import REVIEW_ASPECTS, make_aspect_reviews, read_aspect_reviews
from .beer import BEER_ASPECTS, read_beer
from .collator import RationaleDataCollator
from .encoding import encode_rationale_dataset
from .eraser import read_eraser
from .hotel import HOTEL_ASPECTS, read_hotel
from .schema import MalformedDataError
from .tweets import read_tweets


# The aspects that a corpus can be read for.
ASPECTS = {"beer": BEER_ASPECTS, "hotel": HOTEL_ASPECTS, "aspect_reviews": REVIEW_ASPECTS}

_READERS = {
    "beer": read_beer,
    "hotel": read_hotel,
    "movies": partial(read_eraser, "movies"),
    "multirc": partial(read_eraser, "multirc"),
    "fever": partial(read_eraser, "fever"),
    "tweets": read_tweets,
}


def load_rationale_dataset(
    name: str, data_dir: str | os.PathLike | None = None, aspect: str | int | None = None, **options
) -> DatasetDict:
    """Loads a corpus for selective rationalization.

    Args:
        name (`str`):
            `"beer"`, `"hotel"`, `"movies"`, `"multirc"`, `"fever"`, `"tweets"` (read from files), or
            `"aspect_reviews"` (generated).
        data_dir (`str` or `os.PathLike`, *optional*):
            Where the files are: the corpus's own folder, or its parent. The corpus's module says which files it
            holds. `"aspect_reviews"` has no files and does not look at it.
        aspect (`str` or `int`, *optional*):
            Which aspect decides the label, by name or number: needed for `"beer"` and `"hotel"`, by default the first
            for `"aspect_reviews"`, not possible for the others.
        options:
            Of the corpus: `variant` for `"beer"`, `seed` for `"tweets"`; for `"aspect_reviews"` `n_train`,
            `n_validation`, `n_test`, `seed` and the arguments of [`make_aspect_reviews`].

    Returns:
        `datasets.DatasetDict`: the splits out of train, validation and test that the corpus has, all with the same
        features.

    Raises:
        FileNotFoundError: a file is missing; the message says where it was looked for and what it has to hold.
        MalformedDataError: a file breaks its format; the message names the file and the line.
        TypeError: an option that the corpus does not have.
        ValueError: a corpus or an aspect that does not exist; the message lists those that do.

    Example:

    ```python
    >>> from hf_rationale.data import load_rationale_dataset

    >>> beer = load_rationale_dataset("beer", data_dir="data/beer", aspect="aroma")
    >>> generated = load_rationale_dataset("aspect_reviews", aspect="aroma", n_train=5000, spurious_strength=0.5)
    ```
    """
    if name == "aspect_reviews":
        return read_aspect_reviews(aspect, **options)
    if name not in _READERS:
        raise ValueError(f"There is no corpus {name!r}; choose one of {', '.join(_READERS)}, aspect_reviews.")
    if name in ASPECTS:
        return _READERS[name](data_dir, aspect, **options)
    if aspect is not None:
        raise ValueError(f"{name} has no aspects; those with aspects are {', '.join(ASPECTS)}.")
    return _READERS[name](data_dir, **options)


__all__ = [
    "ASPECTS",
    "MalformedDataError",
    "RationaleDataCollator",
    "encode_rationale_dataset",
    "load_rationale_dataset",
    "make_aspect_reviews",
]
