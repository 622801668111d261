"""Inter_RAT: interventional rationalization by a backdoor adjustment (Yue et al. 2023)."""

from __future__ import annotations

from ..trainer import RationaleTrainer


class InterRATTrainer(RationaleTrainer):
    r"""
    The objective of RNP on a model whose heads are adjusted for confounders. A dictionary has a vector c_k for each
    class. What the head reads of a state h is completed by what the dictionary says of it, so that the head does not
    have to read it from the correlations in the texts:

        Linear([h ; Σ_k P(c_k) a_k c_k]),    a = softmax_k(h · c_k),    P(c_k) = 1/K

    h is the state of a word for the extractor, and the representation of the rationale for the predictor. Each head
    has a dictionary of its own, which is trained with it, as in the public code. (There, both share one, and P(c) of
    beer reviews is .95 for the positive class.)

    Raises:
        ValueError: if the model's heads have no backdoor adjustment.
    """

    name = "inter_rat"
    description = "Inter_RAT: RNP whose heads are adjusted for confounders by a dictionary."
    paper = "Yue et al., EMNLP 2023"
    model_options = {"backdoor_adjustment": True}
