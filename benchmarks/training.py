"""The speed and the memory of training with every method, compared with a plain classifier of the same encoder.

    python benchmarks/training.py --data data                                             # everything
    python benchmarks/training.py --data data --only tweets --encoders gru --methods rnp n2r --gains
    python benchmarks/training.py --data data --only beer --encoders minilm --profile n2r # where a step's time goes

Corpora, encoders, lengths and batch sizes are those of `real_data.py`. The methods are measured without the full-text
term, with which some of them are trained there ('rnp --full_text_weight 1' has it). The plain classifier reads the
full text. It is transformers' AutoModelForSequenceClassification, or the GRU with the same pooling and a linear layer.

Every row is measured in its own process. A few steps of the method warm it up. The first of them, on the longest batch
of the epoch, gives the peak memory, before the plain classifier is loaded. Then both take a step on the same batch, in
turns, over batches from the whole epoch. A step is everything that the Trainer does except collating the batch. The
ratio is the median over the batches, with quartiles. The plain classifier's own row compares it with a second plain
classifier, and shows how far a ratio can be from 1 by chance. Tables are printed as Markdown. Linux only.
"""

import argparse
import gc
import inspect
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import load_from_disk
from real_data import CORPORA, ROOT
from torch import nn
from torch.nn import functional as F
from torch.profiler import profile, record_function
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, set_seed

from hf_rationale import (
    A2ITrainer,
    GruModel,
    N2RTrainer,
    RationaleConfig,
    RationaleDataCollator,
    encode_rationale_dataset,
    load_rationale_dataset,
)
from hf_rationale.methods import METHODS as REGISTERED
from hf_rationale.methods.a2i import attacked_labels
from hf_rationale.methods.n2r import log_norm
from hf_rationale.modeling.objective import compactness
from hf_rationale.modeling.players import pool


sys.path.insert(0, str(ROOT / "examples"))
import train


CASES = {
    ("tweets", "gru"): CORPORA["tweets"],
    ("beer", "gru"): CORPORA["beer-aroma"],
    ("movies", "gru"): CORPORA["movies"],
    ("tweets", "minilm"): CORPORA["tweets-minilm"],
    ("beer", "minilm"): CORPORA["beer-aroma-minilm"],
    ("movies", "minilm"): CORPORA["movies-minilm"],
}
# All methods that train a model of two encoders or a shared one, and two combinations. INVRAT needs environments,
# which no corpus here has.
METHODS = (*(name for name in REGISTERED if name not in ("plmr", "invrat")), "fr+a2i", "n2r+ver+a2i")
PLAIN, TWO_PASSES = "plain classifier", " in two passes"
GAINS = ("passes", "grouping")
ALONE = "--full_text_weight 0 --report_to none --eval_strategy no --save_strategy no --load_best_model_at_end false"
WARMUP = 5


class GruClassifier(nn.Module):
    """The GRU with the rationale models' pooling and head, on the full text."""

    def __init__(self, encoder: GruModel, config: RationaleConfig):
        super().__init__()
        self.encoder, self.pooling = encoder, config.pooling
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids, attention_mask, labels):
        hidden = self.encoder(input_ids, attention_mask).last_hidden_state
        logits = self.classifier(self.dropout(pool(hidden, attention_mask.to(hidden.dtype), self.pooling)))
        return {"loss": F.cross_entropy(logits.float(), labels), "logits": logits}


def predict_fixed(model, inputs, mask):
    """Run the predictor without a gradient for its parameters."""
    weights = {name: weight.detach() for name, weight in model.predictor.named_parameters()}
    return torch.func.functional_call(model.predictor, weights, (model.reader, inputs, mask))


class TwoPassN2RTrainer(N2RTrainer):
    """The objective with two passes of the predictor, one for each term, as the paper writes it."""

    def game(self, model, inputs, selection):
        mask = selection.mask
        prediction = self.read(model, inputs, mask.detach())
        norm = -self.args.norm_weight * log_norm(predict_fixed(model, inputs, mask).representation).mean()
        return prediction, {"cross_entropy": F.cross_entropy(prediction.logits.float(), inputs.labels), "norm": norm}


class TwoPassA2ITrainer(A2ITrainer):
    """The objective with two passes: one for the attack and one for the instruction."""

    def training_objective(self, model, inputs):
        output = super(A2ITrainer, self).training_objective(model, inputs)
        mask, config = model.select(inputs, extractor=model.attacker).mask, model.config
        attacked = predict_fixed(model, inputs, mask).logits.float()
        output.losses |= {
            "attack": F.cross_entropy(attacked, attacked_labels(inputs.labels, model.num_labels)),
            "attack_compactness": config.sparsity_weight
            * compactness(mask, inputs.units, self.target_sparsity(config.sparsity), config.sparsity_level),
            "instruction": -model.predict(inputs, mask.detach()).logits.float().log_softmax(-1).mean(),
        }
        output.loss = output.loss + sum(output.losses[name] for name in list(output.losses)[-3:])
        return output


IN_TWO_PASSES = {"n2r": TwoPassN2RTrainer, "a2i": TwoPassA2ITrainer}


def arguments(case: str, method: str, folder: str):
    """The arguments that `examples/train.py` parses from the flags."""
    method = "rnp" if method == PLAIN else method.removesuffix(TWO_PASSES)
    sys.argv = ["train.py", *shlex.split(f"{case} {ALONE} --method {method}"), "--output_dir", folder]
    return train.parse_arguments()


def build(case: str, method: str, folder: str) -> Trainer:
    """Return the trainer of a method or of the plain classifier, on the sample that `prepare` saved to `folder`."""
    script, args = arguments(case, method, folder)
    set_seed(0)
    gru = script.encoder == "gru"
    encoder = Path(folder).parent / "gru" if gru else script.encoder
    tokenizer, dataset = AutoTokenizer.from_pretrained(encoder), load_from_disk(Path(folder, "data"))
    common = {"args": args, "train_dataset": dataset, "processing_class": tokenizer}
    labels = max(dataset["labels"]) + 1
    if method != PLAIN:
        trainer_class = train.trainer_of(script.method)
        source = GruModel.from_pretrained(encoder) if gru else train.build_encoder(script, dataset)[0]
        model = train.build_model(script, trainer_class, source, dataset, tokenizer=tokenizer, num_labels=labels)
        if method.endswith(TWO_PASSES):
            trainer_class = IN_TWO_PASSES[script.method]
        return trainer_class(model, **common)
    if gru:
        encoder = GruModel.from_pretrained(encoder)
        config = RationaleConfig(predictor_config=encoder.config, pooling=script.pooling, num_labels=labels)
        model = GruClassifier(encoder, config)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            encoder, num_labels=labels, dtype=torch.float32, **script.encoder_config
        )
    return Trainer(model, data_collator=RationaleDataCollator(tokenizer), **common)


class Stepper:
    """Makes the optimizer steps of a trainer one by one, as `train` does."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.accepted = trainer, set(inspect.signature(trainer.model.forward).parameters)
        trainer.create_optimizer_and_scheduler(num_training_steps=1000)
        trainer.state.max_steps, trainer.current_gradient_accumulation_steps = 1000, 1
        self.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)

    def __call__(self, batches: Iterator[dict[str, torch.Tensor]]):
        trainer = self.trainer
        (batch,), count = trainer.get_batch_samples(batches, 1, trainer.args.device)
        trainer.training_step(self.model, batch, count)
        if trainer.args.max_grad_norm:
            trainer.accelerator.clip_grad_norm_(self.model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        self.model.zero_grad()
        trainer.state.global_step += 1

    def seconds(self, batch: dict[str, torch.Tensor]) -> float:
        batch = {name: value for name, value in batch.items() if name in self.accepted}
        start = time.perf_counter()
        self(iter([batch]))
        return time.perf_counter() - start


def sample(trainer: Trainer, count: int) -> list[dict[str, torch.Tensor]]:
    """Return the first batch of an epoch, which is the longest if batches are grouped, and `count` others."""
    set_seed(0)
    loader = trainer.get_train_dataloader()
    return list(islice(loader, 0, None, max(1, len(loader) // (count + 1))))[: count + 1]


def prepare(case: str, folder: str):
    """Encode a sample of the training set that is large enough to be grouped by length like the whole set."""
    script, args = arguments(case, PLAIN, folder)
    dataset = load_rationale_dataset(script.dataset, script.data_dir, script.aspect)["train"].shuffle(seed=0)
    encoder = script.encoder
    if encoder == "gru":
        encoder = Path(folder).parent / "gru"
        if not encoder.exists():  # reading the text file takes more time and memory than training
            for part in GruModel.from_word_vectors(script.vectors):
                part.save_pretrained(encoder)
    dataset = dataset.take(min(len(dataset), 200 * args.per_device_train_batch_size))
    dataset = encode_rationale_dataset(dataset, AutoTokenizer.from_pretrained(encoder), args.max_length)
    dataset.save_to_disk(Path(folder, "data"))


def compare(case: str, folder: str, method: str, other: str, steps: int) -> dict[str, Any]:
    """The seconds of each step of `method` and of `other`, and the memory of `method`, in MiB."""
    step = Stepper(build(case, method, folder))
    longest, *batches = sample(step.trainer, steps)
    gc.collect()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak, which includes loading
    for batch in (longest, longest, *batches[:WARMUP]):
        step.seconds(batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steppers = step, Stepper(build(case, other, folder))
    for batch in batches[:WARMUP]:
        steppers[1].seconds(batch)
    seconds: tuple[list, list] = [], []
    for number, batch in enumerate(batches):
        for player in (number % 2, 1 - number % 2):
            seconds[player].append(steppers[player].seconds(batch))
    size = step.trainer.args.per_device_train_batch_size
    return {"seconds": seconds, "size": size, "peak": peak / 2**10, "added": peak / 2**10 - before / 2**20}


def check_gradients(case: str, folder: str, method: str):
    """Raises `AssertionError` if one pass and two passes give different gradients."""
    trainers = [build(case, name, folder) for name in (method, method + TWO_PASSES)]
    batch = {name: value for name, value in sample(trainers[0], 1)[-1].items() if name != "rationale"}
    trainers[1].model.load_state_dict(trainers[0].model.state_dict())
    for trainer in trainers:
        trainer.model.train()
        for part in trainer.model.children():
            part.eval()  # no dropout, which would differ between two passes; the model still samples its masks
        torch.manual_seed(0)
        trainer.model(**batch, objective=trainer.training_objective).loss.backward()
    one, two = (dict(trainer.model.named_parameters()) for trainer in trainers)
    for name in one:
        torch.testing.assert_close(one[name].grad, two[name].grad, rtol=1e-5, atol=1e-5)


def grouping(case: str, folder: str, steps: int) -> dict[str, list[float]]:
    """Return the padded tokens and the seconds for one example, with shuffled and with grouped batches."""
    step = Stepper(build(case, "rnp", folder))
    tokens, batches = [], []
    for strategy in ("random", "group_by_length"):
        step.trainer.args.train_sampling_strategy = strategy
        shapes = [batch["input_ids"].shape for batch in step.trainer.get_train_dataloader()]
        tokens.append(sum(size * length for size, length in shapes) / sum(size for size, _ in shapes))
        batches.append(sample(step.trainer, steps)[1:])
    for batch in batches[0][:WARMUP]:
        step.seconds(batch)
    seconds = [0.0, 0.0]
    for pair in zip(*batches, strict=True):
        for kind, batch in enumerate(pair):
            seconds[kind] += step.seconds(batch) / len(batch["labels"]) / len(batches[0])
    return {"tokens": tokens, "seconds": seconds}


def profiled(case: str, folder: str, method: str, steps: int) -> str:
    """Return the profile of a step as text."""
    step = Stepper(build(case, method, folder))
    trainer, model = step.trainer, step.trainer.model
    for batch in sample(trainer, WARMUP):
        step.seconds(batch)
    ranges = [
        ("data", trainer, "get_batch_samples"),
        *((name, module, "forward") for name, module in model.named_children()),
        ("gradient of a mask", torch.autograd, "grad"),
        ("backward", trainer.accelerator, "backward"),
        ("optimizer", trainer.accelerator, "clip_grad_norm_"),
        ("optimizer", trainer.optimizer, "step"),
        ("optimizer", step.model, "zero_grad"),
    ]
    for label, owner, name in ranges:
        setattr(owner, name, partial(_ranged, label, getattr(owner, name)))
    set_seed(0)
    loader = iter(trainer.get_train_dataloader())
    with profile() as profiler:
        for _ in range(steps):
            _ranged("step", step, loader)
    averages = profiler.key_averages()
    total = {event.key: event.cpu_time_total for event in averages if event.key in {"step", *(r[0] for r in ranges)}}
    whole = total.pop("step")
    total["masks, losses and the rest"] = whole - sum(total.values())
    lines = [f"| {name} | {part / whole:.1%} | {part / 1000 / steps:.1f} |" for name, part in total.items()]
    operators = averages.table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40)
    return "\n".join(["| part | share | ms a step |", "|---|---|---|", *lines, "", "```", operators, "```"])


def _ranged(label: str, function: Callable, *args, **kwargs):
    with record_function(label):
        return function(*args, **kwargs)


class Bench:
    """Run the functions above, each call in a fresh process."""

    def __init__(self, options: argparse.Namespace, folder: str):
        self.options, self.folder = options, folder
        self.places = {"data": options.data, "minilm": options.minilm}

    def __call__(self, function: Callable, corpus: str, encoder: str, **task):
        task |= {"case": CASES[corpus, encoder].format(**self.places), "folder": f"{self.folder}/{corpus}-{encoder}"}
        if "steps" in inspect.signature(function).parameters:
            task["steps"] = self.options.steps
        result = subprocess.run(
            [sys.executable, __file__, "--task", json.dumps([function.__name__, task])],
            env={**os.environ, "OMP_NUM_THREADS": str(self.options.threads)},
            capture_output=True,
            text=True,
        )
        if result.returncode:
            raise SystemExit(f"{function.__name__} {task} failed:\n{result.stderr}")
        return json.loads(result.stdout.splitlines()[-1])

    def methods(self, corpus: str, encoder: str):
        columns = "examples/s", "ms a step", "plain: ms a step", "× plain", "peak MiB", "of it, training"
        print(f"\n**{corpus}, {encoder}**\n\n| method | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
        for method in (PLAIN, *self.options.methods):
            run = self(compare, corpus, encoder, method=method, other=PLAIN)
            own, plain = (statistics.median(seconds) for seconds in run["seconds"])
            cells = f"{run['size'] / own:.0f}", _spread(run["seconds"][0], 1000), f"{plain * 1000:.0f}"
            memory = f"{run['peak']:.0f} | {run['added']:.0f}"
            print(f"| {method} | {' | '.join(cells)} | {_spread(_ratios(run))} | {memory} |", flush=True)

    def gains(self, corpus: str, encoder: str):
        def row(what: str, before: float, after: float, digits: int, ratio: str | None = None):
            ratio = ratio or f"{before / after:.2f}"
            print(f"| {what} | {corpus}, {encoder} | {before:.{digits}f} | {after:.{digits}f} | {ratio} |", flush=True)

        if "passes" in self.options.gains:
            for method in IN_TWO_PASSES:
                self(check_gradients, corpus, encoder, method=method)
                run = self(compare, corpus, encoder, method=method + TWO_PASSES, other=method)
                two, one = (1000 * statistics.median(seconds) for seconds in run["seconds"])
                row(f"{method}: two passes → one, ms a step", two, one, 0, _spread(_ratios(run)))
        if "grouping" in self.options.gains:
            run = self(grouping, corpus, encoder)
            row("shuffled → grouped by length: tokens with padding, an example", *run["tokens"], 1)
            row("the same: ms an example", *(1000 * seconds for seconds in run["seconds"]), 2)


def _ratios(run: dict[str, Any]) -> list[float]:
    return [first / second for first, second in zip(*run["seconds"], strict=True)]


def _spread(values: list[float], scale: float = 1.0) -> str:
    low, middle, high = (value * scale for value in statistics.quantiles(values, n=4, method="inclusive"))
    digits = 0 if scale > 1 else 2
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("HF_RATIONALE_DATA", "data"), help="folder of the corpora")
    parser.add_argument("--minilm", default="sentence-transformers/all-MiniLM-L6-v2", help="its folder or Hub id")
    corpora, encoders = (list(dict.fromkeys(names)) for names in zip(*CASES, strict=True))
    parser.add_argument("--only", nargs="*", default=corpora, choices=corpora, help="these corpora")
    parser.add_argument("--encoders", nargs="*", default=encoders, choices=encoders)
    parser.add_argument("--methods", nargs="*", default=METHODS, help="with flags of their own if any")
    parser.add_argument("--gains", nargs="*", default=GAINS, choices=GAINS, help="what to show the gain of; or none")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", metavar="METHOD", help="only tell where the time of its steps goes")
    parser.add_argument("--task", help=argparse.SUPPRESS)  # the call that a fresh process makes
    options = parser.parse_args()
    if options.task:
        name, task = json.loads(options.task)
        print(json.dumps(globals()[name](**task)))
        return

    cases = [case for case in CASES if case[0] in options.only and case[1] in options.encoders]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, folder)
        for case in cases:
            bench(prepare, *case)
            if options.profile:
                table = bench(profiled, *case, method=options.profile)
                print(f"\n**{', '.join(case)}: {options.profile}**\n\n{table}", flush=True)
            elif options.methods:
                bench.methods(*case)
        if options.gains and not options.profile:
            print("\n| what | with | before | after | before / after |\n|---|---|---|---|---|")
            for case in cases:
                bench.gains(*case)


if __name__ == "__main__":
    main()
