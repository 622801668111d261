"""Whether a model is the same as before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def hash_weights(digest: Any, weights: Iterable[tuple[str, torch.Tensor]]):
    """Update a hash of hashlib with weights by name, in the order of the names."""
    for name, weight in sorted(weights, key=lambda pair: pair[0]):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
