"""Train on real corpora with every method and several seeds, and print tables of the scores.

    python benchmarks/real_data.py --data data --jobs 2                                    # everything
    python benchmarks/real_data.py --data data --only tweets --methods rnp n2r --seeds 0   # a part of it
    python benchmarks/real_data.py --recorded --only tweets-minilm                         # what has been run

The method `plain` is a plain classifier (`plain_classifier.py`).

Each run is `examples/train.py` in a process of its own, with one thread, and adds a line of scores to `--results`. A
run that has a line there, or an `eval_results.json` in `--output`, is not repeated. So the script can be stopped and
started again. To repeat all runs, name a new file and a new folder.

The script prints one table for each corpus. A row is the mean over the seeds, with the standard deviation if there is
more than one. All methods have the same budget and the same settings. The threshold and the checkpoint are chosen on
the validation set.
"""

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm


ROOT = Path(__file__).parent.parent
RATEBEER = (
    "Training and validation: RateBeer reviews in the file format of Lei et al. (2016). They are balanced, have clear "
    "scores only, and the label is weakly correlated with the scores of other aspects. This is not the BeerAdvocate "
    "training set of the papers, which is no longer public. It comes from another site, is a tenth of the size, and "
    "its texts are half as long, so do not expect the figures of the papers. Test: the annotated BeerAdvocate reviews "
    "(McAuley et al. 2012), nearly all of them positive."
)
GRU = "--encoder gru --vectors {data}/glove/glove.6B.100d.txt.gz"
# Eased by default: see examples/train.py.
MINILM = "--encoder {minilm}"
MPNET = "--encoder {mpnet}"
SENTENCES = "--encoder sentences:{minilm}"
BEER_DATA = f"--dataset beer --data_dir {{data}}/beer --data_description '{RATEBEER}'"
BEER = f"{BEER_DATA} --sparsity 0.15 --max_length 256"
# Eases the start of training. It is ours, not the papers'.
EASED = "--full_text_weight 1 --initial_sparsity 0.6"
TWEETS_DATA = "--dataset tweets --data_dir {data}/tweets"
TWEETS = f"{TWEETS_DATA} --sparsity 0.35"
MOVIES = "--dataset movies --data_dir {data} --sparsity 0.2"
BEER_GRU = f"{GRU} {BEER} {EASED} --per_device_train_batch_size 32 --num_train_epochs 8"
# Max-pooling saturates over 800 words, and a learning rate of 1e-3 hardly changes a mean-pooled GRU.
MOVIES_GRU = (
    f"{GRU} {MOVIES} {EASED} --max_length 1024 --pooling mean --per_device_train_batch_size 16 --num_train_epochs 6 "
    """--learning_rate 3e-3 --learning_rate_mapping '{{"selector|classifier": 0.02}}'"""
)
HOTEL_DATA = "--dataset hotel --data_dir {data}/hotel --aspect cleanliness"
HOTEL = f"{HOTEL_DATA} --sparsity 0.12 --max_length 256"
HOTEL_GRU = f"{GRU} {HOTEL} {EASED} --per_device_train_batch_size 32 --num_train_epochs 8"
# With 512 tokens, attention dropout alone would take most of the time on a CPU.
MOVIES_MINILM = (
    f"{MINILM} {MOVIES} --max_length 512 --per_device_train_batch_size 8 --num_train_epochs 3 "
    """--encoder_config '{{"attention_probs_dropout_prob": 0}}'"""
)
WINDOWS = (
    """--per_device_train_batch_size 8 --max_steps 120 --encoder_config '{{"attention_probs_dropout_prob": 0}}'"""
)
# Words first, read by sentences or clauses at last, when the predictor is tuned on them.
UNITS = "--parts_first_ratio 0.8 --predictor_tuning_ratio 0.2 --sparsity_warmup_ratio 0.4 --num_train_epochs 10"
BY_SENTENCE = f"{BEER_GRU} --selection_level sentence {UNITS}"
DISTILLED = "--full_text_weight 1 --predictor_first_ratio 0.3 --distillation_weight 1"
DISTILLED_UNITS = f"--per_device_train_batch_size 32 {DISTILLED} --predictor_tuning_ratio 0.2 --num_train_epochs 10"
WITHOUT_START = "--predictor_first_ratio 0 --distillation_weight 0"
# A pretrained encoder over tokens that selects units, with the start of a model of sentences.
MINILM_UNITS = f"{MINILM} {DISTILLED} --predictor_tuning_ratio 0.2"
# The flags of examples/train.py for each corpus, without the method and the seed.
CORPORA = {
    "tweets": f"{GRU} {TWEETS} --num_train_epochs 6",
    "beer-appearance": f"{BEER_GRU} --aspect appearance",
    "beer-aroma": f"{BEER_GRU} --aspect aroma",
    "beer-palate": f"{BEER_GRU} --aspect palate",
    "hotel-cleanliness": HOTEL_GRU,
    "movies": MOVIES_GRU,
    "tweets-minilm": f"{MINILM} {TWEETS} --num_train_epochs 2",
    "beer-appearance-minilm": f"{MINILM} {BEER} --aspect appearance --num_train_epochs 4",
    "beer-aroma-minilm": f"{MINILM} {BEER} --aspect aroma --num_train_epochs 4",
    "beer-palate-minilm": f"{MINILM} {BEER} --aspect palate --num_train_epochs 4",
    "hotel-cleanliness-minilm": f"{MINILM} {HOTEL} --num_train_epochs 4",
    "movies-minilm": MOVIES_MINILM,
    # Whole reviews in overlapping windows. An epoch has 200 steps, and 120 take most of an hour on a CPU.
    "movies-minilm-windows": f"{MINILM} {MOVIES} {WINDOWS}",
    "tweets-minilm-clauses": (
        f"{MINILM_UNITS} {TWEETS_DATA} --selection_level clause --sparsity 0.2 --num_train_epochs 2"
    ),
    "beer-aroma-minilm-sentences": (
        f"{MINILM_UNITS} {BEER_DATA} --aspect aroma --selection_level sentence --sparsity 0.12 --num_train_epochs 5"
    ),
    "hotel-cleanliness-minilm-clauses": (
        f"{MINILM_UNITS} {HOTEL_DATA} --selection_level clause --sparsity 0.1 --num_train_epochs 3 "
        "--per_device_train_batch_size 16"
    ),
    # Whole reviews in overlapping windows: an epoch takes hours on a CPU.
    "movies-minilm-sentences": (
        f"{MINILM_UNITS} {MOVIES} --selection_level sentence --per_device_train_batch_size 8 --num_train_epochs 4"
    ),
    "tweets-mpnet": f"{MPNET} {TWEETS} --num_train_epochs 1",
    "beer-appearance-by-sentence": f"{BY_SENTENCE} --aspect appearance",
    "beer-aroma-by-sentence": f"{BY_SENTENCE} --aspect aroma",
    "beer-palate-by-sentence": f"{BY_SENTENCE} --aspect palate",
    "hotel-cleanliness-by-clause": f"{HOTEL_GRU} --selection_level clause {UNITS}",
    "tweets-distilled": f"{GRU} {TWEETS} {DISTILLED} --num_train_epochs 6",
    "beer-appearance-distilled": f"{GRU} {BEER} --aspect appearance --selection_level sentence {DISTILLED_UNITS}",
    "beer-aroma-distilled": f"{GRU} {BEER} --aspect aroma --selection_level sentence {DISTILLED_UNITS}",
    "hotel-cleanliness-distilled": f"{GRU} {HOTEL} --selection_level clause {DISTILLED_UNITS}",
    # Whole sentences are selected, so that the share is larger than what is asked for.
    "beer-appearance-sentences": f"{SENTENCES} {BEER_DATA} --aspect appearance --sparsity 0.12",
    # 15 epochs instead of 30: the validation accuracy of RNP, N2R and 3PLAYER is .01 higher.
    "beer-aroma-sentences": f"{SENTENCES} {BEER_DATA} --aspect aroma --sparsity 0.12 --num_train_epochs 15",
    "beer-palate-sentences": f"{SENTENCES} {BEER_DATA} --aspect palate --sparsity 0.12",
    "hotel-cleanliness-clauses": f"{SENTENCES} {HOTEL_DATA} --selection_level clause --sparsity 0.1",
    "tweets-clauses": f"{SENTENCES} {TWEETS_DATA} --selection_level clause --sparsity 0.2 --num_train_epochs 10",
    "multirc-sentences": f"{SENTENCES} --dataset multirc --data_dir {{data}} --sparsity 0.17 --num_train_epochs 10",
    "fever-sentences": f"{SENTENCES} --dataset fever --data_dir {{data}} --sparsity 0.08 --num_train_epochs 10",
    "movies-sentences": f"{SENTENCES} {MOVIES}",
    # Without what train.py sets by default, to measure one thing after the other.
    "movies-sentences-plain": f"{SENTENCES} {MOVIES} {WITHOUT_START}",
    "hotel-cleanliness-clauses-plain": (
        f"{SENTENCES} {HOTEL_DATA} --selection_level clause --sparsity 0.1 {WITHOUT_START}"
    ),
}
METHODS = ("rnp", "fr", "n2r", "n2r_mmi", "ver", "a2i", "fr+a2i", "n2r_mmi+ver")
# PLMR splits an encoder by depth, which a GRU does not have.
PRETRAINED_METHODS = ("rnp", "fr", "plmr", "plmr+n2r", "plmr+ver", "plmr+a2i")
PLAIN = "plain"  # a plain classifier of the same encoder, which reads everything
KEY = ("corpus", "method", "seed")
COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "rationale_precision": "P",
    "rationale_f1": "F1",
    "rationale_f1_over_oracle": "F1/oracle",
    "yardstick_f1": "best yardstick F1",
    "rationale_sparsity": "S",
    "validation_accuracy": "validation accuracy",
}


def train(folder: Path, method: str, seed: int, flags: str):
    """Run `examples/train.py` into `folder`, unless that has been done; `method` may have flags of its own."""
    if (folder / "eval_results.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    script = "examples/train.py"
    if method == PLAIN:
        script = "benchmarks/plain_classifier.py"
    else:
        flags = f"{flags} --method {method}"  # flags of the method come last and override the others
    command = [
        *(sys.executable, script, "--seed", str(seed)),
        *shlex.split(flags),
        *("--output_dir", os.path.relpath(folder, ROOT), "--report_to", "none", "--logging_strategy", "epoch"),
    ]
    with open(folder / "log.txt", "w") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)  # what this process has used, and not all children together
    if status:
        raise RuntimeError(f"{folder.name} ended with status {status}; see {folder / 'log.txt'}")
    (folder / "usage_results.json").write_text(json.dumps({"memory_mib": round(usage.ru_maxrss / 1024)}))


def folder_of(output: Path, corpus: str, method: str, seed: int) -> Path:
    return (ROOT / output).resolve() / corpus / f"{re.sub('[^a-z0-9_+.]+', '-', method)}-seed{seed}"


def run(corpus: str, method: str, seed: int, places: dict[str, str], output: Path) -> dict[str, float]:
    """The test scores, the validation accuracy and the minutes of training of one run."""
    folder = folder_of(output, corpus, method, seed)
    train(folder, method, seed, CORPORA[corpus].format(**places))
    found = {
        name.removeprefix("eval_"): value
        for split in ("eval", "validation", "yardstick")
        for name, value in read(folder, split).items()
    }
    columns = [column for column in COLUMNS if method != PLAIN or "accuracy" in column]
    scores = {column: round(found[column], 6) for column in columns}
    scores["minutes"] = round(read(folder, "train")["train_runtime"] / 60, 1)
    return scores | (read(folder, "usage") if (folder / "usage_results.json").exists() else {})


def read(folder: Path, split: str) -> dict[str, float]:
    return json.loads((folder / f"{split}_results.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("HF_RATIONALE_DATA", "data"), help="folder of the corpora")
    parser.add_argument("--minilm", default="sentence-transformers/all-MiniLM-L6-v2", help="its folder or Hub id")
    parser.add_argument("--mpnet", default="sentence-transformers/all-mpnet-base-v2", help="its folder or Hub id")
    parser.add_argument("--output", type=Path, default=Path("outputs", "real_data"), help="folder of the models")
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).with_suffix(".jsonl"), help="a line for each run"
    )
    parser.add_argument("--only", nargs="*", default=list(CORPORA), choices=list(CORPORA), help="these corpora")
    parser.add_argument("--methods", nargs="*", help="with flags of their own if any, such as 'n2r --norm_weight 2'")
    parser.add_argument("--shares", nargs="*", type=float, help="train for each of these shares of the words")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--recorded", action="store_true", help="run nothing, tabulate what there is")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    options = parser.parse_args()

    places = {"data": options.data, "minilm": options.minilm, "mpnet": options.mpnet}
    scores = recorded(options.results)
    # Seed by seed, so that stopping early leaves all the methods with the same number of them.
    jobs = [
        (corpus, method, seed)
        for corpus in options.only
        for seed in options.seeds
        for named in options.methods or methods_of(corpus, scores if options.recorded else ())
        for method in ([f"{named} --sparsity {share}" for share in options.shares] if options.shares else [named])
        if not options.recorded or (corpus, method, seed) in scores
    ]
    missing = [job for job in jobs if job not in scores]
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = pool.map(lambda job: run(*job, places, options.output), missing)
        for job, result in zip(missing, tqdm(runs, total=len(missing), desc="runs", disable=not missing), strict=True):
            scores[job] = result
            with open(options.results, "a") as file:
                file.write(json.dumps(dict(zip(KEY, job, strict=True)) | result) + "\n")

    rows = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        corpus, method, _ = job
        rows[corpus][method].append(scores[job])
    for corpus in rows:
        print(f"\n**{corpus}**\n")
        print(f"| method | seeds | {' | '.join(COLUMNS.values())} | minutes |")
        print("|---|---|" + "---|" * (len(COLUMNS) + 1))
        for method, runs in rows[corpus].items():
            cells = [mean([run[column] for run in runs if column in run], 3) for column in COLUMNS]
            minutes = mean([run["minutes"] for run in runs], 1)
            print(f"| {method} | {len(runs)} | {' | '.join(cells)} | {minutes} |")


def methods_of(corpus: str, scores: Iterable[tuple[str, str, int]]) -> list[str]:
    """Return the methods to tabulate: those of the corpus, and any other that has `scores`."""
    methods = PRETRAINED_METHODS if corpus.endswith(("-minilm", "-mpnet")) else METHODS
    return list(dict.fromkeys([*methods, *(method for scored, method, _ in scores if scored == corpus)]))


def recorded(results: Path) -> dict[tuple[str, str, int], dict[str, float]]:
    """The runs that have a line in `results`."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {tuple(run[name] for name in KEY): run for run in map(json.loads, lines)}


def mean(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
