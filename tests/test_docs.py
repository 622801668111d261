"""The documents: what is registered appears in them, links resolve, and pages are short."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from datasets import Dataset
from training_common import make_model, tiny_bert

from hf_rationale import METHODS, RNPTrainer, load_rationale_dataset
from hf_rationale.text.encoder_traits import ENCODER_TRAITS, EncoderTraits


spec = importlib.util.spec_from_file_location("tables", REPOSITORY / "docs" / "tables.py")
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)

PAGES = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "benchmarks").glob("*.md")]
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


@by_page
def test_the_tables_of_a_page_are_current(page: Path):
    text = page.read_text(encoding="utf-8")
    assert tables.with_tables(text) == text, "run `make docs`"


def test_what_is_registered_appears_by_itself(monkeypatch):
    class NewTrainer(RNPTrainer):
        name, description, paper = "new", "NEW: it does something new.", "Somebody 2030"

    monkeypatch.setitem(METHODS, "new", NewTrainer)
    monkeypatch.setitem(ENCODER_TRAITS, "newbert", EncoderTraits("absolute"))
    assert "| `new` | `NewTrainer` | It does something new. | Somebody 2030 |" in tables.methods_table()
    assert "| `newbert` | yes | no | `attention` |" in tables.encoders_table()


def test_every_table_has_a_place():
    text = "".join(page.read_text(encoding="utf-8") for page in tables.pages())
    assert all(f"<!-- {name}:begin -->" in text for name in tables.TABLES)


@by_page
def test_pages_are_short(page: Path):
    limit = 150 if page.name == "README.md" and page.parent == REPOSITORY else 200
    assert len(page.read_text(encoding="utf-8").splitlines()) <= limit


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@by_page
def test_links_resolve(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or linked.suffix != ".md" or anchor in anchors(linked), target


RUN = (
    "README.md",
    "docs/audit.md",
    "docs/from-explainers.md",
    "docs/marks.md",
    "docs/pipeline.md",
    "docs/tutorial.md",
)


@pytest.mark.parametrize("page", RUN)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """From top to bottom, in a folder with what the pages name: a model, reviews, and marked ones. A small encoder
    with random weights stands in for the one on the Hub."""
    monkeypatch.chdir(tmp_path)
    for folder, (model, tokenizer) in {
        "outputs/quickstart": make_model(selection_level="word"),
        "encoder": tiny_bert(0.0),
    }.items():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    reviews = load_rationale_dataset("aspect_reviews", aspect="aroma", n_train=60, n_test=20)
    names = reviews["train"].features["label"].names
    rows = [{"review": " ".join(row["tokens"]), "label": names[row["label"]]} for row in reviews["train"]]
    Dataset.from_list(rows).to_csv("reviews.csv")
    reviews["test"].to_json("marked.jsonl")

    text = (REPOSITORY / page).read_text(encoding="utf-8").replace("sentence-transformers/all-MiniLM-L6-v2", "encoder")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {"__name__": "page"})


def test_the_site_builds_and_its_links_resolve(tmp_path):
    """mkdocs is strict: a link to a page or an anchor that is not there is an error."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RationaleTrainer" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "site" / "benchmarks" / "inference" / "index.html").exists()
