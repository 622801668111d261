"""NIR: noise injected into the rationale (Storek et al. 2023, section 3), as N2R, VER and A2I compare with it."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from ..modeling_outputs import Prediction, RationaleInputs
from ..trainer import RationaleTrainer


class NIRTrainer(RationaleTrainer):
    r"""
    RNP, but in training some of the selected words are replaced by noise words before the predictor reads them, so
    that a rationale which says nothing but by some odd word becomes unreliable.

    The noise words are drawn from the texts of the batch, so that common words, which say little, are the likeliest.
    (Storek et al. weigh words by TF-IDF instead: the less a word says, the likelier it is replaced, and to replace.)
    Evaluation is without noise.

    Args:
        noise_rate (`float`, *optional*, defaults to 0.1): probability that a selected word is replaced. N2R, VER and
            A2I report 0.1 as the best of 0.1, 0.2, 0.3.
    """

    description = "NIR (Storek et al. 2023): RNP whose rationales have, in training, noise words injected."

    def __init__(self, *args, noise_rate: float = 0.1, **kwargs):
        if not 0 <= noise_rate <= 1:
            raise ValueError(f"noise_rate is a probability, in [0, 1]; got {noise_rate}")
        self.noise_rate = noise_rate
        super().__init__(*args, **kwargs)

    def read(self, model: PreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> Prediction:
        noise, tokens = noise_words(inputs)
        replaced = (mask > 0) & (noise.gather(1, inputs.units.index) < self.noise_rate)  # whole words, or none of one
        tokens = {**inputs.tokens, "input_ids": torch.where(replaced, tokens, inputs.tokens["input_ids"])}
        return super().read(model, inputs._replace(tokens=tokens), mask)


def noise_words(inputs: RationaleInputs) -> tuple[torch.Tensor, torch.LongTensor]:
    """For every place (batch, seq), noise uniform in [0, 1), and a token drawn from those of the batch."""
    tokens, selectable = inputs.tokens["input_ids"], inputs.units.selectable
    weights = selectable.flatten().float()
    weights = weights + (weights.sum() == 0)  # where nothing can be selected, nothing is replaced, whatever is drawn
    drawn = weights.multinomial(tokens.numel(), replacement=True)
    return torch.rand(tokens.shape, device=tokens.device), tokens.flatten()[drawn].view_as(tokens)
