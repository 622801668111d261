"""How much the selection changes from one training step to the next (VER, equation 7, figure 2)."""

from __future__ import annotations

import torch
from datasets import Dataset
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ..reading import encode, read_batches
from .figures import curves, panels


class SelectionChange(TrainerCallback):
    r"""
    Measures during training how much the selection of a text changes in one step:
    ‖m₁ − m₂‖₁ / (‖m₁‖₁ + ‖m₂‖₁), the mean over texts, and 0 if nothing is selected before and after. Both masks are
    sampled with the same noise, so that only changes of the extractor count. (The paper's measure includes the changes
    of the noise.) The random numbers of training are not changed.

    Args:
        dataset: some texts, such as a batch of the training set.
        tokenizer: the model's tokenizer.
        every (`int`, *optional*, defaults to 10): measure at every n-th step.

    Attributes:
        steps (`list[int]`): the steps that were measured.
        non_overlap (`list[float]`): the measure at each of them.
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
        """The selected words (batch, words) of every batch."""
        self.dataset = encode(self.dataset, self.tokenizer, model, args.max_length)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return [
                batch.marks_of(model.select(batch.inputs, sample=True).mask.float())
                for batch in read_batches(model, self.dataset, self.tokenizer, args.train_batch_size, "selecting")
            ]
