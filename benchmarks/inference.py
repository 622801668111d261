"""Compare the speed of classification with a rationale to the plain classifier of the same encoder.

    python benchmarks/inference.py                                             # BERT-base size, random weights
    python benchmarks/inference.py --encoder path-or-hub-id --threads 2        # any other encoder's shape
    python benchmarks/inference.py --explain --encoder path-or-hub-id          # beside LIME, SHAP and their like
    python benchmarks/inference.py --device cuda --dtype bfloat16

All models have the same encoder and the same attention backend, and run in one process. Speed does not depend on the
values of the weights, so the heads are random. Selection uses a budget. Each round runs every model once, in turns.

- The ratio is the plain classifier's time divided by the model's, as the median over rounds after warm-up. Above 1,
  the model is faster.
- `mixed`: the lengths of the texts range from a quarter of the length to all of it. Texts are padded to the longest.
- Memory is the peak of a call, less what was in use before it.
- `bound` is the ratio if the cost of a layer were proportional to its tokens and everything else were free.
- `--explain` measures post-hoc explanations of the plain classifier, in seconds for one text. The packages' defaults
  are used, except for LIME (1,000 samples instead of 5,000) and SHAP (200 evaluations instead of 500). It needs
  `pip install lime shap captum`.
"""

import argparse
import ctypes
import gc
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedModel,
    set_seed,
)

from hf_rationale import PlmrForSequenceClassification, RationaleForSequenceClassification


PLAIN = "plain classifier"
WORDS = (
    "the",
    "beer",
    "was",
    "served",
    "in",
    "a",
    "tall",
    "glass",
    "and",
    "smells",
    "of",
    "fresh",
    "hops",
    "but",
    "stale",
)


def models(options: argparse.Namespace) -> tuple[PreTrainedModel, dict[str, Callable], dict[str, float]]:
    """Return the plain classifier, the models by name as functions of a batch, and the bound of each ratio."""
    set_seed(0)
    config = BertConfig() if options.encoder is None else AutoConfig.from_pretrained(options.encoder)
    config.num_labels = 2
    plain = AutoModelForSequenceClassification.from_config(config, attn_implementation=options.attention)
    common = {"special_token_ids": [0], "sparsity": options.sparsity, "num_labels": 2}
    plmr = PlmrForSequenceClassification.from_encoder_pretrained(plain, split_layer=options.split_layer, **common)
    rationale = RationaleForSequenceClassification.from_encoder_pretrained(plain, **common)
    for model in (plain, plmr, rationale):
        model.set_attn_implementation(options.attention)
        model.to(options.device, getattr(torch, options.dtype)).eval()
    depth = config.num_hidden_layers
    ends, shares = [0, *plmr.config.reduction_layers], [1.0, *map(float, plmr.shares(options.sparsity))]
    layers = sum((end - start) * share for start, end, share in zip(ends, ends[1:], shares, strict=False))
    bounds = {
        "PLMR": depth / (layers + (depth - ends[-1]) * shares[-1]),
        "two players": 1 / (1 + options.sparsity),
    }
    budget = {"rationale_ratio": options.sparsity}
    calls = {
        PLAIN: lambda **batch: plain(**batch).logits,
        "PLMR": lambda **batch: plmr(**batch, **budget).logits,
        "two players": lambda **batch: rationale(**batch, **budget).logits,
    }
    print(
        f"{plain.config.model_type}, {depth} layers of width {config.hidden_size}, {options.attention}, "
        f"{options.dtype}, {options.device}, {torch.get_num_threads()} thread(s); split after layer "
        f"{plmr.config.split_layer}, Dim-Reduction layers {plmr.config.reduction_layers}, "
        f"{options.sparsity:.0%} selected"
    )
    return plain, calls, bounds


def batch_of(size: int, length: int, mixed: bool, vocab_size: int, device: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, vocab_size, (size, length), generator=generator)
    lengths = torch.full((size, 1), length)
    if mixed:
        lengths = torch.linspace(length // 4, length, size).long().unsqueeze(1)
    real = (torch.arange(length) < lengths).long()
    return {"input_ids": (ids * real).to(device), "attention_mask": real.to(device)}


def seconds(call: Callable, batch: dict[str, torch.Tensor]) -> float:
    start = time.perf_counter()
    call(**batch)
    if batch["input_ids"].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(call: Callable, batch: dict[str, torch.Tensor]) -> float:
    """Return the peak memory of a call in MiB, less what was in use before it."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # return freed memory, so that the call cannot reuse it unseen
    if batch["input_ids"].is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call(**batch)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    call(**batch)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before / 2**20


@torch.no_grad()
def compare(options: argparse.Namespace):
    plain, calls, bounds = models(options)
    columns = "texts/s: plain", *(f"{name} × plain (quartiles)" for name in bounds), "MiB: plain", *bounds
    print(f"bounds: {', '.join(f'{name} {bound:.2f}' for name, bound in bounds.items())}\n")
    print(f"| batch | length | | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 3)}")
    for size in options.batch_sizes:
        for length in options.lengths:
            for mixed in (False, True) if size > 1 else (False,):
                batch = batch_of(size, length, mixed, plain.config.vocab_size, options.device)
                memory = [peak_memory(call, batch) for call in calls.values()]  # warms up as well
                for call in calls.values():
                    seconds(call, batch)
                rounds = [{name: seconds(call, batch) for name, call in calls.items()} for _ in range(options.rounds)]
                cells = [f"{size / statistics.median(one[PLAIN] for one in rounds):.1f}"]
                for name in bounds:
                    low, middle, high = statistics.quantiles([one[PLAIN] / one[name] for one in rounds], n=4)
                    cells.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
                cells += [f"{value:.0f}" for value in memory]
                kind = "mixed" if mixed else "equal"
                print(f"| {size} | {length} | {kind} | {' | '.join(cells)} |", flush=True)


def explain(options: argparse.Namespace):
    """Measure the seconds for one text of the rationale models and of post-hoc explanations."""
    import shap
    from captum.attr import LayerIntegratedGradients
    from lime.lime_text import LimeTextExplainer

    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, options.words)) for _ in range(options.texts)]
    plain, calls, _ = models(options)

    def encode(batch):
        return dict(tokenizer(list(batch), return_tensors="pt", padding=True, truncation=True).to(options.device))

    @torch.no_grad()
    def probabilities(batch) -> np.ndarray:
        chunks = [batch[start : start + 32] for start in range(0, len(batch), 32)]
        return np.concatenate([plain(**encode(chunk)).logits.float().softmax(-1).cpu().numpy() for chunk in chunks])

    lime = LimeTextExplainer(class_names=["0", "1"], random_state=0)
    partition = shap.Explainer(lambda batch: probabilities(list(batch)), shap.maskers.Text(tokenizer))
    gradients = LayerIntegratedGradients(
        lambda ids, mask: plain(input_ids=ids, attention_mask=mask).logits, plain.get_input_embeddings()
    )

    def integrated_gradients(text: str):
        batch = encode([text])
        return gradients.attribute(
            batch["input_ids"], additional_forward_args=(batch["attention_mask"],), target=0, internal_batch_size=10
        )

    @torch.no_grad()
    def attention(text: str):
        plain.set_attn_implementation("eager")  # the only attention that returns its weights
        output = plain(**encode([text]), output_attentions=True)
        plain.set_attn_implementation(options.attention)
        return output.attentions[-1].mean(1)[:, 0]

    def inference(name: str):
        def call(text: str):
            with torch.no_grad():
                return calls[name](**encode([text]))

        return call

    methods = {
        f"{PLAIN}, no explanation": inference(PLAIN),
        "PLMR, decision and rationale": inference("PLMR"),
        "two players, decision and rationale": inference("two players"),
        "attention (eager)": attention,
        "integrated gradients (captum, 50 steps)": integrated_gradients,
        "SHAP partition (200 evaluations)": lambda text: partition([text], max_evals=200),
        "LIME (1,000 samples)": lambda text: lime.explain_instance(text, probabilities, num_samples=1000),
    }
    print(f"\n{options.texts} texts of {options.words} words\n\n| method | seconds a text | × plain |\n|---|---|---|")
    reference = None
    for name, method in methods.items():
        method(texts[0])
        times = []
        for text in texts:
            start = time.perf_counter()
            method(text)
            if options.device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        median = statistics.median(times)
        reference = reference or median
        print(f"| {name} | {median:.3f} | {median / reference:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="folder or Hub id whose shape the models have; BERT-base's without one")
    parser.add_argument("--split_layer", type=int, help="the layers that extract (default: by the encoder's depth)")
    parser.add_argument("--sparsity", type=float, default=0.2, help="share of the tokens to select")
    parser.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"], help="MPNet has eager alone")
    parser.add_argument("--batch_sizes", nargs="*", type=int, default=[1, 8, 32])
    parser.add_argument("--lengths", nargs="*", type=int, default=[128, 256, 512])
    parser.add_argument("--rounds", type=int, default=10, help="timed calls of each; at least two")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--explain", action="store_true", help="beside post-hoc explanation, instead")
    parser.add_argument("--texts", type=int, default=5, help="to explain")
    parser.add_argument("--words", type=int, default=100, help="in each of them")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.explain:
        if options.encoder is None:
            raise SystemExit("--explain reads text, so it needs the tokenizer of an --encoder.")
        explain(options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
