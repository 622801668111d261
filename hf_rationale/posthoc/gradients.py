"""Explainers of captum: gradient × input, integrated gradients, and occlusion of words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from .classifier import Classifier, by_word


STEPS = 32  # of the path of integrated gradients


def gradient_x_input(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """The gradient of the label's logit times the embeddings, summed over each word (Shrikumar et al. 2017)."""
    from captum.attr import LayerGradientXActivation

    encoded, forward, ids, others = _prepared(classifier, words, query)
    method = LayerGradientXActivation(forward, classifier.model.get_input_embeddings())
    values = method.attribute(ids, target=label, additional_forward_args=others)
    return by_word(_summed(values), encoded, len(words))


def integrated_gradients(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """The integral of the gradient on the way from padding tokens to the text (Sundararajan et al. 2017)."""
    from captum.attr import LayerIntegratedGradients

    encoded, forward, ids, others = _prepared(classifier, words, query)
    own = torch.from_numpy(encoded.words >= 0).to(ids.device)
    padding = torch.where(own, classifier.tokenizer.pad_token_id, ids)
    method = LayerIntegratedGradients(forward, classifier.model.get_input_embeddings())
    values = method.attribute(
        ids,
        baselines=padding,
        target=label,
        additional_forward_args=others,
        n_steps=STEPS,
        internal_batch_size=classifier.batch_size,
    )
    return by_word(_summed(values), encoded, len(words))


def occlusion(classifier: Classifier, words: Sequence[str], query: str | None, label: int) -> np.ndarray:
    """How far the label's logit falls if one word is replaced by mask tokens (Zeiler and Fergus 2014)."""
    from captum.attr import FeatureAblation

    encoded, forward, ids, others = _prepared(classifier, words, query)
    token = classifier.tokenizer.mask_token_id
    with torch.no_grad():
        values = FeatureAblation(forward).attribute(
            ids,
            baselines=classifier.tokenizer.pad_token_id if token is None else token,
            target=label,
            additional_forward_args=others,
            feature_mask=torch.from_numpy(encoded.words + 1).unsqueeze(0).to(ids.device),
            perturbations_per_eval=classifier.batch_size,
        )
    scores = np.zeros(len(words))
    own = encoded.words >= 0
    scores[encoded.words[own]] = values[0].float().cpu().numpy()[own]  # the same for all tokens of a word
    return scores


def _prepared(classifier: Classifier, words: Sequence[str], query: str | None):
    encoded = classifier.encode(words, query)
    names = [name for name in encoded.inputs if name != "input_ids"]
    others = tuple(encoded.inputs[name] for name in names)
    return encoded, partial(classifier.logits, names=names), encoded.inputs["input_ids"], others


def _summed(values: torch.Tensor) -> np.ndarray:
    return values[0].sum(-1).detach().float().cpu().numpy()
