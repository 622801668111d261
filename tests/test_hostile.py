"""Input that nobody should give: it is either used rightly, or refused by this package with a message that names it.

Broken folders and lines of files are in `test_explain.py`, texts in `test_pipeline.py`, rows of datasets in
`test_trainer.py`, and checkpoints of other scripts in `test_convert.py`.
"""

import dataclasses
import io
import tarfile

import pytest
import torch
from common import ENCODERS, random_texts
from huggingface_hub.errors import StrictDataclassError
from training_common import make_model

from hf_rationale import (
    PlmrConfig,
    PlmrForSequenceClassification,
    RationaleConfig,
    RationaleForSequenceClassification,
    load_rationale_dataset,
)
from hf_rationale.cli import main
from hf_rationale.text.configuration_base import RationaleTextConfig


# --- Configurations --------------------------------------------------------------------------------------------------

VALUES = {
    "minus one": -1,
    "zero": 0,
    "a half": 0.5,
    "huge": 10**30,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "a string": "zero",
    "empty": "",
    "None": None,
    "a list": [1],
    "a dict": {"a": 1},
    "True": True,
}
OWN = set(RationaleConfig.__annotations__) | set(PlmrConfig.__annotations__) | set(RationaleTextConfig.__annotations__)
OWN |= set(RationaleTextConfig.__mro__[1].__annotations__)
CONFIGS = [
    (kind, field.name, value)
    for kind, config in (("two encoders", RationaleConfig), ("plmr", PlmrConfig))
    for field in dataclasses.fields(config)
    for value in VALUES
    if field.name in OWN and not field.name.endswith("_config")
]


@pytest.mark.parametrize(("kind", "field", "value"), CONFIGS)
def test_a_field_with_a_foreign_value_is_refused_by_name_or_works(kind, field, value):
    encoder = ENCODERS["bert"].config()
    fields = {"special_token_ids": [0, 1, 2], field: VALUES[value]}
    refused = None
    try:
        if kind == "plmr":
            model = PlmrForSequenceClassification(PlmrConfig(encoder_config=encoder, **fields))
        else:
            config = RationaleConfig(extractor_config=encoder, predictor_config=encoder, **fields)
            model = RationaleForSequenceClassification(config)
    except (ValueError, TypeError, StrictDataclassError) as error:
        refused = str(error)
    if refused is not None:
        assert field in refused or "decoding" in refused
        return
    batch = {"input_ids": torch.tensor(random_texts(6, 6)), "word_ids": torch.arange(6).repeat(2, 1)}
    with torch.no_grad():
        output = model.eval()(**batch)
    assert torch.isfinite(output.logits).all()
    assert ((output.rationale_mask == 0) | (output.rationale_mask == 1)).all()


# --- Archives --------------------------------------------------------------------------------------------------------


def member(name: str, data: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


ARCHIVES = {
    "climbs out": [member("movies/../../evil", b"x")],
    "absolute": [member("/tmp/evil-of-the-test", b"x")],
    "a link": [member("movies/train.jsonl", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
    "a hard link": [member("movies/train.jsonl", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "a device": [member("movies/train.jsonl", type=tarfile.CHRTYPE)],
    "a pipe": [member("movies/train.jsonl", type=tarfile.FIFOTYPE)],
    "a folder for a file": [member("movies/train.jsonl", type=tarfile.DIRTYPE)],
    "empty": [],
    "not JSON": [member("movies/train.jsonl", b"{")],
    "a long name": [member("movies/" + "a" * 5000, b"x")],
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_writes_nothing_and_is_refused(tmp_path, kind):
    data = tmp_path / "data"
    data.mkdir()
    with tarfile.open(data / "movies.tar.gz", "w:gz") as archive:
        for info, content in ARCHIVES[kind]:
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises((ValueError, OSError)) as error:
        load_rationale_dataset("movies", data)
    assert "movies" in str(error.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "movies.tar.gz"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b\x08\x00", b"PK\x03\x04"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "movies.tar.gz").write_bytes(content)
    with pytest.raises((ValueError, OSError), match="movies"):
        load_rationale_dataset("movies", tmp_path)


# --- Command lines ---------------------------------------------------------------------------------------------------

CORPUS = "--dataset aspect_reviews --output_dir out"
COMMANDS = [
    "",
    "nothing",
    "yardsticks",
    f"yardsticks {CORPUS}",
    f"yardsticks {CORPUS} --sparsity 0",
    f"yardsticks {CORPUS} --sparsity 1",
    f"yardsticks {CORPUS} --sparsity -1",
    f"yardsticks {CORPUS} --sparsity nan",
    f"yardsticks {CORPUS} --sparsity much",
    f"yardsticks {CORPUS} --top_k 0",
    f"yardsticks {CORPUS} --top_k 1.5",
    f"yardsticks {CORPUS} --top_k 2 --sparsity 0.2",
    f"yardsticks {CORPUS} --sparsity 0.2 --split nothing",
    f"yardsticks {CORPUS} --sparsity 0.2 --aspect nothing",
    "yardsticks --dataset nothing --output_dir out --sparsity 0.2",
    "yardsticks --dataset beer --data_dir nowhere --output_dir out --sparsity 0.2",
    "yardsticks --dataset aspect_reviews --output_dir file --sparsity 0.2",
    "evaluate",
    f"evaluate nowhere {CORPUS}",
    f"evaluate model {CORPUS} --batch_size 0",
    f"evaluate model {CORPUS} --batch_size many",
    f"evaluate model {CORPUS} --max_length 0",
    f"evaluate model {CORPUS} --rationale_level letter",
    f"evaluate file {CORPUS}",
    f"extract nowhere {CORPUS}",
    f"extract model {CORPUS} --batch_size -3",
    "explain model",
    "explain model --input nowhere.jsonl --output out.jsonl",
    "explain model --input . --output out.jsonl",
    "explain nowhere --input texts.txt --output out.jsonl",
    "explain model --input texts.doc --output out.jsonl",
    "explain model --input texts.txt --output out.jsonl --format doc",
    "explain model --input texts.txt --output out.jsonl --dtype int8",
    "explain model --input texts.txt --output out.jsonl --rationale_ratio 2",
    "explain model --input texts.txt --output out.jsonl --rationale_ratio nan",
    "explain model --input texts.txt --output out.jsonl --rationale_top_k -1",
    "explain model --input texts.txt --output out.jsonl --rationale_ratio 0.1 --rationale_top_k 2",
    "explain model --input texts.txt --output out.jsonl --rationale_threshold 3",
    "explain model --input texts.txt --output texts.txt",
    "explain model --input texts.txt --output out.jsonl --device nothing",
    "explain model --input texts.txt --output out.jsonl --device cuda:99",
    "convert",
    "convert nowhere --vectors texts.txt --output_dir out",
    "convert file --vectors nowhere --output_dir out",
    "convert file --vectors texts.txt --output_dir out",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_command_is_an_error_of_one_line(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    model, tokenizer = make_model()
    model.save_pretrained("model")
    tokenizer.save_pretrained("model")
    for name in ("texts.txt", "texts.doc", "file"):
        (tmp_path / name).write_text("the beer was lovely\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        main(command.split())
    shown = capsys.readouterr().err
    assert end.value.code == 2
    assert "error: " in shown and "Traceback" not in shown
    assert {path: path.read_bytes() for path in before} == before
