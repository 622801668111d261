"""Generated images in the manner of Waterbirds: digits on textures, with exact gold masks.

What the data is: a handwritten digit of scikit-learn, enlarged, in a dark or a light tone, at a random place on a crop
of a photographed texture of scikit-image. The label is the digit, by default zero or one. In training and
validation, the texture goes with the label in nine of ten images; in the test set it does not. A classifier that reads
the texture is mostly right in training, and at chance in the test set. Gold are exactly the pixels of the digit.

What it is not: photographs of objects. A method that finds these rationales has passed a sanity check; one that does
not has failed it. The splits share neither digits nor parts of a texture.
"""

from __future__ import annotations

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from .corpus import Corpus


TEXTURES = ("brick", "grass", "gravel")  # which scikit-image ships, 512×512 pixels
SPLITS = ("train", "validation", "test")
SHARES = (0.6, 0.15, 0.25)  # of the digits, and of the width of the textures, for every split


def read_shapes_on_textures(
    data_dir: None = None,
    n_train: int = 3000,
    n_validation: int = 500,
    n_test: int = 1000,
    size: int = 48,
    textures: tuple[str, str] = ("brick", "grass"),
    digits: tuple[tuple[int, ...], tuple[int, ...]] = ((0,), (1,)),
    correlation: float = 0.9,
    seed: int = 0,
) -> DatasetDict:
    r"""
    Generate digits on textures.

    Args:
        data_dir (*optional*): there are no files.
        n_train, n_validation, n_test (*optional*): the number of images of every split.
        size (*optional*): the side of the images in pixels, 16 to 64.
        textures (*optional*): the textures of the two labels, of `TEXTURES`.
        digits (*optional*): the digits of the two labels.
        correlation (*optional*): the share of the training and validation images in which the texture is that of the
            label, from 0.5 to 1. In the test set it is 0.5.
        seed (*optional*): of everything that is drawn.

    Returns:
        `datasets.DatasetDict`: the splits train, validation and test with the columns `image` and `rationale` (the
        mask of the digit) as [`~datasets.Image`], `label`, `texture`, `digit`, and `group` (2 · label + texture, as
        of Waterbirds), by which [`evaluate_rationales`] measures the accuracy.

    Raises:
        ImportError: if scikit-image is not installed.
        ValueError: if a number is out of range, if there is no such texture, if a digit has both labels, or if there
            is a `data_dir`.

    Example:

    ```python
    >>> from hf_rationale import load_rationale_dataset

    >>> images = load_rationale_dataset("shapes_on_textures", n_train=500, seed=1)
    ```
    """
    if data_dir is not None:
        raise ValueError("shapes_on_textures is generated and reads no files: leave data_dir out.")
    if not 16 <= size <= 64:
        raise ValueError(f"size must be from 16 to 64, but is {size}")
    if not 0.5 <= correlation <= 1:
        raise ValueError(f"correlation must be from 0.5 to 1, but is {correlation}")
    if len(textures) != 2 or len(set(textures) & set(TEXTURES)) != 2:
        raise ValueError(f"textures must be two of {TEXTURES}, but are {textures}")
    groups = [set(group) for group in digits]
    if len(groups) != 2 or not all(groups) or groups[0] & groups[1] or not groups[0] | groups[1] <= set(range(10)):
        raise ValueError(f"digits must be two disjoint groups of digits, but are {digits}")
    photographs = [_texture(name) for name in textures]
    drawings, classes = _digits()
    names = ["".join(map(str, sorted(set(numbers)))) for numbers in digits]
    features = Features(
        image=ImageFeature(),
        rationale=ImageFeature(),
        label=ClassLabel(names=names),
        texture=ClassLabel(names=list(textures)),
        digit=Value("int8"),
        group=ClassLabel(names=[f"{label} on {texture}" for label in names for texture in textures]),
    )
    order = np.random.default_rng(seed).permutation(len(drawings))
    dataset, start = DatasetDict(), 0.0
    for number, (split, count, share) in enumerate(zip(SPLITS, (n_train, n_validation, n_test), SHARES, strict=True)):
        random = np.random.default_rng([seed, number])
        first, last = (round(bound * len(drawings)) for bound in (start, start + share))
        left, right = (round(bound * photographs[0].shape[1]) for bound in (start, start + share))
        drawn = [[place for place in order[first:last] if classes[place] in group] for group in groups]
        rows: dict[str, list] = {name: [] for name in features}
        for index in range(count):
            label = index % 2
            place = random.choice(drawn[label])
            keeps = random.random() < (0.5 if split == "test" else correlation)
            texture = label if keeps else 1 - label
            image, mask = _draw(drawings[place], photographs[texture][:, left:right], size, random)
            values = (Image.fromarray(image), Image.fromarray(mask), label, texture, classes[place])
            for name, value in zip(features, (*values, 2 * label + texture), strict=True):
                rows[name].append(value)
        dataset[split] = Dataset.from_dict(rows, features=features)
        start += share
    return dataset


def _draw(digit: np.ndarray, texture: np.ndarray, size: int, random: np.random.Generator):
    """The image (size, size, 3) and the mask (size, size) of a digit on a crop of a texture, as bytes."""
    top, left = (int(random.integers(0, length - size + 1)) for length in texture.shape)
    crop = texture[top : top + size, left : left + size]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    background = 128 + random.uniform(0.8, 1.2) * (crop - 128.0) + random.uniform(-20, 20)
    side = int(random.integers(round(0.5 * size), round(0.7 * size) + 1))
    enlarged = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))
    row, column = random.integers(0, size - side + 1, 2)
    mask = np.zeros((size, size), dtype=bool)
    mask[row : row + side, column : column + side] = enlarged > 110
    tone = random.uniform(0, 40) if random.random() < 0.5 else random.uniform(215, 255)
    # A tint of everything, so that no color belongs to a texture or to a digit.
    image = np.where(mask, tone, background)[..., None] * random.uniform(0.85, 1.0, 3)
    return image.clip(0, 255).astype(np.uint8), mask.astype(np.uint8) * 255


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits (digits, 8, 8) as bytes, and which they are."""
    from sklearn.datasets import load_digits  # here, because importing scikit-learn takes long

    data = load_digits()
    return (data.images * 255 / 16).astype(np.uint8), data.target


def _texture(name: str) -> np.ndarray:
    try:
        from skimage import data
    except ImportError:
        raise ImportError(
            "The textures come with scikit-image. Install it with `pip install hf_rationale[image]`."
        ) from None
    return getattr(data, name)()


SHAPES_ON_TEXTURES = Corpus(
    name="shapes_on_textures",
    read=read_shapes_on_textures,
    description="Generated images: a handwritten digit on a photographed texture. The label is the digit, whose "
    "pixels are gold. In training and validation the texture goes with the label, and in the test set it does not.",
    license="digits: CC BY 4.0 (UCI); textures: CC0 (scikit-image)",
    files="none: the images are generated, with the extra `image`",
    source="this package",
    marked="all",
)
