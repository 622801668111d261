"""Train plain classifiers on rationales, and on the full texts, and compare them.

    python benchmarks/cleaning.py --data data --minilm sentence-transformers/all-MiniLM-L6-v2

A rationale model is trained on each corpus. Then every text is replaced by its rationale
(`hf_rationale.extract_rationales`), and a GRU is trained as a plain classifier on the rationales, and another one on
the full texts. Each reads test texts of its own kind.

- `aspect_reviews`: generated reviews. In the training and validation sets, "anyway" is in 95 % of the positive reviews
  and in 5 % of the negative ones. In the test set it is independent of the label. One of the rationale models learns
  from weak marks: the words near *aroma*, *smell* and *scent*.
- `tweets`: the rationale model selects clauses.
"""

import argparse
import json
import tempfile
from pathlib import Path

from datasets import DatasetDict
from plain_classifier import PlainTrainer
from real_data import CORPORA, ROOT, mean, train
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

from hf_rationale import (
    GruConfig,
    GruModel,
    RationaleForSequenceClassification,
    load_rationale_dataset,
    word_level_tokenizer,
)
from hf_rationale.extract import extract_rationales


SPURIOUS = {"n_train": 1500, "spurious_strength": 0.9}
GENERATED = (
    "--dataset aspect_reviews --aspect aroma --encoder gru --sparsity 0.15 --initial_sparsity 0.6 "
    "--learning_rate 2e-3 --per_device_train_batch_size 64 --num_train_epochs 8 "
    f"--dataset_options '{json.dumps(SPURIOUS)}'"
)


def classify(dataset: DatasetDict, seed: int) -> float:
    """The test accuracy of a plain GRU that is trained on `dataset`."""
    set_seed(seed)
    tokenizer = word_level_tokenizer(sorted({word for words in dataset["train"]["tokens"] for word in words}))
    model = RationaleForSequenceClassification.from_encoder_pretrained(
        GruModel(GruConfig(vocab_size=len(tokenizer))), tokenizer=tokenizer, num_labels=2, share_encoder=True
    )
    with tempfile.TemporaryDirectory() as folder:
        args = PlainTrainer.arguments_class(
            folder,
            learning_rate=1e-3,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=256,
            num_train_epochs=8,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
        )
        trainer = PlainTrainer(
            model=model,
            args=args,
            train_dataset=dataset["train"],
            eval_dataset=dataset["validation"],
            processing_class=tokenizer,
        )
        trainer.train()
        return trainer.evaluate(dataset["test"])["eval_accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder of the corpora")
    parser.add_argument("--minilm", default="sentence-transformers/all-MiniLM-L6-v2", help="its folder or Hub id")
    parser.add_argument("--output", type=Path, default=Path("outputs", "cleaning"), help="folder of the models")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    places = {"data": options.data, "minilm": options.minilm, "mpnet": None}
    rows = {
        "aspect_reviews, rnp": ("rnp", GENERATED, ("aspect_reviews", None, "aroma"), SPURIOUS),
        "aspect_reviews, rnp with weak marks": (
            "rnp",
            f"{GENERATED} --weak_marks keywords_clause --keywords aroma smell scent --marks_weight 1",
            ("aspect_reviews", None, "aroma"),
            SPURIOUS,
        ),
        "aspect_reviews, a2i": ("a2i", GENERATED, ("aspect_reviews", None, "aroma"), SPURIOUS),
        "tweets, n2r": ("n2r", CORPORA["tweets-clauses"].format(**places), ("tweets", f"{options.data}/tweets"), {}),
    }
    print("| corpus, method of the rationales | trained on | words | test accuracy |\n|---|---|---|---|")
    for name, (method, flags, corpus, more) in rows.items():
        folder = (ROOT / options.output).resolve() / name.replace(", ", "-").replace(" ", "-")
        train(folder, method, 0, flags)
        model, tokenizer = (
            AutoModelForSequenceClassification.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
        )
        texts = load_rationale_dataset(*corpus, **more)
        rationales = DatasetDict({split: extract_rationales(model, texts[split], tokenizer) for split in texts})
        for kind, dataset in (("full texts", texts), ("rationales", rationales)):
            accuracies = [classify(dataset, seed) for seed in options.seeds]
            words = sum(map(len, dataset["train"]["tokens"]))
            print(f"| {name} | {kind} | {words} | {mean(accuracies, 3)} |", flush=True)


if __name__ == "__main__":
    main()
