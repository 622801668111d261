"""Combining several methods in one trainer."""

from __future__ import annotations

from dataclasses import field, fields, make_dataclass
from functools import cache
from itertools import combinations
from typing import Any

from ..trainer import RationaleTrainer
from ..training_args import RationaleTrainingArguments
from .rnp import RNPTrainer


def compose(*methods: type[RationaleTrainer]) -> type[RationaleTrainer]:
    r"""
    One trainer for several methods: `compose(N2RTrainer, VERTrainer, A2ITrainer)` is what
    `class MyTrainer(N2RTrainer, VERTrainer, A2ITrainer)` would be. Its `arguments_class` has the fields of all of
    them. If two methods change what the predictor reads (VER, NIR), the first one is applied first. A method that
    replaces the game (N2R, MCD, A2R, RTP) is what the others add to. RNP adds nothing, because it is the base of all
    methods.

    Raises:
        TypeError: if something else than a trainer is named.
        ValueError: if one method is the same as another or contains it, if two need different models, or if two
            replace the game.
    """
    if wrong := [method for method in methods if not isinstance(method, type)]:
        raise TypeError(f"compose takes trainers, such as METHODS['n2r'], but got {wrong[0]!r}.")
    parts = [method for method in methods if method not in (RationaleTrainer, RNPTrainer)]
    for other, part in combinations(parts, 2):
        names = f"{other.__name__} and {part.__name__}"
        if issubclass(part, other) or issubclass(other, part):
            raise ValueError(
                f"{names}: one of them contains the other, so there is nothing to combine. Name only one."
            )
        if other.replaces_game and part.replaces_game:
            raise ValueError(f"{names} cannot be combined, because each replaces the players' objective.")
        for option in other.model_options.keys() & part.model_options.keys():
            if other.model_options[option] != part.model_options[option]:
                raise ValueError(
                    f"{names} cannot be combined, because one needs a model with {option}="
                    f"{other.model_options[option]} and the other with {option}={part.model_options[option]}."
                )
    if len(parts) < 2:
        return parts[0] if parts else RNPTrainer
    return type(
        "".join(part.__name__.removesuffix("Trainer") for part in parts) + "Trainer",
        tuple(sorted(parts, key=lambda part: part.replaces_game)),
        {
            "__doc__": " and ".join(part.__name__ for part in parts) + " in one.",
            "name": "+".join(part.name for part in parts),
            "description": " ".join(part.description for part in parts),
            "paper": "; ".join(dict.fromkeys(part.paper for part in parts)),
            "arguments_class": compose_arguments(*dict.fromkeys(part.arguments_class for part in parts)),
            "model_options": {key: value for part in parts for key, value in part.model_options.items()},
            "columns": tuple(dict.fromkeys(column for part in parts for column in part.columns)),
        },
    )


@cache
def compose_arguments(*classes: type[RationaleTrainingArguments]) -> type[RationaleTrainingArguments]:
    """One class of arguments with the fields of all `classes`, and with their defaults."""
    classes = tuple(one for one in classes if one is not RationaleTrainingArguments)
    if len(classes) < 2:
        return classes[0] if classes else RationaleTrainingArguments
    # Python would take a field that two classes inherit from the first of them, even if the second has changed it.
    common = {one.name: one for one in fields(RationaleTrainingArguments)}
    own = {one.name: one for part in classes for one in fields(part) if common.get(one.name) is not one}
    return make_dataclass(
        "".join(part.__name__.removesuffix("Arguments") for part in classes) + "Arguments",
        [(name, one.type, field(default=one.default, metadata=one.metadata)) for name, one in own.items()],
        bases=classes,
        # The Trainer pickles its arguments into checkpoints. The class is made anew, because no module contains it.
        namespace={"__reduce__": lambda arguments: (_blank_arguments, classes, vars(arguments)), "__doc__": ""},
    )


def _blank_arguments(*classes: type[RationaleTrainingArguments]) -> Any:
    return object.__new__(compose_arguments(*classes))
