r"""Tweets with the part that a person marked as carrying the sentiment (Kaggle, Tweet Sentiment Extraction, 2020).

What the data is: 27,481 short tweets, each with a sentiment and `selected_text`, the stretch of it that supports this
sentiment; 16,363 are positive or negative. Tweets are cut into words by `\w+|[^\w\s]`, and a word is gold if it
overlaps the characters of the stretch. It is the quick real set: 17 words a tweet (13, if counted between blanks), .27
of them gold (.33 as the mean over tweets), and gold in every split.

What it is not: the marked stretch is one piece, the whole tweet in 14 % of the cases, and cut in the middle of a word
in 7 %. Kaggle's own test set has no public `selected_text`; the test split here is a part of its training file.

Reference:
    Maggie, Phil Culliton, Wei Chen. Tweet Sentiment Extraction. Kaggle, 2020.
    https://kaggle.com/competitions/tweet-sentiment-extraction
"""

import csv
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from .corpus import Corpus
from .files import corpus_folder, find_file, read_lines
from .schema import Example, MalformedDataError, to_dataset_dict


LABEL_NAMES = ("negative", "positive")
COLUMNS = ("textID", "text", "selected_text", "sentiment")
# 2,000 and 1,500 of Kaggle's 16,363 polar tweets; a file of another size is divided in the same proportions.
TEST_SHARE, VALIDATION_SHARE = 2_000 / 16_363, 1_500 / 16_363

WORD = re.compile(r"\w+|[^\w\s]")

logger = logging.getLogger(__name__)


def read_tweets(data_dir: str | os.PathLike | None, seed: int = 0) -> DatasetDict:
    """Reads the positive and negative tweets.

    Args:
        data_dir (`str` or `os.PathLike`):
            Folder with Kaggle's `train.csv` (columns textID, text, selected_text, sentiment), or its parent, if the
            folder is named `tweets`. Tweets with blank text are skipped, with a warning that says how many.
        seed (`int`, *optional*, defaults to 0):
            Of the shuffle before the file is divided into 2,000 for test, 1,500 for validation and the rest for train
            (for Kaggle's file; others in the same proportions, at least one each).

    Returns:
        `datasets.DatasetDict`: train, validation and test, each with `rationale`.

    Raises:
        FileNotFoundError: `train.csv` is missing.
        MalformedDataError: a row breaks the format, or its selected_text is not a part of its text.
    """
    folder = corpus_folder("tweets", data_dir, "train.csv")
    path = find_file(folder, ("train.csv",), "Kaggle's file with the columns " + ", ".join(COLUMNS))
    examples = _read_examples(path)

    total = len(examples)
    n_test, n_validation = (max(1, round(total * share)) for share in (TEST_SHARE, VALIDATION_SHARE))
    # The legacy generator gives the same numbers in all NumPy versions, so the splits never change.
    order = np.random.RandomState(seed).permutation(total)
    shuffled = [examples[index] for index in order]
    splits = {
        "train": shuffled[n_test + n_validation :],
        "validation": shuffled[n_test : n_test + n_validation],
        "test": shuffled[:n_test],
    }
    return to_dataset_dict(splits, LABEL_NAMES)


def _read_examples(path: Path) -> list[Example]:
    examples, blank = [], 0
    for number, row in _read_rows(path):
        sentiment = row["sentiment"]
        if sentiment not in (*LABEL_NAMES, "neutral"):
            problem = f"expected sentiment positive, negative or neutral, found {sentiment!r}"
            raise MalformedDataError(path, number, problem)
        if sentiment == "neutral":
            continue
        if not row["text"].strip():
            blank += 1
            continue
        tokens, rationale = _mark_words(row, path, number)
        examples.append({"tokens": tokens, "label": LABEL_NAMES.index(sentiment), "rationale": rationale})
    if blank:
        logger.warning("%s: skipped %d tweets with blank text", path, blank)
    return examples


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the first line (a quoted text may run over several) and columns of each row."""
    reader = csv.reader((line + "\n" for _, line in read_lines(path)), strict=True)
    names, number = None, 1
    try:
        for cells in reader:
            if names is None:
                names = cells
                missing = [column for column in COLUMNS if column not in names]
                if missing:
                    problem = f"expected the columns {', '.join(COLUMNS)}; missing {', '.join(missing)}"
                    raise MalformedDataError(path, number, problem)
            elif len(cells) != len(names):
                raise MalformedDataError(path, number, f"expected {len(names)} columns, found {len(cells)}")
            else:
                yield number, dict(zip(names, cells, strict=True))
            number = reader.line_num + 1
    except csv.Error as error:
        raise MalformedDataError(path, number, f"expected a row of comma-separated values ({error})") from error
    if names is None:
        raise MalformedDataError(path, number, f"expected the columns {', '.join(COLUMNS)}, found an empty file")


def _mark_words(row: dict[str, str], path: Path, number: int) -> tuple[list[str], list[int]]:
    text, selected = row["text"], row["selected_text"].strip()
    words = [match.span() for match in WORD.finditer(text)]
    starts = [match.start() for match in re.finditer(f"(?={re.escape(selected)})", text)] if selected else []
    if not starts:
        problem = f"expected selected_text to be a part of text, found {selected!r} in row {row['textID']}"
        raise MalformedDataError(path, number, problem)
    # "a" also occurs inside "great": an occurrence that begins and ends with whole words is the one that was meant.
    first_letters, last_letters = {start for start, _ in words}, {end for _, end in words}
    whole = [start for start in starts if start in first_letters and start + len(selected) in last_letters]
    begin = (whole or starts)[0]
    end = begin + len(selected)
    return [text[a:b] for a, b in words], [int(a < end and b > begin) for a, b in words]


TWEETS = Corpus(
    name="tweets",
    read=read_tweets,
    description="Tweet Sentiment Extraction (Kaggle 2020): positive and negative tweets. A person marked the span "
    "that carries the sentiment. The splits are random.",
    license="CC BY 4.0, as the competition's page says",
    example="my train is late again , worst morning ever",
    source="<https://www.kaggle.com/c/tweet-sentiment-extraction>",
    files="`train.csv` of Tweet Sentiment Extraction (Kaggle 2020)",
    marked="all",
)
