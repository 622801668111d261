"""The documents: what is registered appears in them, links resolve, and pages are short."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, load_script
from datasets import Dataset
from training_common import make_model, make_trainer, tiny_bert, toy_reviews
from transformers import AutoModelForSequenceClassification, ResNetConfig, ResNetModel, ViTImageProcessorPil, pipeline

from hf_rationale import METHODS, RNPTrainer, load_rationale_dataset
from hf_rationale.text.encoder_traits import ENCODER_TRAITS, EncoderTraits


tables = load_script("docs/tables.py")
train = load_script("examples/train.py")
train_images = load_script("examples/train_images.py")
real_data = load_script("benchmarks/real_data.py")

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


def test_every_method_has_an_entry_and_a_reference():
    index, baselines, citation = (
        (REPOSITORY / name).read_text(encoding="utf-8")
        for name in ("paper_index.md", "docs/baselines.md", "CITATION.cff")
    )
    for trainer in METHODS.values():
        title, _, _ = trainer.description.partition(":")
        assert f"\n## {title}\n" in index + baselines
        assert f'notes: "{title.removesuffix("+MMI")}"' in citation


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


# Their code needs more: engines for clusters (it is run by test_explain.py), and the Hub (by test_hub.py).
ELSEWHERE = ("explain.md", "publish.md")
WITH_CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8") and page.name not in ELSEWHERE]


def names_of_the_pages(folder: Path) -> dict[str, object]:
    """What the code of a page has from its reader: a model, a trainer, datasets, a text."""
    trainer = make_trainer(folder / "trained", backbone="bert", config={"selection_level": "word"}, logging_steps=99)
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    reviews = toy_reviews(70)
    text = "the beer was lovely . it was served in a tall glass ."
    inputs = tokenizer(text, return_tensors="pt")
    marks = [row["rationale"] for row in reviews]
    plain = AutoModelForSequenceClassification.from_config(tiny_bert(0.0)[0].config).eval()
    return {
        "__name__": "page",
        "model": model,
        "tokenizer": tokenizer,
        "trainer": trainer,
        "pipe": pipeline("rationale-classification", model=model, tokenizer=tokenizer),
        **dict.fromkeys(("train", "dataset", "train_dataset", "validation_dataset", "test_dataset"), reviews),
        **{f"{split}_texts": [" ".join(row["tokens"]) for row in reviews] for split in ("train", "validation")},
        **dict.fromkeys(("train_labels", "validation_labels"), reviews["label"]),
        **dict.fromkeys(("text", "document"), text),
        "inputs": inputs,
        "mask": torch.ones_like(inputs["input_ids"]),
        "predictions": marks,
        "references": marks,
        "other_predictions": [[1 - mark for mark in text] for text in marks],
        "plain_classifier": plain,
        "lime_scores": [[float(mark) for mark in text] for text in marks],
    }


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, request):
    """From top to bottom, in a folder with what the pages name: models, reviews, and marked ones. A small encoder
    with random weights stands in for those of the Hub."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    for hub_id in ("sentence-transformers/all-MiniLM-L6-v2", "path-or-hub-id"):
        text = text.replace(f'"{hub_id}"', '"encoder"')
    text = text.replace('"microsoft/resnet-18"', '"image-encoder"')
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    few = "n_train=60, n_validation=20, n_test=70"
    code = code.replace("n_train=1000", few).replace('reviews", aspect="aroma")', f'reviews", aspect="aroma", {few})')
    code = code.replace("glove.6B.100d.txt.gz", "glove.6B.100d.txt")
    if "posthoc" in code:
        pytest.importorskip("captum")
    if "shapes_on_textures" in code:
        pytest.importorskip("skimage")
    if "onnx" in code:
        pytest.importorskip("onnxruntime")
    if '"data/' in code:
        Path("data").symlink_to(request.getfixturevalue("data_dir"))
    if "hf_rationale/metrics" in code:
        Path("hf_rationale").symlink_to(REPOSITORY / "hf_rationale")
    for folder, (model, tokenizer) in {
        "outputs/quickstart": make_model(selection_level="word"),
        "outputs/movies": make_model(backbone="sentences"),
        "outputs/mine": make_model(backbone="bert", selection_level="word"),
        "encoder": tiny_bert(0.0, layers=3),
    }.items():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    ResNetModel(ResNetConfig(hidden_sizes=[8, 8], depths=[1, 1])).save_pretrained("image-encoder")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained("image-encoder")
    Path("glove.6B.100d.txt").write_text("beer 1 0 2\nlovely 0 1 1\n", encoding="utf-8")
    reviews = load_rationale_dataset("aspect_reviews", aspect="aroma", n_train=60, n_test=20)
    names = reviews["train"].features["label"].names
    rows = [{"review": " ".join(row["tokens"]), "label": names[row["label"]]} for row in reviews["train"]]
    Dataset.from_list(rows).to_csv("reviews.csv")
    reviews["test"].to_json("marked.jsonl")
    exec(compile(code, page.name, "exec"), names_of_the_pages(tmp_path))


TRAINING_FLAGS = {"model_config", *train.MODEL_OPTIONS} | {
    one.name
    for kind in (
        train.ScriptArguments,
        train_images.ScriptArguments,
        *(method.arguments_class for method in METHODS.values()),
    )
    for one in dataclasses.fields(kind)
}


def known_flags(program: str) -> set[str]:
    """The options of a program; those of training too where it hands them on."""
    source = "hf_rationale/cli.py" if program == "hf-rationale" else program
    own = set(re.findall(r"\"--(\w+)\"", (REPOSITORY / source).read_text(encoding="utf-8")))
    trains = program in (
        "examples/train.py",
        "examples/train_images.py",
        "benchmarks/real_data.py",
        "benchmarks/spurious_token.py",
    )
    return own | (TRAINING_FLAGS if trains else set())


@by_page
def test_commands_name_options_that_exist(page):
    """Every option of a command in a page is one of its program, and every corpus of `--only` is registered."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        line = re.sub(r"#.*", "", line)
        if program := re.search(r"hf-rationale|(?:examples|benchmarks)/\w+\.py", line):
            assert set(re.findall(r"(?<!\w)--(\w+)", line[program.end() :])) <= known_flags(program[0]), line
        elif re.match(r"[A-Z]+=\"", line):  # a variable of the shell with flags of a training
            assert set(re.findall(r"--(\w+)", line)) <= TRAINING_FLAGS, line
        for names in re.findall(r"real_data\.py.* --only ([\w -]+?)(?= --|$)", line):
            assert set(names.split()) <= set(real_data.CORPORA), line


def test_the_site_builds_and_its_links_resolve(tmp_path):
    """mkdocs is strict: a link to a page or an anchor that is not there is an error."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RationaleTrainer" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "site" / "benchmarks" / "inference" / "index.html").exists()
