"""The objective: cross-entropy on the rationale, sparsity and coherence penalties on the mask, the full-text term."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from .outputs import Prediction, RationaleClassifierOutput, RationaleInputs, Selection
from .selection import Units, budget_mask


# (model, inputs, selection) -> the predictor's output, and what the players pay for the rationale, by name.
Game = Callable[[PreTrainedModel, RationaleInputs, Selection], tuple[Prediction, dict[str, torch.Tensor]]]
# (model, selection, units, shares) -> Ω, by name.
Penalties = Callable[[PreTrainedModel, Selection, Units, list[float]], dict[str, torch.Tensor]]


def cross_entropy_game(
    model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
) -> tuple[Prediction, dict[str, torch.Tensor]]:
    """CE(P(z), y), the same for both players; no losses if there are no labels."""
    prediction = model.predict(inputs, selection.mask)
    if inputs.labels is None:
        return prediction, {}
    return prediction, {"cross_entropy": cross_entropy(prediction.logits, inputs).mean()}


def cross_entropy(logits: torch.Tensor, inputs: RationaleInputs) -> torch.Tensor:
    """CE(P(z), y) (batch,) of logits (batch, labels), times the weights of the examples if they have any."""
    return weighted(F.cross_entropy(logits.float(), inputs.labels, reduction="none"), inputs)


def weighted(losses: torch.Tensor, inputs: RationaleInputs) -> torch.Tensor:
    """The `losses` (batch,) of the examples, times their weights if they have any."""
    return losses if inputs.weights is None else losses * inputs.weights


# --- Ω(m): sparsity and coherence penalties on a mask ----------------------------------------------------------------


def regularize(
    model: PreTrainedModel, selection: Selection, units: Units, shares: list[float]
) -> dict[str, torch.Tensor]:
    r"""
    λ1 and λ2 times compactness and coherence, each the mean over the stages of extraction: one stage, or PLMR's
    Dim-Reduction layers (PLMR, equation 13).

    Args:
        selection: the training masks and the probabilities after every stage.
        shares (`list[float]`): the share that every stage should keep.
    """
    config = model.config
    if config.sparsity_level == "unit":
        pairs = zip(selection.probabilities, shares, strict=True)
        distances = [prior_divergence(probability, units, share) for probability, share in pairs]
    else:
        pairs = zip(selection.masks, targets(model, selection, units, shares), strict=True)
        distances = [compactness(mask, units, target, config.sparsity_level) for mask, target in pairs]
    changes = [coherence(mask, units) for mask in selection.masks]
    return {
        "compactness": config.sparsity_weight * sum(distances) / len(shares),
        "coherence": config.coherence_weight * sum(changes) / len(shares),
    }


def targets(
    model: PreTrainedModel, selection: Selection, units: Units, shares: list[float]
) -> list[float] | list[torch.Tensor]:
    r"""
    What compactness holds every stage to. A budget selects whole units, and at least one, so that the target of each
    input (batch,) is the share of the units that the budget would select. A text of two sentences has a target of
    about a half, however small the share: otherwise most samples would select nothing, which never happens at
    evaluation. A threshold selects the `shares` over all texts together, and these are then the targets.
    """
    if model.config.decoding == "threshold":
        return shares
    pairs = zip(selection.probabilities, shares, strict=True)
    return [selected_share(budget_mask(scores.detach(), units, share), units) for scores, share in pairs]


def selected_share(mask: torch.Tensor, units: Units) -> torch.Tensor:
    """The share of each input's weight that `mask` (batch, positions) selects: (batch,). Padding does not count."""
    return (mask * units.weights).sum(1) / units.weights.sum(1).clamp_min(1)


def compactness(
    mask: torch.Tensor, units: Units, sparsity: float | torch.Tensor, level: str = "example"
) -> torch.Tensor:
    r"""
    | mean(m) − s |: the distance of the selected share from the target.

    Args:
        mask (`torch.FloatTensor` of shape `(batch, positions)`): the training mask.
        sparsity (`float` or `torch.FloatTensor` of shape `(batch,)`): s, of all inputs or of each.
        level (`str`): `"example"` takes the mean over the inputs of their distances, which adds up exactly over
            gradient accumulation and devices. `"batch"` takes the distance of the mean share, as in the papers' public
            code.

    Returns:
        a scalar.
    """
    excess = selected_share(mask, units) - sparsity
    if level == "batch":
        weight = units.weights.sum(1)
        weight = weight.masked_fill(weight.sum() == 0, 1)  # nothing can be selected
        return (excess * weight).sum().abs() / weight.sum()
    return excess.abs().mean()


def prior_divergence(probabilities: torch.Tensor, units: Units, sparsity: float) -> torch.Tensor:
    r"""
    KL(Bernoulli(p_i) || Bernoulli(s)), the mean over the units of each input by their weights, averaged over inputs
    (the prior of GSAT, Miao et al., ICML 2022).

    Args:
        probabilities (`torch.FloatTensor` of shape `(batch, positions)`): p.
        sparsity (`float`): s.

    Returns:
        a scalar, in nats.
    """
    p = probabilities.float().clamp(1e-6, 1 - 1e-6)
    divergence = p * (p / sparsity).log() + (1 - p) * ((1 - p) / (1 - sparsity)).log()
    return selected_share(divergence, units).mean()


def coherence(mask: torch.Tensor, units: Units) -> torch.Tensor:
    r"""
    Σ | m_i − m_j | over the edges, divided by the weight of the input, averaged over inputs. For a text this is how
    often the selection starts or stops per word. Padding does not count.

    Args:
        mask (`torch.FloatTensor` of shape `(batch, positions)`): the training mask.

    Returns:
        a scalar.
    """
    left, right = units.edges.unbind(-1)
    changes = (mask.gather(1, right) - mask.gather(1, left)).abs().sum(1)
    return (changes / units.weights.sum(1).clamp_min(1)).mean()


# --- The objective ---------------------------------------------------------------------------------------------------


def objective(
    model: PreTrainedModel,
    inputs: RationaleInputs,
    selection: Selection,
    sparsity: float | None = None,
    game: Game = cross_entropy_game,
    penalties: Penalties = regularize,
) -> RationaleClassifierOutput:
    r"""
    min_{E,P} CE(P(z), y) + Ω(m), with Ω(m) = λ1 | mean(m) − s | + λ2 Σ_t | m_t − m_{t−1} | (Lei et al. 2016; Chang et
    al. 2020).

    Args:
        model: a rationale model.
        inputs: a batch.
        selection: what the extractor has selected.
        sparsity: s, if it is not that of the model's configuration (a schedule).
        game: what the players pay for the rationale, if it is not the cross-entropy alone.
        penalties: Ω, if it is another.
    """
    prediction, losses = game(model, inputs, selection)
    if losses:
        shares = model.shares(model.config.sparsity if sparsity is None else sparsity)
        losses |= penalties(model, selection, inputs.units, shares)
    return RationaleClassifierOutput(
        loss=sum(losses.values()) if losses else None,
        logits=prediction.logits,
        rationale_mask=selection.mask,
        rationale_scores=selection.scores,
        hidden_states=prediction.hidden_states,
        attentions=prediction.attentions,
        losses=losses | {"sparsity": selected_share(selection.mask.detach(), inputs.units).mean()} if losses else None,
    )


# --- The full-text term (PLMR), which any method can switch on -------------------------------------------------------


def full_text_terms(
    model: PreTrainedModel,
    inputs: RationaleInputs,
    selection: Selection,
    logits: torch.Tensor,
    full_text_weight: float,
    match_weight: float,
    match_base: float | None = None,
) -> dict[str, torch.Tensor]:
    r"""
    w L_x, and L_match = λ h(L_r − L_x) (PLMR, equations 15 and 16): the predictor also reads everything, and the loss
    on the rationale should not exceed that on the full text. Terms of weight 0 are left out.

    Args:
        logits (`torch.FloatTensor` of shape `(batch, labels)`): the predictor's logits from the rationale.
        full_text_weight: w.
        match_weight: λ.
        match_base: a in h(x) = a^x; without it h(x) = x.
    """
    if not (full_text_weight or match_weight):
        return {}
    everything = inputs.units.selectable.to(selection.mask.dtype)
    full_text = model.predict(inputs, everything, selection.full_text).logits
    l_r, l_x = (cross_entropy(read, inputs) for read in (logits, full_text))
    terms = {}
    if full_text_weight:
        terms["full_text"] = full_text_weight * l_x.mean()
    if match_weight:
        terms["match"] = match_weight * match(l_r, l_x, match_base)
    return terms


def match(rationale_losses: torch.Tensor, full_text_losses: torch.Tensor, base: float | None = None) -> torch.Tensor:
    r"""
    The mean of h(L_r − L_x) over the inputs, with h(x) = x, or base^x (PLMR, equation 16). The difference is taken for
    each input, inside the expectation of equation 17, so that it adds up over micro-batches.

    Args:
        rationale_losses, full_text_losses (`torch.FloatTensor` of shape `(batch,)`): the cross-entropies.
    """
    difference = rationale_losses - full_text_losses
    return (difference if base is None else base**difference).mean()
