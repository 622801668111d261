"""What is lost if a model reads only the start of long texts, as encoders with 512 positions do?

    python benchmarks/cut_texts.py --model outputs/movies --data data --words 400

A model of sentences reads the movie reviews of the test set whole, and cut. It selects as many words in both cases,
and what lies beyond the cut counts as missed.
"""

import argparse

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import hf_rationale  # noqa: F401  registers the models
from hf_rationale import load_rationale_dataset


@torch.no_grad()
def measure(model, tokenizer, texts: Dataset, words: int | None, sparsity: float) -> str:
    cut = [{key: row[key][:words] for key in ("tokens", "rationale", "sentence_ids")} for row in texts]
    encoded, collate = model.encode_dataset(Dataset.from_list(cut), tokenizer), model.data_collator(tokenizer)
    found = selected = marked = count = right = 0
    for row, part, example in zip(texts, cut, encoded, strict=True):
        batch = collate([example])
        del batch["rationale"]
        gold, read = np.array(row["rationale"]), len(part["tokens"])
        output = model(**batch, rationale_ratio=min(1.0, sparsity * len(gold) / read))
        mask = model.marks(**batch).values(output.rationale_mask, read)[0].numpy()
        found, selected = found + (mask * gold[:read]).sum(), selected + mask.sum()
        marked, count = marked + gold.sum(), count + len(gold)
        right += int(output.logits.argmax()) == row["label"]
    precision, recall = found / selected, found / marked
    f1 = 2 * precision * recall / (precision + recall)
    return f"{f1:.3f} | {precision:.3f} | {selected / count:.3f} | {right / len(texts):.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder of a model of sentences")
    parser.add_argument("--data", required=True, help="the folder of the archive movies.tar.gz")
    parser.add_argument("--words", type=int, default=400)
    parser.add_argument("--sparsity", type=float, default=0.2)
    options = parser.parse_args()
    model = AutoModelForSequenceClassification.from_pretrained(options.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    texts = load_rationale_dataset("movies", options.data)["test"]
    print("| read | F1 | P | S | accuracy |\n|---|---|---|---|---|")
    for words in (None, options.words):
        read = "everything" if words is None else f"the first {words} words"
        print(f"| {read} | {measure(model, tokenizer, texts, words, options.sparsity)} |", flush=True)


if __name__ == "__main__":
    main()
