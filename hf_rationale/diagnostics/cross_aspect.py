"""What models of one aspect say of the others (PLMR, section 4.1.1, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from datasets import Dataset
from matplotlib.figure import Figure
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..faithfulness import classify
from ..metrics import classification_scores
from ..reading import encode_labelled
from .figures import bars, panels


@dataclass(frozen=True)
class CrossAspect:
    r"""
    Args:
        f1 (`dict[str, dict[str, float]]`): of the model of each aspect (outer), the macro F1 of its labels for each
            aspect (inner). Where the aspects had nothing to do with each other, it would be near chance off the
            diagonal.
    """

    f1: dict[str, dict[str, float]]

    def figure(self) -> Figure:
        """PLMR's figure 3."""
        figure, (axes,) = panels(1)
        aspects = list(next(iter(self.f1.values())))
        heights = {f"trained on {name}": [row[aspect] for aspect in aspects] for name, row in self.f1.items()}
        bars(axes, aspects, heights, "macro F1")
        return figure


def cross_aspect(
    models: Mapping[str, PreTrainedModel],
    datasets: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_length: int | None = None,
) -> CrossAspect:
    r"""
    Have the model of every aspect label the texts of all aspects. High figures for aspects that a model was not
    trained on say that the aspects' labels go together, and that it may decide from the wrong one.

    Args:
        models: by the aspect that they were trained on; rationale models, or classifiers of transformers, as in the
            paper.
        datasets: by aspect, texts with its labels; the same label names.
        tokenizer: that of all the models.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        NotMeasurableError: (a `ValueError`) where there are no labels.
    """
    f1 = {}
    for trained, model in models.items():
        f1[trained] = {}
        for aspect, dataset in datasets.items():
            probabilities = classify(model, dataset, tokenizer, batch_size=batch_size, max_length=max_length)
            labels = encode_labelled(dataset, tokenizer, model, max_length)["labels"][:]
            f1[trained][aspect] = classification_scores(probabilities.argmax(-1), labels)["macro_f1"]
    return CrossAspect(f1)
