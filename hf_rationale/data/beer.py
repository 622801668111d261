"""Beer reviews with scores and marked words for five aspects (McAuley et al. 2012; Lei et al. 2016).

What the data is: reviews of one beer each, scored by the reviewer for appearance, aroma, palate, taste and overall.
The training files have scores only. The test file has 994 reviews in which people marked, sentence by sentence, what
is about which aspect. So a marked span says *where* an aspect is talked about, not which words decide its score.

What it is not: the test reviews are nearly all positive once the unclear scores are dropped (13 negative of 936 for
appearance, 29 of 877 for aroma, 20 of 805 for palate), so the accuracy on them says little. And training files in this
format need not be the BeerAdvocate files that published figures were trained on, which are not public any more.

How the gold share of the test set is counted moves it by two points: for aroma it is .147 as the mean over all 994
texts and .145 over all their tokens, .158 and .155 over the 877 that are kept here, and .156 over the first 256 tokens
of those.

References:
    Julian McAuley, Jure Leskovec, Dan Jurafsky. Learning Attitudes and Attributes from Multi-Aspect Reviews. ICDM
    2012.
    Tao Lei, Regina Barzilay, Tommi Jaakkola. Rationalizing Neural Predictions. EMNLP 2016.
"""

import json
import logging
import math
import os
from pathlib import Path

from datasets import DatasetDict

from .corpus import Corpus
from .files import corpus_folder, find_file, read_lines
from .schema import Example, MalformedDataError, resolve_aspect, spans_to_rationale, to_dataset_dict


BEER_ASPECTS = ("appearance", "aroma", "palate", "taste", "overall")
LABEL_NAMES = ("negative", "positive")

logger = logging.getLogger(__name__)


def read_beer(
    data_dir: str | os.PathLike | None, aspect: str | int | None, variant: str = "decorrelated"
) -> DatasetDict:
    """Reads one aspect of the beer reviews.

    A score of .4 or less is negative, of .6 or more positive; reviews between are dropped. The test split also drops
    the reviews in which no word was marked for the aspect, as the papers do.

    Args:
        data_dir (`str` or `os.PathLike`):
            Folder with `annotations.json` (the test split; a JSON object a line: `x` the tokens, `y` five scores,
            `"0"` … `"4"` lists of `[start, end)` token spans) and the files of the variant, `.txt.gz` or `.txt`, with
            lines `s0 s1 s2 s3 s4<TAB>tokens`. Or the parent of such a folder, if it is named `beer`.
        aspect (`str` or `int`):
            One of appearance (0), aroma (1), palate (2), taste (3), overall (4).
        variant (`str`, *optional*, defaults to `"decorrelated"`):
            Which training reviews: `"decorrelated"` reads `reviews.aspectN.{train,heldout}`, chosen so that the other
            aspects' scores say little about this one's (Lei et al. have made them for aspects 0 to 2); `"260k"` reads
            `reviews.260k.{train,heldout}`, all reviews, in which the scores of a review go together and most are
            positive.

    Returns:
        `datasets.DatasetDict`: train, validation (the heldout file) and test, with `rationale` in test only.

    Raises:
        FileNotFoundError: a file is missing.
        MalformedDataError: a line breaks the format.
        ValueError: unknown aspect or variant.
    """
    position = resolve_aspect("beer", aspect, BEER_ASPECTS)
    stems = {"decorrelated": f"reviews.aspect{position}", "260k": "reviews.260k"}
    if variant not in stems:
        raise ValueError(f"variant has to be one of {', '.join(stems)}; found {variant!r}.")
    stem = stems[variant]
    folder = corpus_folder("beer", data_dir, f"annotations.json and {stem}.{{train,heldout}}.txt.gz")

    splits = {}
    for split, part in (("train", "train"), ("validation", "heldout")):
        names = (f"{stem}.{part}.txt.gz", f"{stem}.{part}.txt")
        path = find_file(folder, names, "reviews with lines `s0 s1 s2 s3 s4<TAB>tokens`")
        splits[split] = _read_scored(path, position)
    path = find_file(folder, ("annotations.json",), "the annotated test reviews, a JSON object a line,")
    splits["test"] = _read_annotated(path, position)
    return to_dataset_dict(splits, LABEL_NAMES)


def _label(score: float) -> int | None:
    """0 or 1, or `None` for a score that the papers leave out as unclear."""
    if score <= 0.4:
        return 0
    return 1 if score >= 0.6 else None


def _check_scores(scores: list, path: Path, number: int) -> list[float]:
    if len(scores) != len(BEER_ASPECTS):
        raise MalformedDataError(path, number, f"expected {len(BEER_ASPECTS)} scores, found {len(scores)}")
    for score in scores:
        try:
            value = float(score)
        except (TypeError, ValueError):
            value = math.nan
        if not 0.0 <= value <= 1.0:  # also false for NaN
            raise MalformedDataError(path, number, f"expected scores between 0 and 1, found {score!r}")
    return [float(score) for score in scores]


def _read_scored(path: Path, position: int) -> list[Example]:
    examples, unclear = [], 0
    for number, line in read_lines(path):
        scores, tab, text = line.partition("\t")
        if not tab:
            raise MalformedDataError(path, number, "expected `s0 s1 s2 s3 s4<TAB>tokens`, found no TAB")
        label = _label(_check_scores(scores.split(), path, number)[position])
        tokens = text.split()
        if not tokens:
            raise MalformedDataError(path, number, "expected a review after the TAB, found blank text")
        if label is None:
            unclear += 1
        else:
            examples.append({"tokens": tokens, "label": label, "rationale": None})
    logger.info("%s: kept %d reviews, dropped %d with a score between .4 and .6", path, len(examples), unclear)
    return examples


def _read_annotated(path: Path, position: int) -> list[Example]:
    examples, unclear, unmarked = [], 0, 0
    for number, line in read_lines(path):
        tokens, scores, spans = _parse_annotated(line, position, path, number)
        label = _label(scores[position])
        if label is None:
            unclear += 1
        elif not spans:
            unmarked += 1
        else:
            rationale = spans_to_rationale(spans, len(tokens))
            examples.append({"tokens": tokens, "label": label, "rationale": rationale})
    counts = (path, len(examples), unclear, unmarked)
    logger.info("%s: kept %d reviews, dropped %d with a score between .4 and .6, %d with nothing marked", *counts)
    return examples


def _parse_annotated(line: str, position: int, path: Path, number: int) -> tuple[list[str], list[float], list]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise MalformedDataError(path, number, f"expected a JSON object, found bad JSON ({error})") from error
    key = str(position)
    missing = [
        name for name in ("x", "y", key) if not isinstance(record, dict) or not isinstance(record.get(name), list)
    ]
    if missing:
        raise MalformedDataError(path, number, f"expected a JSON object with lists x, y and {key}; missing {missing}")
    tokens, spans = record["x"], record[key]
    if not all(isinstance(token, str) for token in tokens):
        raise MalformedDataError(path, number, "expected x to be a list of strings")
    if not "".join(tokens).strip():
        raise MalformedDataError(path, number, "expected tokens in x, found blank text")
    for span in spans:
        integers = isinstance(span, list) and len(span) == 2 and all(type(bound) is int for bound in span)
        if not integers or not 0 <= span[0] < span[1] <= len(tokens):
            problem = f"expected spans [start, end) within the review's {len(tokens)} tokens, found {span!r}"
            raise MalformedDataError(path, number, problem)
    return tokens, _check_scores(record["y"], path, number), spans


BEER = Corpus(
    name="beer",
    read=read_beer,
    aspects=BEER_ASPECTS,
    description="Beer reviews with a score for each aspect, in the files of Lei et al. (2016). Scores of at most 0.4 "
    "are negative and scores of at least 0.6 are positive. In the test split (McAuley et al. 2012), people marked "
    "what is said of each aspect. Nearly all of it is positive, so look at the balanced accuracy.",
    license="none is stated in the files",
    example="Pours a hazy copper with a thin white head that is gone at once . Smells of wet cardboard .",
    source="<http://people.csail.mit.edu/taolei/beer/> (the reviews were taken down there; ask their authors)",
    files='`reviews.aspectN.{train,heldout}.txt[.gz]` (with `variant="260k"` `reviews.260k.*`; Lei et al. 2016) and '
    "`annotations.json` (McAuley et al. 2012)",
    marked="test",
)
