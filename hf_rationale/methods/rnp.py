"""RNP: rationalizing neural predictions (Lei et al. 2016, section 4), the baseline of all the other methods."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..modeling_outputs import Prediction, RationaleClassifierOutput, RationaleInputs, Selection
from ..regularizers import match, regularize, selected_share


Game = Callable[
    [PreTrainedModel, RationaleInputs, torch.Tensor], tuple[Prediction, dict[str, torch.Tensor]]
]  # (model, inputs, mask) -> what the predictor makes of it, and what the players pay for it


def rnp_game(
    model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
) -> tuple[Prediction, dict[str, torch.Tensor]]:
    """CE(P(z), y), the same for both players; no losses where there are no labels."""
    prediction = model.predict(inputs, mask)
    if inputs.labels is None:
        return prediction, {}
    return prediction, {"cross_entropy": F.cross_entropy(prediction.logits.float(), inputs.labels)}


def rnp(
    model: PreTrainedModel,
    inputs: RationaleInputs,
    selection: Selection | None = None,
    sparsity: float | None = None,
    game: Game = rnp_game,
) -> RationaleClassifierOutput:
    r"""
    min_{E,P} CE(P(z), y) + Ω(m), with Ω(m) = λ1 | mean(m) − s | + λ2 Σ_t | m_t − m_{t−1} |; and, in training, the
    full-text terms where the model's config gives them a weight, as PLMR's does.

    Args:
        model: with the two halves `select` and `predict`.
        inputs: a batch.
        selection: the extractor's choice, where it has been made already.
        sparsity: s, where it is not the model's (a schedule).
        game: what the players pay for the rationale, where it is not the cross-entropy alone.
    """
    selection = selection or model.select(inputs)
    prediction, losses = game(model, inputs, selection.mask)
    if losses:
        shares = model.shares(model.config.sparsity if sparsity is None else sparsity)
        losses |= regularize(model.config, selection.masks, inputs.units, shares)
        if model.training:
            losses |= full_text_terms(model, inputs, selection, prediction.logits)
    return RationaleClassifierOutput(
        loss=sum(losses.values()) if losses else None,
        logits=prediction.logits,
        rationale_mask=selection.mask,
        rationale_scores=selection.scores,
        hidden_states=prediction.hidden_states,
        attentions=prediction.attentions,
        losses=losses | {"sparsity": selected_share(selection.mask.detach(), inputs.units).mean()} if losses else None,
    )


def full_text_terms(
    model: PreTrainedModel, inputs: RationaleInputs, selection: Selection, logits: torch.Tensor
) -> dict[str, torch.Tensor]:
    """L_x, and L_match = λ h(L_r − L_x), weights included (PLMR, equations 15 and 16); those that have a weight.

    `logits` (batch, labels) are the predictor's, from the rationale.
    """
    config = model.config
    if not (config.full_text_weight or config.match_weight):
        return {}
    everything = inputs.units.selectable.to(model.dtype)
    full_text = model.predict(inputs, everything, selection.full_text).logits
    l_r, l_x = (F.cross_entropy(read.float(), inputs.labels, reduction="none") for read in (logits, full_text))
    terms = {
        "full_text": config.full_text_weight * l_x.mean(),
        "match": config.match_weight * match(l_r, l_x, config.match_base),
    }
    return {name: term for name, term in terms.items() if getattr(config, f"{name}_weight")}
