"""The server of the documentation: right answers to many clients, clear refusals, no tracebacks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from conftest import load_script
from fastapi.testclient import TestClient
from training_common import make_model


@pytest.fixture(scope="module")
def serve(tmp_path_factory) -> ModuleType:
    folder = tmp_path_factory.mktemp("model")
    model, tokenizer = make_model(selection_level="word")
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    module = load_script("examples/serve.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL", str(folder))
        yield module


@pytest.fixture
def client(serve):
    with TestClient(serve.app, raise_server_exceptions=False) as client:
        yield client


def test_eight_clients_get_right_answers(serve, client):
    texts = [f"the beer was {word} ." for word in ("lovely", "awful", "tall", "served", "beer")] * 8
    pairs = [{"text": text} for text in texts] + [{"text": text, "query": "what beer"} for text in texts]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.post("/explain", json=body).json(), pairs))
    pipe = serve.app.state.pipe
    asked = [*texts, *({"text": "what beer", "text_pair": text} for text in texts)]
    for answer, expected in zip(answers, pipe(asked), strict=True):
        assert answer["label"] == expected["label"]
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert [span["text"] for span in answer["rationale"]] == [span["text"] for span in expected["rationale"]]


@pytest.mark.parametrize(
    "body, status, message",
    [
        ({"text": " "}, 422, "is blank"),
        ({"text": "a \ud83d"}, 422, "valid string"),
        ({"words": "a"}, 422, "Field required"),
        ({"text": ["a"]}, 422, "valid string"),
        ({"text": "a" * 100_001}, 422, "at most 100000 characters"),
        ({"text": "a", "query": "a" * 1_000_000}, 413, "more than 1000000 bytes"),
    ],
)
def test_what_cannot_be_explained_is_refused(client, body, status, message):
    answer = client.post("/explain", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert message in answer.text and "Traceback" not in answer.text


def test_a_body_of_unknown_length_is_refused(client):
    assert client.post("/explain", content=iter([b'{"text": "a"}'])).status_code == 411


def test_a_failure_shows_no_traceback_and_the_server_goes_on(serve, client, monkeypatch):
    def fail(*args):
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(serve, "explain_texts", fail)
    answer = client.post("/explain", json={"text": "the beer"})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "The server has failed. The log says why."}
    monkeypatch.undo()
    assert client.post("/explain", json={"text": "the beer"}).status_code == 200
