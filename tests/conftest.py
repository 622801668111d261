"""Settings that every test shares: no network, no user settings, one thread, a fixed seed."""

import gc
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType


# Read at import by the libraries below, so they come first; worker and child processes inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_EVALUATE_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Tiny models gain nothing from threads, and pytest already runs two processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "HF_HOME" not in os.environ:
    # Caches and settings of the user's own would make a result depend on the machine. Removed when pytest ends.
    _hf_home = tempfile.TemporaryDirectory(prefix="hf_rationale-tests-", ignore_cleanup_errors=True)
    os.environ["HF_HOME"] = _hf_home.name

import pytest


REPOSITORY = Path(__file__).resolve().parent.parent


def load_script(path: str) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{Path(path).stem}", REPOSITORY / path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def frozen_libraries() -> None:
    """Every training ends with a garbage collection, which need not look through the libraries each time."""
    import hf_rationale.trainer  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same random state, so that none depends on which ran before it."""
    from transformers import set_seed  # here, because pytest-xdist's controller loads this file and runs no test

    set_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real corpora, which the repository does not hold; the test is skipped where it is absent."""
    folder = Path(os.environ.get("HF_RATIONALE_DATA") or REPOSITORY / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip(f"needs the real corpora: set HF_RATIONALE_DATA to their folder ({folder} is not one)")
    return folder
