"""Corpora in the layout of the ERASER benchmark: movies, multirc, fever (DeYoung et al. 2020).

What the data is: documents (`docs/` or `docs.jsonl`, whitespace-separated tokens, a sentence a line) and instances
(`{train,val,test}.jsonl`) that point at spans of them as evidence. In movies the document is a film review and the
label its sentiment. In multirc (reading comprehension) and fever (fact checking) a query comes with the document, and
the label says whether the answer or the claim in it is right. Where there is no file for training, a part of the
validation file takes its place, so that figures of multirc and fever are not those of the benchmark's training set.

What it is not: in movies, the evidences of train and validation are a sample of the sentiment phrases (.09 and .07 of
the tokens), those of test are meant to be all of them (.30), so a sparsity that is tuned on validation is low for
test. In multirc and fever the evidences are whole sentences.

Reference:
    Jay DeYoung, Sarthak Jain, Nazneen Fatema Rajani, Eric Lehman, Caiming Xiong, Richard Socher, Byron C. Wallace.
    ERASER: A Benchmark to Evaluate Rationalized NLP Models. ACL 2020.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import DatasetDict

from .corpus import Corpus
from .files import decode_lines
from .schema import Example, MalformedDataError, spans_to_rationale, to_dataset_dict


SPLIT_FILES = {"train": "train.jsonl", "validation": "val.jsonl", "test": "test.jsonl"}
DOCUMENTS_FILE = "docs.jsonl"  # of some corpora, in place of the folder docs: `docid` and `document` in every line


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
    `sentence_ids` numbers the lines of the documents, which are their sentences.
    All alternative evidence groups count as gold. An instance without any evidence has `rationale` `None`.

    Args:
        name (`str`):
            `"movies"`, `"multirc"` or `"fever"`.
        data_dir (`str` or `os.PathLike`):
            The folder with `{train,val,test}.jsonl` and `docs/`, its parent (if the folder is named as the corpus),
            the `.tar.gz` of such a folder, or a folder that holds `{name}.tar.gz`. Archives are read in one pass,
            nothing is written to disk.

    Returns:
        `datasets.DatasetDict`: those of train, validation and test that have a file. Without a file for training, the
        instances of validation are divided: those of a fifth of the documents are validation, and the others are
        train. multirc and fever have a column `query`, of which no word can be selected.

    Raises:
        FileNotFoundError: nothing in that layout is there, or no split.
        MalformedDataError: a line breaks the format, points outside a document or names a document that is missing, or
            the archive is damaged.
    """
    task = TASKS[name]
    corpus = _find_corpus(name, data_dir)
    if not corpus.splits:
        raise FileNotFoundError(f"{corpus.place} has no split: expected any of {', '.join(SPLIT_FILES.values())}.")
    convert = partial(_to_example, corpus=corpus, task=task)
    return to_dataset_dict(_read_splits(corpus, convert), task.label_names)


@dataclass(frozen=True)
class EraserInstance:
    """What the files call an instance and the documents that its tokens come from.

    Args:
        annotation_id (`str`): unique within a split.
        documents (`tuple` of `(docid, length)`): the documents in the order in which `tokens` has them, no document
            twice, with their numbers of tokens.

    Raises:
        ValueError: a document occurs twice.
    """

    annotation_id: str
    documents: tuple[tuple[str, int], ...]

    def __post_init__(self):
        if len(dict(self.documents)) < len(self.documents):
            raise ValueError(f"{self.annotation_id}: expected every document once, found {self.documents}")

    @property
    def num_tokens(self) -> int:
        return sum(length for _, length in self.documents)


def eraser_instances(name: str, data_dir: str | os.PathLike | None, split: str) -> list[EraserInstance]:
    """The instances behind the rows of `read_eraser(name, data_dir)[split]`, in their order.

    Args:
        name (`str`), data_dir (`str` or `os.PathLike`): as of [`read_eraser`].
        split (`str`): `"train"`, `"validation"` or `"test"`.

    Raises:
        FileNotFoundError: nothing in that layout is there, or not this split.
        MalformedDataError: as of [`read_eraser`], or an instance has no annotation_id.
        ValueError: a split that no corpus has.
    """
    if split not in SPLIT_FILES:
        raise ValueError(f"There is no split {split!r}; choose one of {', '.join(SPLIT_FILES)}.")
    corpus = _find_corpus(name, data_dir)
    readable = split in corpus.splits or (split == "train" and "validation" in corpus.splits)
    splits = _read_splits(corpus, partial(_to_instance, corpus=corpus)) if readable else {}
    if split not in splits:
        raise FileNotFoundError(f"{corpus.place} has no split {split}: expected {SPLIT_FILES[split]}.")
    return splits[split]


@dataclass
class _Corpus:
    """The files of a corpus, from a folder or an archive. Documents are split into tokens when first asked for."""

    place: str
    splits: dict[str, bytes]
    fetch: Callable[[str], bytes | None]  # the bytes of a document; None if it does not exist
    _documents: dict[str, list[list[str]] | None] = field(default_factory=dict)

    def document(self, docid: str) -> list[list[str]] | None:
        """The sentences of a document, each a list of tokens; None if it does not exist."""
        if docid not in self._documents:
            content = self.fetch(docid)
            if content is None:
                self._documents[docid] = None
            else:
                lines = decode_lines(io.BytesIO(content), f"{self.place}/docs/{docid}")
                self._documents[docid] = [line.split() for _, line in lines]
        return self._documents[docid]


def _find_corpus(name: str, data_dir: str | os.PathLike | None) -> _Corpus:
    holds = f"{', '.join(SPLIT_FILES.values())} and docs/ (or {DOCUMENTS_FILE})"
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
    if (file := folder / DOCUMENTS_FILE).is_file():
        return _Corpus(str(folder), splits, _parse_documents(file.read_bytes(), str(file)).get)
    return _Corpus(str(folder), splits, fetch)


def _parse_documents(content: bytes, path: str) -> dict[str, bytes]:
    """The documents of a file that has one in every line."""
    documents = {}
    for number, line in decode_lines(io.BytesIO(content), path):
        try:
            record = parse_line(line)
            documents[get_field(record, "docid", str)] = get_field(record, "document", str).encode()
        except RecordError as error:
            raise MalformedDataError(path, number, str(error)) from error
    return documents


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
                elif parts[-1] == DOCUMENTS_FILE:
                    content = archive.extractfile(member).read()
                    documents |= _parse_documents(content, f"{path}/{DOCUMENTS_FILE}")
                elif parts[-1] in split_of:
                    splits[split_of[parts[-1]]] = archive.extractfile(member).read()
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MalformedDataError(path, None, f"expected a whole .tar.gz archive ({error}); fetch it again") from error
    return _Corpus(str(path), splits, documents.get)


def _read_splits(corpus: _Corpus, convert: Callable[[Any], Any]) -> dict[str, list]:
    """`convert` of the JSON of every line of every split. Without a file for training, that of validation is divided,
    unless all of its instances would go to one side."""
    splits = {split: _read_split(corpus, split, convert) for split in SPLIT_FILES if split in corpus.splits}
    if "train" not in splits and "validation" in splits:
        held_back = _read_split(corpus, "validation", _is_held_back)
        if len(set(held_back)) == 2:
            parts = {"train": [], "validation": []}
            for row, kept in zip(splits["validation"], held_back, strict=True):
                parts["validation" if kept else "train"].append(row)
            splits = parts | {split: rows for split, rows in splits.items() if split != "validation"}
    return splits


def _read_split(corpus: _Corpus, split: str, convert: Callable[[Any], Any]) -> list:
    """`convert` of the JSON of every line of a split."""
    path = f"{corpus.place}/{SPLIT_FILES[split]}"
    converted = []
    for number, line in decode_lines(io.BytesIO(corpus.splits[split]), path):
        try:
            converted.append(convert(parse_line(line)))
        except RecordError as error:
            raise MalformedDataError(path, number, str(error)) from error
    return converted


class RecordError(ValueError):
    """What is wrong with a line; the caller knows the place."""


def _to_instance(instance: Any, corpus: _Corpus) -> EraserInstance:
    documents = _documents(instance, _evidences(instance), corpus)
    lengths = tuple((docid, sum(map(len, document))) for docid, document in documents.items())
    return EraserInstance(get_field(instance, "annotation_id", str), lengths)


def _to_example(instance: Any, corpus: _Corpus, task: _Task) -> Example:
    classification = get_field(instance, "classification", str)
    if classification not in task.classifications:
        expected = " or ".join(task.classifications)
        raise RecordError(f"expected classification {expected}, found {classification!r}")
    evidences = _evidences(instance)
    documents = _documents(instance, evidences, corpus)
    tokens, offsets, sentence_ids = [], {}, []
    for docid, document in documents.items():
        offsets[docid] = len(tokens)
        for sentence in document:
            sentence_ids += [sentence_ids[-1] + 1 if sentence_ids else 0] * len(sentence)
            tokens += sentence

    spans = []
    for evidence in evidences:
        docid = evidence["docid"]
        start, end = get_field(evidence, "start_token", int), get_field(evidence, "end_token", int)
        length = sum(map(len, documents[docid]))
        # ERASER's movies has 20 empty spans (start == end), which mark nothing.
        if not 0 <= start <= end <= length:
            raise RecordError(f"expected an evidence within the {length} tokens of {docid}, found [{start}, {end})")
        spans.append((offsets[docid] + start, offsets[docid] + end))

    example = {
        "tokens": tokens,
        "label": task.classifications.index(classification),
        "rationale": spans_to_rationale(spans, len(tokens)) if spans else None,
        "sentence_ids": sentence_ids,
    }
    if task.has_query:
        example["query"] = get_field(instance, "query", str).split()
        if not example["query"]:
            raise RecordError("expected a query, found blank text")
    return example


def _evidences(instance: Any) -> list:
    """The evidences of all groups."""
    return [evidence for group in get_field(instance, "evidences", list) for evidence in _as_list(group)]


def _documents(instance: dict, evidences: list, corpus: _Corpus) -> dict[str, list[list[str]]]:
    """The sentences of the documents of an instance, in its order."""
    documents = {}
    for docid in _docids(instance, evidences):
        document = corpus.document(docid)
        if document is None:
            raise RecordError(f"expected the document docs/{docid}, which is not there")
        documents[docid] = document
    if not any(map(any, documents.values())):
        raise RecordError(f"expected a document, found blank text in {', '.join(documents)}")
    return documents


def _docids(instance: dict, evidences: list) -> list[str]:
    """The documents of an instance in order: those it lists, then those that only its evidences name.

    Where there are neither (movies lists none, and a review may have no evidence), the annotation's id is that of its
    document.
    """
    docids = [] if instance.get("docids") is None else list(get_field(instance, "docids", list))
    for evidence in evidences:
        docids.append(get_field(evidence, "docid", str))
    return list(dict.fromkeys(docids)) or [get_field(instance, "annotation_id", str)]


def _is_held_back(instance: Any) -> bool:
    """Whether an instance of a divided split is kept for validation. All instances over one document go together."""
    first = _docids(instance, _evidences(instance))[0]
    return hashlib.blake2b(first.encode(), digest_size=4).digest()[0] < 256 / 5


def _as_list(group: Any) -> list:
    if not isinstance(group, list):
        raise RecordError("expected evidences to be a list of lists of spans")
    return group


def parse_line(line: str) -> Any:
    """Raises [`RecordError`] where `line` is not JSON."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise RecordError(f"expected a JSON object, found bad JSON ({error})") from error


def get_field(record: Any, key: str, kind: type) -> Any:
    """Raises [`RecordError`] where `record` is not an object or its field `key` not of `kind`."""
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise RecordError(f"expected the field {key} ({kind.__name__}), found {value!r:.80}")
    return value


def _corpus(name: str, description: str, example: str | dict[str, str], license: str) -> Corpus:
    return Corpus(
        name=name,
        read=partial(read_eraser, name),
        description=description,
        license=license,
        example=example,
        source=f"<https://www.eraserbenchmark.com/zipped/{name}.tar.gz>",
        files="the folder or `.tar.gz` of the ERASER benchmark (DeYoung et al. 2020)",
        marked="all",
        instances=partial(eraser_instances, name),
        class_names=TASKS[name].classifications,
    )


MOVIES = _corpus(
    "movies",
    "ERASER's movie reviews (Zaidan and Eisner 2008; DeYoung et al. 2020), positive or negative, with the evidence "
    "that people marked. The test split is marked more completely than the others.",
    "A bloated script and wooden acting sink what could have been a charming little thriller .",
    "none is stated in the archive",
)
MULTIRC = _corpus(
    "multirc",
    "ERASER's MultiRC (Khashabi et al. 2018; DeYoung et al. 2020): is the answer to a question true, given a "
    "paragraph? The question and the answer are always read, and words of the paragraph are selected. If the archive "
    "has no training file, training and validation are parts of its validation file.",
    {"text": "What did Ann forget ? || Her keys", "text_pair": "Ann locked the door . Her keys lay inside ."},
    "none is stated in the archive",
)
FEVER = _corpus(
    "fever",
    "ERASER's FEVER (Thorne et al. 2018; DeYoung et al. 2020): does a document support or refute a claim? The claim "
    "is always read, and words of the document are selected. If the archive has no training file, training and "
    "validation are parts of its validation file.",
    {"text": "Ann lives in Oslo.", "text_pair": "Ann was born in Oslo . She has lived in Rome since 1990 ."},
    "that of the Wikipedia articles, or else CC BY-SA 3.0, as fever.ai says",
)
