"""Train on real corpora with several seeds, and tabulate what came out.

    python benchmarks/real_data.py --data data --jobs 2            # everything
    python benchmarks/real_data.py --data data --only tweets-gru   # one row

Each run is `examples/train.py` in a process of its own, as a user would type it. Runs that have their
`eval_results.json` are not run again, so that this can be stopped and started. The table goes to standard output; a
row is the mean over the seeds, and the deviation where there is more than one.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm


ROOT = Path(__file__).parent.parent
RATEBEER = (
    "Training and validation: RateBeer reviews in the file format of Lei et al. (2016), balanced, clear scores only, "
    "the label weakly correlated with the scores of other aspects. It is not the BeerAdvocate training set of the "
    "papers, which is not public any more: another site, a tenth of the size and half the length, so the figures of "
    "the papers are not to be expected. Test: the annotated BeerAdvocate reviews (McAuley et al. 2012), nearly all of "
    "them positive."
)
GRU = "--encoder gru --vectors {data}/glove/glove.6B.100d.txt.gz"
MINILM = "--encoder {minilm} --bf16 --use_cpu"  # eased by default: see examples/train.py
BEER = f"--dataset beer --data_dir {{data}}/beer --sparsity 0.15 --max_length 256 --data_description '{RATEBEER}'"
EASED = "--full_text_weight 1 --initial_sparsity 0.6"  # ours, not the papers': see RationaleTrainingArguments
TWEETS = "--dataset tweets --data_dir {data}/tweets --sparsity 0.35"
MOVIES = "--dataset movies --data_dir {data} --sparsity 0.2"
BEER_GRU = f"{GRU} {BEER} --per_device_train_batch_size 64 --num_train_epochs 20"
# Over 800 words max-pooling saturates, and 1e-3 moves a mean-pooled GRU hardly at all.
MOVIES_GRU = (
    f"{GRU} {MOVIES} --max_length 1024 --pooling mean --per_device_train_batch_size 16 --num_train_epochs 6 "
    """--learning_rate 3e-3 --learning_rate_mapping '{{"selector|classifier": 0.02}}'"""
)
SEEDS = (0, 1, 2)
# One row of the table each: the flags of examples/train.py, and the seeds.
RUNS = {
    "tweets-gru": (f"{GRU} {TWEETS}", SEEDS),
    "tweets-gru-eased": (f"{GRU} {TWEETS} {EASED}", SEEDS),
    "beer-appearance-gru": (f"{BEER_GRU} --aspect appearance", (0,)),
    "beer-appearance-gru-eased": (f"{BEER_GRU} --aspect appearance {EASED}", SEEDS),
    "beer-aroma-gru": (f"{BEER_GRU} --aspect aroma", (0,)),
    "beer-aroma-gru-eased": (f"{BEER_GRU} --aspect aroma {EASED}", SEEDS),
    "movies-gru": (MOVIES_GRU, (0,)),
    "movies-gru-eased": (f"{MOVIES_GRU} {EASED}", SEEDS),
    "tweets-minilm-eased": (f"{MINILM} {TWEETS} --num_train_epochs 2", (0,)),
    "beer-appearance-minilm-eased": (f"{MINILM} {BEER} --aspect appearance --num_train_epochs 4", (0,)),
    "beer-aroma-minilm-eased": (f"{MINILM} {BEER} --aspect aroma --num_train_epochs 4", (0,)),
}
COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "rationale_precision": "P",
    "rationale_recall": "R",
    "rationale_f1": "F1",
    "rationale_sparsity": "S",
    "rationale_gold_sparsity": "gold share",
    "rationale_f1_over_oracle": "F1/oracle",
}


def run(name: str, seed: int, places: dict[str, str], output: Path) -> dict[str, float]:
    """Train once, unless that has been done; the test scores and the training time in seconds."""
    folder = (ROOT / output).resolve() / f"rnp-{name}-seed{seed}"
    results = folder / "eval_results.json"
    if not results.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "examples/train.py", "--method", "rnp", "--seed", str(seed)),
            *shlex.split(RUNS[name][0].format(**places)),
            *("--output_dir", os.path.relpath(folder, ROOT), "--report_to", "none", "--logging_strategy", "epoch"),
        ]
        with open(folder / "log.txt", "w") as log:
            status = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode
        if status:
            raise RuntimeError(f"{name}, seed {seed}, ended with status {status}; see {folder / 'log.txt'}")
    scores = json.loads(results.read_text())
    seconds = json.loads((folder / "train_results.json").read_text())["train_runtime"]
    return {column: scores[f"eval_{column}"] for column in COLUMNS} | {"seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("HF_RATIONALE_DATA", "data"), help="folder of the corpora")
    parser.add_argument("--minilm", default="sentence-transformers/all-MiniLM-L6-v2", help="its folder or Hub id")
    parser.add_argument("--output", type=Path, default=Path("outputs", "real_data"))
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS), help="these rows")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    options = parser.parse_args()

    places = {"data": options.data, "minilm": options.minilm}
    jobs = [(name, seed) for name in options.only for seed in RUNS[name][1]]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = pool.map(lambda job: run(*job, places, options.output), jobs)
        scores = dict(zip(jobs, tqdm(done, total=len(jobs), desc="runs"), strict=True))

    print(f"| run | seeds | {' | '.join(COLUMNS.values())} | minutes |")
    print("|---|---|" + "---|" * (len(COLUMNS) + 1))
    for name in options.only:
        runs = [scores[name, seed] for seed in RUNS[name][1]]
        cells = [_mean([run[column] for run in runs], 3) for column in COLUMNS]
        minutes = _mean([run["seconds"] / 60 for run in runs], 1)
        print(f"| {name} | {len(runs)} | {' | '.join(cells)} | {minutes} |")


def _mean(values: list[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
