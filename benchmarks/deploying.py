"""Compare ways to run a finished model on a CPU: PyTorch, compiled, ONNX, and int8 weights.

    python benchmarks/deploying.py --model outputs/plmr-tweets --data data/tweets

Every way explains the same test tweets, one by one and in batches. Each round runs every way once, in turns, after
warm-up. The ratio is PyTorch's time divided by the way's, as the median over rounds: above 1, the way is faster. The
other columns compare with PyTorch's output on the same texts: the largest difference of a logit, the share of texts
with the same label, and the F1 of the selected tokens against those that PyTorch selects.

It needs `pip install onnx onnxscript onnxruntime` and a C++ compiler. int8 weights of PyTorch are those of
`torch.ao.quantization.quantize_dynamic`, and those of ONNX of `onnxruntime.quantization.quantize_dynamic`.
"""

import argparse
import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import quantize_dynamic
from transformers import pipeline

from hf_rationale import load_rationale_dataset
from hf_rationale.onnx_export import OUTPUTS, export_onnx


Batch = dict[str, torch.Tensor]
Way = Callable[[Batch], tuple[torch.Tensor, ...]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder of a model of tokens")
    parser.add_argument("--data", default="data/tweets", help="the folder of the tweets")
    parser.add_argument("--texts", type=int, default=192)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=DeprecationWarning)

    pipe = pipeline("rationale-classification", model=options.model, device="cpu")
    texts = [" ".join(words) for words in load_rationale_dataset("tweets", options.data)["test"]["tokens"]]
    with tempfile.TemporaryDirectory() as folder:
        found = ways(pipe, Path(folder), options.threads)
        print(f"{options.model}, {options.texts} tweets, {options.threads} threads, torch {torch.__version__}\n")
        print(
            "| way | texts at once | ms a text | ratio | largest difference of a logit | same label | F1 of tokens |"
        )
        print("|---|---|---|---|---|---|---|")
        for size in (1, options.batch_size):
            table(found, batches(pipe, texts[: options.texts], size), size, options.rounds)


def ways(pipe, folder: Path, threads: int) -> dict[str, Way]:
    """The ways by name. PyTorch is the first."""
    compiled, quantized = copy.deepcopy(pipe.model), copy.deepcopy(pipe.model)
    extractor = compiled.extractor
    for encoder in getattr(extractor, "encoders", None) or [extractor.encoder]:
        encoder.compile(dynamic=True)
    compiled.reader.compile(dynamic=True)
    quantized = torch.ao.quantization.quantize_dynamic(quantized, {torch.nn.Linear})
    export_onnx(pipe, folder / "model.onnx")
    quantize_dynamic(folder / "model.onnx", folder / "int8.onnx")
    return {
        "PyTorch": of_torch(pipe.model),
        "compiled parts": of_torch(compiled),
        "int8 weights": of_torch(quantized),
        "ONNX": of_onnx(folder / "model.onnx", threads),
        "ONNX, int8 weights": of_onnx(folder / "int8.onnx", threads),
    }


def of_torch(model) -> Way:
    @torch.no_grad()
    def run(batch: Batch) -> tuple[torch.Tensor, ...]:
        output = model(**batch)
        return tuple(output[name] for name in OUTPUTS)

    return run


def of_onnx(path: Path, threads: int) -> Way:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, settings)
    names = [one.name for one in session.get_inputs()]

    def run(batch: Batch) -> tuple[torch.Tensor, ...]:
        outputs = session.run(list(OUTPUTS), {name: batch[name].numpy() for name in names})
        return tuple(map(torch.from_numpy, outputs))

    return run


def batches(pipe, texts: list[str], size: int) -> list[Batch]:
    """The model's inputs, padded by the pipeline's own collator, texts of similar length together."""
    texts = sorted(texts, key=len)
    inputs = []
    for start in range(0, len(texts), size):
        rows = [pipe.preprocess(text) for text in texts[start : start + size]]
        names = [name for name, value in rows[0].items() if torch.is_tensor(value)]
        length = max(row["input_ids"].shape[1] for row in rows)
        padded = {
            name: torch.cat(
                [
                    torch.nn.functional.pad(row[name], (0, length - row[name].shape[1]), value=padding(name, pipe))
                    for row in rows
                ]
            )
            for name in names
            if name not in ("offsets", "content")
        }
        inputs.append(padded)
    return inputs


def padding(name: str, pipe) -> int:
    return {"input_ids": pipe.tokenizer.pad_token_id, "word_ids": -1, "unit_ids": -1}.get(name, 0)


def table(found: dict[str, Way], inputs: list[Batch], size: int, rounds: int):
    outputs = {name: [way(batch) for batch in inputs] for name, way in found.items()}  # and warm-up
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, way in found.items():
            start = time.perf_counter()
            for batch in inputs:
                way(batch)
            times[name].append(time.perf_counter() - start)
    reference, base = outputs["PyTorch"], times["PyTorch"]
    count = sum(len(logits) for logits, *_ in reference)
    for name, seconds in times.items():
        difference, same, both, chosen, expected = 0.0, 0, 0.0, 0.0, 0.0
        for (logits, mask, _), (other, other_mask, _) in zip(reference, outputs[name], strict=True):
            difference = max(difference, float((logits - other).abs().max()))
            same += int((logits.argmax(-1) == other.argmax(-1)).sum())
            both += float((mask * other_mask).sum())
            expected, chosen = expected + float(mask.sum()), chosen + float(other_mask.sum())
        ratio = statistics.median(one / other for one, other in zip(base, seconds, strict=True))
        print(
            f"| {name} | {size} | {1000 * statistics.median(seconds) / count:.2f} | {ratio:.2f} | {difference:.1e} | "
            f"{same / count:.3f} | {2 * both / (expected + chosen):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
