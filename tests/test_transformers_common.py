"""transformers' own common model tests, run on the model classes of this package.

Every model inside transformers passes `tests/test_modeling_common.py`: what a user may do with any model is written
down there. That file comes with transformers' source distribution, not with its wheel: pip fetches the one of the
installed version, once, into pytest's cache. Nothing of it is kept in this repository.

What does not apply to a model is listed in `NOT_APPLICABLE`, with the reason. It is run all the same, and once it
passes it has to leave the table; what is not in the table has to pass.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import types
import unittest
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
import transformers
from transformers import BertConfig, PreTrainedConfig, set_seed
from transformers.models.auto import modeling_auto
from transformers.testing_utils import torch_device

from hf_rationale import (
    GruConfig,
    GruModel,
    PlmrConfig,
    PlmrForSequenceClassification,
    RationaleConfig,
    RationaleForSequenceClassification,
)


pytestmark = pytest.mark.slow

RECURRENT = ("gru", "rationale over gru", "rationale over tied gru")
TRANSFORMERS = ("rationale over bert", "plmr over bert")
RATIONALE = ("rationale over gru", "rationale over tied gru", *TRANSFORMERS)
ALL = ("gru", *RATIONALE)

# (their test, our cases, why it does not apply)
NOT_APPLICABLE = [
    # What this package leaves out on purpose
    ("test_problem_types", RATIONALE, "a text has one class; multi-label and regression targets raise ValueError"),
    ("test_inputs_embeds", RATIONALE, "two encoders with an embedding matrix each: only input_ids can feed both"),
    ("test_load_with_mismatched_shapes", RATIONALE, "also loads with AutoModel, but there is no model without head"),
    ("test_torch_save_load", RATIONALE, "for classes with a base model in AutoModel"),
    (
        "test_training_gradient_checkpointing_use_reentrant_true",
        TRANSFORMERS,
        "the mask reaches the layers by keyword, and reentrant checkpointing carries no gradient to keywords; the "
        "default, use_reentrant=False, does",
    ),
    # Where their test looks elsewhere
    ("test_can_load_ignoring_mismatched_shapes", RATIONALE, "looks for the head at the top; ours is predictor's"),
    ("test_sdpa_can_dispatch_composite_models", RATIONALE, "for a text and an image part; the next two cover ours"),
    ("test_sdpa_can_dispatch_non_composite_models", TRANSFORMERS, "the model is composite"),
    ("test_resize_position_vector_embeddings", ALL, "off by default in their own mixin"),
    # A GRU has one layer and no attention
    ("test_gradient_checkpointing_*", RATIONALE[:2], "a GRU has nothing to checkpoint; asking for it raises"),
    ("test_training_gradient_checkpointing*", RATIONALE[:2], "a GRU has nothing to checkpoint"),
    ("test_peft_gradient_checkpointing_enable_disable", RATIONALE[:2], "a GRU has nothing to checkpoint"),
    ("test_enable_input_require_grads_with_gradient_checkpointing", RECURRENT, "a GRU has nothing to checkpoint"),
    ("test_attention_outputs", RECURRENT, "no attention"),
    ("test_attn_implementation_composite_models", RECURRENT, "no attention"),
    ("test_can_set_attention_dynamically", RECURRENT, "no attention"),
    ("test_eager_matches_sdpa_inference_*", RECURRENT, "no attention"),
    ("test_sdpa_can_dispatch_non_composite_models", RECURRENT, "no attention"),
    ("test_can_capture_specific_layers_hidden_states", RECURRENT, "one layer: all hidden states or none"),
    ("test_capture_outputs_decorator", RECURRENT, "its outputs are collected without that decorator"),
    # The GRU by itself
    ("test_can_set_attention_dynamically_composite_model", ("gru",), "one configuration, no parts"),
    ("test_internal_model_config_and_subconfig_are_same", ("gru",), "one configuration, no parts"),
    ("test_sdpa_can_dispatch_composite_models", ("gru",), "one configuration, no parts"),
    # What other kinds of models have
    ("test_can_load_from_already_mapped_keys", ALL, "no weights are renamed at loading"),
    ("test_reverse_loading_mapping", ALL, "no weights are renamed at loading"),
    ("test_causal_lm_loss_honors_shift_labels", ALL, "no language model"),
    ("test_encoder_decoder_loss_no_double_shift", ALL, "no language model"),
    ("test_keep_in_fp32_modules*", ALL, "no part insists on float32"),
    ("test_eager_matches_batched_and_grouped_inference_*", ALL, "no mixture of experts"),
    ("test_moe_models_record_router_logits", ALL, "no mixture of experts"),
    ("test_output_router_logits_from_config", ALL, "no mixture of experts"),
    ("test_model_rope_*", ALL, "no rotary positions of its own"),
    ("test_vision_axial_rope", ALL, "no images"),
    ("test_sliding_window_mask", ALL, "no sliding window of its own"),
    ("test_tied_head_has_a_tp_plan_entry", ALL, "no tensor parallelism"),
    ("test_tp_plan_matches_params", ALL, "no tensor parallelism"),
]

# Skips of theirs that are about the machine (accelerators, flash attention, deepspeed, RUN_SLOW); and, in transformers
# 5.4, about a model's year, which only files with their copyright line tell.
ELSEWHERE = re.compile(r"test requires|test is slow|Not a prioritized model for now")


# --- Their tests -----------------------------------------------------------------------------------------------------

PACKAGE = "transformers_tests"  # the name under which their folder `tests` is imported; ours has that name already
FILES = ("test_configuration_common.py", "test_modeling_common.py")


@pytest.fixture(scope="session")
def common_tests(request: pytest.FixtureRequest) -> types.SimpleNamespace:
    """The modules of transformers' test suite; skipped where they are not to be had."""
    folder = request.config.cache.mkdir(f"transformers-{transformers.__version__}-tests")
    if not all((folder / name).exists() for name in FILES):
        _fetch(folder)
    for marker in sorted(
        {name for file in FILES for name in re.findall(r"\bmark\.(\w+)", (folder / file).read_text())}
    ):
        request.config.addinivalue_line("markers", f"{marker}: one of transformers' own")
    _make_importable(folder)
    return types.SimpleNamespace(
        modeling=importlib.import_module(f"{PACKAGE}.test_modeling_common"),
        configuration=importlib.import_module(f"{PACKAGE}.test_configuration_common"),
    )


def _fetch(folder: Path):
    """Take the files from the source distribution of the installed transformers."""
    requirement = f"transformers=={transformers.__version__}"
    with tempfile.TemporaryDirectory() as download:
        command = ["download", "--quiet", "--no-deps", "--no-binary", "transformers", "--dest", download, requirement]
        pip = subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, text=True, check=False)
        if pip.returncode:
            pytest.skip(f"pip cannot get the source distribution of {requirement}: {pip.stderr.strip()[-300:]}")
        with tarfile.open(next(Path(download).glob("*.tar.gz"))) as archive:
            root = archive.getnames()[0].split("/")[0]
            for name in FILES:
                if f"{root}/tests/{name}" not in archive.getnames():
                    pytest.skip(f"the source distribution of {requirement} has no tests/{name}")
                # Another process may be at the same: a file is there as a whole or not at all.
                partial = folder / f"{name}.{os.getpid()}"
                partial.write_bytes(archive.extractfile(f"{root}/tests/{name}").read())
                partial.replace(folder / name)
    (folder / "__init__.py").touch()  # not distributed, and read by their configuration tests


def _make_importable(folder: Path):
    """Import `folder` as a package. Its sub-folders are not distributed, so what is used of them is supplied here."""
    supplied = {
        "": {"__path__": [str(folder)]},
        ".exporters": {},
        ".exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},  # torch.export
        ".generation": {},
        ".generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
        ".utils": {},
        ".utils.test_configuration_utils": {
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
        module = types.ModuleType(PACKAGE + name)
        vars(module).update(content)
        sys.modules[module.__name__] = module


# --- Our models ------------------------------------------------------------------------------------------------------


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
        encoder_config = json.loads(json.dumps(self.encoder_config().to_dict()))
        del encoder_config["transformers_version"]  # not saved with a part of a configuration
        return {
            "extractor_config": encoder_config,
            "predictor_config": dict(encoder_config),
            "special_token_ids": [0, 1, 2],
            "pad_token_id": 0,
        }


class RationaleTiedTester(RationaleGruTester):
    """One embedding matrix for both encoders."""

    def config_kwargs(self) -> dict:
        return super().config_kwargs() | {"tie_word_embeddings": True}


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


class PlmrTester(RationaleBertTester):
    """One encoder, split; the predictor, whose states and weights are returned, has its last two layers."""

    config_class = PlmrConfig
    model_class = PlmrForSequenceClassification

    def config_kwargs(self) -> dict:
        config = super().config_kwargs()
        del config["predictor_config"]
        encoder_config = config.pop("extractor_config") | {"num_hidden_layers": 4}
        return config | {"encoder_config": encoder_config, "split_layer": 2, "freeze_embeddings": False}


TESTERS = dict(
    zip(ALL, (GruTester, RationaleGruTester, RationaleTiedTester, RationaleBertTester, PlmrTester), strict=True)
)


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
    """Their tests look up by name what a class is for: a base model, or a head that takes labels."""
    monkeypatch.setitem(modeling_auto.MODEL_MAPPING_NAMES, "gru", "GruModel")
    monkeypatch.setitem(
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "rationale",
        "RationaleForSequenceClassification",
    )
    monkeypatch.setitem(
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, "plmr", "PlmrForSequenceClassification"
    )


@pytest.mark.parametrize("case", ALL)
@pytest.mark.usefixtures("known_to_transformers")
def test_common_model_tests(case: str, common_tests: types.SimpleNamespace, capsys: pytest.CaptureFixture):
    passed, elsewhere, left_out, problems = [], [], [], []
    for test in unittest.defaultTestLoader.loadTestsFromTestCase(_test_case(common_tests, TESTERS[case])):
        name = test.id().rpartition(".")[2]
        result = unittest.TestResult()
        unittest.TestSuite([test]).run(result)
        reasons = [error for _, error in result.failures + result.errors] + [reason for _, reason in result.skipped]
        listed = any(fnmatch(name, pattern) and case in cases for pattern, cases, _ in NOT_APPLICABLE)
        if result.wasSuccessful() and result.skipped and all(ELSEWHERE.match(reason) for reason in reasons):
            elsewhere.append(name)
        elif reasons and listed:
            left_out.append(name)
        elif reasons:
            problems.append(f"{name}: {'skipped' if result.wasSuccessful() else 'failed'}: {'; '.join(reasons)}")
        elif listed:
            problems.append(f"{name} passes: take it from NOT_APPLICABLE")
        else:
            passed.append(name)
    with capsys.disabled():
        print(
            f"\n{case}: of transformers' common tests {len(passed)} pass, {len(left_out)} do not apply, "
            f"{len(elsewhere)} need another machine or version, {len(problems)} fail"
        )
    assert not problems, "\n\n".join(problems)
    assert len(passed) > 50  # a suite that was found empty would pass as well
