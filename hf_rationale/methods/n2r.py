"""N2R and N2R+MMI: the norm of the predictor's representation as the extractor's objective (equations 8 to 13)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ..modeling.objective import cross_entropy
from ..modeling.outputs import Prediction, RationaleInputs, Selection
from ..modeling.selection import cut_off, through
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class N2RArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] with the number of [`N2RTrainer`].

    Args:
        norm_weight (`float`, *optional*, defaults to 1.0): weight of the norm in the extractor's objective.
    """

    norm_weight: float = field(default=1.0, metadata={"help": "N2R: weight of the norm in the extractor's objective."})

    def __post_init__(self):
        self.check_weights("norm_weight")
        super().__post_init__()


class N2RTrainer(RationaleTrainer):
    r"""
    The extractor maximizes how strongly the predictor responds to the rationale, instead of lowering the predictor's
    loss:

        extractor: min_E −log ‖Enc(z)‖₂ + Ω(m), the predictor fixed     (8)
        predictor: min_P CE(P(sg(z)), y)                                (9)

    Both players step at once, after one pass of each. (The paper alternates, see appendix A.3.) With a full-text term,
    as by default in [`PLMRArguments`], the extractor also gets the gradient of that term, which depends on the label.
    For pure N2R set `full_text_weight=0` and `match_weight=0`.

    Raises:
        ValueError: if the two players share trained weights, which cannot be trained and fixed at once.
    """

    name = "n2r"
    description = "N2R: the extractor maximizes the norm of the predictor's representation."
    paper = "Liu et al., ICLR 2025"
    arguments_class = N2RArguments
    model_options = {"share_encoder": False}
    replaces_game = separates_players = True

    def game(
        self, model: PreTrainedModel, inputs: RationaleInputs, selection: Selection
    ) -> tuple[Prediction, dict[str, torch.Tensor]]:
        z = self.rationale(selection.mask)
        prediction = self.read(model, inputs, z)
        norm = -self.args.norm_weight * log_norm(prediction.representation).mean()
        return prediction, {
            "cross_entropy": cross_entropy(prediction.logits, inputs).mean(),
            "norm": through(norm, z, selection.mask),
        }

    def rationale(self, mask: torch.Tensor) -> torch.Tensor:
        """sg(z): the cross-entropy does not reach the extractor."""
        return cut_off(mask)


class N2RMMITrainer(N2RTrainer):
    r"""
    N2R with the maximum mutual information criterion of RNP: both players minimize the cross-entropy, and the
    extractor also maximizes the norm.

        extractor: min_E CE(P(z), y) − log ‖Enc(z)‖₂ + Ω(m)      (11)
        predictor: min_P CE(P(z), y)                              (12)

    Arguments and errors are those of [`N2RTrainer`].
    """

    name = "n2r_mmi"
    description = "N2R+MMI: RNP whose extractor also maximizes the norm of the predictor's representation."

    def rationale(self, mask: torch.Tensor) -> torch.Tensor:
        return mask


def log_norm(representation: torch.Tensor) -> torch.Tensor:
    """log ‖Enc(z)‖₂ (batch,) of representations (batch, hidden). It is finite even if they are zero."""
    return (representation.float().norm(dim=-1) + 1e-6).log()
