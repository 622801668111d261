"""How much the selection changes from one step of training to the next (VER, equation 7, figure 2)."""

from __future__ import annotations

import torch
from datasets import Dataset
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ..reading import encode, read_batches
from .figures import curves, panels


class SelectionChange(TrainerCallback):
    r"""
    Measures, while a model is trained, how many of the words that it selects in one text are others after a step:
    ‖m₁ − m₂‖₁ / (‖m₁‖₁ + ‖m₂‖₁), the mean over the texts; 0 where nothing is selected before and after. Masks are
    sampled as in training, but both with the same noise, so that what changes is the extractor alone (the paper's
    share has what the noise changes in it). Training goes on as it would without.

    Args:
        dataset: some texts, such as a batch of the training set.
        tokenizer: the model's.
        every (`int`, *optional*, defaults to 10): measure in every so many steps.

    Attributes:
        steps (`list[int]`): where it was measured.
        non_overlap (`list[float]`): what was.
    """

    def __init__(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, every: int = 10):
        self.dataset, self.tokenizer, self.every = dataset, tokenizer, every
        self.steps: list[int] = []
        self.non_overlap: list[float] = []
        self._before: list[torch.Tensor] = []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every == 0:
            self._before = self._select(model, args)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if self._before:
            changes = [
                (before - after).abs().sum(1) / (before + after).sum(1).clamp_min(1)
                for before, after in zip(self._before, self._select(model, args), strict=True)
            ]
            self.steps.append(state.global_step)
            self.non_overlap.append(float(torch.cat(changes).mean()))
            self._before = []

    def figure(self) -> Figure:
        """VER's figure 2 (a)."""
        figure, (axes,) = panels(1)
        curves(axes, self.steps, {"": self.non_overlap}, "step", "changed share of the selection")
        return figure

    @torch.no_grad()
    def _select(self, model, args) -> list[torch.Tensor]:
        """The masks of words (batch, words) of every batch."""
        self.dataset = encode(self.dataset, self.tokenizer, model, args.max_length)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return [
                batch.marks_of(model.select(batch.inputs, sample=True).mask.float())
                for batch in read_batches(model, self.dataset, self.tokenizer, args.train_batch_size, "selecting")
            ]
