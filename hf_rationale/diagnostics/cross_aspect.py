"""How well models of one aspect predict the labels of the other aspects (PLMR, section 4.1.1, figure 3)."""

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
        f1 (`dict[str, dict[str, float]]`): for the model of each aspect (outer key), the macro F1 on the labels of
            each aspect (inner key). If the aspects were independent, it would be close to chance off the diagonal.
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
    Let the model of every aspect classify the texts of all aspects. If it is good on aspects on which it was not
    trained, the labels of the aspects are correlated, and the model may rely on the wrong aspect.

    Args:
        models: the models by the aspect on which they were trained. They are rationale models, or classifiers of
            transformers as in the paper.
        datasets: texts with labels by aspect. All have the same label names.
        tokenizer: the tokenizer of all models.
        batch_size, max_length: as of [`read_rationales`].

    Raises:
        NotMeasurableError: (a `ValueError`) if there are no labels.
    """
    f1 = {}
    for trained, model in models.items():
        f1[trained] = {}
        for aspect, dataset in datasets.items():
            probabilities = classify(model, dataset, tokenizer, batch_size=batch_size, max_length=max_length)
            labels = encode_labelled(dataset, tokenizer, model, max_length)["labels"][:]
            f1[trained][aspect] = classification_scores(probabilities.argmax(-1), labels)["macro_f1"]
    return CrossAspect(f1)
