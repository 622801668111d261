"""FR: folded rationalization with a unified encoder (Liu et al. 2022)."""

from __future__ import annotations

from ..trainer import RationaleTrainer


class FRTrainer(RationaleTrainer):
    r"""
    The objective of RNP on a model whose two players share one encoder. Both players then know the same about every
    word, so that neither can mislead the other.

    The encoder gets the sum of its gradients as extractor and as predictor.

    Raises:
        ValueError: if the model has two encoders.
    """

    name = "fr"
    description = "FR: RNP with one encoder that is shared by extractor and predictor."
    paper = "Liu et al., NeurIPS 2022"
    model_options = {"share_encoder": True}
