"""Measure whether INVRAT leaves out a word whose correlation with the label differs between environments.

    python benchmarks/environments.py

The reviews are generated, and the label is the opinion on the aroma. "anyway" means nothing. In the first environment
all positive training reviews have it and no negative ones. In the second one 80 % of the positive reviews have it, and
20 % of the negative ones. In the test set it is independent of the label. INVRAT knows the environment of every
training review, and its predictor does not. The last model of each run counts: the validation set has the word too, so
that its accuracy prefers models that rely on the word. The table has the mean and the standard deviation over the
seeds, on the test set. `bait` is the share of the reviews with the word in which it is selected. Every run adds a line
to `environments.jsonl`, and is not repeated.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from datasets import concatenate_datasets
from real_data import mean
from transformers import set_seed

from hf_rationale import METHODS, GruConfig, GruModel, RationaleForSequenceClassification, word_level_tokenizer
from hf_rationale.data import make_aspect_reviews
from hf_rationale.data.aspect_lexicon import SPURIOUS_TOKEN
from hf_rationale.reading import read_rationales


STRENGTHS = (1.0, 0.6)  # P("anyway" | positive) − P("anyway" | negative) in each environment
RESULTS = Path(__file__).with_suffix(".jsonl")
COLUMNS = ("bait", "F1", "accuracy", "validation accuracy")


def environments(size: int, seed: int):
    """Reviews of both environments with a column `environment`."""
    parts = [
        make_aspect_reviews(size, aspect="aroma", spurious_strength=strength, random_state=10 * seed + number)
        for number, strength in enumerate(STRENGTHS)
    ]
    parts = [part.add_column("environment", [number] * size) for number, part in enumerate(parts)]
    return concatenate_datasets(parts)


def run(method: str, weight: float | None, seed: int) -> dict[str, float]:
    set_seed(seed)
    train, validation = environments(1500, seed), environments(200, seed + 100)
    test = make_aspect_reviews(1000, aspect="aroma", random_state=seed + 5000)
    tokenizer = word_level_tokenizer(sorted({word for tokens in train["tokens"] for word in tokens}))
    model = RationaleForSequenceClassification.from_encoder_pretrained(
        GruModel(GruConfig(vocab_size=len(tokenizer))), tokenizer=tokenizer, sparsity=0.15, selection_level="word"
    )
    trainer_class = METHODS[method]
    with tempfile.TemporaryDirectory() as folder:
        args = trainer_class.arguments_class(
            folder,
            learning_rate=2e-3,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=256,
            num_train_epochs=8,
            predictor_first_ratio=0.3,
            load_best_model_at_end=False,
            save_strategy="no",
            seed=seed,
            report_to="none",
            disable_tqdm=True,
            **({} if weight is None else {"invariance_weight": weight}),
        )
        trainer = trainer_class(
            model=model, args=args, train_dataset=train, eval_dataset=validation, processing_class=tokenizer
        )
        trainer.train()
        validated = trainer.evaluate()
        found = trainer.evaluate(test, metric_key_prefix="test")
    masks = read_rationales(model, test, tokenizer, batch_size=256).masks
    bait = [
        mask[np.array(tokens) == SPURIOUS_TOKEN].any()
        for mask, tokens in zip(masks, test["tokens"], strict=True)
        if SPURIOUS_TOKEN in tokens
    ]
    values = (np.mean(bait), found["test_rationale_f1"], found["test_accuracy"], validated["eval_accuracy"])
    return {name: round(float(value), 4) for name, value in zip(COLUMNS, values, strict=True)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--weights", nargs="*", type=float, default=[1.0, 3.0, 10.0], help="of INVRAT")
    options = parser.parse_args()
    torch.set_num_threads(1)

    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    scores = {(line["method"], line["weight"], line["seed"]): line for line in lines}
    rows = defaultdict(list)
    for seed in options.seeds:
        for method, weight in [("rnp", None), *(("invrat", weight) for weight in options.weights)]:
            key = {"method": method, "weight": weight, "seed": seed}
            if tuple(key.values()) not in scores:
                scores[tuple(key.values())] = key | run(**key)
                with open(RESULTS, "a") as file:
                    file.write(json.dumps(scores[tuple(key.values())]) + "\n")
            rows[method, weight].append(scores[tuple(key.values())])

    print(f"| method | λ | {' | '.join(COLUMNS)} |")
    print("|---|---|" + "---|" * len(COLUMNS))
    for (method, weight), runs in rows.items():
        cells = [mean([one[column] for one in runs], 3) for column in COLUMNS]
        print(f"| {method} | {'–' if weight is None else weight} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
