"""PLMR: rationalization in pretrained language models (section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments


@dataclass
class PLMRArguments(RationaleTrainingArguments):
    r"""
    [`RationaleTrainingArguments`] in which the full-text term is switched on. As in the public code,
    `full_text_weight` is 2 and `match_weight` is 1: in 2 L_x + (L_r − L_x), L_x remains in the sum, while the paper's
    equation 17 with h(x) = x cancels it.
    """

    full_text_weight: float = field(
        default=2.0, metadata={"help": "Weight of the cross-entropy of the predictor on the full text."}
    )
    match_weight: float = field(
        default=1.0, metadata={"help": "Weight of the excess of the rationale's cross-entropy over the full text's."}
    )


class PLMRTrainer(RationaleTrainer):
    r"""
    The objective of RNP and the full-text term, on one encoder that is split by depth:

        min_{E,P} L_r + w L_x + λ h(L_r − L_x) + L_s      (17)

    The layers are those of [`PlmrForSequenceClassification`], and w and λ are `full_text_weight` and `match_weight` of
    [`PLMRArguments`]. All methods except FR can train that model, alone or composed with this one.

    Raises:
        ValueError: if the model is not split by depth, as [`PlmrForSequenceClassification`] is.
    """

    name = "plmr"
    description = "PLMR: one encoder is split by depth and regularized by its own prediction from the full text."
    paper = "Yuan et al., KDD 2025"
    arguments_class = PLMRArguments
    model_options = {"split_by_depth": True, "share_encoder": False}
