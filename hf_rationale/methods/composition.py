"""Several methods at once."""

from __future__ import annotations

from itertools import combinations

from ..trainer import RationaleTrainer


def compose(*methods: type[RationaleTrainer]) -> type[RationaleTrainer]:
    r"""
    One trainer of several methods: `compose(N2RTrainer, VERTrainer, A2ITrainer)` is what
    `class MyTrainer(N2RTrainer, VERTrainer, A2ITrainer)` would be. It takes the arguments of all of them. Where two
    change what the predictor reads (VER, NIR), the one named first acts first. RNP, the base of all, adds nothing.

    Raises:
        ValueError: where one of the methods is another one or contains it, or where two need different models.
    """
    parts = [method for method in methods if method is not RationaleTrainer]
    for other, part in combinations(parts, 2):
        names = f"{other.__name__} and {part.__name__}"
        if issubclass(part, other) or issubclass(other, part):
            raise ValueError(f"{names}: one contains the other, so that together they are nothing new. Name one.")
        for option in other.model_options.keys() & part.model_options.keys():
            if other.model_options[option] != part.model_options[option]:
                raise ValueError(
                    f"{names} do not go together: the one needs a model with {option}={other.model_options[option]}, "
                    f"the other with {option}={part.model_options[option]}."
                )
    if len(parts) < 2:
        return parts[0] if parts else RationaleTrainer
    return type(
        "".join(part.__name__.removesuffix("Trainer") for part in parts) + "Trainer",
        tuple(parts),
        {
            "__doc__": " ".join(part.__name__ for part in parts) + " in one.",
            "description": " ".join(part.description for part in parts),
            "model_options": {key: value for part in parts for key, value in part.model_options.items()},
        },
    )
