"""RNP: rationalizing neural predictions (Lei et al. 2016, section 4), the baseline of all the other methods."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..modeling_outputs import Prediction, RationaleClassifierOutput, RationaleInputs, Selection
from ..regularizers import coherence, compactness, selected_share


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
    min_{E,P} CE(P(z), y) + Ω(m), with Ω(m) = λ1 | mean(m) − s | + λ2 Σ_t | m_t − m_{t−1} |.

    Args:
        model: with the two halves `select` and `predict`.
        inputs: a batch.
        selection: the extractor's choice, where it has been made already.
        sparsity: s, where it is not the model's (a schedule).
        game: what the players pay for the rationale, where it is not the cross-entropy alone.
    """
    config = model.config
    selection = selection or model.select(inputs)
    prediction, losses = game(model, inputs, selection.mask)
    if losses:
        target = config.sparsity if sparsity is None else sparsity
        losses["compactness"] = config.sparsity_weight * compactness(
            selection.mask, inputs.units, target, config.sparsity_level
        )
        losses["coherence"] = config.coherence_weight * coherence(selection.mask, inputs.units)
    return RationaleClassifierOutput(
        loss=sum(losses.values()) if losses else None,
        logits=prediction.logits,
        rationale_mask=selection.mask,
        rationale_scores=selection.scores,
        hidden_states=prediction.hidden_states,
        attentions=prediction.attentions,
        losses=losses | {"sparsity": selected_share(selection.mask.detach(), inputs.units).mean()} if losses else None,
    )
