"""A small U-Net (Ronneberger et al. 2015), with one state for every patch of an image."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class ConvLayer(nn.Module):
    """A convolution, a norm over the channels and places of each image (so that an image does not depend on its
    batch), and an activation."""

    def __init__(self, channels: int, width: int, kernel_size: int = 3, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(channels, width, kernel_size, stride, padding=1)
        self.norm = nn.GroupNorm(1, width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (batch, width, height / stride, width / stride) of images (batch, channels, height, width)."""
        return F.gelu(self.norm(self.convolution(images)))


class DownPath(nn.Module):
    """The down path: features of patches, and of ever larger regions.

    Args:
        channels: of the images.
        patch_size: the side of a patch, in pixels.
        sizes: the width of every level.
    """

    def __init__(self, channels: int, patch_size: int, sizes: list[int]):
        super().__init__()
        # The first layer sees one pixel more on each side of a patch, as a 3×3 convolution does of a pixel.
        first = [ConvLayer(channels, sizes[0], patch_size + 2, patch_size)]
        halved = [ConvLayer(before, after, stride=2) for before, after in pairwise(sizes)]
        self.reductions = nn.ModuleList(first + halved)
        self.layers = nn.ModuleList(ConvLayer(size, size) for size in sizes)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The features (batch, size, height, width) of every level of images (batch, channels, height, width)."""
        features = []
        for reduction, layer in zip(self.reductions, self.layers, strict=True):
            images = layer(reduction(images))
            features.append(images)
        return features


class UNet(nn.Module):
    """The down path, and an up path that joins the features of every level with those of the level below. Arguments as
    of [`DownPath`]."""

    def __init__(self, channels: int, patch_size: int, sizes: list[int]):
        super().__init__()
        self.down = DownPath(channels, patch_size, sizes)
        self.up = nn.ModuleList(ConvLayer(above + below, above) for above, below in pairwise(sizes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """States (batch, sizes[0], height / patch, width / patch) of images (batch, channels, height, width)."""
        *features, states = self.down(images)
        for layer, skipped in zip(reversed(self.up), reversed(features), strict=True):
            states = layer(torch.cat([skipped, F.interpolate(states, skipped.shape[2:])], dim=1))
        return states
