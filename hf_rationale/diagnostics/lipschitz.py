"""An estimate of the predictor's Lipschitz constant (VER, figure 4, appendix A.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..modeling.base import RationalePreTrainedModel
from ..modeling.guidance import differentiable
from ..modeling.outputs import RationaleInputs
from ..reading import NotMeasurableError, encode, read_batches
from .figures import panels


@dataclass(frozen=True)
class Lipschitz:
    r"""
    Args:
        estimate (`float`): the largest of `norms`, VER's approximation of the Lipschitz constant.
        norms (`list[float]`): one value for every text with a rationale: the gradient of the predicted label's
            probability with respect to the word vectors, averaged over the tokens of the rationale, and its norm.
    """

    estimate: float
    norms: list[float]

    def figure(self) -> Figure:
        """The distribution over texts. (VER's figure 4 shows the maximum over the epochs of training.)"""
        figure, (axes,) = panels(1)
        axes.hist(self.norms, bins=40)
        axes.axvline(self.estimate, color="black", linestyle=":", label=f"estimate {self.estimate:.3g}")
        axes.set(xlabel="norm of the mean gradient", ylabel="texts", yscale="log")
        axes.legend(frameon=False)
        return figure


def lipschitz(
    model: RationalePreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> Lipschitz:
    r"""
    Estimate the Lipschitz constant of the predictor on the rationales that the model selects. Texts in which nothing
    is selected are left out.

    With two labels, the gradients of the two probabilities have the same norm, so it does not matter which is taken.

    Args:
        model: a rationale model. It is not changed.
        dataset: texts. The paper uses the training set.
        tokenizer: the model's tokenizer.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        NotMeasurableError: (a `ValueError`) if the model selects nothing in any text, or does not read word vectors.
    """
    if model.main_input_name != "input_ids":
        raise NotMeasurableError(f"{type(model).__name__} reads no word vectors, whose gradient could be measured.")
    dataset = encode(dataset, tokenizer, model, max_length)
    norms = []
    for batch in read_batches(model, dataset, tokenizer, batch_size, "taking gradients"):
        with torch.no_grad():
            mask = model.select(batch.inputs).mask
        gradient, selected = _gradient(model, batch.inputs, mask).float(), mask.float()
        count = selected.sum(1)
        mean = (gradient * selected.unsqueeze(-1)).sum(1) / count.clamp_min(1).unsqueeze(-1)
        norms += mean.norm(dim=-1)[count > 0].tolist()
    if not norms:
        raise NotMeasurableError("The model selects nothing in any text, so its predictor reads nothing.")
    return Lipschitz(max(norms), np.sort(norms).tolist())


def _gradient(model: RationalePreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> torch.Tensor:
    """The gradient of the predicted label's probability with respect to the word vectors (batch, seq, vector size)."""
    vectors = []

    def open_to_gradients(module: nn.Module, args, output: torch.Tensor) -> torch.Tensor:
        vectors.append(output.detach().requires_grad_())
        return vectors[-1]

    hook = model.reader.get_input_embeddings().register_forward_hook(open_to_gradients)
    try:
        # An encoder that returns its states is not shortened, so every position has its own gradient.
        inputs = inputs._replace(options={"output_hidden_states": True})
        with torch.enable_grad(), differentiable(model.reader):
            probability = model.predict(inputs, mask).logits.float().softmax(-1).amax(-1)
            return torch.autograd.grad(probability.sum(), vectors)[0]
    finally:
        hook.remove()
