"""`hf-rationale explain`: a line out for every line in, and the same bytes however often the run is killed."""

from __future__ import annotations

import copy
import csv
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from conftest import REPOSITORY
from training_common import make_model
from transformers import pipeline

from hf_rationale import cli, explain
from hf_rationale.explain import Columns, UnreadableLineError, explain_file, explain_texts


WORDS = ["the", "beer", "was", "lovely", "awful", ".", "served", "in", "a", "tall", "glass"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    model, tokenizer = make_model(selection_level="word")
    model.eval().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pipe(folder):
    return pipeline("rationale-classification", model=str(folder))


def texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 30))) for _ in range(count)]


def write(path: Path, lines: list[str]) -> str:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": 3, "text": line}) + "\n" for line in lines), encoding="utf-8-sig")
    elif path.suffix == ".txt":
        path.write_text("\n".join(lines), encoding="utf-8")  # without a line end at last
    elif path.suffix == ".csv":
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerows([["id", "text"], *([3, line] for line in lines)])
    else:
        pyarrow.parquet.write_table(pyarrow.table({"id": [3] * len(lines), "text": lines}), path)
    return str(path)


def results(path: str | Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("format", explain.FORMATS)
def test_every_format_gives_what_the_pipeline_gives(pipe, tmp_path, monkeypatch, format):
    monkeypatch.setattr(explain, "WINDOW", 8)
    lines = texts(30)
    counts = explain_file(pipe, write(tmp_path / f"in.{format}", lines), str(tmp_path / "out"), batch_size=4)
    assert counts == (30, 0)
    for found, line in zip(results(tmp_path / "out"), lines, strict=True):
        alone = pipe(line)
        assert found["score"] == pytest.approx(alone["score"], abs=1e-5)
        assert [span["text"] for span in found["rationale"]] == [span["text"] for span in alone["rationale"]]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]


BAD = {
    b"{not json}": "The line is not JSON",
    b"[1, 2]": "must be a string or an object",
    b'{"words": "a"}': "has no 'text'",
    b'{"text": null}': "has no 'text'",
    b'{"text": 3}': "must be a string, but is of type int",
    b'{"text": " "}': "is blank",
    b'{"text": "\\ud83d"}': "is not valid Unicode",
    b"": "The line is not JSON",
    b"\xff\xfe": "The line is not UTF-8",
    b"[" * 100000: "nested too deeply",
    b'{"text": "a", "text_pair": ["b"]}': "text_pair must be a string",
}


def test_a_bad_line_is_a_line_with_an_error(pipe, tmp_path):
    good = b'{"text": "the beer was lovely"}'
    lines = [line for bad in BAD for line in (good, bad)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines) + b"\n" + good)
    counts = explain_file(pipe, str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert counts == (len(lines) + 1, len(BAD))
    found = results(tmp_path / "out.jsonl")
    for place, message in enumerate(BAD.values()):
        assert found[2 * place]["label"] == found[-1]["label"]
        assert found[2 * place + 1]["line"] == 2 * place + 2
        assert message in found[2 * place + 1]["error"]


def test_a_text_that_only_the_tokenizer_refuses(pipe):
    """It is found out among the others, which are explained."""
    pair = {"text": "beer " * 20, "text_pair": "the beer"}
    found = explain_texts(pipe, ["the beer", pair, UnreadableLineError("nothing")], max_length=9)
    assert found[0] == pipe("the beer", max_length=9)
    assert "leaves no room" in found[1]["error"]
    assert found[2] == {"error": "nothing"}


def test_pairs_and_named_columns(pipe, tmp_path):
    records = [{"body": text, "asked": "the beer"} for text in texts(5)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + '{"body": "a"}')
    columns = Columns("body", "asked")
    assert explain_file(pipe, str(tmp_path / "in.jsonl"), str(tmp_path / "out"), columns=columns) == (6, 1)
    expected = pipe([{"text": "the beer", "text_pair": record["body"]} for record in records])
    found = results(tmp_path / "out")
    assert [one["rationale"] for one in found[:5]] == [one["rationale"] for one in expected]
    assert found[5] == {"line": 6, "error": "The line has no 'asked'."}


class Killed(BaseException):
    pass


def test_an_interrupted_run_goes_on_where_it_was(pipe, tmp_path, monkeypatch):
    """Wherever it was cut, also within a line, the result has the same bytes, and no window is computed twice."""
    monkeypatch.setattr(explain, "WINDOW", 8)
    source = write(tmp_path / "in.jsonl", texts(50))
    whole, part = tmp_path / "whole", tmp_path / "out.part"
    explain_file(pipe, source, str(whole), batch_size=3)
    expected = whole.read_bytes()
    computed = []

    def counted(pipe, lines, *args, **options):
        computed.append(len(lines))
        if len(computed) == 3:
            raise Killed
        return explain_texts(pipe, lines, *args, **options)

    monkeypatch.setattr(explain, "explain_texts", counted)
    with pytest.raises(Killed):
        explain_file(pipe, source, str(tmp_path / "out"), batch_size=3)
    assert expected.startswith(part.read_bytes()) and not (tmp_path / "out").exists()
    with open(part, "r+b") as file:
        file.truncate(part.stat().st_size - 5)
    with pytest.raises(ValueError, match="of a run with another input or other settings"):
        explain_file(pipe, source, str(tmp_path / "out"), batch_size=4)
    (tmp_path / "other.part").write_text("of somebody else")
    with pytest.raises(ValueError, match="is in the way"):
        explain_file(pipe, source, str(tmp_path / "other"))
    assert (tmp_path / "other.part").read_text() == "of somebody else"
    other = copy.deepcopy(pipe)
    other.model.predictor.classifier.bias.data += 1  # trained anew in the same folder
    with pytest.raises(ValueError, match="of a run with another input or other settings"):
        explain_file(other, source, str(tmp_path / "out"), batch_size=3)
    computed[:] = [0] * 3
    assert explain_file(pipe, source, str(tmp_path / "out"), batch_size=3) == (50, 0)
    assert (tmp_path / "out").read_bytes() == expected
    assert computed[3:] == [8] * 5 + [2]  # the second window again, and what follows
    with pytest.raises(FileExistsError, match="Move it, or choose another name"):
        explain_file(pipe, source, str(tmp_path / "out"), batch_size=3)


def run(folder: Path, *flags: str, launcher: tuple[str, ...] = (), **options) -> subprocess.CompletedProcess:
    command = [sys.executable, *launcher, "-m", "hf_rationale.cli", "explain", str(folder), *flags]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, capture_output=True, env=environment, timeout=300, **options)


def test_the_command_reads_and_writes_pipes(pipe, folder):
    lines = texts(3)
    done = run(folder, "--input", "-", "--output", "-", "--format", "txt", input="\n".join(lines).encode())
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.decode().splitlines()]
    spans = [[(span["start"], span["end"]) for span in one["rationale"]] for one in (*found, *pipe(lines))]
    assert spans[:3] == spans[3:]
    assert b"3 texts, of which 0 have an error" in done.stderr


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--input", "nowhere.jsonl", "--output", "out"], "there is no file nowhere.jsonl"),
        (["--input", "in.xls", "--output", "out"], "the format must be one of"),
        (["--input", "in.csv", "--output", "out", "--text_column", "body"], "has no column body, only id, text"),
        (["--input", "in.csv", "--output", "in.xls"], "in.xls exists"),
        (["--input", "in.csv", "--output", "out", "--rationale_ratio", "1.5"], "rationale_ratio"),
    ],
)
def test_bad_flags_are_errors_without_a_traceback(folder, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.csv", texts(2))
    (tmp_path / "in.xls").touch()
    with pytest.raises(SystemExit):
        cli.main(["explain", str(folder), *flags])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.part"))  # which would be in the way of the corrected command


class Evil:
    """Runs code if it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("owned"),)


def config(**fields):
    return lambda folder: (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | fields)
    )


def content(name: str, data: bytes):
    return lambda folder: (folder / name).write_bytes(data)


def with_pickle(folder: Path):
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")


BROKEN = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "config cut": content("config.json", b'{"model_type": "ra'),
    "config of bytes": content("config.json", b"\xff\xfe\x00"),
    "config a list": content("config.json", b"[1]"),
    "sparsity": config(sparsity=7.0),
    "sparsity a string": config(sparsity="a lot"),
    "labels": config(id2label="abc"),
    "unknown type": config(model_type="whatever"),
    "type of another model": config(model_type="bert"),
    "encoder": config(extractor_config={"model_type": "whatever"}),
    "encoder a list": config(extractor_config=[1]),
    "threshold": config(rationale_threshold=3),
    "another size": config(vocab_size=10**9),
    "foreign code": config(model_type="whatever", auto_map={"AutoConfig": "rationale_model.Config"}),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights empty": content("model.safetensors", b""),
    "weights zero": content("model.safetensors", bytes(1000)),
    "weights with a huge header": content("model.safetensors", b"\xff" * 8 + b"{}"),
    "pickle for safetensors": content("model.safetensors", pickle.dumps(Evil())),
    "pickle": with_pickle,
    "tokenizer cut": content("tokenizer.json", b"{"),
    "tokenizer empty": content("tokenizer.json", b"{}"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_an_error_and_runs_no_code(folder, tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "rationale_model.py").write_text("from pathlib import Path\nPath('owned').touch()\n")
    BROKEN[kind](broken)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["explain", "broken", "--input", write(tmp_path / "in.txt", texts(1)), "--output", "out"])
    assert stopped.value.code == 2
    message = "selects no rationale" if kind == "type of another model" else "cannot be loaded"
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("owned")) and not list(tmp_path.glob("out*"))


@pytest.mark.slow
def test_two_processes_give_the_same_as_one(folder, tmp_path):
    source = write(tmp_path / "in.jsonl", texts(5000))
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--mixed_precision", "no")
    outputs = []
    for name, launched in (("one", ()), ("two", launcher)):
        done = run(folder, "--input", source, "--output", str(tmp_path / name), launcher=launched)
        assert done.returncode == 0, done.stderr
        outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_killed_at_random_moments(folder, tmp_path):
    source = write(tmp_path / "in.jsonl", texts(20000))
    assert run(folder, "--input", source, "--output", str(tmp_path / "whole")).returncode == 0
    out, rng, kills = tmp_path / "out", random.Random(0), 0
    command = [
        sys.executable,
        "-m",
        "hf_rationale.cli",
        "explain",
        str(folder),
        "--input",
        source,
        "--output",
        str(out),
    ]
    while not out.exists():
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.DEVNULL
        )
        while not Path(f"{out}.part").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(4, 12))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()


# On two cores, Ray's two workers would leave none for reading.
CLUSTERS = {"ray": "import ray\nray.init(num_cpus=4)\n", "pyspark": ""}


@pytest.mark.slow
@pytest.mark.parametrize("package", CLUSTERS)
def test_a_cluster_as_the_documentation_says(pipe, folder, tmp_path, package):
    """Two local workers run the documentation's code. It needs `pip install "ray[data]" pyspark` and Java."""
    pytest.importorskip(package)
    page = (REPOSITORY / "docs" / "explain.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if package in block)
    shutil.copytree(folder, tmp_path / "outputs" / "quickstart")
    lines = texts(5000)
    write(tmp_path / "texts.jsonl", lines)
    (tmp_path / "texts.jsonl").write_text((tmp_path / "texts.jsonl").read_text(encoding="utf-8-sig"))
    code = code.replace('"outputs/', f'"{tmp_path}/outputs/').replace('("texts', f'("{tmp_path}/texts')
    code = CLUSTERS[package] + code.replace('("explained', f'("{tmp_path}/explained')
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = pyarrow.parquet.read_table(tmp_path / "explained").to_pylist()
    found = {row["text"]: row["label"] for row in rows}
    assert len(rows) == 5000
    assert [found[line] for line in lines[:50]] == [answer["label"] for answer in pipe(lines[:50])]
