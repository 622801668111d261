"""What a predictor learns from uninformative selections (A2I, section 4.1, figures 3, 9 and 10)."""

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
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ..modeling.base import RationalePreTrainedModel
from ..modeling.objective import cross_entropy
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
    Accuracies after every epoch of three predictors: `full text` is trained on the full text. `random patterns` is
    trained on the selections of an extractor that never sees the labels. `r2f` is the finished predictor of the full
    text on these selections.

    Args:
        train, validation (`dict[str, list[float]]`): the accuracies on the training set and on the validation set.
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
    """The predictor reads everything, and the extractor minimizes Ω only."""

    description = "A predictor of the full text."

    def game(self, model: RationalePreTrainedModel, inputs: RationaleInputs, selection: Selection):
        prediction = self.read(model, inputs, inputs.units.selectable.to(selection.mask.dtype))
        return prediction, {"cross_entropy": cross_entropy(prediction.logits, inputs).mean()}


class RandomPatternTrainer(RationaleTrainer):
    """The predictor reads what is selected, and the extractor minimizes Ω only."""

    description = "A predictor on the selections of an extractor that never sees the labels."

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
    Train one predictor on the full text, and another on selections that do not depend on the label. If the second one
    does well on its training set, while the first one cannot use the same selections, the second one has learned
    meaningless patterns.

    Args:
        model: an untrained rationale model. It is not changed.
        args: the training arguments of both, without a full-text term and with `load_best_model_at_end=False`.
        train_dataset, validation_dataset: labelled texts.
        tokenizer: the model's tokenizer.

    Raises:
        ValueError: if there is a full-text term, from which the predictor would also learn, if the players share
            trained weights, or if the best checkpoint should be loaded at the end.
    """
    if args.full_text_weight or args.match_weight:
        raise ValueError("The predictor should learn from random words only: set full_text_weight=0, match_weight=0.")
    if model.shared_weights:
        raise ValueError("The players share trained weights, so the labels would also train the extractor. Use two.")
    if args.load_best_model_at_end:
        raise ValueError("Both predictors are trained to the end: set load_best_model_at_end=False.")
    datasets = {
        "train": encode(train_dataset, tokenizer, model, args.max_length),
        "validation": encode(validation_dataset, tokenizer, model, args.max_length),
    }
    results = {name: {reader: [] for reader in READERS} for name in datasets}
    full, patterns = copy.deepcopy(model), copy.deepcopy(model)

    def record(readers: dict[str, RationalePreTrainedModel], mask_of: Callable[[RationaleInputs], torch.Tensor]):
        for name, dataset in datasets.items():
            moved = next(iter(readers.values()))  # the copy is on the Trainer's device, and `model` is not
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
    """The accuracy of each of the predictors on the same masks. The random numbers of training are not changed."""
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
