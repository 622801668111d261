"""The command line: `hf-rationale convert`, `evaluate`, `explain`, `extract` and `yardsticks`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    pipeline,
)

from .convert import convert_paper_checkpoint, load_paper_checkpoint
from .data import CORPORA, load_rationale_dataset
from .encoders.word_vectors import read_word_vectors
from .evaluation import evaluate_rationales
from .explain import FORMATS, Columns, explain_file
from .extract import extract_rationales, save_rationales
from .graph.yardsticks import graph_yardsticks
from .image.configuration_image import RationaleImageConfig
from .image.yardsticks import image_yardsticks
from .modeling.base import RationalePreTrainedModel
from .modeling.selection import BUDGETS
from .sentences.encoding import sentence_encoder
from .sentences.modeling_sentences import SentenceRationaleForSequenceClassification
from .text.segmentation import LEVELS
from .version import __version__
from .yardsticks import yardsticks, yardsticks_table


YARDSTICKS_NAME = "yardsticks.json"
# The yardsticks of what has no words, by the column that a dataset has in place of `tokens`.
OTHER_YARDSTICKS = {"edge_index": graph_yardsticks, "image": image_yardsticks}


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="hf-rationale", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    corpus = argparse.ArgumentParser(add_help=False)
    corpus.add_argument("--dataset", required=True, choices=list(CORPORA))
    corpus.add_argument("--data_dir", help="the folder of the corpus's files")
    corpus.add_argument("--aspect", help="the aspect, for corpora that have aspects")
    corpus.add_argument("--split", default="test", choices=["train", "validation", "test"])

    evaluate = commands.add_parser(
        "evaluate", parents=[corpus], help="measure a model's labels, rationales and predictor on a corpus"
    )
    evaluate.add_argument("model", help="a rationale model's folder or Hub id")
    evaluate.add_argument(
        "--output_dir",
        required=True,
        help="for report.json, .md and .html, and predictions.jsonl; an interrupted run continues there",
    )
    evaluate.add_argument("--batch_size", type=positive, default=32)
    evaluate.add_argument("--max_length", type=positive, help="cut texts to this number of tokens, as in training")
    evaluate.add_argument("--rationale_level", choices=LEVELS, help="the units to select, if not those of the model")
    evaluate.set_defaults(run=run_evaluate)

    simple = commands.add_parser(
        "yardsticks", parents=[corpus], help="score simple selectors, beside which a model should be read"
    )
    budget = simple.add_mutually_exclusive_group(required=True)
    budget.add_argument("--sparsity", type=float, help="the share of each example to select, such as a text's words")
    budget.add_argument("--top_k", type=positive, help="the number of units of each text to select")
    simple.add_argument("--keywords", nargs="*", default=(), help="words near which the rationale is expected")
    simple.add_argument(
        "--encoder", help="an encoder (folder or Hub id), to find the sentences that are similar to keywords or query"
    )
    simple.add_argument("--output_dir", required=True, help=f"for {YARDSTICKS_NAME}")
    simple.set_defaults(run=run_yardsticks)

    extract = commands.add_parser(
        "extract", parents=[corpus], help="turn a corpus into its rationales: parquet files and a dataset card"
    )
    extract.add_argument("model", help="a rationale model's folder or Hub id")
    extract.add_argument("--output_dir", required=True, help="for a file of every split")
    extract.add_argument(
        "--filler", help="a word in place of those that are not selected, which are left out otherwise"
    )
    extract.add_argument("--batch_size", type=positive, default=32)
    extract.set_defaults(run=run_extract)

    explain = commands.add_parser(
        "explain", help="explain every line of a file: a label and a rationale for each text"
    )
    explain.add_argument("model", help="a rationale model's folder or Hub id")
    explain.add_argument(
        "--input", required=True, help="a file of JSON lines, CSV, parquet or plain lines; - for the standard input"
    )
    explain.add_argument(
        "--output", required=True, help="for JSON lines; an interrupted run continues there; - for the standard output"
    )
    explain.add_argument("--format", choices=FORMATS, help="of the input, if its name does not end in it")
    explain.add_argument("--text_column", default="text", help="the column, or the key, of the text (default: text)")
    explain.add_argument("--query_column", help="the column, or the key, of the query of a pair")
    explain.add_argument("--batch_size", type=positive, default=32)
    explain.add_argument("--dtype", choices=["bfloat16", "float16"], help="for mixed precision")
    explain.add_argument("--device", help="such as cuda:0; by default the first accelerator, if there is one")
    explain.add_argument("--rationale_ratio", type=float, help="the share of each text's words to select")
    explain.add_argument("--rationale_top_k", type=int, help="the number of units to select")
    explain.add_argument("--rationale_threshold", type=float, help="select from this score on")
    explain.add_argument("--rationale_level", choices=LEVELS, help="the units to select, if not those of the model")
    explain.add_argument("--max_length", type=positive, help="cut texts to this number of tokens")
    explain.set_defaults(run=run_explain)

    convert = commands.add_parser(
        "convert", help="make a model of this package from the weights that a paper's script saved"
    )
    convert.add_argument("checkpoint", help="the file of the script's torch.save(model.state_dict(), …)")
    convert.add_argument("--vectors", required=True, help="the word vectors with which the script was trained")
    convert.add_argument("--output_dir", required=True, help="for the model and its tokenizer")
    convert.add_argument("--labels", nargs="*", help="the names of the labels, in their order")
    convert.set_defaults(run=run_convert)

    options = parser.parse_args(arguments)
    if options.run in (run_explain, run_convert):
        return options.run(parser, options)
    if Path(options.output_dir).exists() and not Path(options.output_dir).is_dir():
        parser.error(f"--output_dir must be a folder, but {options.output_dir} is a file")
    try:
        dataset = load_rationale_dataset(options.dataset, options.data_dir, options.aspect)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    if options.run is not run_extract and options.split not in dataset:
        parser.error(f"{options.dataset} has no {options.split} split, only {', '.join(dataset)}")
    options.run(parser, options, dataset)


def run_evaluate(parser: argparse.ArgumentParser, options: argparse.Namespace, dataset: DatasetDict):
    model, processing = load(parser, options.model)
    check_selects(parser, options.model, model)
    naming = {"data_name": " ".join(filter(None, (options.dataset, options.aspect, options.split)))}
    corpus = CORPORA[options.dataset]
    if corpus.instances is not None:
        naming["instances"] = corpus.instances(options.data_dir, options.split)
        naming["class_names"] = corpus.class_names
    try:
        report = evaluate_rationales(
            model.to("cuda" if torch.cuda.is_available() else "cpu"),
            dataset[options.split],
            processing,
            options.output_dir,
            batch_size=options.batch_size,
            max_length=options.max_length,
            rationale_level=options.rationale_level,
            **_labelled(dataset),
            **naming,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(report.to_markdown())


def run_extract(parser: argparse.ArgumentParser, options: argparse.Namespace, dataset: DatasetDict):
    model, tokenizer = load(parser, options.model)
    check_selects(parser, options.model, model)
    check_reads_texts(parser, options.model, model)
    if any("tokens" not in split.column_names for split in dataset.values()):
        parser.error(f"--dataset: {options.dataset} has no texts, and only texts can be turned into their rationales")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    rationales = DatasetDict(
        {
            name: extract_rationales(model, split, tokenizer, filler=options.filler, batch_size=options.batch_size)
            for name, split in dataset.items()
        }
    )
    save_rationales(rationales, dataset, options.output_dir, options.model)
    print(f"The rationales and their card are in {options.output_dir}", file=sys.stderr)


def check_selects(parser: argparse.ArgumentParser, name: str, model: PreTrainedModel):
    if not isinstance(model, RationalePreTrainedModel):
        parser.error(f"{name} is a {type(model).__name__}, which selects nothing that could be measured")


def check_reads_texts(parser: argparse.ArgumentParser, name: str, model: PreTrainedModel):
    if isinstance(model, RationalePreTrainedModel) and model.example_name != "text":
        parser.error(
            f"{name} reads {model.example_name}s, and this command is for texts. Use the model from Python, as its "
            "model card shows."
        )


def run_explain(parser: argparse.ArgumentParser, options: argparse.Namespace):
    names = (*BUDGETS, "rationale_level", "max_length")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.input != "-" and not Path(options.input).is_file():
        parser.error(f"--input: there is no file {options.input}")
    if options.device is not None:
        try:
            torch.empty(0, device=options.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            parser.error(f"--device: {options.device} cannot be used ({str(error).splitlines()[0]})")
    model, tokenizer = load(parser, options.model)
    check_reads_texts(parser, options.model, model)
    state = PartialState()
    device = options.device or (state.device if state.num_processes > 1 else None)
    try:
        pipe = pipeline("rationale-classification", model=model, tokenizer=tokenizer, device=device, **given)
        total, errors = explain_file(
            pipe,
            options.input,
            options.output,
            format=options.format,
            columns=Columns(options.text_column, options.query_column),
            batch_size=options.batch_size,
            dtype=None if options.dtype is None else getattr(torch, options.dtype),
            settings={"hf_rationale": __version__, **given},
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if state.is_main_process:
        print(f"{total} texts, of which {errors} have an error", file=sys.stderr)


def run_convert(parser: argparse.ArgumentParser, options: argparse.Namespace):
    names = {} if options.labels is None else {"id2label": dict(enumerate(options.labels))}
    try:
        words, _ = read_word_vectors(options.vectors)
        model, tokenizer = convert_paper_checkpoint(load_paper_checkpoint(options.checkpoint), words, **names)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    model.save_pretrained(options.output_dir)
    tokenizer.save_pretrained(options.output_dir)
    print(f"The model is in {options.output_dir}", file=sys.stderr)


def run_yardsticks(parser: argparse.ArgumentParser, options: argparse.Namespace, dataset: DatasetDict):
    if options.sparsity is not None and not 0 < options.sparsity < 1:
        parser.error(f"--sparsity is a share between 0 and 1, but is {options.sparsity}")
    rows = dataset[options.split]
    of_other_input = next((one for column, one in OTHER_YARDSTICKS.items() if column in rows.column_names), None)
    try:
        if of_other_input is None:
            results = text_yardsticks(options, rows, dataset)
        else:
            check_no_text_options(parser, options)
            results = of_other_input(rows, options.sparsity)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    folder = Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / YARDSTICKS_NAME).write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(yardsticks_table(results))


def text_yardsticks(options: argparse.Namespace, rows: Dataset, dataset: DatasetDict) -> dict[str, dict[str, float]]:
    encode = None
    if options.encoder is not None:
        model = SentenceRationaleForSequenceClassification.from_encoder_pretrained(options.encoder)
        encode = sentence_encoder(model, AutoTokenizer.from_pretrained(options.encoder))
    return yardsticks(
        rows, options.sparsity, top_k=options.top_k, keywords=options.keywords, encode=encode, **_labelled(dataset)
    )


def check_no_text_options(parser: argparse.ArgumentParser, options: argparse.Namespace):
    cures = {"top_k": "Pass --sparsity instead.", "keywords": "Leave it out.", "encoder": "Leave it out."}
    for name, cure in cures.items():
        if getattr(options, name):
            parser.error(f"--{name} is an option for texts, and {options.dataset} has none. {cure}")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but is {number}")
    return number


def load(
    parser: argparse.ArgumentParser, model: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | BaseImageProcessor | None]:
    """A model and what its inputs are encoded with (a tokenizer, an image processor, or nothing), or an error of the
    command line. Code in the folder is never run."""
    try:
        # An adapter has no configuration of a model.
        config, _ = PreTrainedConfig.get_config_dict(model, _raise_exceptions_for_missing_entries=False)
        of_images = config.get("model_type") == RationaleImageConfig.model_type
        auto_class = AutoModelForImageClassification if of_images else AutoModelForSequenceClassification
        loaded = auto_class.from_pretrained(model, trust_remote_code=False)
        reads = loaded.processing_auto_class if isinstance(loaded, RationalePreTrainedModel) else AutoTokenizer
        return loaded, reads and reads.from_pretrained(model, trust_remote_code=False)
    except Exception as error:  # a broken folder lets many libraries raise many kinds
        parser.error(f"{model} cannot be loaded: {type(error).__name__}: {error}")


def _labelled(dataset: DatasetDict) -> dict:
    """The splits on which the linear yardstick is trained, as far as the corpus has them."""
    return {f"{split}_dataset": dataset[split] for split in ("train", "validation") if split in dataset}


if __name__ == "__main__":
    main()
