"""Explaining any number of texts: a line out for every line in, in constant memory, and resumable."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow.parquet
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from .modeling.fingerprint import hash_weights
from .text.pipeline import RationaleClassificationPipeline, check_text


FORMATS = ("jsonl", "csv", "parquet", "txt")
WINDOW = 2048  # the texts that are sorted by length and written together


class UnreadableLineError(ValueError):
    """A line of the input that has no text."""


class Columns(NamedTuple):
    """The names of the columns, or of the keys, of an input."""

    text: str = "text"
    query: str | None = None


TEXT = Columns()


def explain_texts(
    pipe: RationaleClassificationPipeline, texts: Iterable[Any], batch_size: int = 32, **options
) -> list[dict[str, Any]]:
    r"""
    What the pipeline says of every text, or `{"error": message}` for a text that it cannot read. This function fits
    `map_batches` of Ray Data and pandas UDFs of Spark.

    Args:
        pipe: the pipeline.
        texts: texts or pairs, as of the pipeline. An [`UnreadableLineError`] in place of a text stands for itself.
        batch_size: the number of texts in a batch. Texts of similar length come together.
        options: as of the pipeline, such as `rationale_ratio`.

    Returns:
        a dict for every text, in their order.
    """
    texts = list(texts)
    results: list[dict[str, Any] | None] = [None] * len(texts)
    readable = []
    for place, text in enumerate(texts):
        try:
            if isinstance(text, UnreadableLineError):
                raise text
            check_text(text, "The text")
            readable.append(place)
        except (TypeError, ValueError) as error:
            results[place] = {"error": str(error)}
    readable.sort(key=lambda place: _length(texts[place]), reverse=True)  # if the longest do not fit, it shows at once
    try:
        found = pipe([texts[place] for place in readable], batch_size=batch_size, **options)
    except (TypeError, ValueError):  # such as a query that leaves no room for its text: find out which one
        found = [_one(pipe, texts[place], options) for place in readable]
    for place, result in zip(readable, found, strict=True):
        results[place] = result
    return results


def _length(text: str | dict[str, str]) -> int:
    return len(text) if isinstance(text, str) else sum(map(len, text.values()))


def _one(pipe: RationaleClassificationPipeline, text: Any, options: dict[str, Any]) -> dict[str, Any]:
    try:
        return pipe(text, **options)
    except (TypeError, ValueError) as error:
        return {"error": str(error)}


def explain_file(
    pipe: RationaleClassificationPipeline,
    source: str,
    target: str,
    *,
    format: str | None = None,
    columns: Columns = TEXT,
    batch_size: int = 32,
    dtype: torch.dtype | None = None,
    settings: dict[str, Any] | None = None,
    **options,
) -> tuple[int, int]:
    r"""
    Explain every line of a file. The result is a file of JSON lines, in the order of the input: what the pipeline
    says, or `line` and `error`.

    Until all is done, the result has the name `target` with `.part` at its end. A run that was interrupted, at any
    moment, goes on from there, and ends with the same bytes as a run that was not interrupted. With several processes
    (`accelerate launch`), each explains a part of the windows of 2,048 lines.

    Args:
        pipe: the pipeline.
        source: a file of JSON lines (`text`, and `text_pair` for a pair), CSV, parquet or plain lines; `-` for the
            standard input.
        target: the file to write; `-` for the standard output.
        format (*optional*): one of `"jsonl"`, `"csv"`, `"parquet"` and `"txt"`. By default it is the file's ending.
        columns (*optional*): the names of the columns of the text and, for pairs, of the query.
        batch_size (*optional*): the number of texts in a batch.
        dtype (*optional*): computes in mixed precision, such as `torch.bfloat16`.
        settings (*optional*): what the result depends on besides the model, the input and the arguments here, such as
            the pipeline's own budget. An interrupted run with other settings is not continued.
        options: as of the pipeline.

    Returns:
        the number of lines, and how many of them have an error.

    Raises:
        FileExistsError: if `target` exists.
        ValueError: if the input has no such column, or if an interrupted run had other settings.
    """
    state = PartialState()
    format = format or Path(source).suffix.removeprefix(".") or "jsonl"
    format = {"json": "jsonl", "ndjson": "jsonl", "text": "txt"}.get(format, format)
    if format not in FORMATS:
        raise ValueError(f"{source}: the format must be one of {FORMATS}, but is {format!r}. Name it (format).")
    precision = nullcontext() if dtype is None else torch.autocast(pipe.device.type, dtype)

    def explained(lines: list[Any], first: int) -> list[str]:
        with precision:
            results = explain_texts(pipe, lines, batch_size, **options)
        numbered = (
            {"line": first + place, **result} if "error" in result else result for place, result in enumerate(results)
        )
        return [json.dumps(result, ensure_ascii=False) for result in numbered]

    if target == "-" or source == "-":
        if state.num_processes > 1:
            raise ValueError("Pipes are read by one process. Give files to several processes.")
        with _opened_for_writing(target) as out:
            return _explain_stream(read_lines(source, format, columns), explained, out)

    if Path(target).exists():
        raise FileExistsError(f"{target} exists. Move it, or choose another name.")
    settings = {
        **(settings or {}),
        "model": _fingerprint(pipe),
        "input": str(Path(source).resolve()),
        "size": Path(source).stat().st_size,
        "format": format,
        "columns": list(columns),
        "batch_size": batch_size,
        "dtype": str(dtype),
        "processes": state.num_processes,
        **{name: repr(value) for name, value in options.items()},
    }
    parts = [Path(f"{target}.part{rank or ''}") for rank in range(state.num_processes)]
    part = parts[state.process_index]
    windows = _windows(read_lines(source, format, columns))
    first = list(islice(windows, 1))  # an input that cannot be read raises before there is a part
    done = _resume(part, settings)
    total = count_lines(source, format)
    with (
        open(part, "ab") as out,
        tqdm(total=total, unit="text", desc="explaining", disable=not state.is_main_process) as progress,
    ):
        for number, lines in enumerate(chain(first, windows)):
            if number % state.num_processes == state.process_index:
                if done < len(lines):  # the whole window, so that its batches are those of an undisturbed run
                    written = explained(lines, 1 + number * WINDOW)[done:]
                    out.write("".join(f"{line}\n" for line in written).encode())
                    out.flush()
                done = max(0, done - len(lines))
            progress.update(len(lines))
    state.wait_for_everyone()
    if state.is_main_process:
        _join(parts, Path(target))
    state.wait_for_everyone()
    with open(target, "rb") as found:
        return total, sum(line.startswith(b'{"line"') for line in found)


def _fingerprint(pipe: RationaleClassificationPipeline) -> str:
    digest = hashlib.blake2b(pipe.model.config.to_json_string(use_diff=False).encode(), digest_size=16)
    digest.update(pipe.tokenizer.backend_tokenizer.to_str().encode())
    hash_weights(digest, pipe.model.state_dict().items())
    return digest.hexdigest()


def _explain_stream(lines: Iterator[Any], explained, out) -> tuple[int, int]:
    total = errors = 0
    for window in _windows(lines):
        for line in explained(window, 1 + total):
            errors += line.startswith('{"line"')
            out.write(line + "\n")
        out.flush()
        total += len(window)
    return total, errors


def _opened_for_writing(target: str):
    return nullcontext(sys.stdout) if target == "-" else open(target, "x", encoding="utf-8")


def _windows(lines: Iterator[Any]) -> Iterator[list[Any]]:
    while window := list(islice(lines, WINDOW)):
        yield window


# --- Resuming --------------------------------------------------------------------------------------------------------


def _resume(part: Path, settings: dict[str, Any]) -> int:
    """The number of whole lines in the unfinished file `part`, which is cut behind them. A file beside it has its
    settings."""
    about = part.with_name(part.name + ".json")
    if part.exists() and about.exists():
        if json.loads(about.read_text(encoding="utf-8")) != settings:
            raise ValueError(f"{part} is of a run with another input or other settings. Remove it, or move it.")
        with open(part, "r+b") as file:
            lines = length = 0
            for line in file:
                if line.endswith(b"\n"):
                    lines, length = lines + 1, length + len(line)
            file.truncate(length)
        return lines
    if part.exists():  # the settings are written before it
        raise ValueError(f"{part} is in the way, and is of no run of this command. Move it.")
    part.parent.mkdir(parents=True, exist_ok=True)
    unfinished = about.with_name(about.name + ".new")  # so that the settings are whole if they are there at all
    unfinished.write_text(json.dumps(settings), encoding="utf-8")
    os.replace(unfinished, about)
    return 0


def _join(parts: list[Path], target: Path):
    """Put the windows of all processes into one file, in their order, and remove the parts."""
    if len(parts) > 1:
        whole = target.with_name(target.name + ".whole")
        with ExitStack() as stack:
            files = [stack.enter_context(open(part, "rb")) for part in parts]
            out = stack.enter_context(open(whole, "wb"))
            for number in count():
                if not (lines := list(islice(files[number % len(files)], WINDOW))):
                    break
                out.writelines(lines)
        os.replace(whole, target)
        for part in parts:
            part.unlink()
    else:
        os.replace(parts[0], target)
    for part in parts:
        part.with_name(part.name + ".json").unlink()


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_lines(source: str, format: str, columns: Columns) -> Iterator[Any]:
    """The texts of an input, pairs as dicts, and an [`UnreadableLineError`] for a line that has none."""
    if format == "parquet":
        yield from _read_parquet(source, columns)
        return
    with nullcontext(sys.stdin.buffer) if source == "-" else open(source, "rb") as file:
        if format == "csv":
            yield from _read_csv(file, source, columns)
            return
        for number, raw in enumerate(file):
            try:
                line = raw.decode("utf-8-sig" if number == 0 else "utf-8").rstrip("\r\n")
                yield line if format == "txt" else _text_of(json.loads(line), columns)
            except UnicodeDecodeError as error:
                yield UnreadableLineError(f"The line is not UTF-8: {error.reason} at byte {error.start}.")
            except RecursionError:
                yield UnreadableLineError("The line is nested too deeply.")
            except UnreadableLineError as error:
                yield error
            except ValueError as error:
                yield UnreadableLineError(f"The line is not JSON: {error}")


def _text_of(record: Any, columns: Columns) -> Any:
    if isinstance(record, str):
        return record
    if not isinstance(record, dict):
        raise UnreadableLineError(f"The line must be a string or an object, but is {record!r:.80}")
    query = record.get(columns.query) if columns.query else None
    for name, value in ((columns.text, record.get(columns.text)), (columns.query, query)):
        if name is not None and value is None:
            raise UnreadableLineError(f"The line has no {name!r}.")
    if columns.query:
        return {"text": query, "text_pair": record[columns.text]}
    if "text_pair" in record and columns.text == "text":
        return {"text": record["text"], "text_pair": record["text_pair"]}
    return record[columns.text]


def _read_csv(file: BinaryIO, source: str, columns: Columns) -> Iterator[Any]:
    csv.field_size_limit(2**31 - 1)  # a text may be a book
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.DictReader(lines)
    _check_columns(source, rows.fieldnames or [], columns)
    while True:
        try:
            yield _text_of(next(rows), columns)
        except StopIteration:
            return
        except UnreadableLineError as error:
            yield error
        except csv.Error as error:
            yield UnreadableLineError(f"The row is not CSV: {error}")


def _read_parquet(source: str, columns: Columns) -> Iterator[Any]:
    file = pyarrow.parquet.ParquetFile(source)
    _check_columns(source, file.schema_arrow.names, columns)
    wanted = [columns.text, *([columns.query] if columns.query else [])]
    for batch in file.iter_batches(batch_size=WINDOW, columns=wanted):
        for record in batch.to_pylist():
            try:
                yield _text_of(record, columns)
            except UnreadableLineError as error:
                yield error


def _check_columns(source: str, found: Iterable[str], columns: Columns):
    if missing := {columns.text, *([columns.query] if columns.query else [])} - set(found):
        raise ValueError(f"{source} has no column {', '.join(sorted(missing))}, only {', '.join(found)}.")


def count_lines(source: str, format: str) -> int:
    """The number of lines, or rows, of a file."""
    if format == "parquet":
        return pyarrow.parquet.ParquetFile(source).metadata.num_rows
    if format == "csv":
        with open(source, "rb") as file:
            return sum(1 for _ in _read_csv(file, source, Columns(_first_column(source))))
    with open(source, "rb") as file:
        return sum(1 for _ in file)


def _first_column(source: str) -> str:
    with open(source, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return next(csv.reader(file), [""])[0]
