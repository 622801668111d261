"""The command line: `hf-rationale evaluate MODEL --dataset …` and `hf-rationale yardsticks --dataset …`."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from datasets import DatasetDict
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .data import CORPORA, load_rationale_dataset
from .evaluation import evaluate_rationales
from .modeling.base import RationalePreTrainedModel
from .sentences.encoding import sentence_encoder
from .sentences.modeling_sentences import SentenceRationaleForSequenceClassification
from .text.segmentation import LEVELS
from .yardsticks import yardsticks, yardsticks_table


YARDSTICKS_NAME = "yardsticks.json"


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
    simple.add_argument("--sparsity", type=float, required=True, help="the share of the words of each text to select")
    simple.add_argument("--keywords", nargs="*", default=(), help="words near which the rationale is expected")
    simple.add_argument(
        "--encoder", help="an encoder (folder or Hub id), to find the sentences that are similar to keywords or query"
    )
    simple.add_argument("--output_dir", required=True, help=f"for {YARDSTICKS_NAME}")
    simple.set_defaults(run=run_yardsticks)

    options = parser.parse_args(arguments)
    if Path(options.output_dir).exists() and not Path(options.output_dir).is_dir():
        parser.error(f"--output_dir must be a folder, but {options.output_dir} is a file")
    try:
        dataset = load_rationale_dataset(options.dataset, options.data_dir, options.aspect)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if options.split not in dataset:
        parser.error(f"{options.dataset} has no {options.split} split, only {', '.join(dataset)}")
    options.run(parser, options, dataset)


def run_evaluate(parser: argparse.ArgumentParser, options: argparse.Namespace, dataset: DatasetDict):
    model, tokenizer = load(parser, options.model)
    if not isinstance(model, RationalePreTrainedModel):
        parser.error(f"{options.model} is a {type(model).__name__}, which selects nothing that could be measured")
    naming = {"data_name": " ".join(filter(None, (options.dataset, options.aspect, options.split)))}
    corpus = CORPORA[options.dataset]
    if corpus.instances is not None:
        naming["instances"] = corpus.instances(options.data_dir, options.split)
        naming["class_names"] = corpus.class_names
    evaluate = partial(
        evaluate_rationales,
        model.to("cuda" if torch.cuda.is_available() else "cpu"),
        dataset[options.split],
        tokenizer,
        options.output_dir,
        batch_size=options.batch_size,
        max_length=options.max_length,
        rationale_level=options.rationale_level,
        **_labelled(dataset),
        **naming,
    )
    try:
        report = evaluate()
    except ValueError as error:
        parser.error(str(error))
    print(report.to_markdown())


def run_yardsticks(parser: argparse.ArgumentParser, options: argparse.Namespace, dataset: DatasetDict):
    if not 0 < options.sparsity < 1:
        parser.error(f"--sparsity is a share between 0 and 1, but is {options.sparsity}")
    encode = None
    if options.encoder is not None:
        model = SentenceRationaleForSequenceClassification.from_encoder_pretrained(options.encoder)
        encode = sentence_encoder(model, AutoTokenizer.from_pretrained(options.encoder))
    try:
        results = yardsticks(
            dataset[options.split], options.sparsity, keywords=options.keywords, encode=encode, **_labelled(dataset)
        )
    except ValueError as error:
        parser.error(str(error))
    folder = Path(options.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / YARDSTICKS_NAME).write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(yardsticks_table(results))


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but is {number}")
    return number


def load(parser: argparse.ArgumentParser, model: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer, or an error of the command line."""
    try:
        return AutoModelForSequenceClassification.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        parser.error(f"{model} cannot be loaded: {error}")


def _labelled(dataset: DatasetDict) -> dict:
    """The splits on which the linear yardstick is trained, as far as the corpus has them."""
    return {f"{split}_dataset": dataset[split] for split in ("train", "validation") if split in dataset}
