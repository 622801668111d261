"""FR: folded rationalization with a unified encoder (Liu et al. 2022)."""

from __future__ import annotations

from ..trainer import RationaleTrainer


class FRTrainer(RationaleTrainer):
    r"""
    RNP's objective on a model whose two players share one encoder: what the extractor knows of a word, the predictor
    knows as well, so that neither can lead the other astray.

    The encoder gets its gradient as the extractor's and as the predictor's, in one sum.

    Raises:
        ValueError: where the model has two encoders.
    """

    description = "FR (Liu et al. 2022): RNP with one encoder shared by extractor and predictor."
    model_options = {"share_encoder": True}

    def __init__(self, model, *args, **kwargs):
        if not model.config.share_encoder:
            raise ValueError(
                "FR trains a model with one encoder, and this one has two. Make it with "
                "RationaleForSequenceClassification.from_encoder_pretrained(…, share_encoder=True)."
            )
        super().__init__(model, *args, **kwargs)
