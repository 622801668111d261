"""Compare finished runs of `real_data.py` on one corpus: each method with RNP, and with a simple selector.

    python benchmarks/compare.py --data data --only beer-aroma-sentences --yardstick linear_sentence

The models in `--output` select from the test set. A difference of F1 is over the seeds that both methods have, with
its 95 % bootstrap interval over texts, and p is that of a paired randomization test of texts. The simple selector
selects the share of the words that the model selects. `--plot` draws F1 over the minutes of training.

A model reads the test set once: what it has selected is kept in `selected_words.npz` of its folder.
"""

import argparse
import shlex
from pathlib import Path

import numpy as np
from datasets import Dataset
from matplotlib.figure import Figure
from real_data import CORPORA, PLAIN, folder_of, recorded
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import hf_rationale  # noqa: F401  registers the models
from hf_rationale import load_rationale_dataset
from hf_rationale.metrics import paired_test, rationale_scores
from hf_rationale.reading import read_rationales
from hf_rationale.yardsticks import LinearModel, Yardstick, bare_texts, dataset_units, position_yardsticks, summed


KEPT = "selected_words.npz"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder of the corpora")
    parser.add_argument("--only", required=True, choices=list(CORPORA), help="the corpus")
    parser.add_argument("--methods", nargs="*", help="as in real_data.py; by default all that have been run")
    parser.add_argument("--yardstick", required=True, help="linear, first or last, and a level, such as last_sentence")
    parser.add_argument("--output", type=Path, default=Path("outputs", "real_data"), help="folder of the models")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("real_data.jsonl"))
    parser.add_argument("--plot", type=Path, help="a file for the figure")
    options = parser.parse_args()

    given = flags_of(options.only, options.data)
    corpus = load_rationale_dataset(given.dataset, given.data_dir, given.aspect)
    marked = corpus["test"].filter(lambda row: row["rationale"] is not None)
    select = simple_selector(options.yardstick, corpus, marked)

    runs: dict[str, dict[int, tuple]] = {}
    for (name, method, seed), line in recorded(options.results).items():
        folder = folder_of(options.output, name, method, seed)
        wanted = method in ("rnp", *options.methods) if options.methods else method != PLAIN
        if name == options.only and wanted and any((folder / file).exists() for file in (KEPT, "model.safetensors")):
            masks = selected_words(folder, marked, flags_of(name, options.data, method).max_length)
            simple = select(rationale_scores(masks, marked["rationale"][:])["sparsity"])
            runs.setdefault(method, {})[seed] = (masks, simple, line)

    print(
        "| method | seeds | F1 | to RNP | p | to the selector | p | accuracy | minutes | MiB |\n" + "|---" * 10 + "|"
    )
    points = {}
    for method, seeds in sorted(runs.items(), key=lambda item: -mean_of(item[1], "rationale_f1")):
        cells = [method, str(len(seeds)), f"{mean_of(seeds, 'rationale_f1'):.3f}"]
        baseline = runs.get("rnp", {})
        common = [seed for seed in seeds if seed in baseline] if method != "rnp" else []
        cells += difference([(seeds[seed][0], baseline[seed][0]) for seed in common], marked["rationale"][:])
        cells += difference([(masks, simple) for masks, simple, _ in seeds.values()], marked["rationale"][:])
        memory = [line["memory_mib"] for *_, line in seeds.values() if "memory_mib" in line]
        cells += [f"{mean_of(seeds, 'accuracy'):.3f}", f"{mean_of(seeds, 'minutes'):.1f}"]
        print(f"| {' | '.join([*cells, f'{np.mean(memory):.0f}' if memory else '–'])} |", flush=True)
        points[method] = mean_of(seeds, "minutes"), mean_of(seeds, "rationale_f1")
    if options.plot:
        draw(points, options.plot)


def flags_of(corpus: str, data: str, method: str = "") -> argparse.Namespace:
    """What a run has read: its corpus, and the length to which texts were cut."""
    flags = argparse.ArgumentParser()
    for name in ("encoder", "dataset", "data_dir", "aspect"):
        flags.add_argument(f"--{name}")
    flags.add_argument("--max_length", type=int)
    given, _ = flags.parse_known_args(
        shlex.split(f"{CORPORA[corpus].format(data=data, minilm='', mpnet='')} {method}")
    )
    if given.max_length is None and given.encoder == "gru":
        given.max_length = 1024  # the default of examples/train.py
    return given


def selected_words(folder: Path, marked: Dataset, max_length: int | None) -> list[np.ndarray]:
    """What the model in `folder` selects from every text, as 0/1 for each word."""
    if not (folder / KEPT).exists():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        masks = read_rationales(model, marked, tokenizer, max_length=max_length).masks
        np.savez(folder / KEPT, words=np.concatenate(masks), lengths=[len(mask) for mask in masks])
    kept = np.load(folder / KEPT)
    return np.split(kept["words"], kept["lengths"].cumsum()[:-1])


def simple_selector(name: str, corpus, marked):
    """A function from a share to the masks that a yardstick selects."""
    kind, _, level = name.rpartition("_")
    texts, units = bare_texts(marked), dataset_units(marked, level)
    if kind == "linear":
        _, scores = LinearModel(corpus["train"], corpus["validation"]).explain(texts)
        yardstick = Yardstick(scores, summed)
    else:
        yardstick = position_yardsticks(texts, seed=0)[kind]
    return lambda share: yardstick.select(texts, units, share)


def mean_of(seeds: dict[int, tuple], column: str) -> float:
    return float(np.mean([line[column] for *_, line in seeds.values()]))


def difference(pairs: list[tuple], gold: list) -> tuple[str, str]:
    """The difference of the micro F1 of the masks in `pairs`, with its interval, and p. What several seeds have
    selected from a text stays together when texts are drawn."""
    if not pairs:
        return "–", "–"
    ours, theirs = ([np.concatenate(one) for one in zip(*side, strict=True)] for side in zip(*pairs, strict=True))
    marks = [np.tile(one, len(pairs)) for one in gold]
    found = paired_test(ours, theirs, marks, num_resamples=2000)["token_micro"]["f1"]
    return f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})", f"{found['p_value']:.3f}"


def draw(points: dict[str, tuple[float, float]], path: Path):
    """F1 over minutes. The names stand beside the figure, in the order of F1, because many points are close."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(points.items(), key=lambda item: item[1][1])
    axes.plot(*zip(*points.values(), strict=True), "o", color="#b45309")
    right, places = 1.1 * max(minutes for minutes, _ in points.values()), np.linspace(*axes.get_ylim(), len(points))
    for place, (method, point) in zip(places, ordered, strict=True):
        line = {"arrowstyle": "-", "color": "0.8", "linewidth": 0.8, "relpos": (0, 0.5)}
        axes.annotate(method, point, xytext=(right, place), va="center", fontsize="small", arrowprops=line)
    axes.set(xlabel="minutes of training", ylabel="F1 of the words", xlim=(0, 1.2 * right))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
