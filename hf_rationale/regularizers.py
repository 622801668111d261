"""Ω(m), what every method asks of a mask, whatever it says (Lei et al. 2016; Chang et al. 2020); PLMR's L_match."""

from __future__ import annotations

import torch

from .configuration_base import RationaleBaseConfig
from .masking import Units


def regularize(
    config: RationaleBaseConfig, masks: tuple[torch.Tensor, ...], units: Units, shares: list[float]
) -> dict[str, torch.Tensor]:
    r"""
    λ1 and λ2 times compactness and coherence, the mean over the stages of extraction: one, or PLMR's Dim-Reduction
    layers (PLMR, equation 13).

    Args:
        masks (`tuple[torch.FloatTensor]`, each of shape `(batch, seq)`): the training mask after every stage.
        shares (`list[float]`): what every stage is to leave.
    """
    distance = [
        compactness(mask, units, share, config.sparsity_level) for mask, share in zip(masks, shares, strict=True)
    ]
    changes = [coherence(mask, units) for mask in masks]
    return {
        "compactness": config.sparsity_weight * sum(distance) / len(masks),
        "coherence": config.coherence_weight * sum(changes) / len(masks),
    }


def match(rationale_losses: torch.Tensor, full_text_losses: torch.Tensor, base: float | None = None) -> torch.Tensor:
    r"""
    The mean of h(L_r − L_x) over texts, with h(x) = x, or base^x (PLMR, equation 16). Taken text by text, as inside
    the expectation of equation 17, so that it adds up over micro-batches.

    Args:
        rationale_losses, full_text_losses (`torch.FloatTensor` of shape `(batch,)`): the cross-entropies of each text.
    """
    difference = rationale_losses - full_text_losses
    return (difference if base is None else base**difference).mean()


def selected_share(mask: torch.Tensor, units: Units) -> torch.Tensor:
    """Share of each text's units that `mask` (batch, seq) selects: (batch,). Padding does not count."""
    counted = units.first.float()  # in bfloat16 counts end at 256
    return (mask * counted).sum(1) / counted.sum(1).clamp_min(1)


def compactness(mask: torch.Tensor, units: Units, sparsity: float, level: str = "example") -> torch.Tensor:
    r"""
    | mean(m) − s |: how far the selected share is from the target.

    Args:
        mask (`torch.FloatTensor` of shape `(batch, seq)`): the training mask.
        sparsity (`float`): s.
        level (`str`): `"example"`: the mean over texts of each text's distance, which adds up exactly over gradient
            accumulation and devices. `"batch"`: the distance of the mean share, as the papers' public code has it.

    Returns:
        a scalar.
    """
    if level == "batch":
        counted = units.first.float()
        return ((mask * counted).sum() / counted.sum().clamp_min(1) - sparsity).abs()
    return (selected_share(mask, units) - sparsity).abs().mean()


def coherence(mask: torch.Tensor, units: Units) -> torch.Tensor:
    r"""
    Σ_t | m_t − m_{t−1} | per unit of text, averaged over texts: how often selection starts or stops. Only neighbours
    that can both be selected are compared, and the average is over real units, so that neither padding nor its length
    matters.

    Args:
        mask (`torch.FloatTensor` of shape `(batch, seq)`): the training mask.

    Returns:
        a scalar.
    """
    both = (units.selectable[:, 1:] & units.selectable[:, :-1]).float()
    changes = ((mask[:, 1:] - mask[:, :-1]).abs() * both).sum(1)
    return (changes / units.first.sum(1).clamp_min(1)).mean()
