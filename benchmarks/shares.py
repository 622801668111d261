"""Draw accuracy, F1 and precision of a model and of simple selectors over the share that is selected.

    python benchmarks/shares.py --model outputs/n2r-aroma --dataset beer --aspect aroma --data_dir data/beer

The model is not trained again: at every share its best units are selected (`rationale_ratio`), and its predictor reads
them. The selectors are the yardsticks at the model's level. The figure is `--output`, and the values are printed.
"""

import argparse

import torch
from matplotlib.figure import Figure
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_rationale import load_rationale_dataset
from hf_rationale.metrics import rationale_scores
from hf_rationale.reading import read_rationales
from hf_rationale.yardsticks import yardsticks


SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model's folder or Hub id")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--aspect")
    parser.add_argument("--data_dir")
    parser.add_argument("--output", default="shares.png")
    options = parser.parse_args()
    torch.set_num_threads(1)

    model = AutoModelForSequenceClassification.from_pretrained(options.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    corpus = load_rationale_dataset(options.dataset, options.data_dir, options.aspect)
    test, level = corpus["test"], model.config.selection_level
    encoded = model.encode_dataset(test, tokenizer)
    curves: dict[str, list[tuple[float, float]]] = {}
    accuracy = []
    for share in SHARES:
        model.config.sparsity, model.config.decoding, model.config.rationale_top_k = share, "budget", None
        found = read_rationales(model, encoded, tokenizer)
        scores = rationale_scores(found.masks, found.gold)
        selected = scores["sparsity"]
        curves.setdefault("model", []).append((selected, scores["token_micro"]["f1"]))
        right = (found.probabilities.argmax(-1) == torch.tensor(test["label"]).numpy()).mean()
        accuracy.append((selected, float(right)))
        simple = yardsticks(
            test,
            share,
            train_dataset=corpus["train"],
            validation_dataset=corpus["validation"],
            levels=(level if level != "token" else "word",),
        )
        for name, values in simple.items():
            curves.setdefault(name.replace("_", ", "), []).append((values["sparsity"], values["f1"]))
        print(f"| {share} | {selected:.3f} | {scores['token_micro']['f1']:.3f} | {right:.3f} |", flush=True)
    draw(curves, accuracy, options)


def draw(curves: dict[str, list[tuple[float, float]]], accuracy: list[tuple[float, float]], options):
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for name, points in curves.items():
        style = {"linewidth": 2.5, "color": "#b45309"} if name == "model" else {"linewidth": 1, "linestyle": "--"}
        left.plot(*zip(*points, strict=True), label=name, **style)
    left.set(xlabel="selected share of the words", ylabel="F1 of the words", ylim=(0, None))
    left.legend(frameon=False, fontsize="small")
    right.plot(*zip(*accuracy, strict=True), linewidth=2.5, color="#b45309")
    right.set(xlabel="selected share of the words", ylabel="accuracy", ylim=(0.5, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.output, dpi=110)


if __name__ == "__main__":
    main()
