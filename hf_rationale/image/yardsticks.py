"""Yardsticks: simple selectors of patches, beside which the masks of a model should be read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import BaseImageProcessor, ViTImageProcessorPil

from ..modeling.selection import budget_mask, single_units
from .encoding import ImageCollator, encode_images
from .scores import mask_scores


# Normalized images (batch, channels, height, width) -> logits (batch, labels) of a plain classifier.
Classify = Callable[[torch.Tensor], torch.Tensor]
# Without a model there is no size that images should have. This one is small enough to score thousands of them.
SIZE = {"height": 64, "width": 64}


def image_yardsticks(
    dataset: Dataset,
    sparsity: float,
    processor: BaseImageProcessor | None = None,
    patch_size: int = 1,
    classify: Classify | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    r"""
    Score simple selectors on the images of `dataset` that people marked:

    - `random`: patches at random;
    - `center`: the patches nearest to the center;
    - `contrast`: the patches whose brightness is farthest from the mean of the image;
    - `saliency`: the patches with the largest | gradient × input | of the label that a plain classifier predicts
      (Shrikumar et al. 2017), summed over channels and pixels.

    Args:
        dataset: images with masks, as of [`encode_images`].
        sparsity: the share of each image to select.
        processor (*optional*): the image processor. By default images are scaled to 64×64 pixels.
        patch_size (*optional*): the side of the patches.
        classify (*optional*): a plain classifier, such as `lambda images: model(images).logits` of an image classifier
            of transformers, in evaluation mode. Without it there is no `saliency`.
        batch_size (*optional*): the number of images in a batch.
        seed (*optional*): of the random selection.

    Returns:
        for every yardstick the scores of [`mask_scores`].

    Raises:
        ValueError: if nobody marked an image.
    """
    processor = ViTImageProcessorPil(size=SIZE) if processor is None else processor
    encoded = dataset if "pixels" in dataset.column_names else encode_images(dataset, processor)
    marked = [row for row, marks in enumerate(encoded["rationale"]) if marks[0] >= 0]
    if not marked:
        raise ValueError("Nobody marked a rationale in this dataset.")
    collate, random = ImageCollator(processor), torch.Generator().manual_seed(seed)
    selected: dict[str, list[np.ndarray]] = {}
    gold: list[np.ndarray] = []
    for start in range(0, len(marked), batch_size):
        batch = collate([encoded[row] for row in marked[start : start + batch_size]])
        images = batch["pixel_values"]
        gold += list(batch["rationale"].numpy())
        for name, scores in _scores(images, patch_size, classify, random).items():
            rows, columns = scores.shape[1:]
            scores = scores.flatten(1)
            mask = budget_mask(scores, single_units(torch.ones_like(scores, dtype=torch.bool)), sparsity)
            mask = mask.view(-1, rows, columns).repeat_interleave(patch_size, 1).repeat_interleave(patch_size, 2)
            selected.setdefault(name, []).extend(mask.flatten(1).numpy())
    return {name: mask_scores(masks, gold) for name, masks in selected.items()}


def _scores(
    images: torch.Tensor, patch_size: int, classify: Classify | None, random: torch.Generator
) -> dict[str, torch.Tensor]:
    """The scores (batch, rows, columns) of the patches of images (batch, channels, height, width)."""
    brightness = images.mean(1, keepdim=True)
    contrast = (brightness - brightness.mean((2, 3), keepdim=True)).abs()
    scores = {"contrast": F.avg_pool2d(contrast, patch_size).squeeze(1)}
    rows, columns = scores["contrast"].shape[1:]
    vertical, horizontal = (torch.arange(count) - (count - 1) / 2 for count in (rows, columns))
    scores["center"] = -(vertical[:, None].square() + horizontal.square()).expand(len(images), -1, -1)
    scores["random"] = torch.rand(len(images), rows, columns, generator=random)
    if classify is not None:
        with torch.enable_grad():
            images = images.clone().requires_grad_()
            (slope,) = torch.autograd.grad(classify(images).amax(1).sum(), images)
        saliency = (slope * images).abs().sum(1, keepdim=True).detach()
        scores["saliency"] = F.avg_pool2d(saliency, patch_size).squeeze(1)
    return scores
