"""What a predictor learns from words that say nothing (A2I, section 4.1, figures 3, 9 and 10)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from datasets import Dataset
from matplotlib.figure import Figure
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ..modeling.base import RationalePreTrainedModel
from ..modeling.outputs import RationaleInputs, Selection
from ..modeling.selection import cut_off
from ..reading import MarkedBatch, encode, evaluation_mode, read_batches
from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments
from .figures import curves, panels


READERS = ("full text", "random patterns", "r2f")


@dataclass(frozen=True)
class RandomPatterns:
    r"""
    Accuracies after every epoch, by who reads what: `full text`, a predictor that is trained on the full text;
    `random patterns`, one that is trained on what an extractor selects that nobody told what to look for; `r2f`, the
    finished predictor of the full text on these selections.

    Args:
        train, validation (`dict[str, list[float]]`): of the two sets.
    """

    train: dict[str, list[float]]
    validation: dict[str, list[float]]

    def figure(self) -> Figure:
        """A2I's figure 3."""
        figure, axes = panels(2)
        for one, name in zip(axes, ("train", "validation"), strict=True):
            values = getattr(self, name)
            curves(one, range(1, len(values["r2f"]) + 1), values, "epoch", f"accuracy ({name})")
        return figure


class FullTextTrainer(RationaleTrainer):
    """The predictor reads everything; the extractor pays for Ω alone."""

    description = "A predictor of the full text."

    def game(self, model: RationalePreTrainedModel, inputs: RationaleInputs, selection: Selection):
        prediction = self.read(model, inputs, inputs.units.selectable.to(selection.mask.dtype))
        return prediction, {"cross_entropy": F.cross_entropy(prediction.logits.float(), inputs.labels)}


class RandomPatternTrainer(RationaleTrainer):
    """The predictor reads what is selected; the extractor pays for Ω alone."""

    description = "A predictor of what an extractor selects that is told nothing but how much."

    def game(self, model: RationalePreTrainedModel, inputs: RationaleInputs, selection: Selection):
        masks = (*selection.masks[:-1], cut_off(selection.mask))
        return super().game(model, inputs, selection._replace(masks=masks))


def random_patterns(
    model: RationalePreTrainedModel,
    args: RationaleTrainingArguments,
    train_dataset: Dataset,
    validation_dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
) -> RandomPatterns:
    r"""
    Train two predictors, on the full text and on selections that the label has no part in, and see what each knows.
    Where the second does well on what it was trained on, and the first makes nothing of the same selections, the
    second has learned patterns that mean nothing.

    Args:
        model: an untrained rationale model without full-text terms; it stays as it is.
        args: how to train both, with `load_best_model_at_end=False`.
        train_dataset, validation_dataset: labelled texts.
        tokenizer: the model's.

    Raises:
        ValueError: where the model has full-text terms, from which its predictor would learn beside, or players that
            share trained weights; where the best checkpoint is asked for.
    """
    if args.full_text_weight or args.match_weight:
        raise ValueError("The predictor is to learn from random words alone: set full_text_weight=0, match_weight=0.")
    if model.shared_weights:
        raise ValueError("The players share trained weights, so that the labels would move the extractor. Use two.")
    if args.load_best_model_at_end:
        raise ValueError("Both are trained to the end: set load_best_model_at_end=False.")
    datasets = {
        "train": encode(train_dataset, tokenizer, model, args.max_length),
        "validation": encode(validation_dataset, tokenizer, model, args.max_length),
    }
    results = {name: {reader: [] for reader in READERS} for name in datasets}
    full, patterns = copy.deepcopy(model), copy.deepcopy(model)

    def record(readers: dict[str, RationalePreTrainedModel], mask_of: Callable[[RationaleInputs], torch.Tensor]):
        for name, dataset in datasets.items():
            moved = next(iter(readers.values()))  # to the Trainer's device, as `model` is not
            encoded = read_batches(moved, dataset, tokenizer, args.eval_batch_size, "reading")
            accuracies = _accuracies(encoded, readers.values(), mask_of, args.seed)
            for reader, accuracy in zip(readers, accuracies, strict=True):
                results[name][reader].append(accuracy)

    runs = [
        (FullTextTrainer, full, {"full text": full}, lambda inputs: inputs.units.selectable.to(inputs.context.dtype)),
        (
            RandomPatternTrainer,
            patterns,
            {"random patterns": patterns, "r2f": full},
            lambda inputs: patterns.select(inputs, sample=True).mask,
        ),
    ]
    for trainer_class, trained, readers, mask_of in runs:
        trainer = trainer_class(
            model=trained,
            args=args,
            train_dataset=datasets["train"],
            eval_dataset=datasets["validation"],
            processing_class=tokenizer,
        )
        trainer.add_callback(_AfterEveryEpoch(partial(record, readers, mask_of)))
        trainer.train()
    return RandomPatterns(**results)


class _AfterEveryEpoch(TrainerCallback):
    def __init__(self, function: Callable[[], None]):
        self.function = function

    def on_epoch_end(self, args, state, control, **kwargs):
        self.function()


@torch.no_grad()
def _accuracies(
    batches: Iterable[MarkedBatch],
    predictors: Collection[RationalePreTrainedModel],
    mask_of: Callable[[RationaleInputs], torch.Tensor],
    seed: int,
) -> list[float]:
    """Of each of the predictors, on the same masks. Training goes on as it would without."""
    correct, texts = np.zeros(len(predictors)), 0
    with torch.random.fork_rng(), ExitStack() as stack:
        torch.manual_seed(seed)
        for predictor in predictors:
            stack.enter_context(evaluation_mode(predictor))
        for batch in batches:
            mask = mask_of(batch.inputs)
            for i, predictor in enumerate(predictors):
                predicted = predictor.predict(batch.inputs, mask).logits.argmax(-1)
                correct[i] += int((predicted == batch.inputs.labels).sum())
            texts += len(batch.rows)
    return (correct / texts).tolist()
