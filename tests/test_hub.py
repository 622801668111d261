"""Publishing and loading, by the real client of the Hub, against a small server (`hub_server.py`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from hub_server import TOKEN, HubServer


TEXT = "the beer was lovely ."
# What every client script starts with: `attempt` keeps the answer, or the error, of a call.
START = f"""
import json, sys
answers = {{}}
def attempt(name, call):
    try:
        answers[name] = call()
    except Exception as error:
        answers[name] = f"{{type(error).__name__}}: {{error}}"
text = {TEXT!r}
"""
END = "\nprint('ANSWERS', json.dumps(answers))\n"

PUBLISH = """
import hf_rationale
from datasets import Dataset
from huggingface_hub import create_branch
from training_common import make_model, toy_reviews
from transformers import pipeline
model, tokenizer = make_model(selection_level="word")
model.eval()
model.push_to_hub("me/beer")
tokenizer.push_to_hub("me/beer")
pipe = pipeline("rationale-classification", model=model, tokenizer=tokenizer)
attempt("local", lambda: pipe(text))
pipe.push_to_hub("me/pipe")
model.push_to_hub("me/secret", private=True)
create_branch("me/beer", branch="next")
model.predictor.classifier.bias.data[0] += 9
model.push_to_hub("me/beer", revision="next")
attempt("local, changed", lambda: pipe(text))
toy_reviews(6).push_to_hub("me/reviews")
"""

LOAD = """
import hf_rationale
from datasets import load_dataset
from training_common import toy_reviews
from transformers import AutoModelForSequenceClassification, pipeline
Auto, Plain = AutoModelForSequenceClassification, hf_rationale.RationaleForSequenceClassification
attempt("Auto class", lambda: type(Auto.from_pretrained("me/beer")).__name__)
attempt("own class", lambda: type(Plain.from_pretrained("me/beer")).__name__)
attempt("other class", lambda: hf_rationale.PlmrForSequenceClassification.from_pretrained("me/beer"))
attempt("pipeline", lambda: pipeline("rationale-classification", model="me/beer")(text))
attempt("inferred", lambda: pipeline(model="me/beer")(text))
attempt("pushed pipeline", lambda: pipeline(model="me/pipe")(text))
attempt("revision", lambda: pipeline(model="me/beer", revision="next")(text))
attempt("missing revision", lambda: Auto.from_pretrained("me/beer", revision="never"))
attempt("missing", lambda: Auto.from_pretrained("me/never"))
attempt("dataset", lambda: load_dataset("me/reviews", split="train")[:] == toy_reviews(6)[:])
"""


@pytest.fixture(scope="module")
def server():
    with HubServer() as hub:
        yield hub


def client(server: HubServer, home: Path, code: str, token: str | None = TOKEN) -> dict:
    """The answers of a script that has the server for the Hub, and an empty cache of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
        **({"HF_TOKEN": token} if token else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", START + code + END],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("ANSWERS", 1)[1])


@pytest.fixture(scope="module")
def published(server, tmp_path_factory) -> dict:
    return client(server, tmp_path_factory.mktemp("publisher"), PUBLISH)


@pytest.fixture(scope="module")
def loaded(server, published, tmp_path_factory) -> dict:
    return client(server, tmp_path_factory.mktemp("user"), LOAD)


def test_the_code_of_the_page_runs(server, tmp_path):
    """docs/publish.md, from top to bottom."""
    page = (REPOSITORY / "docs" / "publish.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    folder = "outputs/plmr-bert-beer"
    save = f"""
from training_common import make_model
for part in make_model("plmr", "plmr", selection_level="word"):
    part.save_pretrained("{folder}")
"""
    code = "\n".join([save, *blocks, "attempt('class', lambda: type(model).__name__)"])
    assert client(server, tmp_path, code)["class"] == "PlmrForSequenceClassification"


def test_a_folder_on_the_hub_is_complete(server, published):
    files = server.repositories["models/me/beer"].files("main")
    assert {"config.json", "model.safetensors", "tokenizer.json", "rationale_model.py", "README.md"} <= set(files)
    assert set(server.repositories["models/me/pipe"].files("main")) >= set(files) - {"README.md"}
    assert not any(name.endswith((".bin", ".pkl", ".pt")) for name in files)


@pytest.mark.parametrize("way", ["pipeline", "inferred", "pushed pipeline"])
def test_pipelines_answer_as_before_publishing(published, loaded, way):
    assert loaded[way]["rationale"] == published["local"]["rationale"]
    assert loaded[way]["score"] == pytest.approx(published["local"]["score"], abs=1e-6)


def test_classes_load_what_was_published(loaded):
    assert loaded["Auto class"] == loaded["own class"] == "RationaleForSequenceClassification"
    assert "model type 'rationale', not 'plmr'" in loaded["other class"]


def test_a_revision(published, loaded):
    assert loaded["revision"]["score"] == pytest.approx(published["local, changed"]["score"], abs=1e-6)
    assert loaded["revision"]["score"] != pytest.approx(loaded["pipeline"]["score"], abs=1e-3)
    assert "never is not a valid git identifier" in loaded["missing revision"]


def test_a_dataset(loaded):
    assert loaded["dataset"] is True


OWN_CLASS = """
import hf_rationale
attempt("load", lambda: type(hf_rationale.RationaleForSequenceClassification.from_pretrained(NAME)).__name__)
"""


def test_what_is_not_there_or_private_is_named(server, published, loaded, tmp_path):
    assert "me/never is not a local folder and is not a valid model identifier" in loaded["missing"]
    answer = client(server, tmp_path, OWN_CLASS.replace("NAME", "'me/secret'"), token=None)["load"]
    assert "pass a token having permission" in answer


WITHOUT = """
from transformers import AutoModelForSequenceClassification as Auto
attempt("not trusted", lambda: Auto.from_pretrained("me/beer", trust_remote_code=False))
attempt("trusted", lambda: type(Auto.from_pretrained("me/beer", trust_remote_code=True)).__name__)
"""


def test_without_the_package_the_error_says_what_to_install(server, published, tmp_path):
    hidden = """
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "hf_rationale":
            raise ModuleNotFoundError("No module named 'hf_rationale'", name=name)
sys.meta_path.insert(0, Hidden())
"""
    answers = client(server, tmp_path, hidden + WITHOUT)
    assert "custom code" in answers["not trusted"] and "trust_remote_code=True" in answers["not trusted"]
    assert "Run `pip install hf_rationale`" in answers["trusted"]


def test_a_package_that_is_not_imported_is_found(server, published, tmp_path):
    """And what was loaded like this can be saved, without a copy of this package's code."""
    saving = "Auto.from_pretrained('me/beer', trust_remote_code=True).save_pretrained('copy')\n"
    answers = client(server, tmp_path, WITHOUT + saving)
    assert answers["trusted"] == "RationaleForSequenceClassification"
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "config.json",
        "model.safetensors",
        "rationale_model.py",
    ]


def test_a_broken_download_is_an_error_and_can_be_repeated(server, published, tmp_path):
    load = OWN_CLASS.replace("NAME", "'me/beer'")
    server.broken.add("model.safetensors")
    try:
        broken = client(server, tmp_path, load)["load"]
    finally:
        server.broken.clear()
    assert "OSError: Can't load the model for 'me/beer'" in broken
    assert client(server, tmp_path, load)["load"] == "RationaleForSequenceClassification"


TRAIN = """
import runpy
sizes = '{"n_train": 64, "n_validation": 20, "n_test": 20}'
sys.argv = ["train.py", "--dataset", "aspect_reviews", "--dataset_options", sizes, "--num_train_epochs", "1"]
sys.argv += ["--report_to", "none", "--use_cpu", "--output_dir", "beer-tiny", "--push_to_hub", "True"]
runpy.run_path(SCRIPT, run_name="__main__")
"""


def test_what_train_py_pushes_is_what_lies_in_the_folder(server, tmp_path):
    client(server, tmp_path, TRAIN.replace("SCRIPT", repr(str(REPOSITORY / "examples" / "train.py"))))
    repository = server.repositories["models/me/beer-tiny"]
    files = repository.files("main")
    for name in ("README.md", "model.safetensors", "config.json", "tokenizer.json", "rationale_model.py"):
        assert files[name] == (tmp_path / "beer-tiny" / name).read_bytes(), name
    card = files["README.md"].decode()
    assert "| rationale F1 |" in card and "best yardstick" in card.lower() and "model-index" in card
    assert repository.messages[-1] == "Scores"
    assert not any(name.startswith("checkpoint-") for name in files)
