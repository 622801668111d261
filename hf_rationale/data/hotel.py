"""Hotel reviews in the layout of R2A, one task an aspect (Wang et al. 2010; Bao et al. 2018).

What the data is: TripAdvisor reviews with a binary label from the rating of one aspect, and an annotated file in which
people marked the words about that aspect. The layout is that of Bao et al. (2018), who took the reviews from Wang et
al. (2010); other reviews can be put into the same layout.

What it is not: the label is that of the aspect's rating, while most of a review is about something else, and the share
of marked words is small (.05 to .1).

References:
    Hongning Wang, Yue Lu, ChengXiang Zhai. Latent Aspect Rating Analysis on Review Text Data. KDD 2010.
    Yujia Bao, Shiyu Chang, Mo Yu, Regina Barzilay. Deriving Machine Attention from Human Rationales. EMNLP 2018.
"""

import os
from pathlib import Path

from datasets import DatasetDict

from .corpus import Corpus
from .files import corpus_folder, find_file, read_lines
from .schema import Example, MalformedDataError, resolve_aspect, to_dataset_dict


HOTEL_ASPECTS = ("Location", "Service", "Cleanliness")
LABEL_NAMES = ("negative", "positive")


def read_hotel(data_dir: str | os.PathLike | None, aspect: str | int | None) -> DatasetDict:
    """Reads one aspect of the hotel reviews.

    Args:
        data_dir (`str` or `os.PathLike`):
            Folder with `hotel_{Aspect}.train` and `hotel_{Aspect}.dev` (tab-separated; columns task, label and text;
            label 0 or 1) and `annotations/hotel_{Aspect}.train` (the test split, with a further column
            `rationale`: 0 or 1 for each token of the text, separated by blanks). Or the parent of such a folder, if it
            is named `hotel`.
        aspect (`str` or `int`):
            One of Location (0), Service (1), Cleanliness (2), in any case.

    Returns:
        `datasets.DatasetDict`: train, validation (the dev file) and test, with `rationale` in test only.

    Raises:
        FileNotFoundError: a file is missing.
        MalformedDataError: a line breaks the format.
        ValueError: unknown aspect.
    """
    name = HOTEL_ASPECTS[resolve_aspect("hotel", aspect, HOTEL_ASPECTS)]
    file_names = {
        "train": f"hotel_{name}.train",
        "validation": f"hotel_{name}.dev",
        "test": f"annotations/hotel_{name}.train",
    }
    folder = corpus_folder("hotel", data_dir, ", ".join(file_names.values()))
    splits = {}
    for split, file_name in file_names.items():
        annotated = split == "test"
        columns = ["task", "label", "text"] + (["rationale"] if annotated else [])
        path = find_file(folder, (file_name,), f"a tab-separated file with the columns {' '.join(columns)}")
        splits[split] = _read_table(path, columns)
    return to_dataset_dict(splits, LABEL_NAMES)


def _read_table(path: Path, columns: list[str]) -> list[Example]:
    """The reviews of one file. Its header names the columns, in any order; other columns are ignored."""
    lines = read_lines(path)
    number, header = next(lines, (1, ""))
    names = header.split("\t")
    missing = [column for column in columns if column not in names]
    if missing:
        problem = (
            f"expected a header with the columns {' '.join(columns)}, separated by TABs; missing {' '.join(missing)}"
        )
        raise MalformedDataError(path, number, problem)

    examples = []
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != len(names):
            problem = f"expected {len(names)} columns, separated by TABs, found {len(cells)}"
            raise MalformedDataError(path, number, problem)
        row = dict(zip(names, cells, strict=True))
        if row["label"] not in ("0", "1"):
            raise MalformedDataError(path, number, f"expected label 0 or 1, found {row['label']!r}")
        tokens = row["text"].split()
        if not tokens:
            raise MalformedDataError(path, number, "expected a review, found blank text")
        rationale = _parse_rationale(row["rationale"], len(tokens), path, number) if "rationale" in columns else None
        examples.append({"tokens": tokens, "label": int(row["label"]), "rationale": rationale})
    return examples


def _parse_rationale(cell: str, length: int, path: Path, number: int) -> list[int]:
    marks = cell.split()
    if len(marks) != length:
        raise MalformedDataError(
            path, number, f"expected a rationale of {length} marks, one a token, found {len(marks)}"
        )
    for mark in marks:
        if mark not in ("0", "1"):
            raise MalformedDataError(path, number, f"expected rationale marks 0 or 1, found {mark!r}")
    return [int(mark) for mark in marks]


HOTEL = Corpus(
    name="hotel",
    read=read_hotel,
    aspects=HOTEL_ASPECTS,
    description="Hotel reviews with a rating for each aspect, in the files of Bao et al. (2018). In the test split, "
    "people marked the words on the aspect.",
    license="none is stated in the files",
    example="The room was spotless and the bed was soft , but breakfast was cold and the street was loud .",
    source="<https://people.csail.mit.edu/yujia/files/r2a/data.zip>",
    files="`hotel_{Aspect}.{train,dev}` and `annotations/hotel_{Aspect}.train` (Bao et al. 2018)",
    marked="test",
)
