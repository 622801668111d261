"""From images to what the model reads."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from datasets import Array3D, Dataset, Features, List, Value
from PIL import Image
from transformers import BaseImageProcessor

from ..modeling.outputs import UNMARKED


NEAREST = Image.Resampling.NEAREST


def check_image_processor(processor: Any) -> BaseImageProcessor:
    """Raises `ValueError` if this is not an image processor."""
    if not isinstance(processor, BaseImageProcessor):
        raise ValueError(
            "Images need an image processor of transformers: pass processing_class=ViTImageProcessorPil(size=…), or "
            f"AutoImageProcessor.from_pretrained(…) of a pretrained encoder. It is a {type(processor).__name__}."
        )
    return processor


def read_image(value: Any, name: str) -> Image.Image:
    """An RGB image of a PIL image, of an array (height, width) or (height, width, 3) of bytes, or of what a dataset
    holds of an image that is not decoded.

    Raises:
        ValueError: with `name`, if it is nothing of these.
    """
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        value = Image.open(io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"])
    if not isinstance(value, Image.Image):
        array = _array(value, name, "an image (height, width[, 3])")
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
            raise ValueError(f"{name} must be an image (height, width[, 3]), but is of shape {array.shape}")
        if array.dtype.kind not in "iub" or array.min() < 0 or array.max() > 255:
            raise ValueError(f"{name} must hold whole numbers from 0 to 255, but has {array.dtype}")
        value = Image.fromarray((array[..., 0] if array.shape[2:] == (1,) else array).astype(np.uint8))
    return value.convert("RGB")


def read_mask(value: Any, name: str) -> Image.Image:
    """What people marked in an image, black and white: of a picture, what is lighter than the middle, or 1 if nothing
    is lighter, and of an array (height, width) what is not 0.

    Raises:
        ValueError: with `name`, if it is nothing of these.
    """
    if isinstance(value, Image.Image | Mapping):
        values = np.asarray(read_image(value, name).convert("L"))
        marked = values > (0 if values.max() == 1 else 127)
    else:
        marked = _array(value, name, "a mask (height, width)") != 0
        if marked.ndim != 2 or not marked.size:
            raise ValueError(f"{name} must be a mask (height, width), but is of shape {marked.shape}")
    return Image.fromarray(marked.astype(np.uint8) * 255)


def _array(value: Any, name: str, kind: str) -> np.ndarray:
    """Raises `ValueError` if `value` is no array, nor lists that make one."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be {kind}, but its rows have no common length") from None
    if array.dtype == object or not array.ndim:
        raise ValueError(f"{name} must be {kind}, but is a {type(value).__name__}")
    return array


def resize(processor: BaseImageProcessor, image: Image.Image, **options) -> np.ndarray:
    """The bytes (channels, height, width) of an image after the processor's resizing and cropping."""
    output = processor(image, do_rescale=False, do_normalize=False, return_tensors="np", **options)
    return np.asarray(output["pixel_values"][0]).round().clip(0, 255).astype(np.uint8)


def encode_images(dataset: Dataset, processor: BaseImageProcessor, columns: tuple[str, ...] = ()) -> Dataset:
    r"""
    Resize and crop the images of a dataset, and their marks alike.

    Args:
        dataset: a dataset with the column `image` (of [`~datasets.Image`], or arrays of bytes, (height, width) or
            (height, width, 3)), and optionally `label` (or `labels`) and `rationale`: a mask of the image's size, as a
            picture or an array of 0 and 1; None if nobody marked the image.
        processor: an image processor of transformers.
        columns: further columns to keep, which a method's objective reads.

    Returns:
        the dataset with the columns `pixels` (channels, height, width; bytes, which the collator normalizes),
        `rationale` (an entry for every pixel), `length` (the number of pixels), `labels` and `columns`.

    Raises:
        ValueError: if a column is missing, if images differ in size after the processor, or, with the number of the
            row, if an image cannot be read, or has another size than its mask.
    """
    names = dataset.column_names
    if missing := {"image", *columns} - set(names):
        raise ValueError(f"The model of images needs the columns {sorted(missing)}, but the dataset has {names}")
    dataset = dataset.with_format(None)
    label_column = next((name for name in ("label", "labels") if name in names), None)
    kept = {name: dataset.features[name] for name in columns}
    if label_column is not None:
        kept["labels"] = dataset.features[label_column]
    # The size is that of the first image, because the features of the encoded dataset need it.
    shape = resize(processor, read_image(dataset[0]["image"], "Image 0")).shape if len(dataset) else (3, 1, 1)
    features = Features(pixels=Array3D(shape, "uint8"), rationale=List(Value("int8")), length=Value("int32"), **kept)

    def encode(row: dict[str, Any], index: int) -> dict[str, Any]:
        image, marks = read_image(row["image"], f"Image {index}"), row.get("rationale")
        pixels = resize(processor, image)
        if pixels.shape != shape:
            raise ValueError(
                f"Image {index} has the shape {pixels.shape} after the image processor, and the first has {shape}. "
                "Choose a processor that gives all images one size."
            )
        rationale = np.full(shape[1] * shape[2], UNMARKED, dtype=np.int8)
        if marks is not None:
            mask = read_mask(marks, f"The rationale of image {index}")
            if mask.size != image.size:
                raise ValueError(f"Image {index} has the size {image.size}, and its rationale {mask.size}.")
            rationale = (resize(processor, mask.convert("RGB"), resample=NEAREST)[0] > 127).astype(np.int8).ravel()
        encoded = {"pixels": pixels, "rationale": rationale, "length": rationale.size}
        if label_column is not None:
            encoded["labels"] = row[label_column]
        return encoded | {name: row[name] for name in columns}

    encoded = dataset.map(
        encode,
        with_indices=True,
        remove_columns=names,
        features=features,
        load_from_cache_file=False,
        desc="Resizing images",
    )
    # As arrays, because reading pixels as Python numbers would take most of the time.
    return encoded.with_format("numpy", columns=["pixels"], output_all_columns=True)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """A batch (1, channels, height, width) of the bytes of one image."""
    return torch.from_numpy(pixels.copy())[None]


def normalize(pixels: torch.Tensor, processor: BaseImageProcessor) -> torch.Tensor:
    """What the model reads of bytes (batch, channels, height, width), with the processor's factor, mean and standard
    deviation."""
    values = pixels.float()
    if processor.do_rescale:
        values = values * processor.rescale_factor
    if processor.do_normalize:
        mean, deviation = (
            torch.as_tensor(numbers, dtype=torch.float32).view(1, -1, 1, 1)
            for numbers in (processor.image_mean, processor.image_std)
        )
        values = (values - mean) / deviation
    return values


class ImageCollator:
    """Makes batches of encoded images.

    Args:
        processor: the image processor, which says how bytes are normalized.
        columns: further columns, which a method's objective reads.
    """

    def __init__(self, processor: BaseImageProcessor, columns: tuple[str, ...] = ()):
        self.processor, self.columns = processor, columns

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = torch.from_numpy(np.stack([np.asarray(feature["pixels"], dtype=np.uint8) for feature in features]))
        batch: dict[str, Any] = {
            "pixel_values": normalize(pixels, self.processor),
            # By way of numpy, because torch takes ten times as long for lists of numbers.
            "rationale": torch.from_numpy(np.array([feature["rationale"] for feature in features], dtype=np.int64)),
        }
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        if columns := [name for name in self.columns if name in features[0]]:
            batch["columns"] = {name: torch.tensor([feature[name] for feature in features]) for name in columns}
        return batch
