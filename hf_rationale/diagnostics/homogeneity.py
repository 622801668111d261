"""How similar the states of tokens become with depth (PLMR, section 4.2, equations 5 to 7, figure 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from tqdm.auto import trange
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..reading import NotMeasurableError, encode, evaluation_mode
from .figures import curves, panels


@dataclass(frozen=True)
class Homogeneity:
    r"""
    Args:
        trace (`list[float]`): tr(Σ) of the embeddings and of the states of every layer, the mean over texts. It is the
            sum over dimensions of the variance of the states over the tokens of a text. Similar states have a small
            one.
        texts (`int`): the number of texts with at least two tokens.
    """

    trace: list[float]
    texts: int

    def figure(self) -> Figure:
        """PLMR's figure 4, for one encoder."""
        figure, (axes,) = panels(1)
        curves(axes, range(len(self.trace)), {"": self.trace}, "layer (0: embeddings)", "tr(Σ)")
        axes.set_xticks(range(len(self.trace)))
        return figure


@torch.no_grad()
def homogeneity(
    encoder: PreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> Homogeneity:
    r"""
    Measure tr(Σ) of every layer, over the real tokens of the full text, including special tokens.

    Args:
        encoder: a transformers encoder, such as the first of a rationale model's `encoders`. (For PLMR, this is the
            part up to the first Dim-Reduction layer.)
        dataset: texts.
        tokenizer: the encoder's tokenizer.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        NotMeasurableError: (a `ValueError`) if no text has two tokens.
    """
    dataset = encode(dataset, tokenizer, encoder, max_length)
    columns = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in dataset.column_names]
    traces = []
    with evaluation_mode(encoder):
        for start in trange(0, len(dataset), batch_size, desc="comparing states", leave=False):
            texts = dataset.select_columns(columns)[start : start + batch_size]
            # Padded on the right, because encoders count positions from the first column.
            batch = tokenizer.pad(texts, padding_side="right", return_tensors="pt").to(encoder.device)
            layers = encoder(**batch, output_hidden_states=True).hidden_states
            trace = torch.stack([_trace(states.float(), batch["attention_mask"]) for states in layers])
            traces.append(trace[:, batch["attention_mask"].sum(1) > 1].cpu().numpy())
    traces = np.concatenate(traces, axis=1)
    if not traces.shape[1]:
        raise NotMeasurableError("No text has two tokens, so there is no variance to measure.")
    return Homogeneity(traces.mean(1).tolist(), traces.shape[1])


def _trace(states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """tr(Σ) (batch,) of the states (batch, seq, hidden) of every text."""
    real, count = attention_mask.unsqueeze(-1), attention_mask.sum(1)
    mean = (states * real).sum(1) / count.unsqueeze(-1)
    return ((states - mean.unsqueeze(1)) * real).square().sum((1, 2)) / (count - 1).clamp_min(1)
