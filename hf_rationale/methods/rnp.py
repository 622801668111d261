"""RNP: rationalizing neural predictions (Lei et al. 2016, section 4), the baseline of all other methods."""

from __future__ import annotations

from ..trainer import RationaleTrainer


class RNPTrainer(RationaleTrainer):
    r"""
    Extractor and predictor minimize the cross-entropy on the rationale, and the extractor minimizes Ω:

        min_{E,P} CE(P(z), y) + Ω(m)

    This is the objective of [`RationaleTrainer`], which the other methods change.
    """
