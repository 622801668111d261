"""Corpora in the layout of the ERASER benchmark: movies, multirc, fever (DeYoung et al. 2020).

What the data is: documents (`docs/`, whitespace-separated tokens, a sentence a line) and instances
(`{train,val,test}.jsonl`) that point at spans of them as evidence. In movies the document is a film review and the
label its sentiment. In multirc (reading comprehension) and fever (fact checking) a query comes with the document, and
the label says whether the answer or the claim in it is right.

What it is not: in movies, the evidences of train and validation are a sample of the sentiment phrases (.09 and .07 of
the tokens), those of test are meant to be all of them (.30), so a sparsity that is tuned on validation is low for
test. In multirc and fever the evidences are whole sentences.

Reference:
    Jay DeYoung, Sarthak Jain, Nazneen Fatema Rajani, Eric Lehman, Caiming Xiong, Richard Socher, Byron C. Wallace.
    ERASER: A Benchmark to Evaluate Rationalized NLP Models. ACL 2020.
"""

import gzip
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import DatasetDict

from .files import decode_lines
from .schema import Example, MalformedDataError, spans_to_rationale, to_dataset_dict


SPLIT_FILES = {"train": "train.jsonl", "validation": "val.jsonl", "test": "test.jsonl"}


@dataclass(frozen=True)
class _Task:
    classifications: tuple[str, ...]  # as the files have them, in the order of the label ids
    label_names: tuple[str, ...]
    has_query: bool


TASKS = {
    # The query of movies is the same sentence for every review ("What is the sentiment of this review?"): no segment.
    "movies": _Task(("NEG", "POS"), ("negative", "positive"), has_query=False),
    "multirc": _Task(("False", "True"), ("False", "True"), has_query=True),
    "fever": _Task(("REFUTES", "SUPPORTS"), ("REFUTES", "SUPPORTS"), has_query=True),
}


def read_eraser(name: str, data_dir: str | os.PathLike | None) -> DatasetDict:
    """Reads a corpus in the ERASER layout.

    An instance over several documents has them one after the other in `tokens`, in the order in which it names them.
    All alternative evidence groups count as gold. An instance without any evidence has `rationale` `None`.

    Args:
        name (`str`):
            `"movies"`, `"multirc"` or `"fever"`.
        data_dir (`str` or `os.PathLike`):
            The folder with `{train,val,test}.jsonl` and `docs/`, its parent (if the folder is named as the corpus),
            the `.tar.gz` of such a folder, or a folder that holds `{name}.tar.gz`. Archives are read in one pass,
            nothing is written to disk.

    Returns:
        `datasets.DatasetDict`: those of train, validation and test that have a file. multirc and fever have a column
        `query`, of which no word can be selected.

    Raises:
        FileNotFoundError: nothing in that layout is there, or no split.
        MalformedDataError: a line breaks the format, points outside a document or names a document that is missing, or
            the archive is damaged.
    """
    task = TASKS[name]
    corpus = _find_corpus(name, data_dir)
    if not corpus.splits:
        raise FileNotFoundError(f"{corpus.place} has no split: expected any of {', '.join(SPLIT_FILES.values())}.")
    splits = {split: _read_split(corpus, split, task) for split in SPLIT_FILES if split in corpus.splits}
    return to_dataset_dict(splits, task.label_names, query=task.has_query)


@dataclass
class _Corpus:
    """The files of a corpus, from a folder or an archive. Documents are split into tokens when first asked for."""

    place: str
    splits: dict[str, bytes]
    fetch: Callable[[str], bytes | None]  # a document's bytes; None where there is no such document
    _documents: dict[str, list[str] | None] = field(default_factory=dict)

    def document(self, docid: str) -> list[str] | None:
        if docid not in self._documents:
            content = self.fetch(docid)
            if content is None:
                self._documents[docid] = None
            else:
                lines = decode_lines(io.BytesIO(content), f"{self.place}/docs/{docid}")
                self._documents[docid] = [token for _, line in lines for token in line.split()]
        return self._documents[docid]


def _find_corpus(name: str, data_dir: str | os.PathLike | None) -> _Corpus:
    holds = f"{', '.join(SPLIT_FILES.values())} and docs/"
    if data_dir is None:
        raise FileNotFoundError(f"{name} is read from files: pass data_dir, a folder or .tar.gz that holds {holds}.")
    place = Path(data_dir)
    if place.is_file():
        return _open_archive(place)
    for folder in (place / name, place):
        if (folder / "docs").is_dir() or any((folder / file_name).is_file() for file_name in SPLIT_FILES.values()):
            return _open_folder(folder)
    archive = place / f"{name}.tar.gz"
    if archive.is_file():
        return _open_archive(archive)
    raise FileNotFoundError(f"Found no {name} at {place}, {place / name} nor {archive}. Put {holds} there.")


def _open_folder(folder: Path) -> _Corpus:
    def fetch(docid: str) -> bytes | None:
        path = folder / "docs" / docid
        return path.read_bytes() if path.is_file() else None

    paths = {split: folder / file_name for split, file_name in SPLIT_FILES.items()}
    splits = {split: path.read_bytes() for split, path in paths.items() if path.is_file()}
    return _Corpus(str(folder), splits, fetch)


def _open_archive(path: Path) -> _Corpus:
    """Reads the whole archive in one pass: going back in a compressed stream means decompressing it from the start."""
    splits, documents = {}, {}
    split_of = {file_name: split for split, file_name in SPLIT_FILES.items()}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                parts = PurePosixPath(member.name).parts
                if "docs" in parts[:-1]:
                    documents["/".join(parts[parts.index("docs") + 1 :])] = archive.extractfile(member).read()
                elif parts[-1] in split_of:
                    splits[split_of[parts[-1]]] = archive.extractfile(member).read()
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MalformedDataError(path, None, f"expected a whole .tar.gz archive ({error}); fetch it again") from error
    return _Corpus(str(path), splits, documents.get)


def _read_split(corpus: _Corpus, split: str, task: _Task) -> list[Example]:
    path = f"{corpus.place}/{SPLIT_FILES[split]}"
    examples = []
    for number, line in decode_lines(io.BytesIO(corpus.splits[split]), path):
        try:
            examples.append(_to_example(line, corpus, task))
        except _InstanceError as error:
            raise MalformedDataError(path, number, str(error)) from error
    return examples


class _InstanceError(Exception):
    """What is wrong with an instance; [`_read_split`] knows the place."""


def _to_example(line: str, corpus: _Corpus, task: _Task) -> Example:
    try:
        instance = json.loads(line)
    except json.JSONDecodeError as error:
        raise _InstanceError(f"expected a JSON object, found bad JSON ({error})") from error
    classification = _get(instance, "classification", str)
    if classification not in task.classifications:
        expected = " or ".join(task.classifications)
        raise _InstanceError(f"expected classification {expected}, found {classification!r}")
    evidences = [evidence for group in _get(instance, "evidences", list) for evidence in _as_list(group)]

    docids = _docids(instance, evidences, corpus)
    tokens, offsets, lengths = [], {}, {}
    for docid in docids:
        document = corpus.document(docid)
        if document is None:
            raise _InstanceError(f"expected the document docs/{docid}, which is not there")
        offsets[docid], lengths[docid] = len(tokens), len(document)
        tokens = tokens + document
    if not tokens:
        raise _InstanceError(f"expected a document, found blank text in {', '.join(docids)}")

    spans = []
    for evidence in evidences:
        docid = evidence["docid"]
        start, end = _get(evidence, "start_token", int), _get(evidence, "end_token", int)
        # ERASER's movies has 20 empty spans (start == end), which mark nothing.
        if not 0 <= start <= end <= lengths[docid]:
            raise _InstanceError(
                f"expected an evidence within the {lengths[docid]} tokens of {docid}, found [{start}, {end})"
            )
        spans.append((offsets[docid] + start, offsets[docid] + end))

    example = {
        "tokens": tokens,
        "label": task.classifications.index(classification),
        "rationale": spans_to_rationale(spans, len(tokens)) if spans else None,
    }
    if task.has_query:
        example["query"] = _get(instance, "query", str).split()
        if not example["query"]:
            raise _InstanceError("expected a query, found blank text")
    return example


def _docids(instance: dict, evidences: list, corpus: _Corpus) -> list[str]:
    """The documents of an instance in order: those it lists, then those that only its evidences name.

    Where there are neither (movies lists none, and a review may have no evidence), the annotation's id is that of its
    document.
    """
    docids = [] if instance.get("docids") is None else list(_get(instance, "docids", list))
    for evidence in evidences:
        docids.append(_get(evidence, "docid", str))
    return list(dict.fromkeys(docids)) or [_get(instance, "annotation_id", str)]


def _as_list(group: Any) -> list:
    if not isinstance(group, list):
        raise _InstanceError("expected evidences to be a list of lists of spans")
    return group


def _get(record: Any, key: str, kind: type) -> Any:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise _InstanceError(f"expected the field {key} ({kind.__name__}), found {value!r:.80}")
    return value
