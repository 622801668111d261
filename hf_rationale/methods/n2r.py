"""N2R and N2R+MMI: from the norm of a representation to the rationale (equations 8 to 13)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..masking import cut_off, through
from ..modeling_outputs import Prediction, RationaleInputs
from ..trainer import RationaleTrainer


class N2RTrainer(RationaleTrainer):
    r"""
    The extractor looks for what the predictor makes use of, and not for what lowers its loss:

        extractor: min_E −log ‖Enc(z)‖₂ + Ω(m), the predictor fixed     (8)
        predictor: min_P CE(P(sg(z)), y)                                (9)

    On a model with full-text terms, such as PLMR's by default, the extractor has these on top, and they see the label;
    pure N2R there needs `full_text_weight=0` and `match_weight=0`.

    Args:
        norm_weight (`float`, *optional*, defaults to 1.0): weight of the norm, against Ω.
        schedule (`str`, *optional*, defaults to `"joint"`): `"joint"`: both players step at once, after one pass of
            each. `"alternating"`: the predictor steps first, then the extractor on the same batch, with another sample
            of its mask, as in the paper (appendix A.3); twice the time.

    Raises:
        ValueError: where the two players share weights, which cannot be trained and fixed at once.
    """

    description = (
        "N2R: the extractor maximizes the norm of the predictor's representation, the predictor alone the likelihood."
    )
    model_options = {"share_encoder": False}

    def __init__(self, model, *args, norm_weight: float = 1.0, schedule: str = "joint", **kwargs):
        if not 0 <= norm_weight < float("inf"):
            raise ValueError(f"norm_weight is a finite weight of at least 0; got {norm_weight}")
        if schedule not in ("joint", "alternating"):
            raise ValueError(f"schedule is 'joint' or 'alternating'; got {schedule!r}")
        if not model.config.share_encoder and model.shared_weights:
            raise ValueError(
                "N2R trains the extractor with the predictor fixed, and the two share embeddings that are trained. "
                "Freeze these, or make the model without tie_word_embeddings (PLMR: with freeze_embeddings)."
            )
        self.norm_weight, self.schedule = norm_weight, schedule
        super().__init__(model, *args, **kwargs)

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        z = self.rationale(mask)
        prediction = self.read(model, inputs, z)
        norm = -self.norm_weight * log_norm(prediction.representation).mean()
        return prediction, {
            "cross_entropy": F.cross_entropy(prediction.logits.float(), inputs.labels),
            "norm": through(norm, z, mask),
        }

    def rationale(self, mask: torch.Tensor) -> torch.Tensor:
        """sg(z): the cross-entropy does not reach the extractor."""
        return cut_off(mask)

    def training_step(self, model: nn.Module, inputs, num_items_in_batch=None) -> torch.Tensor:
        if self.schedule == "joint":
            return super().training_step(model, inputs, num_items_in_batch)
        predictor = self.accelerator.unwrap_model(self.model).predictor
        if inputs is self._micro_batches[0]:
            self.step_alone(model, predictor)
        loss = super().training_step(model, inputs, num_items_in_batch)
        predictor.zero_grad()
        return loss


class N2RMMITrainer(N2RTrainer):
    r"""
    N2R with the maximum mutual information criterion of RNP on top: both players have the cross-entropy, the extractor
    the norm as well.

        extractor: min_E CE(P(z), y) − log ‖Enc(z)‖₂ + Ω(m)      (11)
        predictor: min_P CE(P(z), y)                              (12)

    Arguments and errors are those of [`N2RTrainer`].
    """

    description = "N2R+MMI: RNP whose extractor also maximizes the norm of the predictor's representation."

    def rationale(self, mask: torch.Tensor) -> torch.Tensor:
        return mask


def log_norm(representation: torch.Tensor) -> torch.Tensor:
    """log ‖Enc(z)‖₂ of each text (batch,), of representations (batch, hidden); finite also where they are zero."""
    return (representation.float().norm(dim=-1) + 1e-6).log()
