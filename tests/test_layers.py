"""Imports run downwards only, and the core knows no text."""

import ast
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY


PACKAGE = REPOSITORY / "hf_rationale"

# From the bottom to the top. A module may import what stands in a line above its own, or in its own folder.
LAYERS = (
    ("version", "compat", "checkpoints"),
    ("modeling", "metrics", "data"),
    ("encoders", "text"),
    ("sentences",),
    ("training_args", "reading", "visualization", "yardsticks"),
    ("graph",),
    (
        "learning_rates",
        "model_card",
        "faithfulness",
        "trainer_checks",
        "trainer_metrics",
        "explain",
        "extract",
        "convert",
        "onnx_export",
    ),
    ("image", "posthoc"),
    ("trainer",),
    ("methods",),
    ("diagnostics",),
    ("report",),
    ("evaluation",),
    ("cli",),
    ("__init__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> list[str]:
    """The parts of this package (folders, or modules beside them) that a module imports."""
    package = ["hf_rationale", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names] if module == "hf_rationale" else [module]
    return [name.split(".")[1] for name in names if name.startswith("hf_rationale.")]


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_runs_upwards(path: Path):
    own = part_of(path)
    for name in imports_of(path):
        assert name == own or LEVEL[name] < LEVEL[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "modeling").glob("*.py")), ids=lambda path: path.name)
def test_the_core_knows_no_tokens(path: Path):
    code = path.read_text(encoding="utf-8")
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    names |= {node.arg for node in ast.walk(ast.parse(code)) if isinstance(node, ast.arg)}
    names |= {node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}
    assert not [name for name in names if re.search(r"token|word|input_ids|attention_mask", name)]


# What a kind of input may not have to touch.
SHARED = ["methods", "metrics", "diagnostics", "trainer", "training_args", "report", "evaluation"]


@pytest.mark.parametrize("part", SHARED)
def test_what_every_kind_of_input_shares_imports_no_kind(part: str):
    paths = (PACKAGE / part).rglob("*.py") if (PACKAGE / part).is_dir() else [PACKAGE / f"{part}.py"]
    for path in paths:
        assert not {"text", "encoders", "sentences", "graph", "image"} & set(imports_of(path)), path


def test_private_names_of_transformers_are_in_compat():
    private = re.compile(r"\._attn_implementation\b|\._supports_attention_backend\b|gradient_state\._")
    for path in MODULES:
        if path.name != "compat.py":
            code = path.read_text(encoding="utf-8")
            assert not private.search(code), path
