"""How steep the predictor is: an estimate of its Lipschitz constant (VER, figure 4, appendix A.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..modeling.base import RationalePreTrainedModel
from ..modeling.outputs import RationaleInputs
from ..reading import NotMeasurableError, encode, read_batches
from .figures import panels


@dataclass(frozen=True)
class Lipschitz:
    r"""
    Args:
        estimate (`float`): the largest of `norms`, VER's approximation of the Lipschitz constant.
        norms (`list[float]`): of every text from whose rationale the model decides, the norm of the mean over the
            rationale's tokens of the gradient of the predicted label's probability with respect to the word vector.
    """

    estimate: float
    norms: list[float]

    def figure(self) -> Figure:
        """How the texts spread (VER's figure 4 has the largest alone, over the epochs of training)."""
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
    Estimate the Lipschitz constant of the predictor on the rationales that the model selects. Texts in which it
    selects nothing are left out.

    With two labels, the two probabilities have gradients of one norm, so it does not matter whose is taken.

    Args:
        model: a rationale model; it stays as it is.
        dataset: texts; the paper takes the training set.
        tokenizer: the model's.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        NotMeasurableError: (a `ValueError`) where the model selects nothing in any text.
    """
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
        raise NotMeasurableError("The model selects nothing in any text, so that its predictor reads nothing.")
    return Lipschitz(max(norms), np.sort(norms).tolist())


def _gradient(model: RationalePreTrainedModel, inputs: RationaleInputs, mask: torch.Tensor) -> torch.Tensor:
    """Of the predicted label's probability with respect to the word vectors: (batch, seq, vector size)."""
    vectors = []

    def open_to_gradients(module: nn.Module, args, output: torch.Tensor) -> torch.Tensor:
        vectors.append(output.detach().requires_grad_())
        return vectors[-1]

    hook = model.reader.get_input_embeddings().register_forward_hook(open_to_gradients)
    for module in model.reader.modules():
        if isinstance(module, nn.RNNBase):
            module.training = True  # cuDNN has no backward pass for a GRU at rest; it has no dropout of its own
    try:
        # Asked for its states, an encoder reads all positions at once, so there is one gradient for each.
        inputs = inputs._replace(options={"output_hidden_states": True})
        with torch.enable_grad():
            probability = model.predict(inputs, mask).logits.float().softmax(-1).amax(-1)
            return torch.autograd.grad(probability.sum(), vectors)[0]
    finally:
        hook.remove()
