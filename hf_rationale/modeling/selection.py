"""Selecting: units, samplers, budgets, decoding and calibration.

Shapes: a batch of `batch` inputs with `positions` positions each. A *unit* is a set of positions that are selected
together, such as the tokens of a word or of a sentence. What a position stands for (a token, a sentence, a node) does
not matter here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F


class Units(NamedTuple):
    """Which positions are selected together, which can be selected at all, and which are neighbours.

    A unit may consist of *parts* that are scored one by one, as a sentence consists of words. The unit then has the
    mean probability of its parts."""

    index: torch.LongTensor  # (batch, positions): number of the unit that a position belongs to, from 0
    parts: torch.LongTensor | None  # (batch, positions): number of its part; None if every unit is its only part
    sizes: torch.FloatTensor  # (batch, positions): how much of the input a position is; 0 if it cannot be selected
    selectable: torch.BoolTensor  # (batch, positions): positions that can be selected; padding cannot
    first: torch.BoolTensor  # (batch, positions): the first position of every selectable unit
    weights: torch.FloatTensor  # (batch, positions): at `first`, how much of the input the unit is; 0 elsewhere
    edges: torch.LongTensor  # (batch, edges, 2): pairs of neighbouring positions; a pair (i, i) is padding

    def spread(self, chosen: torch.Tensor) -> torch.BoolTensor:
        """The mask of all positions of the units whose first position is `chosen` (batch, positions)."""
        units = torch.zeros_like(self.index).scatter_add(1, self.index, chosen.long())
        return (units.gather(1, self.index) > 0) & self.selectable

    def separate(self) -> Units:
        """The same input with every part as a unit of its own."""
        if self.parts is None:
            return self
        return _units(self.parts, None, self.sizes, self.selectable, self.edges)


def single_units(
    selectable: torch.BoolTensor, sizes: torch.Tensor | None = None, edges: torch.LongTensor | None = None
) -> Units:
    r"""
    Every position is a unit.

    Args:
        sizes (`torch.Tensor` of shape `(batch, positions)`, *optional*): how much of the input a position is. By
            default every position counts 1.
        edges (*optional*): pairs of neighbours. By default the positions form a chain.
    """
    index = torch.arange(selectable.shape[1], device=selectable.device).expand_as(selectable)
    sizes = selectable if sizes is None else sizes
    return _units(index, None, sizes, selectable, chain_edges(selectable) if edges is None else edges)


def grouped_units(
    unit_ids: torch.LongTensor,
    selectable: torch.BoolTensor,
    sizes: torch.Tensor | None = None,
    part_ids: torch.LongTensor | None = None,
) -> Units:
    r"""
    Consecutive positions with the same entry of `unit_ids` (batch, positions) form one unit, and the positions form a
    chain.

    Args:
        sizes (`torch.Tensor` of shape `(batch, positions)`, *optional*): how much of the input a position is, such as
            1 for the first token of every word. By default every unit has weight 1.
        part_ids (`torch.LongTensor` of shape `(batch, positions)`, *optional*): consecutive positions of a unit with
            the same entry are scored as one part. By default the whole unit is.
    """
    index = _numbered(selectable, unit_ids)
    sizes = _first(index) & selectable if sizes is None else sizes
    parts = None if part_ids is None else _numbered(selectable, unit_ids, part_ids)
    return _units(index, parts, sizes, selectable, chain_edges(selectable))


def _units(index, parts, sizes, selectable, edges) -> Units:
    sizes, first = sizes.float() * selectable, _first(index) & selectable
    weights = torch.zeros_like(sizes).scatter_add(1, index, sizes).gather(1, index) * first
    return Units(index, parts, sizes, selectable, first, weights, edges)


def _numbered(selectable: torch.BoolTensor, *ids: torch.LongTensor) -> torch.LongTensor:
    """Numbers from 0 for the runs of positions that are equal in all `ids`. What cannot be selected ends a run."""
    start = torch.ones_like(selectable)
    start[:, 1:] = selectable[:, 1:] != selectable[:, :-1]
    for one in ids:
        start[:, 1:] |= one[:, 1:] != one[:, :-1]
    return start.long().cumsum(1) - 1


def _first(index: torch.LongTensor) -> torch.BoolTensor:
    first = torch.ones_like(index, dtype=torch.bool)
    first[:, 1:] = index[:, 1:] != index[:, :-1]
    return first


def chain_edges(selectable: torch.BoolTensor) -> torch.LongTensor:
    """Edges between consecutive positions that can both be selected: (batch, positions - 1, 2)."""
    left = torch.arange(selectable.shape[1] - 1, device=selectable.device).expand(len(selectable), -1)
    return torch.stack([left, left + (selectable[:, 1:] & selectable[:, :-1])], dim=-1)


def mean_over_parts(values: torch.Tensor, units: Units) -> torch.Tensor:
    """Give every position the mean of `values` (batch, positions, width) over the positions of its part."""
    index = (units.index if units.parts is None else units.parts).unsqueeze(-1).expand_as(values)
    total = torch.zeros_like(values).scatter_add(1, index, values)
    count = torch.zeros_like(values).scatter_add(1, index, torch.ones_like(values))
    return (total / count.clamp_min(1)).gather(1, index)


def mean_over_units(values: torch.Tensor, units: Units) -> torch.Tensor:
    """Give every selectable position the mean of `values` (batch, positions) over its unit, weighted by the sizes."""
    total = torch.zeros_like(values).scatter_add(1, units.index, values * units.sizes)
    size = torch.zeros_like(values).scatter_add(1, units.index, units.sizes.to(values.dtype))
    return (total / size.masked_fill(size == 0, 1)).gather(1, units.index)


class Marks(NamedTuple):
    """Which positions belong to which of the things that people can mark, such as the words of a text: a list of pairs
    for each input. A word may consist of several positions (tokens), and a position (a sentence) of several words."""

    positions: torch.LongTensor  # (batch, pairs)
    ids: torch.LongTensor  # (batch, pairs): the number of the word; -1 if there is none

    def values(self, values: torch.Tensor, count: int) -> torch.Tensor:
        """The largest of the `values` (batch, positions) of each of `count` words: (batch, count). A word without
        positions, which was cut off, gets 0."""
        values = torch.where(self.ids >= 0, values.gather(1, self.positions), 0)
        return values.new_zeros(len(values), count).scatter_reduce(1, self.ids.clamp_min(0), values, reduce="amax")

    def shares(self, marked: torch.Tensor, count: int) -> torch.Tensor:
        """The share of the words of each of `count` positions that is `marked` (batch, words): (batch, count)."""
        exists = (self.ids >= 0).to(marked.dtype)
        empty = marked.new_zeros(len(marked), count)
        total = empty.scatter_add(1, self.positions, marked.gather(1, self.ids.clamp_min(0)) * exists)
        return total / empty.scatter_add(1, self.positions, exists).clamp_min(1)

    def select(self, marked: torch.BoolTensor, count: int) -> torch.BoolTensor:
        """Which of `count` positions belong to a word that is `marked` (batch, words): (batch, count)."""
        chosen = (marked.gather(1, self.ids.clamp_min(0)) & (self.ids >= 0)).long()
        places = torch.zeros(len(marked), count, dtype=torch.long, device=marked.device)
        return places.scatter_reduce(1, self.positions, chosen, reduce="amax") > 0


def marks_of_positions(ids: torch.LongTensor) -> Marks:
    """The marks if every position belongs to one word at most: `ids` (batch, positions), -1 if it belongs to none."""
    return Marks(torch.arange(ids.shape[1], device=ids.device).expand_as(ids), ids)


# --- Samplers --------------------------------------------------------------------------------------------------------


def gumbel_noise(logits: torch.Tensor) -> torch.Tensor:
    """Independent standard Gumbel noise of the shape of `logits`."""
    return -torch.empty_like(logits).exponential_().log()


def uniform_noise(values: torch.Tensor) -> torch.Tensor:
    """Independent noise, uniform in [0, 1), of the shape of `values`."""
    return torch.rand_like(values)


class GumbelSampler:
    """Straight-through Gumbel-softmax (Jang et al. 2017)."""

    @staticmethod
    def sample(logits: torch.Tensor, units: Units, temperature: float) -> torch.Tensor:
        r"""
        The forward pass has values 0 and 1, and the backward pass has the gradient of the relaxed sample. There is one
        draw for each unit. Positions that cannot be selected are 0 before anything is counted.

        Args:
            logits (`torch.FloatTensor` of shape `(batch, positions, 2)`): the scores of leaving out and of selecting,
                equal within a unit.

        Returns:
            `torch.FloatTensor` of shape `(batch, positions)`.
        """
        noise = gumbel_noise(logits).gather(1, units.index.unsqueeze(-1).expand_as(logits))
        soft = ((logits + noise) / temperature).softmax(-1)[..., 1]
        hard = (soft > 0.5).to(soft.dtype)
        # In this form, the forward value is exactly 0 or 1, because soft - soft is 0 whatever the rounding.
        return (hard + (soft - soft.detach())) * units.selectable

    @staticmethod
    def probability(logits: torch.Tensor) -> torch.Tensor:
        """The probability that a position is selected (batch, positions), of logits (batch, positions, 2)."""
        return logits.softmax(-1)[..., 1]

    @classmethod
    def join(cls, logits: torch.Tensor, units: Units) -> torch.Tensor:
        """The logits (batch, positions, 2) of whole units, of those of their parts: a unit has the mean probability of
        its parts."""
        selected = mean_over_units(cls.probability(logits), units).clamp(1e-6, 1 - 1e-6)
        return torch.stack([1 - selected, selected], dim=-1).log()


class KumaraswamySampler:
    """The stretched and rectified Kumaraswamy distribution (HardKuma, Bastings et al. 2019, section 3): its gates are
    0 or 1 with positive probability, lie between them otherwise, and have a gradient without a straight-through
    estimate."""

    low, high = -0.1, 1.1  # the interval to which a sample from (0, 1) is stretched before it is cut to [0, 1]

    @classmethod
    def sample(cls, logits: torch.Tensor, units: Units, temperature: float) -> torch.Tensor:
        """As of [`GumbelSampler`], but the values lie in [0, 1]. The two logits give the shapes a and b, and
        `temperature` has no effect."""
        b, a = cls._shapes(logits)
        noise = uniform_noise(logits[..., 0]).gather(1, units.index).clamp(1e-6, 1 - 1e-6)
        sample = (1 - (1 - noise) ** (1 / b)).clamp(1e-6, 1 - 1e-6) ** (1 / a)
        return (cls.low + (cls.high - cls.low) * sample).clamp(0, 1) * units.selectable

    @classmethod
    def probability(cls, logits: torch.Tensor) -> torch.Tensor:
        """The probability that a gate is not 0 (batch, positions), of logits (batch, positions, 2)."""
        b, a = cls._shapes(logits)
        return (1 - (-cls.low / (cls.high - cls.low)) ** a) ** b

    @staticmethod
    def join(logits: torch.Tensor, units: Units) -> torch.Tensor:
        """As of [`GumbelSampler`], but a unit has the mean logits of its parts."""
        return torch.stack([mean_over_units(one, units) for one in logits.unbind(-1)], dim=-1)

    @staticmethod
    def _shapes(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return F.softplus(logits).clamp(1e-2, 1e2).unbind(-1)


SAMPLERS = {"gumbel": GumbelSampler, "kumaraswamy": KumaraswamySampler}


# --- Gradients of two players in one pass ----------------------------------------------------------------------------


def cut_off(mask: torch.Tensor) -> torch.Tensor:
    """sg(m): the same mask without a gradient to the player that selected it (see [`through`])."""
    return mask.detach().requires_grad_()


def through(loss: torch.Tensor, read: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    r"""
    `loss` with the parameters of the predictor fixed: its gradient goes only through `mask`, to the player that
    selected it.

    One pass of the predictor serves two players, because the graph is kept for the losses that train the predictor.
    Only the gradient with respect to `read` is computed here, which visits no parameter. (In float16 it is computed
    before the loss is scaled up, so that small gradients lose digits. bfloat16 has no such limit.)

    Args:
        loss (`torch.FloatTensor`, a scalar): what the player pays for its selection.
        read (`torch.FloatTensor` of shape `(batch, positions)`): the mask that the predictor has read, which is `mask`
            or `cut_off(mask)`.
        mask (`torch.FloatTensor` of shape `(batch, positions)`): the mask of the player.
    """
    (slope,) = torch.autograd.grad(loss, read, retain_graph=True)
    return loss.detach() + (slope * (mask - mask.detach())).sum()


def through_excess(
    losses: torch.Tensor,
    read: torch.Tensor,
    mask: torch.Tensor,
    others: torch.Tensor,
    other_read: torch.Tensor,
    other_mask: torch.Tensor,
    margin: float = 0.0,
) -> torch.Tensor:
    r"""
    max(0, mean(losses − others) + margin) with the parameters of both predictors fixed (see [`through`]).

    The maximum is taken of the mean. Of single examples, it would count what one predictor knows better by chance and
    not what it knows less, so that two predictors would differ wherever they are sure of anything.

    Args:
        losses, others (`torch.FloatTensor` of shape `(batch,)`): of two predictors.
        read, mask, other_read, other_mask: the masks that they have read, and those of the player.
    """
    counts = ((losses - others).mean() + margin > 0).detach()
    excess = through(counts * losses.mean(), read, mask)
    return excess + through(counts * (margin - others.mean()), other_read, other_mask)


# --- Budgets, decoding and calibration -------------------------------------------------------------------------------


def budget_mask(
    scores: torch.Tensor, units: Units, ratio: float | torch.Tensor | None = None, top_k: int | None = None
) -> torch.Tensor:
    r"""
    Select the units of each input that have the highest scores (batch, positions): `top_k` of them, or the share
    `ratio` of the input's weight. A unit is taken if at least half of it fits into the share. For units of equal
    weight, this rounds their number to the nearest integer. At least one unit is selected, and none at a ratio of 0.
    Among equal scores the first wins.

    Args:
        ratio (`float` or `torch.FloatTensor` of shape `(batch, 1)`): the share.
    """
    order = scores.masked_fill(~units.first, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    if ratio is None:
        taken = places < top_k
    else:
        ratio = torch.as_tensor(ratio, device=scores.device)
        weights = units.weights.gather(1, order)
        before = weights.cumsum(1) - weights
        share = ratio * weights.sum(1, keepdim=True) + 1e-5  # thirds of a word do not add up exactly
        taken = ((before + weights / 2 <= share) | (places == 0)) & (ratio > 0)
    chosen = torch.zeros_like(units.first).scatter(1, order, taken) & units.first
    return units.spread(chosen).to(scores.dtype)


def threshold_mask(scores: torch.Tensor, units: Units, threshold: float) -> torch.Tensor:
    """Select the units whose score (batch, positions) reaches `threshold`."""
    return ((scores >= threshold) & units.selectable).to(scores.dtype)


def spans_mask(scores: torch.Tensor, units: Units, threshold: float, switch_cost: float) -> torch.Tensor:
    r"""
    Select the spans of units with the largest sum of weight × (score − threshold), where every start and every stop
    costs `switch_cost`. This is exact, by dynamic programming over the units in their order. Of equally good
    selections, the result is one in which no unit could be left out. A higher threshold never selects more.

    Args:
        scores (`torch.FloatTensor` of shape `(batch, positions)`): scores, equal within a unit.
    """
    gains = (scores.detach().double() - threshold) * units.weights
    gains = torch.zeros_like(gains).scatter_add(1, units.index, gains)
    reachable = torch.zeros_like(units.selectable).scatter(1, units.index, units.selectable)
    gains = gains.masked_fill(~reachable, -torch.inf).cpu().numpy()
    outside, inside = np.zeros(len(gains)), np.full(len(gains), -np.inf)
    stopped, stayed = np.zeros_like(gains, dtype=bool), np.zeros_like(gains, dtype=bool)
    for place, gain in enumerate(gains.T):
        # The best sums of the units so far, with this one outside and inside of the selection.
        stop, start = inside - switch_cost, outside - switch_cost
        stopped[:, place], stayed[:, place] = stop > outside, inside > start
        outside, inside = np.maximum(outside, stop), gain + np.maximum(inside, start)
    chosen, selected = np.zeros_like(stopped), inside - switch_cost > outside
    for place in reversed(range(gains.shape[1])):
        chosen[:, place] = selected
        selected = np.where(selected, stayed[:, place], stopped[:, place])
    chosen = torch.from_numpy(chosen).to(scores.device).gather(1, units.index)
    return (chosen & units.selectable).to(scores.dtype)


# (scores, units, threshold) -> mask. It sees whole inputs, so that it may look at the neighbours of a unit.
Decoder = Callable[[torch.Tensor, Units, float], torch.Tensor]


def calibrate_threshold(
    inputs: Iterable[tuple[torch.Tensor, Units]], sparsity: float, decode: Decoder = threshold_mask
) -> float:
    r"""
    The threshold at which `decode` selects the share `sparsity` of the weight of all units. The shares of single
    inputs can differ. The threshold lies midway between two scores, so that rounding does not change what is selected.

    Args:
        inputs: scores (batch, positions) and units of all batches.
        sparsity: the share.
        decode: how a mask is made from scores. It must not select more at a higher threshold.

    Raises:
        ValueError: if no input has anything that can be selected.
    """
    inputs = list(inputs)
    scores = [scores[units.first].double() for scores, units in inputs]
    scores = torch.cat(scores).unique() if scores else torch.empty(0)
    if not scores.numel():
        raise ValueError("The threshold cannot be calibrated, because no input has a unit that can be selected.")
    total = sum(float(units.weights.sum()) for _, units in inputs)
    target = max(round(sparsity * total), 1)
    # Between each score and the next lower one lies one candidate. The lowest score is itself a candidate.
    candidates = [float(scores[0]), *((scores[1:] + scores[:-1]) / 2).tolist()]

    def selected(threshold: float) -> float:
        return sum(float((decode(scores, units, threshold) * units.weights).sum()) for scores, units in inputs)

    low, high = 0, len(candidates)  # the highest candidate that selects at least the target
    while high - low > 1:
        middle = (low + high) // 2
        if selected(candidates[middle]) >= target:
            low = middle
        else:
            high = middle
    return candidates[low]


# The arguments that say how much is selected.
BUDGETS = ("rationale_ratio", "rationale_top_k", "rationale_threshold")


def check_budget(ratio: float | None, top_k: int | None, threshold: float | None):
    """Raises `ValueError` if a budget is out of range, or if more than one is given."""
    given = {"rationale_ratio": ratio, "rationale_top_k": top_k, "rationale_threshold": threshold}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"Only one budget can be given, but there are {given}")
    for name in ("rationale_ratio", "rationale_threshold"):
        if name in given and not (_is_number(given[name], Real) and 0 <= given[name] <= 1):
            raise ValueError(f"{name} must be a number in [0, 1], but is {given[name]!r}")
    if top_k is not None and not (_is_number(top_k, Integral) and top_k >= 0):
        raise ValueError(f"rationale_top_k must be a whole number of at least 0, but is {top_k!r}")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
