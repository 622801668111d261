"""Several methods at once."""

from __future__ import annotations

from ..trainer import RationaleTrainer


def compose(*methods: type[RationaleTrainer]) -> type[RationaleTrainer]:
    r"""
    One trainer of several methods: `compose(N2RTrainer, VERTrainer, A2ITrainer)` is what
    `class MyTrainer(A2ITrainer, VERTrainer, N2RTrainer)` would be. It takes the arguments of all of them. RNP, the
    base of all, adds nothing.

    Raises:
        ValueError: where one of the methods is another one, or contains it. (A method that cannot be trained on a
            model, such as N2R on FR's, says so when its trainer is made.)
    """
    parts = [method for method in methods if method is not RationaleTrainer]
    for index, part in enumerate(parts):
        for other in parts[:index]:
            if issubclass(part, other) or issubclass(other, part):
                names = f"{other.__name__} and {part.__name__}" if part is not other else f"{part.__name__} twice"
                raise ValueError(f"{names}: one contains the other, so together they are no method. Name one of them.")
    if len(parts) < 2:
        return parts[0] if parts else RationaleTrainer
    name = "".join(part.__name__.removesuffix("Trainer") for part in parts) + "Trainer"
    return type(
        name,
        tuple(reversed(parts)),
        {
            "__doc__": " ".join(part.__name__ for part in parts) + " in one.",
            "description": " ".join(part.description for part in parts),
            "model_options": {key: value for part in parts for key, value in part.model_options.items()},
        },
    )
