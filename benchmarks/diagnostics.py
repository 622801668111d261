"""Repeat the papers' experiments that train models, or that compare several, on beer reviews.

    python benchmarks/diagnostics.py random_patterns --data data      # A2I, figure 3
    python benchmarks/diagnostics.py selection_change --data data     # VER, figure 2 (a), for RNP and VER
    python benchmarks/diagnostics.py cross_aspect --data data --models "outputs/real_data/beer-{aspect}/rnp-seed0"
    python benchmarks/diagnostics.py homogeneity --data data --encoder sentence-transformers/all-MiniLM-L6-v2

The numbers and the figures go to a folder. The first two experiments train a GRU over GloVe 100d on the reviews of one
aspect. The third takes one model of `benchmarks/real_data.py` for each aspect, and predicts the labels of the
validation texts of all aspects (PLMR, figure 3, which uses classifiers of the full text). The last takes a pretrained
encoder (PLMR, figure 4). Experiments that need a single trained model are in the report of `hf-rationale evaluate`.
"""

import argparse
import json
from pathlib import Path

from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, set_seed

from hf_rationale import (
    METHODS,
    GruModel,
    RationaleForSequenceClassification,
    RationaleTrainingArguments,
    load_rationale_dataset,
)
from hf_rationale.diagnostics import SelectionChange, cross_aspect, homogeneity, random_patterns


ASPECTS = ("appearance", "aroma", "palate")
TEXTS = 64  # the texts whose selection is compared from epoch to epoch


def a_model(data: Path, sparsity: float, **options):
    """An untrained model over GRUs, and its tokenizer."""
    set_seed(0)
    encoder, tokenizer = GruModel.from_word_vectors(data / "glove" / "glove.6B.100d.txt.gz")
    model = RationaleForSequenceClassification.from_encoder_pretrained(
        encoder, tokenizer=tokenizer, num_labels=2, sparsity=sparsity, tie_word_embeddings=True, **options
    )
    return model, tokenizer


def arguments(options: argparse.Namespace, method: str = "rnp") -> RationaleTrainingArguments:
    return METHODS[method].arguments_class(
        str(options.output / "checkpoints"),
        learning_rate=1e-3,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        num_train_epochs=options.epochs,
        max_length=256,
        max_grad_norm=0.0,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_strategy="epoch",
        report_to="none",
        use_cpu=True,
    )


def show_random_patterns(options: argparse.Namespace):
    """A2I, figure 3, with a tenth of the words selected as in the paper."""
    model, tokenizer = a_model(options.data, sparsity=0.1)
    beer = load_rationale_dataset("beer", options.data / "beer", options.aspect)
    report = random_patterns(model, arguments(options), beer["train"], beer["validation"], tokenizer)
    save(options.output, "random_patterns", {"train": report.train, "validation": report.validation}, report.figure())


def show_selection_change(options: argparse.Namespace):
    beer = load_rationale_dataset("beer", options.data / "beer", options.aspect)
    for method in ("rnp", "ver"):
        model, tokenizer = a_model(options.data, sparsity=0.15)
        change = SelectionChange(beer["train"].select(range(TEXTS)), tokenizer, every=10)
        METHODS[method](
            model=model,
            args=arguments(options, method),
            train_dataset=beer["train"],
            processing_class=tokenizer,
            callbacks=[change],
        ).train()
        numbers = {"step": change.steps, "non_overlap": change.non_overlap}
        save(options.output, f"selection_change_{method}", numbers, change.figure())


def show_cross_aspect(options: argparse.Namespace):
    folders = {aspect: options.models.format(aspect=aspect) for aspect in ASPECTS}
    report = cross_aspect(
        {aspect: AutoModelForSequenceClassification.from_pretrained(folder) for aspect, folder in folders.items()},
        {aspect: load_rationale_dataset("beer", options.data / "beer", aspect)["validation"] for aspect in ASPECTS},
        AutoTokenizer.from_pretrained(folders["aroma"]),
        max_length=256,
    )
    save(options.output, "cross_aspect", report.f1, report.figure())


def show_homogeneity(options: argparse.Namespace):
    """PLMR, figure 4, on the annotated test texts."""
    encoder, tokenizer = AutoModel.from_pretrained(options.encoder), AutoTokenizer.from_pretrained(options.encoder)
    texts = load_rationale_dataset("beer", options.data / "beer", options.aspect)["test"]
    report = homogeneity(encoder, texts, tokenizer, max_length=256)
    save(options.output, "homogeneity", {"trace": report.trace, "texts": report.texts}, report.figure())


def save(folder: Path, name: str, numbers: dict, figure):
    (folder / f"{name}.json").write_text(json.dumps(numbers, indent=1))
    figure.savefig(folder / f"{name}.png", dpi=150)
    print(json.dumps({name: numbers}))


EXPERIMENTS = {
    "random_patterns": show_random_patterns,
    "selection_change": show_selection_change,
    "cross_aspect": show_cross_aspect,
    "homogeneity": show_homogeneity,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the corpora")
    parser.add_argument("--aspect", default="aroma", choices=ASPECTS)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--models", default="outputs/real_data/beer-{aspect}/rnp-seed0", help="a folder's name")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2", help="folder or Hub id")
    parser.add_argument("--output", type=Path, default=Path("outputs", "diagnostics"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    EXPERIMENTS[options.experiment](options)


if __name__ == "__main__":
    main()
