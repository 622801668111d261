"""FR: folded rationalization with a unified encoder (Liu et al. 2022)."""

from __future__ import annotations

from ..trainer import RationaleTrainer


class FRTrainer(RationaleTrainer):
    r"""
    RNP's objective on a model whose two players share one encoder: what the extractor knows of a word, the predictor
    knows as well, so that neither can lead the other astray.

    The encoder gets its gradient as the extractor's and as the predictor's, in one sum. A model with two encoders is
    refused.
    """

    description = "FR (Liu et al. 2022): RNP with one encoder shared by extractor and predictor."
    model_options = {"share_encoder": True}
