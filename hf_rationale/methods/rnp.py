"""RNP: rationalizing neural predictions (Lei et al. 2016, section 4), the baseline of all the other methods."""

from __future__ import annotations

from torch.nn import functional as F
from transformers import PreTrainedModel

from ..modeling_outputs import RationaleClassifierOutput, RationaleInputs, Selection
from ..regularizers import coherence, compactness, selected_share


def rnp(
    model: PreTrainedModel,
    inputs: RationaleInputs,
    selection: Selection | None = None,
    sparsity: float | None = None,
) -> RationaleClassifierOutput:
    r"""
    min_{E,P} CE(P(z), y) + Ω(m), with Ω(m) = λ1 | mean(m) − s | + λ2 Σ_t | m_t − m_{t−1} |.

    Args:
        model: with the two halves `select` and `predict`.
        inputs: a batch.
        selection: the extractor's choice, where it has been made already.
        sparsity: s, where it is not the model's (a schedule).
    """
    config = model.config
    selection = selection or model.select(inputs)
    prediction = model.predict(inputs, selection.mask)
    loss = losses = None
    if inputs.labels is not None:
        target = config.sparsity if sparsity is None else sparsity
        losses = {
            "cross_entropy": F.cross_entropy(prediction.logits.float(), inputs.labels),
            "compactness": config.sparsity_weight
            * compactness(selection.mask, inputs.units, target, config.sparsity_level),
            "coherence": config.coherence_weight * coherence(selection.mask, inputs.units),
        }
        loss = sum(losses.values())
        losses["sparsity"] = selected_share(selection.mask.detach(), inputs.units).mean()
    return RationaleClassifierOutput(
        loss=loss,
        logits=prediction.logits,
        rationale_mask=selection.mask,
        rationale_scores=selection.scores,
        hidden_states=prediction.hidden_states,
        attentions=prediction.attentions,
        losses=losses,
    )
