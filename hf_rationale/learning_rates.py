"""The learning rate of every parameter."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    mapping: dict[str, float],
    factor: Callable[[str], float],
    weight_decay: float,
    decayed: set[str],
) -> list[dict[str, Any]]:
    r"""
    The groups of an optimizer.

    Args:
        learning_rate: of every parameter for which `mapping` has no pattern.
        mapping: learning rates by regular expressions for names. The first one that matches counts.
        factor: by what the rate of the parameter of a name is multiplied. Here and in `mapping`, a name is that of the
            model without an adapter around it.
        weight_decay: of the parameters with the names `decayed`. A single number, such as a multiplier, has none.

    Raises:
        ValueError: if no trainable parameter has a name that matches a pattern.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    matched = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        own = name.removeprefix("base_model.model.")
        pattern = next((pattern for pattern in mapping if re.search(pattern, own)), None)
        matched.add(pattern)
        rate = mapping.get(pattern, learning_rate) * factor(own)
        groups[rate, weight_decay if name in decayed and parameter.dim() else 0.0].append(parameter)
    if unmatched := set(mapping) - matched:
        raise ValueError(f"learning_rate_mapping: no trainable parameter has a name that matches {sorted(unmatched)}")
    return [{"params": values, "lr": rate, "weight_decay": decay} for (rate, decay), values in groups.items()]
