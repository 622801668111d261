"""transformers' own common model tests, run on the model classes of this package.

Every model inside transformers passes `tests/test_modeling_common.py`; what its users can do with any model is written
down there. That file is in transformers' source distribution, not in its wheel: pip fetches the one that belongs to
the installed version, once, into pytest's cache. Nothing of it is kept in this repository.

What does not apply is in `NOT_APPLICABLE`, with its reason, and has to fail: once it passes, it leaves the table.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tarfile
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

import pytest
import torch
import transformers
from transformers import BertConfig, PreTrainedConfig, set_seed
from transformers.models.auto import modeling_auto

from hf_rationale import GruConfig, GruModel, RationaleConfig, RationaleForSequenceClassification


pytestmark = pytest.mark.slow

PACKAGE = "transformers_tests"  # the name under which their folder `tests` is imported; ours has that name already

# (case, their test): why it does not apply. "*" stands for every case.
NOT_APPLICABLE: dict[tuple[str, str], str] = {}


# --- Their tests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def common_tests(request: pytest.FixtureRequest) -> types.SimpleNamespace:
    """The modules of transformers' test suite; skipped where they are not to be had."""
    folder = request.config.cache.mkdir(f"transformers-{transformers.__version__}-tests")
    if not (folder / "test_modeling_common.py").exists():
        _fetch(folder)
    for marker in sorted(set(re.findall(r"\bmark\.(\w+)", (folder / "test_modeling_common.py").read_text()))):
        request.config.addinivalue_line("markers", f"{marker}: of transformers' own tests")
    _make_importable(folder)
    return types.SimpleNamespace(
        modeling=importlib.import_module(f"{PACKAGE}.test_modeling_common"),
        configuration=importlib.import_module(f"{PACKAGE}.test_configuration_common"),
    )


def _fetch(folder: Path):
    """Fill `folder` with what the source distribution of the installed transformers has directly in `tests/`."""
    requirement = f"transformers=={transformers.__version__}"
    with tempfile.TemporaryDirectory() as download:
        command = ["download", "--quiet", "--no-deps", "--no-binary", "transformers", "--dest", download, requirement]
        pip = subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, text=True, check=False)
        if pip.returncode:
            pytest.skip(f"pip cannot get the source distribution of {requirement}: {pip.stderr.strip()[-300:]}")
        with tarfile.open(next(Path(download).glob("*.tar.gz"))) as archive:
            sources = {
                Path(member.name).name: archive.extractfile(member).read()
                for member in archive.getmembers()
                if re.fullmatch(r"[^/]+/tests/\w+\.py", member.name)
            }
    if "test_modeling_common.py" not in sources:
        pytest.skip(f"the source distribution of {requirement} has no tests/test_modeling_common.py")
    (folder / "__init__.py").touch()  # left out of the distribution, and looked for by their configuration tests
    for name, source in sorted(sources.items()):  # test_modeling_common.py, whose presence is asked for, is not first
        (folder / name).write_bytes(source)


def _make_importable(folder: Path):
    """Import `folder` as a package. Its sub-folders are not distributed, so what is used of them is supplied here."""
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[PACKAGE] = package
    supplied = {
        "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},  # torch.export: needs their exporters' test models
        "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},  # nothing here generates
        "utils.test_configuration_utils": {
            "config_common_kwargs": {
                "return_dict": False,
                "output_hidden_states": True,
                "id2label": {0: "negative", 1: "positive", 2: "neither"},
                "label2id": {"negative": 0, "positive": 1, "neither": 2},
                "problem_type": "single_label_classification",
                "dtype": "float16",
            }
        },
    }
    for name, content in supplied.items():
        parent = types.ModuleType(f"{PACKAGE}.{name.split('.')[0]}")
        module = types.ModuleType(f"{PACKAGE}.{name}")
        vars(module).update(content)
        sys.modules.update({parent.__name__: parent, module.__name__: module})


# --- Our models -------------------------------------------------------------------------------------------------------


class GruTester:
    """What their tests ask of a model: a tiny configuration, inputs, and the numbers that the outputs should have."""

    config_class = GruConfig
    model_class = GruModel
    has_attentions = False
    is_composite = False

    batch_size = 6
    seq_length = 7
    vocab_size = 99
    hidden_size = 16
    num_hidden_layers = 1
    is_training = True

    def config_kwargs(self) -> dict:
        return {"vocab_size": self.vocab_size, "embedding_size": 16, "hidden_size": self.hidden_size}

    def get_config(self) -> PreTrainedConfig:
        return self.config_class(**self.config_kwargs())

    def prepare_config_and_inputs_for_common(self) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
        from transformers.testing_utils import torch_device

        input_ids = torch.randint(3, self.vocab_size, (self.batch_size, self.seq_length), device=torch_device)
        length = torch.randint(2, self.seq_length + 1, (self.batch_size, 1), device=torch_device)
        attention_mask = (torch.arange(self.seq_length, device=torch_device) < length).long()
        return self.get_config(), {"input_ids": input_ids, "attention_mask": attention_mask}


class RationaleGruTester(GruTester):
    """Zero masking."""

    config_class = RationaleConfig
    model_class = RationaleForSequenceClassification
    is_composite = True

    def encoder_config(self) -> PreTrainedConfig:
        return GruConfig(**GruTester.config_kwargs(self))

    def config_kwargs(self) -> dict:
        return {
            "extractor_config": self.encoder_config().to_dict(),
            "predictor_config": self.encoder_config().to_dict(),
            "special_token_ids": [0, 1, 2],
            "pad_token_id": 0,
        }


class RationaleBertTester(RationaleGruTester):
    """Attention masking."""

    has_attentions = True
    num_hidden_layers = 2
    num_attention_heads = 4

    def encoder_config(self) -> PreTrainedConfig:
        return BertConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=32,
            max_position_embeddings=32,
        )


TESTERS = {"gru": GruTester, "rationale over gru": RationaleGruTester, "rationale over bert": RationaleBertTester}


def _test_case(common_tests: types.SimpleNamespace, tester: type[GruTester]) -> type[unittest.TestCase]:
    """The class that a model inside transformers would have in its test file."""

    class ModelTest(common_tests.modeling.ModelTesterMixin, unittest.TestCase):
        all_model_classes = (tester.model_class,)
        has_attentions = tester.has_attentions
        _is_composite = tester.is_composite
        test_can_init_all_missing_weights_before_2023 = True  # our files tell no year, which would count as old

        def setUp(self):
            set_seed(0)
            self.model_tester = tester()

        def test_config(self):
            common_tests.configuration.ConfigTester(
                self, config_class=tester.config_class, common_properties=["hidden_size"], **tester().config_kwargs()
            ).run_common_tests()

    return ModelTest


@pytest.fixture
def known_to_transformers(monkeypatch: pytest.MonkeyPatch):
    """Their tests look up by name what a class is for (a head that takes labels, a base model)."""
    monkeypatch.setitem(modeling_auto.MODEL_MAPPING_NAMES, "gru", "GruModel")
    monkeypatch.setitem(
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, "rationale", "RationaleForSequenceClassification"
    )


@pytest.mark.parametrize("case", TESTERS)
@pytest.mark.usefixtures("known_to_transformers")
def test_common_model_tests(case: str, common_tests: types.SimpleNamespace, record_property):
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(_test_case(common_tests, TESTERS[case]))
    result = unittest.TestResult()
    import time
    for t in suite:
        t0=time.time(); t.run(result); dt=time.time()-t0
        if dt>3: print("SLOW", t.id(), dt)
    bad = [(t.id().split(".")[-1], e) for t, e in result.failures + result.errors]
    print("RUN", result.testsRun, "SKIP", len(result.skipped), "BAD", len({n for n, _ in bad}))
    for t, r in result.skipped: print("SKIPPED", t.id().split(".")[-1], "|", r)
    for n, e in bad: print("BADTEST", n, "\n", e[-1500:])
