"""The figures' common look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


PANEL = (3.6, 2.8)  # inches


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes side by side. It is not registered with pyplot, so nothing has to be closed."""
    figure = Figure(figsize=(PANEL[0] * count, PANEL[1]), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", alpha=0.3)
    return figure, list(axes)


def curves(axes: Axes, x: Sequence[float], lines: Mapping[str, Sequence[float]], x_label: str, y_label: str):
    """One line for each name; no legend where there is one line."""
    for name, values in lines.items():
        axes.plot(x, values, marker="o", markersize=3, label=name)
    axes.set(xlabel=x_label, ylabel=y_label)
    if len(lines) > 1:
        axes.legend(frameon=False)


def bars(axes: Axes, groups: Sequence[str], heights: Mapping[str, Sequence[float]], y_label: str):
    """Groups of bars side by side, one of each name."""
    places, width = np.arange(len(groups)), 0.8 / len(heights)
    for i, (name, values) in enumerate(heights.items()):
        axes.bar(places + (i - (len(heights) - 1) / 2) * width, values, width, label=name)
    axes.set_xticks(places, groups)
    axes.set_ylabel(y_label)
    axes.set_ylim(bottom=0)
    if len(heights) > 1:
        axes.legend(frameon=False)
