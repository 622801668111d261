"""N2R's experiment on images (appendix A.10, table 7), on generated images in the manner of Waterbirds.

    python benchmarks/images.py --methods plain rnp fr n2r n2r_mmi ver a2i --seeds 0 1 2 --output_dir out/images

A plain classifier and rationale models are trained on digits over textures. The texture goes with the label in
training and validation, and not in the test set. Every run appends a line to `images.jsonl` in the output folder:
accuracy on the validation set, on the test set and on its worst group, F1 and IoU of the masks, and the minutes. The
checkpoint is chosen by accuracy on the validation set. The plain classifier's line of every seed also has the
yardsticks. `selections.png` shows what the methods select from the same test images.

    python benchmarks/images.py --cost --output_dir out/images

measures time and memory of training and inference, each in a process of its own.

    python benchmarks/images.py --table --output_dir out/images

prints the means over the seeds as Markdown, with the lowest and the highest, and

    python benchmarks/images.py --full --methods rnp n2r_mmi --seeds 0 1 2 --output_dir out/images

the accuracy of the trained predictors if they read the full test images, and the mean log norm of their
representations of what is selected, of the patches of the digits, and of nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from datasets import disable_progress_bars
from plain_classifier import PlainTrainer
from transformers import ResNetConfig, ViTImageProcessorPil, set_seed

from hf_rationale import (
    METHODS,
    RationaleForImageClassification,
    RationaleImageConfig,
    RNPTrainer,
    load_rationale_dataset,
)
from hf_rationale.image.batch_norm import FreezeBatchNorm
from hf_rationale.image.encoding import encode_images
from hf_rationale.image.pictures import gallery, overlay
from hf_rationale.image.scores import image_metrics, mask_scores
from hf_rationale.image.yardsticks import image_yardsticks
from hf_rationale.methods.n2r import log_norm
from hf_rationale.metrics import group_accuracy
from hf_rationale.reading import read_batches, read_rationales


SIZE, PATCH, SPARSITY = 32, 2, 0.15
DATA = {"n_train": 1500, "n_validation": 300, "n_test": 600, "size": SIZE}
BACKBONE = {"layer_type": "basic", "embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1]}
MODEL = {"patch_size": PATCH, "sparsity": SPARSITY, "unet_sizes": [16, 32, 64]}
TRAINING = {
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 100,
    "learning_rate": 1e-3,
    "num_train_epochs": 8,
    # At first the predictor reads random patches, and the extractor imitates its gradient × input.
    "predictor_first_ratio": 0.4,
    "distillation_weight": 1.0,
    "logging_steps": 47,
    "save_total_limit": 1,
}
SHOWN = 10  # test images in the picture

TRAINERS = {"plain": PlainTrainer, **METHODS}
IMAGE_PROCESSOR = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})


def make_model(method: str, **options) -> RationaleForImageClassification:
    options = MODEL | TRAINERS[method].model_options | options
    backbone = None if options.get("share_encoder") else ResNetConfig(**BACKBONE)
    return RationaleForImageClassification(RationaleImageConfig(backbone_config=backbone, **options))


def train(
    method: str, data, folder: Path, seed: int, config: dict, arguments: dict, freeze: float | None = None
) -> RNPTrainer:
    set_seed(seed)
    trainer = TRAINERS[method](
        model=make_model(method, **config),
        args=TRAINERS[method].arguments_class(str(folder), seed=seed, **TRAINING | arguments),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=IMAGE_PROCESSOR,
        compute_metrics=image_metrics,
        callbacks=None if freeze is None else [FreezeBatchNorm(freeze)],
    )
    trainer.train()
    return trainer


def read_everything(model: RationaleForImageClassification):
    """A function from images to the logits of the predictor on the full image."""
    model.eval()
    return lambda images: (
        model.predict(inputs := model.prepare(images), torch.ones_like(inputs.real, dtype=images.dtype)).logits
    )


@torch.no_grad()
def plain_labels(model: RationaleForImageClassification, encoded) -> np.ndarray:
    collate, classify, labels = model.data_collator(IMAGE_PROCESSOR), read_everything(model), []
    for start in range(0, len(encoded), 100):
        rows = [encoded[row] for row in range(start, min(start + 100, len(encoded)))]
        labels.append(classify(collate(rows)["pixel_values"]).argmax(-1))
    return torch.cat(labels).numpy()


def run(
    method: str, seed: int, images, folder: Path, config: dict, arguments: dict, freeze: float | None
) -> tuple[dict, list | None]:
    """A line of results, and the masks of the test images."""
    encoded = {split: encode_images(rows, IMAGE_PROCESSOR) for split, rows in images.items()}
    started = time.perf_counter()
    trainer = train(method, encoded, folder / f"{method}-{seed}", seed, config, arguments, freeze)
    minutes = (time.perf_counter() - started) / 60
    validation, model, test = trainer.evaluate(), trainer.model, encoded["test"]
    line = {"method": method, "seed": seed, "validation_accuracy": validation["eval_accuracy"]}
    masks = None
    if method == "plain":
        predicted = plain_labels(model, test)
        line["yardsticks"] = image_yardsticks(test, SPARSITY, IMAGE_PROCESSOR, PATCH, read_everything(model))
    else:
        rationales = read_rationales(model, test, IMAGE_PROCESSOR, batch_size=100)
        predicted, masks = rationales.probabilities.argmax(-1), rationales.masks
        line |= mask_scores(masks, rationales.gold)
        line["validation_f1"] = validation["eval_rationale_f1"]
    labels, groups = np.array(images["test"]["label"]), images["test"]["group"][:]
    line["accuracy"] = float((predicted == labels).mean())
    line["worst_group_accuracy"] = group_accuracy(predicted, labels, groups)["worst_group_accuracy"]
    line = {name: round(value, 4) if isinstance(value, float) else value for name, value in line.items()}
    options = {"config": config, "arguments": arguments, "freeze_batch_norm_after": freeze}
    return line | {"minutes": round(minutes, 1)} | options, masks


def draw(images, selected: dict[str, list], path: Path):
    """The first test images, their gold masks, and what each method selects."""
    shown = [images[row] for row in range(SHOWN)]
    rows = [[row["image"] for row in shown], [overlay(row["image"], row["rationale"]) for row in shown]]
    for masks in selected.values():
        rows.append([overlay(row["image"], mask.reshape(SIZE, SIZE)) for row, mask in zip(shown, masks, strict=False)])
    gallery(rows, scale=3).save(path)
    print(f"{path}: the images, the gold masks, {', '.join(selected)}")


def measure_cost(method: str) -> dict:
    """Seconds for 20 training steps and for 600 images at inference, and the peak memory, of this process."""
    images = load_rationale_dataset("shapes_on_textures", **DATA | {"n_train": 640, "n_validation": 32})
    encoded = {split: encode_images(rows, IMAGE_PROCESSOR) for split, rows in images.items()}
    arguments = {"max_steps": 20, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    trainer = train(method, encoded, Path("unused"), 0, {}, arguments)
    seconds = next(row["train_runtime"] for row in reversed(trainer.state.log_history) if "train_runtime" in row)
    model, started = trainer.model.eval(), time.perf_counter()
    if method == "plain":
        plain_labels(model, encoded["test"])
    else:
        read_rationales(model, encoded["test"], IMAGE_PROCESSOR, batch_size=100)
    return {
        "method": method,
        "training_ms_per_image": round(1000 * seconds / 640, 1),
        "inference_ms_per_image": round(1000 * (time.perf_counter() - started) / len(encoded["test"]), 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
    }


@torch.no_grad()
def full_accuracy(method: str, seed: int, test, folder: Path) -> dict:
    """Of the best checkpoint: the accuracy of its predictor on full test images, and the norms of representations."""
    states = folder.glob(f"{method}-{seed}/checkpoint-*/trainer_state.json")
    state = json.loads(max(states, key=lambda path: int(path.parent.name.split("-")[1])).read_text())
    best = folder / f"{method}-{seed}" / Path(state["best_model_checkpoint"]).name
    model = RationaleForImageClassification.from_pretrained(best)
    encoded = encode_images(test, IMAGE_PROCESSOR)
    predicted, labels = plain_labels(model, encoded), np.array(test["label"])
    norms: dict[str, list] = {"selected": [], "digits": [], "nothing": []}
    for batch in read_batches(model, encoded, IMAGE_PROCESSOR, 100, "reading"):
        masks = (
            model.select(batch.inputs).mask,
            batch.positions_of(batch.gold),
            torch.zeros_like(batch.inputs.context),
        )
        for values, mask in zip(norms.values(), masks, strict=True):
            values.append(log_norm(model.predict(batch.inputs, mask).representation))
    return {
        "method": method,
        "seed": seed,
        "full": round(float((predicted == labels).mean()), 4),
        "worst": round(group_accuracy(predicted, labels, test["group"][:])["worst_group_accuracy"], 4),
        "log_norm": {name: round(float(torch.cat(values).mean()), 2) for name, values in norms.items()},
    }


def table(lines: list[dict]) -> str:
    """The means over seeds of the methods with their settings, and of the yardsticks."""
    columns = ("validation_accuracy", "accuracy", "worst_group_accuracy", "f1", "iou", "sparsity", "minutes")
    rows = [f"| method | seeds | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    groups: dict[str, list[dict]] = {}
    for line in lines:
        settings = line["config"] | line["arguments"] | line["data"]
        if line["freeze_batch_norm_after"] is not None:
            settings["freeze_batch_norm_after"] = line["freeze_batch_norm_after"]
        suffix = "".join(f", {name} {value}" for name, value in settings.items())
        groups.setdefault(line["method"] + suffix, []).append(line)
        for name, scores in line.get("yardsticks", {}).items():
            groups.setdefault(f"({name}){suffix}", []).append(scores)
    for name, group in groups.items():
        cells = [span([line[column] for line in group]) if column in group[0] else "" for column in columns]
        rows.append(f"| {name} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def span(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}–{max(values):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["plain", "rnp", "n2r"], choices=TRAINERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--data", type=json.loads, default={}, help="JSON: options of shapes_on_textures")
    parser.add_argument("--config", type=json.loads, default={}, help="JSON: fields of the models' configuration")
    parser.add_argument("--arguments", type=json.loads, default={}, help="JSON: training arguments")
    parser.add_argument("--freeze_batch_norm_after", type=float, help="the share of the steps before it is fixed")
    parser.add_argument("--cost", action="store_true", help="measure time and memory instead")
    parser.add_argument("--table", action="store_true", help="print the results instead")
    parser.add_argument("--full", action="store_true", help="let trained predictors read everything instead")
    parser.add_argument("--cost_of", choices=TRAINERS, help=argparse.SUPPRESS)  # in the processes of --cost
    options = parser.parse_args()
    disable_progress_bars()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    if options.cost_of:
        print(json.dumps(measure_cost(options.cost_of)))
        return
    if options.table:
        print(table([json.loads(line) for line in (options.output_dir / "images.jsonl").read_text().splitlines()]))
        return
    results = options.output_dir / ("cost.jsonl" if options.cost else "images.jsonl")
    if options.cost:
        for method in options.methods:
            command = [sys.executable, __file__, "--cost_of", method, "--output_dir", str(options.output_dir)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            with results.open("a") as file:
                file.write(output.splitlines()[-1] + "\n")
        return
    for seed in options.seeds:
        images, selected = load_rationale_dataset("shapes_on_textures", **DATA | {"seed": seed} | options.data), {}
        for method in options.methods:
            if options.full:
                print(json.dumps(full_accuracy(method, seed, images["test"], options.output_dir)))
                continue
            known = TRAINERS[method].arguments_class.__dataclass_fields__
            arguments = {name: value for name, value in options.arguments.items() if name in known}
            freeze = options.freeze_batch_norm_after
            line, masks = run(method, seed, images, options.output_dir, options.config, arguments, freeze)
            with results.open("a") as file:
                file.write(json.dumps(line | {"data": options.data}) + "\n")
            print("LINE", json.dumps(line), flush=True)
            if masks is not None:
                selected[method] = masks
        if selected:
            draw(images["test"], selected, options.output_dir / f"selections-{seed}.png")


if __name__ == "__main__":
    main()
