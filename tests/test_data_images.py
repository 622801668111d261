"""Corpora of images: the generator, and the readers of CUB and Waterbirds."""

import numpy as np
import pytest
from PIL import Image
from transformers import ViTImageProcessorPil

from hf_rationale import load_rationale_dataset
from hf_rationale.data import MalformedDataError
from hf_rationale.image.encoding import encode_images


def test_generated_images_have_exact_masks_and_groups():
    pytest.importorskip("skimage")
    sizes = {"n_train": 40, "n_validation": 10, "n_test": 40}
    one, again = (load_rationale_dataset("shapes_on_textures", **sizes, size=32, seed=3) for _ in range(2))
    train = one["train"]
    assert np.array_equal(np.asarray(train[0]["image"]), np.asarray(again["train"][0]["image"]))
    assert train["group"] == [
        2 * label + texture for label, texture in zip(train["label"], train["texture"], strict=True)
    ]
    agree = {split: np.mean(np.equal(one[split]["label"], one[split]["texture"])) for split in one}
    assert agree["train"] > 0.85 and agree["test"] < 0.75
    for row in train:
        image, mask = np.asarray(row["image"]), np.asarray(row["rationale"]) > 0
        assert len(np.unique(image[mask], axis=0)) == 1  # a digit has one tone, and no other pixel is of the digit
        assert 0.02 < mask.mean() < 0.3
    assert one["test"].info.license.startswith("digits: CC BY 4.0")


@pytest.mark.parametrize(
    "options",
    [
        {"size": 8},
        {"correlation": 0.3},
        {"textures": ("brick", "sand")},
        {"digits": ((1,), (1,))},
        {"data_dir": "."},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        load_rationale_dataset("shapes_on_textures", **options)


BIRDS = {
    "001.Black_footed_Albatross/a": 1,
    "001.Black_footed_Albatross/b": 1,
    "002.Blue_Jay/c": 2,
    "002.Blue_Jay/d": 2,
}


def bird_files(folder, images):
    for name in BIRDS:
        path = folder / images / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 8), (90, 120, 200)).save(path)
        if not name.endswith("d"):
            mask = folder / "segmentations" / f"{name}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.tile(np.arange(10, dtype=np.uint8) * 28, (8, 1))).save(mask)


def test_cub_is_read_from_its_folder(tmp_path):
    folder = tmp_path / "CUB_200_2011"
    bird_files(folder, "images")
    numbered = list(enumerate(BIRDS.items(), start=1))
    files = {
        "images": [f"{number} {name}.jpg" for number, (name, _) in numbered],
        "image_class_labels": [f"{number} {kind}" for number, (_, kind) in numbered],
        "train_test_split": [f"{number} {int(number != 4)}" for number, _ in numbered],
        "classes": ["1 001.Black_footed_Albatross", "2 002.Blue_Jay"],
    }
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    birds = load_rationale_dataset("cub", tmp_path, validation_share=0.34)
    assert {split: len(rows) for split, rows in birds.items()} == {"train": 2, "validation": 1, "test": 1}
    rows, kinds = [row for split in birds.values() for row in split], birds["test"].features["species"].names
    assert sorted(row["label"] for row in rows) == [0, 0, 1, 1]
    assert birds["test"][0]["rationale"] is None and kinds == ["Black footed Albatross", "Blue Jay"]
    processor = ViTImageProcessorPil(size={"height": 12, "width": 12})
    assert set(encode_images(birds["train"], processor)["rationale"][0]) == {0, 1}
    assert load_rationale_dataset("cub", folder, labels="species")["test"].features["label"].names[0] == kinds[0]
    (folder / "classes.txt").write_text("albatross\n")
    with pytest.raises(ValueError, match=r"classes.txt, line 1: expected a number and a value"):
        load_rationale_dataset("cub", tmp_path)
    with pytest.raises(ValueError, match="labels must be"):
        load_rationale_dataset("cub", tmp_path, labels="color")


HEADER = "img_id,img_filename,y,split,place,place_filename"


def test_waterbirds_is_read_from_its_folder(tmp_path):
    folder = tmp_path / "waterbirds"
    bird_files(folder, ".")
    lines = [HEADER]
    lines += [
        f"{number},{name}.jpg,{2 - kind},{number % 3},{number % 2},x.jpg"
        for number, (name, kind) in enumerate(BIRDS.items())
    ]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    for data_dir in (tmp_path, folder):
        birds = load_rationale_dataset("waterbirds", data_dir)
        assert {split: len(rows) for split, rows in birds.items()} == {"train": 2, "validation": 1, "test": 1}
    assert birds["train"]["group"][:] == [2, 1] and birds["train"].features["group"].names[2] == "waterbird on land"
    assert birds["test"].info.dataset_name == "waterbirds" and "Sagawa" in birds["test"].info.description
    with pytest.raises(FileNotFoundError, match="no folder nowhere of segmentations"):
        load_rationale_dataset("waterbirds", folder, segmentations="nowhere")
    (folder / "001.Black_footed_Albatross" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image .*a\.jpg"):
        load_rationale_dataset("waterbirds", folder)


@pytest.mark.parametrize(
    "lines, message",
    [
        ([HEADER, "1,002.Blue_Jay/c.jpg,3,0,1,x.jpg"], r"metadata.csv, line 2: expected img_filename, y and place"),
        ([HEADER, "1,002.Blue_Jay/c.jpg,1,-1,1,x.jpg"], "line 2: expected"),
        ([HEADER, "1,002.Blue_Jay/c.jpg"], "line 2: expected"),
        (["img_id,y", "1,0"], "line 2: expected"),
        ([HEADER, "1,\xe9"], "line 2: expected UTF-8"),
    ],
    ids=["label", "split", "short", "columns", "bytes"],
)
def test_malformed_metadata_are_named(tmp_path, lines, message):
    (tmp_path / "metadata.csv").write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(MalformedDataError, match=message):
        load_rationale_dataset("waterbirds", tmp_path)


def test_a_folder_without_metadata_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="metadata of Waterbirds"):
        load_rationale_dataset("waterbirds", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"images\.txt of CUB-200-2011"):
        load_rationale_dataset("cub", tmp_path)
