"""One model and one pipeline serve several threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from common import ENCODERS, MAX_LENGTH, plmr_model, rationale_model
from training_common import WORDS, word_piece_tokenizer
from transformers import pipeline, set_seed


THREADS = 8
MODELS = {
    **{name: (rationale_model, {}) for name in ENCODERS},
    "bert-shared": (rationale_model, {"share_encoder": True}),
    **{f"plmr-{name}": (plmr_model, {}) for name in ("bert", "modernbert", "mpnet")},
}


@pytest.fixture(params=MODELS)
def model(request):
    make, options = MODELS[request.param]
    set_seed(0)
    encoder = request.param.removeprefix("plmr-").removesuffix("-shared")
    special = sorted(word_piece_tokenizer().all_special_ids)
    return make(encoder, special_token_ids=special, selection_level="word", **options).eval()


def requests(count: int) -> list[str | dict[str, str]]:
    """Single texts and pairs in turns. Some are longer than the model can read."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(1, MAX_LENGTH + 10))) for _ in range(count)]
    return [text if row % 2 else {"text": "was it fresh", "text_pair": text} for row, text in enumerate(texts)]


def at_once(function, arguments: list) -> list:
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(function, arguments))


def test_a_pipeline_answers_in_eight_threads_as_in_one(model):
    """Fails if a call changes a module, a config or the tokenizer that another call is using."""
    tokenizer = word_piece_tokenizer()
    pipe = pipeline("rationale-classification", model=model, tokenizer=tokenizer, device="cpu")
    settings = tokenizer.backend_tokenizer.to_str()
    asked = requests(24)
    # Budgets and thresholds differ between calls, too.
    budgets = [{"rationale_top_k": 4}, {"rationale_ratio": 0.3}, {}]
    calls = [(request, budgets[row % 3]) for row, request in enumerate(asked)]
    alone = [pipe(request, **budget) for request, budget in calls]
    together = at_once(lambda call: pipe(call[0], **call[1]), calls * 3)
    for answer, expected in zip(together, alone * 3, strict=True):
        assert answer["label"] == expected["label"]
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert [(span["start"], span["end"]) for span in answer["rationale"]] == [
            (span["start"], span["end"]) for span in expected["rationale"]
        ]
    assert tokenizer.backend_tokenizer.to_str() == settings


def test_masks_with_a_gradient_stay_in_their_thread(model):
    generator = torch.Generator().manual_seed(0)
    calls = []
    for length in (5, 9, 13, 17) * 3:
        ids = torch.randint(5, 20, (2, length), generator=generator)
        calls.append((ids, torch.rand(2, length, generator=generator).round()))

    def gradient(call: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        ids, mask = call
        inputs, mask = model.prepare(input_ids=ids), mask.clone().requires_grad_()
        return torch.autograd.grad(model.predict(inputs, mask).logits[:, 0].sum(), mask)[0]

    alone = [gradient(call) for call in calls]
    for one, other in zip(at_once(gradient, calls * 2), alone * 2, strict=True):
        torch.testing.assert_close(one, other)
