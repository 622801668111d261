"""Post-hoc explainers of a plain classifier beside rationale models: plausibility, faithfulness and time.

    python benchmarks/posthoc.py --data data/tweets --encoder sentence-transformers/all-MiniLM-L6-v2 \
        --models outputs/plmr-tweets

The classifier is trained on the tweets for one epoch, once, in the folder `--output`. Explainers select the share
`--sparsity` of the words of each test text, and rationale models what they are made to select. All are scored on the
same `--texts` texts. The time of an explainer is that of its scores, on one thread, and that of a rationale model is
one pass.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hf_rationale import load_rationale_dataset
from hf_rationale.faithfulness import classify, faithfulness
from hf_rationale.metrics import rationale_scores
from hf_rationale.posthoc import EXPLAINERS, select_words, word_scores
from hf_rationale.reading import read_rationales


def plain_classifier(encoder: str, train: Dataset, folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A fine-tuned classifier, from `folder` if it is there."""
    if not (folder / "config.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(encoder)
        model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2)
        encoded = train.map(
            lambda rows: tokenizer([" ".join(words) for words in rows["tokens"]], truncation=True),
            batched=True,
            remove_columns=[name for name in train.column_names if name != "label"],
        )
        arguments = TrainingArguments(
            str(folder),
            learning_rate=5e-5,
            per_device_train_batch_size=32,
            num_train_epochs=1,
            train_sampling_strategy="group_by_length",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, DataCollatorWithPadding(tokenizer), train_dataset=encoded)
        trainer.train()
        trainer.save_model()
        tokenizer.save_pretrained(folder)
    return (
        AutoModelForSequenceClassification.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )


def row(name: str, seconds: float, masks, texts: Dataset, scores, faithful: dict) -> str:
    plausible = rationale_scores(masks, texts["rationale"][:], scores=scores)
    values = (
        plausible["token_micro"]["f1"],
        plausible["sparsity"],
        plausible["iou_macro"]["f1"],
        plausible["auprc"],
        faithful["comprehensiveness_aopc"],
        faithful["sufficiency_aopc"],
    )
    return f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} | {1000 * seconds / len(texts):.1f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of the tweets")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/plain-tweets"))
    parser.add_argument("--models", nargs="*", default=[], help="folders of rationale models")
    parser.add_argument("--explainers", nargs="*", default=list(EXPLAINERS))
    parser.add_argument("--levels", nargs="*", default=["word", "clause"])
    parser.add_argument("--sparsity", type=float, default=0.35)
    parser.add_argument("--texts", type=int, default=200)
    options = parser.parse_args()
    set_seed(0)
    torch.set_num_threads(1)
    dataset = load_rationale_dataset("tweets", options.data)
    texts = dataset["test"].select(range(options.texts))
    model, tokenizer = plain_classifier(options.encoder, dataset["train"], options.output)
    right = classify(model, dataset["test"], tokenizer).argmax(1) == np.array(dataset["test"]["label"])
    print(f"accuracy of the plain classifier: {right.mean():.3f}\n")
    print("| scores | F1 | S | IOU F1 | AUPRC | comprehensiveness | sufficiency | ms a text |\n" + "|---" * 8 + "|")
    for name in options.explainers:
        start = time.perf_counter()
        scores = word_scores(model, texts, tokenizer, name)
        seconds = time.perf_counter() - start
        faithful = faithfulness(model, texts, tokenizer, scores)
        for level in options.levels:
            masks = select_words(texts, scores, level=level, sparsity=options.sparsity)
            print(row(f"{name}, by {level}", seconds, masks, texts, scores, faithful), flush=True)
    for folder in options.models:
        rationale_model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        own_tokenizer = AutoTokenizer.from_pretrained(folder)
        start = time.perf_counter()
        read = read_rationales(rationale_model, texts, own_tokenizer)
        seconds = time.perf_counter() - start
        faithful = faithfulness(rationale_model, texts, own_tokenizer)
        print(row(Path(folder).name, seconds, read.masks, texts, read.scores, faithful), flush=True)


if __name__ == "__main__":
    main()
