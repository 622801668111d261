"""Measure the time and the memory of the pipeline on long texts.

    python benchmarks/long_texts.py --encoder path-or-hub-id
    python benchmarks/long_texts.py --encoder path-or-hub-id --words 1000 20000 --models two-players plmr sentences

The text is generated. The heads of the models are random, because speed does not depend on the values of the weights.
Each row is one call in a fresh process, after a call on a short text. Memory is the peak of the process, less what it
used before the call.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, pipeline, set_seed

from hf_rationale import (
    PlmrForSequenceClassification,
    RationaleForSequenceClassification,
    SentenceRationaleForSequenceClassification,
)


MODELS = {
    "two-players": RationaleForSequenceClassification,
    "plmr": PlmrForSequenceClassification,
    "sentences": SentenceRationaleForSequenceClassification,
}
NOUNS = ["door", "house", "river", "letter", "winter", "garden", "lamp", "horse", "road", "window", "table", "song"]
VERBS = ["opened", "crossed", "remembered", "followed", "lost", "painted", "carried", "watched"]


def chapter(words: int) -> str:
    """Sentences of about eight words."""
    choose = random.Random(0)
    sentences = []
    while sum(map(len, sentences)) < words:
        subject, thing, other = (choose.choice(NOUNS) for _ in range(3))
        sentences.append(["The", subject, choose.choice(VERBS), "the", thing, "beside", "the", f"{other}."])
    return " ".join(word for sentence in sentences for word in sentence)


def measure(model: str, encoder: str, words: int, threads: int) -> dict[str, float]:
    """Seconds and MiB of one call."""
    torch.set_num_threads(threads)
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    made = MODELS[model].from_encoder_pretrained(encoder, tokenizer=tokenizer, num_labels=2)
    pipe = pipeline("rationale-classification", model=made, tokenizer=tokenizer)
    pipe(chapter(50))
    text = chapter(words)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before, started = peak(), time.perf_counter()
    result = pipe(text, rationale_level="sentence", rationale_ratio=0.1)
    return {
        "seconds": time.perf_counter() - started,
        "MiB": peak() - before,
        "sparsity": result["sparsity"],
    }


def peak() -> float:
    """The peak memory of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="folder or Hub id")
    parser.add_argument("--words", nargs="*", type=int, default=[1250, 2500, 5000, 10000, 20000])
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--task", help=argparse.SUPPRESS)  # the call that a fresh process makes
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measure(*json.loads(options.task))))
        return
    print("| model | words | seconds | seconds per 1,000 words | MiB | selected |\n|---|---|---|---|---|---|")
    for model in options.models:
        for words in options.words:
            task = json.dumps([model, options.encoder, words, options.threads])
            command = [sys.executable, __file__, "--encoder", options.encoder, "--task", task]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = json.loads(output.splitlines()[-1])
            cells = [model, f"{words:,}", f"{row['seconds']:.1f}", f"{row['seconds'] / words * 1000:.2f}"]
            print(f"| {' | '.join(cells)} | {row['MiB']:.0f} | {row['sparsity']:.3f} |")


if __name__ == "__main__":
    main()
