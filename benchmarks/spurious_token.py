"""Measure which methods select a word that means nothing but is correlated with the label, in generated reviews.

    python benchmarks/spurious_token.py --jobs 2

In the training and validation sets, "anyway" occurs in 95 % of the positive reviews and in 5 % of the negative ones.
In the test set it is independent of the label. The label is the opinion on one aspect, and the words that decide it
are known. For every method and seed, `examples/train.py` trains a model. Then an attacker is trained against that
model, which stays fixed (`hf_rationale.diagnostics.audit`). The table has the mean and the standard deviation over the
seeds, on the test set:

- bait: the share of the reviews with the word in which it is selected;
- rationale F1 and accuracy, where the correlation is broken, and the validation accuracy, where it holds;
- the success rate of the attack, and of the same number of words chosen at random.

A run that has its results is not repeated.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import torch
from real_data import folder_of, mean, read, train
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from hf_rationale import RationaleTrainingArguments, load_rationale_dataset
from hf_rationale.data.aspect_lexicon import SPURIOUS_TOKEN
from hf_rationale.diagnostics import audit


METHODS = ("rnp", "fr", "n2r", "n2r_mmi", "ver", "nir", "a2i", "fr+a2i", "n2r+a2i")
STRENGTH = 0.9
FLAGS = (
    "--dataset aspect_reviews --aspect aroma --encoder gru --sparsity 0.15 --initial_sparsity 0.6 "
    "--learning_rate 2e-3 --per_device_train_batch_size 64 --num_train_epochs 8 --dataset_options '{options}'"
)
COLUMNS = {
    "bait": "bait",
    "f1": "F1",
    "accuracy": "accuracy (test)",
    "validation": "accuracy (validation)",
    "sparsity": "S",
    "attack": "attack success",
    "random": "random words",
}


def run(method: str, seed: int, output: Path) -> dict[str, float]:
    options = {"n_train": 1500, "spurious_strength": STRENGTH, "seed": seed}
    folder = folder_of(output, "aspect_reviews-spurious", method, seed)
    train(folder, method, seed, FLAGS.format(options=json.dumps(options)))
    if not (folder / "attack_results.json").exists():
        scores = attack(folder, load_rationale_dataset("aspect_reviews", aspect="aroma", **options), seed)
        (folder / "attack_results.json").write_text(json.dumps(scores))
    test = read(folder, "eval")
    return read(folder, "attack") | {
        "f1": test["eval_rationale_f1"],
        "accuracy": test["eval_accuracy"],
        "sparsity": test["eval_rationale_sparsity"],
        "validation": read(folder, "validation")["validation_accuracy"],
    }


def attack(folder: Path, reviews, seed: int) -> dict[str, float]:
    """Attack a trained model, and count how often the bait is selected."""
    torch.set_num_threads(1)
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    args = RationaleTrainingArguments(
        output_dir=str(folder / "attack"),
        learning_rate=2e-3,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        num_train_epochs=3,
        seed=seed,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
    )
    with redirect_stdout(sys.stderr):  # standard output is for the table
        report = audit(model, args, reviews["train"], reviews["test"], tokenizer)
    texts = [" ".join(tokens) for tokens in reviews["test"]["tokens"] if SPURIOUS_TOKEN in tokens]
    results = pipeline("rationale-classification", model=model, tokenizer=tokenizer)(texts, batch_size=256)
    taken = [any(SPURIOUS_TOKEN in span["text"].split() for span in result["rationale"]) for result in results]
    return {
        "bait": sum(taken) / len(taken),
        "attack": report.success_rate,
        "random": report.random_rate,
        "attack_by_class": report.by_class,
        "attack_over_steps": report.over_steps,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs", "spurious_token"))
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    options = parser.parse_args()

    jobs = [(method, seed) for seed in options.seeds for method in options.methods]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = pool.map(lambda job: run(*job, options.output), jobs)
        scores = dict(zip(jobs, tqdm(done, total=len(jobs), desc="runs"), strict=True))

    print(f"| method | {' | '.join(COLUMNS.values())} |")
    print("|---|" + "---|" * len(COLUMNS))
    for method in options.methods:
        runs = [scores[method, seed] for seed in options.seeds]
        print(f"| {method} | {' | '.join(mean([run[column] for run in runs], 3) for column in COLUMNS)} |")


if __name__ == "__main__":
    main()
