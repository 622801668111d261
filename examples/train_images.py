"""Train a rationale classifier over images, evaluate it on the test set, and write its model card.

On generated images (digits on textures, see docs/images.md), with a small ResNet:

    accelerate launch examples/train_images.py --dataset shapes_on_textures --size 32 --patch_size 2 --sparsity 0.15 \
        --method n2r --freeze_batch_norm_after 0.4 --output_dir outputs/digits

On Waterbirds or CUB, whose files you need, with a pretrained encoder:

    accelerate launch examples/train_images.py --dataset waterbirds --data_dir data/waterbirds --size 224 \
        --backbone microsoft/resnet-18 --patch_size 16 --method n2r_mmi --output_dir outputs/waterbirds

Besides the flags below there are those of the method's training arguments, such as `--num_train_epochs`. The output
folder has the model, its card, `validation_results.json`, `eval_results.json` (the test set, with F1 and IoU of the
masks and, if the corpus has groups, the accuracy of the worst one), and `selections.png`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoImageProcessor, HfArgumentParser, ResNetConfig, ViTImageProcessorPil, set_seed

from hf_rationale import (
    METHODS,
    RationaleForImageClassification,
    RationaleImageConfig,
    compose,
    evaluate_rationales,
    load_rationale_dataset,
)
from hf_rationale.checkpoints import last_checkpoint
from hf_rationale.image.batch_norm import FreezeBatchNorm
from hf_rationale.image.pictures import gallery, overlay
from hf_rationale.image.scores import image_metrics
from hf_rationale.reading import read_rationales


SMALL = {"layer_type": "basic", "embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [1, 1, 1]}
SHOWN = 8  # test images in the picture
# For networks that are trained from scratch. At first the predictor reads random patches, and the extractor imitates
# its gradient × input. Otherwise many methods follow the background (benchmarks/images.md).
DEFAULTS = {
    "learning_rate": 1e-3,
    "num_train_epochs": 12,
    "per_device_train_batch_size": 32,
    "predictor_first_ratio": 0.4,
    "distillation_weight": 1.0,
    "report_to": "none",
}


@dataclass
class ScriptArguments:
    """The corpus, the method and the model."""

    dataset: str = field(
        default="shapes_on_textures", metadata={"help": "A corpus of images: shapes_on_textures, waterbirds or cub."}
    )
    method: str = field(default="rnp", metadata={"help": f"One of {sorted(METHODS)}, or several joined by +."})
    backbone: str = field(
        default="small",
        metadata={
            "help": "A folder or Hub id of an image encoder, resnet18 (fresh), or small (a fresh, small ResNet)."
        },
    )
    data_dir: str | None = field(default=None, metadata={"help": "The folder of the corpus."})
    dataset_options: str = field(default="{}", metadata={"help": "JSON: options of the corpus's reader."})
    size: int = field(default=32, metadata={"help": "The side of the images that the model reads, in pixels."})
    patch_size: int = field(default=2, metadata={"help": "The side of the patches that are selected, in pixels."})
    sparsity: float = field(default=0.2, metadata={"help": "Share of the image to select."})
    freeze_batch_norm_after: float | None = field(
        default=None,
        metadata={"help": "Fix batch normalization after this share of the steps (0.4; N2R needs it)."},
    )
    model_config: str = field(
        default="{}", metadata={"help": "JSON: further fields of the model's configuration, such as unet_sizes."}
    )


def load(script: ScriptArguments):
    options = json.loads(script.dataset_options)
    if script.dataset == "shapes_on_textures":  # drawn in the size that the model reads
        options = {"size": script.size, **options}
    return load_rationale_dataset(script.dataset, script.data_dir, **options)


def build_model(script: ScriptArguments, method, names: list[str]) -> RationaleForImageClassification:
    options = {
        "patch_size": script.patch_size,
        "sparsity": script.sparsity,
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        **method.model_options,
        **json.loads(script.model_config),
    }
    fresh = {"small": ResNetConfig(**SMALL), "resnet18": None}
    if options.get("share_encoder"):
        return RationaleForImageClassification(RationaleImageConfig(**options))
    if script.backbone in fresh:
        return RationaleForImageClassification(RationaleImageConfig(backbone_config=fresh[script.backbone], **options))
    return RationaleForImageClassification.from_encoder_pretrained(script.backbone, **options)


def build_processor(script: ScriptArguments):
    """The processor of a pretrained encoder, which knows its colors, with the size of the images."""
    size = {"height": script.size, "width": script.size}
    if script.backbone in ("small", "resnet18"):
        return ViTImageProcessorPil(size=size)
    pretrained = AutoImageProcessor.from_pretrained(script.backbone)
    return ViTImageProcessorPil(size=size, image_mean=pretrained.image_mean, image_std=pretrained.image_std)


def main():
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # the flags depend on the method
    first.add_argument("--method", default="rnp")
    names = first.parse_known_args()[0].method.split("+")
    if unknown := sorted(set(names) - set(METHODS)):
        raise SystemExit(f"--method: there is no {', '.join(unknown)}; there are {sorted(METHODS)}")
    method = compose(*(METHODS[name] for name in names))
    parser = HfArgumentParser((ScriptArguments, method.arguments_class))
    parser.set_defaults(**DEFAULTS)
    script, args = parser.parse_args_into_dataclasses()
    set_seed(args.seed)

    dataset, processor = load(script), build_processor(script)
    model = build_model(script, method, dataset["train"].features["label"].names)
    trainer = method(
        model=model,
        args=args,
        train_dataset=dataset["train"],
        eval_dataset=dataset["validation"],
        processing_class=processor,
        compute_metrics=image_metrics,
        callbacks=None
        if script.freeze_batch_norm_after is None
        else [FreezeBatchNorm(script.freeze_batch_norm_after)],
    )
    resume = args.resume_from_checkpoint
    trainer.train(resume_from_checkpoint=last_checkpoint(args.output_dir) if resume == "last" else resume)
    validation = trainer.evaluate(metric_key_prefix="validation")  # calibrates, so the model is saved after it
    trainer.save_model()
    trainer.save_metrics("validation", validation)
    # From here on "eval" is the test set. Nothing above has used it.
    metrics = trainer.evaluate(dataset["test"], metric_key_prefix="eval")
    if not trainer.is_world_process_zero():
        return
    model, test = trainer.accelerator.unwrap_model(trainer.model), dataset["test"]
    report = evaluate_rationales(
        model,
        test,
        processor,
        sections=("classification", "plausibility", "yardsticks"),
        batch_size=args.per_device_eval_batch_size,
    )
    trainer.model_card.add_report(report)
    if "group" in test.column_names:
        metrics["eval_worst_group_accuracy"] = report.sections["classification"]["worst_group_accuracy"]
    for name, scores in report.sections["yardsticks"].get("scores", {}).items():
        metrics[f"eval_{name}_f1"] = scores["f1"]
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    shown = test.select(range(SHOWN))
    images = [image.convert("RGB").resize((script.size, script.size)) for image in shown["image"]]
    masks = [mask.reshape(script.size, script.size) for mask in read_rationales(model, shown, processor).masks]
    picture = gallery(
        [images, [overlay(*pair) for pair in zip(images, masks, strict=True)]], scale=max(1, 96 // script.size)
    )
    picture.save(Path(args.output_dir, "selections.png"))
    print(f"The model, its scores, its card and selections.png are in {args.output_dir}")


if __name__ == "__main__":
    main()
