"""Compare the throughput of `explain_texts` to that of the stock pipeline on the plain classifier of the same encoder.

    python benchmarks/explaining.py --encoder path-or-hub-id --data data/beer

Both get the same texts, reviews of RateBeer in their order, in batches of the same size. The stock pipeline returns a
label, and `explain_texts` a label and a rationale (15 % of the words). Heads are random, because speed does not depend
on the values of the weights. Each round runs every model once, in turns. The ratio is the stock pipeline's time
divided by the model's, as the median over rounds after warm-up. Above 1, explaining is faster.
"""

import argparse
import gzip
import statistics
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline, set_seed

from hf_rationale import PlmrForSequenceClassification, RationaleForSequenceClassification
from hf_rationale.explain import explain_texts


FILE = "reviews.260k.heldout.txt.gz"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2", help="folder or Hub id")
    parser.add_argument("--data", type=Path, default=Path("data", "beer"), help=f"the folder of {FILE}")
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    set_seed(0)

    with gzip.open(options.data / FILE, "rt", encoding="utf-8") as file:
        texts = [line.split("\t")[-1].strip() for _, line in zip(range(options.texts), file, strict=False)]
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    plain = AutoModelForSequenceClassification.from_pretrained(options.encoder, num_labels=2)
    stock = pipeline("text-classification", model=plain, tokenizer=tokenizer)
    fields = {"num_labels": 2, "sparsity": 0.15, "selection_level": "word"}
    models = {
        "two encoders": RationaleForSequenceClassification.from_encoder_pretrained(options.encoder, **fields),
        "PLMR": PlmrForSequenceClassification.from_encoder_pretrained(options.encoder, **fields),
    }
    pipes = {
        name: pipeline("rationale-classification", model=model, tokenizer=tokenizer) for name, model in models.items()
    }

    seconds = {name: [] for name in ("stock pipeline", *pipes)}
    for number in range(options.rounds + 1):
        for name in seconds:
            started = time.perf_counter()
            if name in pipes:
                explain_texts(pipes[name], texts, options.batch_size)
            else:
                stock(texts, batch_size=options.batch_size, truncation=True)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)

    print("| model | texts a second | ratio |\n|---|---|---|")
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(seconds["stock pipeline"], times, strict=True)]
        print(f"| {name} | {len(texts) / statistics.median(times):.0f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
