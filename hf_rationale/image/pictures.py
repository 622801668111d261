"""Pictures of images with what was selected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


PALE = 0.25  # how much of the contrast is left where nothing is selected
OUTLINE = (230, 30, 60)


def overlay(image: Image.Image, mask: Image.Image | np.ndarray) -> Image.Image:
    """The image, pale where `mask` (of its size, 0 where nothing is selected) does not select, with a red line around
    what is selected.

    Raises:
        ValueError: if the sizes differ.
    """
    pixels, chosen = np.asarray(image.convert("RGB")).astype(float), np.asarray(mask) > 0
    if chosen.shape != pixels.shape[:2]:
        raise ValueError(f"The image has {pixels.shape[:2]} pixels, and the mask {chosen.shape}.")
    picture = np.where(chosen[..., None], pixels, 255 - PALE * (255 - pixels))
    picture[outline(chosen)] = OUTLINE
    return Image.fromarray(picture.round().astype(np.uint8))


def outline(chosen: np.ndarray) -> np.ndarray:
    """The pixels (height, width) outside of the selection that touch it."""
    padded = np.pad(chosen, 1)
    touches = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return touches & ~chosen


def gallery(rows: Sequence[Sequence[Image.Image]], scale: int = 1, gap: int = 4) -> Image.Image:
    """Images of one size in rows, each enlarged `scale` times, on white."""
    width, height = (scale * length + gap for length in rows[0][0].size)
    page = Image.new("RGB", (max(map(len, rows)) * width + gap, len(rows) * height + gap), "white")
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            enlarged = image.convert("RGB").resize((width - gap, height - gap), Image.Resampling.NEAREST)
            page.paste(enlarged, (gap + column * width, gap + row * height))
    return page
