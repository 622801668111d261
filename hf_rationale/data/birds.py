"""Readers of the birds' photographs, CUB-200-2011 (Wah et al. 2011) and Waterbirds (Sagawa et al. 2020), with the
silhouettes of CUB as gold masks.

The files have to be fetched by the user. The layout is that of the archives:

```
CUB_200_2011/                                     waterbird_complete95_forest2water2/
    images.txt  classes.txt                           metadata.csv
    image_class_labels.txt  train_test_split.txt      001.Black_footed_Albatross/….jpg
    images/001.Black_footed_Albatross/….jpg
segmentations/001.Black_footed_Albatross/….png    (an archive of its own, which belongs to both)
```
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature

from .corpus import Corpus
from .files import corpus_folder, find_file, read_lines
from .schema import MalformedDataError


WATERBIRDS_FILES = "`metadata.csv` and the photographs"
CUB_FILES = (
    "`images.txt`, `classes.txt`, `image_class_labels.txt`, `train_test_split.txt` and `images/` of CUB-200-2011"
)
BIRDS = ("landbird", "waterbird")
PLACES = ("land", "water")
SPLITS = ("train", "validation", "test")
# Sagawa et al. (2020), appendix C: species whose names have one of these words are waterbirds.
SPECIES_OF_WATER = (
    *("albatross", "auklet", "cormorant", "frigatebird", "fulmar", "gull", "jaeger", "kittiwake", "pelican", "puffin"),
    *("tern", "gadwall", "grebe", "mallard", "merganser", "guillemot", "loon"),
)


def read_waterbirds(data_dir: str | os.PathLike | None, segmentations: str | os.PathLike | None = None) -> DatasetDict:
    r"""
    Read Waterbirds: birds of CUB on backgrounds that go with the label in training, and not in validation and test.

    Args:
        data_dir: the folder with `metadata.csv`, or the one above it, if it is named `waterbirds`.
        segmentations (*optional*): the folder of CUB's silhouettes. By default `segmentations` in or next to the
            folder of the files. Images without a silhouette have no gold mask.

    Returns:
        `datasets.DatasetDict`: the splits train, validation and test with `image`, `rationale` (both as
        [`~datasets.Image`], read when they are needed), `label`, `place`, and `group` (2 · label + place).

    Raises:
        FileNotFoundError: if a file is missing.
        MalformedDataError: if a line of the metadata lacks a column, or has a value that does not exist.
    """
    folder = corpus_folder("waterbirds", data_dir, WATERBIRDS_FILES)
    path = find_file(folder, ["metadata.csv"], "the metadata of Waterbirds")
    silhouettes = _silhouettes(folder, segmentations)
    rows: dict[str, dict[str, list]] = {split: {} for split in SPLITS}
    for line, row in enumerate(csv.DictReader(text for _, text in read_lines(path)), start=2):
        try:
            split = SPLITS[("0", "1", "2").index(row["split"])]
            label, place = (("0", "1").index(row[name]) for name in ("y", "place"))
            name = row["img_filename"]
        except (KeyError, ValueError):
            problem = "expected img_filename, y and place (0 or 1) and split (0, 1 or 2)"
            raise MalformedDataError(path, line, f"{problem}, found {row}") from None
        _add(
            rows[split],
            image=str(_existing(folder / name)),
            rationale=_silhouette(silhouettes, name),
            label=label,
            place=place,
            group=2 * label + place,
        )
    groups = [f"{bird} on {place}" for bird in BIRDS for place in PLACES]
    features = {"place": ClassLabel(names=list(PLACES)), "group": ClassLabel(names=groups)}
    return _splits(rows, BIRDS, features)


def read_cub(
    data_dir: str | os.PathLike | None,
    labels: str = "waterbird",
    segmentations: str | os.PathLike | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
) -> DatasetDict:
    r"""
    Read CUB-200-2011, the data of N2R's experiment on images.

    Args:
        data_dir: the folder with `images.txt`, or the one above it, if it is named `CUB_200_2011` or `cub`.
        labels (*optional*): `"waterbird"` (whether the species is one of the sea, as Sagawa et al. and N2R) or
            `"species"` (the 200 species).
        segmentations (*optional*): as of [`read_waterbirds`].
        validation_share (*optional*): the share of the training images that is drawn for validation, of which the
            files have none.
        seed (*optional*): of this draw.

    Returns:
        `datasets.DatasetDict`: the splits train, validation and test with `image`, `rationale`, `label` and `species`.

    Raises:
        FileNotFoundError: if a file is missing.
        MalformedDataError: if a line does not have a number and a value, or if an image is not in all lists.
        ValueError: if there are no such labels.
    """
    if labels not in ("waterbird", "species"):
        raise ValueError(f"labels must be 'waterbird' or 'species', but is {labels!r}")
    folder = corpus_folder("cub", data_dir, CUB_FILES)
    if (folder / "CUB_200_2011").is_dir():
        folder = folder / "CUB_200_2011"
    names = ("images", "classes", "image_class_labels", "train_test_split")
    images, classes, label_of, is_train = (_numbered(folder, f"{name}.txt") for name in names)
    species = {number: name.split(".", 1)[-1].replace("_", " ") for number, name in classes.items()}
    order = {number: place for place, number in enumerate(sorted(species, key=int))}
    silhouettes = _silhouettes(folder, segmentations)
    trained = [number for number in images if is_train.get(number) == "1"]
    held_out = np.random.default_rng(seed).permutation(len(trained))[: round(validation_share * len(trained))]
    validation = {trained[place] for place in held_out}
    rows: dict[str, dict[str, list]] = {split: {} for split in SPLITS}
    for number, name in images.items():
        if number not in is_train or label_of.get(number) not in species:
            raise MalformedDataError(folder / "images.txt", None, f"image {number} has no split, or no known class")
        split = "validation" if number in validation else "train" if is_train[number] == "1" else "test"
        kind = order[label_of[number]]
        bird = species[label_of[number]].lower().split()
        _add(
            rows[split],
            image=str(_existing(folder / "images" / name)),
            rationale=_silhouette(silhouettes, name),
            label=kind if labels == "species" else int(any(word in SPECIES_OF_WATER for word in bird)),
            species=kind,
        )
    kinds = [species[number] for number in order]
    return _splits(rows, kinds if labels == "species" else BIRDS, {"species": ClassLabel(names=kinds)})


def _numbered(folder: Path, name: str) -> dict[str, str]:
    """The values of a file of CUB by their numbers."""
    path = find_file(folder, [name], f"{name} of CUB-200-2011")
    values = {}
    for line, text in read_lines(path):
        if text:
            number, _, value = text.partition(" ")
            if not number.isdigit() or not value:
                raise MalformedDataError(path, line, f"expected a number and a value, found {text!r:.60}")
            values[number] = value.strip()
    return values


def _silhouettes(folder: Path, given: str | os.PathLike | None) -> Path | None:
    if given is not None:
        if not Path(given).is_dir():
            raise FileNotFoundError(f"There is no folder {given} of segmentations.")
        return Path(given)
    return next((path for path in (folder / "segmentations", folder.parent / "segmentations") if path.is_dir()), None)


def _silhouette(folder: Path | None, name: str) -> str | None:
    path = folder and (folder / name).with_suffix(".png")
    return str(path) if path and path.is_file() else None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"There is no image {path}, which the lists name.")
    return path


def _add(columns: dict[str, list], **row):
    for name, value in row.items():
        columns.setdefault(name, []).append(value)


def _splits(rows: dict[str, dict], label_names: Iterable[str], more: dict[str, ClassLabel]) -> DatasetDict:
    features = Features(
        image=ImageFeature(), rationale=ImageFeature(), label=ClassLabel(names=list(label_names)), **more
    )
    return DatasetDict(
        {split: Dataset.from_dict(columns, features=features) for split, columns in rows.items() if columns}
    )


WATERBIRDS = Corpus(
    name="waterbirds",
    read=read_waterbirds,
    description="Photographs of birds of CUB-200-2011 on backgrounds of Places, which go with the label in training "
    "only (Sagawa et al. 2020).",
    license="non-commercial research and education only, as WILDS states",
    files=f"{WATERBIRDS_FILES}; optionally `segmentations/` of CUB-200-2011",
    source="<https://github.com/kohpangwei/group_DRO>",
    marked="all",
)

CUB = Corpus(
    name="cub",
    read=read_cub,
    description="CUB-200-2011, photographs of 200 species of birds with their silhouettes (Wah et al. 2011).",
    license="none is stated in the files",
    files=f"{CUB_FILES}; optionally `segmentations/`",
    source="<https://www.vision.caltech.edu/datasets/cub_200_2011/>",
    marked="all",
)
