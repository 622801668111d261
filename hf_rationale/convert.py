"""Models that the papers' public scripts trained, as models of this package."""

from __future__ import annotations

import os
import pickle  # noqa: TID251  only for the name of an error
from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from .encoders.configuration_gru import GruConfig
from .encoders.tokenization_word_level import SPECIAL_TOKENS, word_level_tokenizer
from .text.configuration_rationale import RationaleConfig
from .text.modeling_rationale import RationaleForSequenceClassification


# Modules of the scripts (https://github.com/jugechengzi: Rationalization-N2R, -A2I, -VER and others like them), and
# what they are here. A bidirectional GRU is two modules here.
_MODULES = {
    "gen_fc": "extractor.mask_predictor.selector",
    "layernorm1": "extractor.mask_predictor.norm",
    "cls_fc": "predictor.classifier",
}
_GRUS = {"gen": "extractor.encoder", "cls": "predictor.encoder"}
_GRU_WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
_WORDS = "embedding_layer.embedding.weight"
# `generator` repeats other weights, and `gen_fc_adv` is the head of A2I's attacker.
_NOT_NEEDED = ("generator.", "gen_fc_adv.", "layernorm2.")


def load_paper_checkpoint(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    r"""
    Read a state dict that a script saved with `torch.save(model.state_dict(), path)`. No code in the file is run.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file holds something other than tensors by name.
    """
    try:
        # The scripts save pickles. With weights_only, nothing but tensors and containers is read.
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is not a file of weights alone, or it is damaged ({reason}). Save the state dict of the model "
            "with the script that trained it: torch.save(model.state_dict(), path)."
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} holds a {type(state).__name__} that is not a state dict, tensors by name.")
    return dict(state)


def convert_paper_checkpoint(
    state: Mapping[str, torch.Tensor], words: Sequence[str], **config
) -> tuple[RationaleForSequenceClassification, PreTrainedTokenizerBase]:
    r"""
    A model of this package with the weights of a model of the scripts of N2R, A2I and VER (Liu et al. 2025), or of
    another script with their layout: a GRU for each player (or one for both) over frozen word vectors, a layer norm
    and a linear layer that score the words, the largest state and a linear layer that classify.

    For a text without padding, scores and logits are those of the script. It selects by a random sample also at
    evaluation, and this model selects what is more probable than not (`decoding="threshold"`, 0.5). In the script's
    padded batches, the backward GRU reads the padding first, and here it does not.

    Args:
        state: the state dict, of [`load_paper_checkpoint`].
        words: the words of the file of word vectors with which the script was trained, in its order.
        config (*optional*): further fields of the configuration, such as `id2label` or `sparsity`.

    Returns:
        the model and its tokenizer, which are saved with `save_pretrained`.

    Raises:
        ValueError: if a weight is missing, has another shape or is not known, or if the number of `words` is not that
            of the vectors.
    """
    known = (_WORDS, *(f"{name}." for name in (*_MODULES, *_GRUS)), *_NOT_NEEDED)
    if unknown := [name for name in state if not name.startswith(known)]:
        raise ValueError(f"The weights {', '.join(unknown)} are not known. {_layout(state)}")
    if missing := [
        name for name in (_WORDS, "gen_fc.weight", "gen.weight_hh_l0", "cls_fc.weight") if name not in state
    ]:
        raise ValueError(f"The weights {', '.join(missing)} are missing. {_layout(state)}")
    norm = state.get("layernorm2.weight")
    if norm is not None and not (norm.eq(1).all() and state["layernorm2.bias"].eq(0).all()):
        raise ValueError(
            "layernorm2 has been trained, so the script's predictor normalizes its states, which no model of this "
            "package does. Train the model anew (docs/train.md)."
        )
    vectors = state[_WORDS]
    if len(vectors) != len(words) + 1:
        raise ValueError(
            f"The model has vectors of {len(vectors) - 1} words, but there are {len(words)} words. Give the file of "
            "word vectors with which the model was trained."
        )

    tokenizer = word_level_tokenizer(words)
    encoder = GruConfig(
        vocab_size=len(tokenizer),
        embedding_size=vectors.shape[1],
        hidden_size=2 * state["gen.weight_hh_l0"].shape[1],
        freeze_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    shared = "cls.weight_hh_l0" not in state or torch.equal(state["gen.weight_hh_l0"], state["cls.weight_hh_l0"])
    fields = RationaleConfig(
        extractor_config=encoder,
        predictor_config=encoder,
        num_labels=len(state["cls_fc.weight"]),
        share_encoder=shared,
        tie_word_embeddings=not shared,
        **{"decoding": "threshold", "rationale_threshold": 0.5, **config},
    )
    model = RationaleForSequenceClassification(fields)
    weights = _converted(state, vectors[[0] * len(SPECIAL_TOKENS) + list(range(1, len(vectors)))])
    own = model.state_dict()
    weights = {name: value for name, value in weights.items() if name in own}
    if wrong := [name for name in own if name not in weights or weights[name].shape != own[name].shape]:
        raise ValueError(f"There are no weights, or none of the right shape, for {', '.join(wrong)}. {_layout(state)}")
    model.load_state_dict(weights)
    return model.eval(), tokenizer


def _converted(state: Mapping[str, torch.Tensor], vectors: torch.Tensor) -> dict[str, torch.Tensor]:
    """The weights by their names here. `vectors` are those of the words, in the order of the tokenizer."""
    weights = {
        f"{own}.{kind}": state[f"{name}.{kind}"]
        for name, own in _MODULES.items()
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in state
    }
    for name, own in _GRUS.items():
        weights[f"{own}.embeddings.weight"] = vectors
        for kind in _GRU_WEIGHTS:
            for direction, suffix in (("forward_gru", ""), ("backward_gru", "_reverse")):
                if f"{name}.{kind}{suffix}" in state:
                    weights[f"{own}.{direction}.{kind}"] = state[f"{name}.{kind}{suffix}"]
    return weights


def _layout(state: Mapping[str, torch.Tensor]) -> str:
    modules = ", ".join(dict.fromkeys(name.split(".")[0] for name in state)) or "nothing"
    return (
        "A model of the scripts of N2R, A2I and VER has the modules embedding_layer, gen, cls, layernorm1, gen_fc and "
        f"cls_fc. This one has {modules}."
    )
