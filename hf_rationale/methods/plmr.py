"""PLMR: rationalization in pretrained language models (section 5)."""

from __future__ import annotations

from ..trainer import RationaleTrainer


class PLMRTrainer(RationaleTrainer):
    r"""
    RNP's game on one encoder split by depth, with the full-text terms that its config asks for:

        min_{E,P} L_r + w L_x + λ h(L_r − L_x) + L_s      (17)

    All of it is the model's: [`PlmrForSequenceClassification`] has the layers, [`PlmrConfig`] the weights. The other
    methods but FR train that model as well, alone or composed with this one, which refuses any other.
    """

    description = "PLMR: one encoder split by depth, regularized by its own prediction from the full text."
    model_options = {"model_type": "plmr", "share_encoder": False}
