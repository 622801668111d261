"""The command line: `hf-rationale evaluate MODEL --dataset …`."""

from __future__ import annotations

import argparse

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from .data import CORPORA, load_rationale_dataset
from .evaluation import evaluate_rationales
from .modeling.base import RationalePreTrainedModel


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="hf-rationale", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    evaluate = commands.add_parser("evaluate", help="measure a model's labels, rationales and predictor on a corpus")
    evaluate.add_argument("model", help="a rationale model's folder or Hub id")
    evaluate.add_argument("--dataset", required=True, choices=list(CORPORA))
    evaluate.add_argument("--data_dir", help="the folder of the corpus's files")
    evaluate.add_argument("--aspect", help="the aspect, for corpora that have aspects")
    evaluate.add_argument("--split", default="test", choices=["train", "validation", "test"])
    evaluate.add_argument(
        "--output_dir",
        required=True,
        help="for report.json, .md and .html, and predictions.jsonl; an interrupted run continues there",
    )
    evaluate.add_argument("--batch_size", type=int, default=32)
    evaluate.add_argument("--max_length", type=int, help="cut texts to this number of tokens, as in training")
    options = parser.parse_args(arguments)

    try:
        dataset = load_rationale_dataset(options.dataset, options.data_dir, options.aspect)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if options.split not in dataset:
        parser.error(f"{options.dataset} has no {options.split} split, only {', '.join(dataset)}")
    model = AutoModelForSequenceClassification.from_pretrained(options.model)
    if not isinstance(model, RationalePreTrainedModel):
        parser.error(f"{options.model} is a {type(model).__name__}, which selects nothing that could be measured")
    naming = {"data_name": " ".join(filter(None, (options.dataset, options.aspect, options.split)))}
    corpus = CORPORA[options.dataset]
    if corpus.instances is not None:
        naming["instances"] = corpus.instances(options.data_dir, options.split)
        naming["class_names"] = corpus.class_names
    report = evaluate_rationales(
        model.to("cuda" if torch.cuda.is_available() else "cpu"),
        dataset[options.split],
        AutoTokenizer.from_pretrained(options.model),
        options.output_dir,
        batch_size=options.batch_size,
        max_length=options.max_length,
        **naming,
    )
    print(report.to_markdown())
