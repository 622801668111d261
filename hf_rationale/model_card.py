"""The model card, which the trainer writes: data, method, hyper-parameters, scores, and a snippet that runs."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import fields
from pathlib import Path
from pprint import pformat
from typing import Any

import torch
import transformers
from accelerate import PartialState
from datasets import Dataset, DatasetInfo
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from peft import PeftConfig, PeftModel
from transformers import Trainer, TrainerCallback, pipeline

from .data import CORPORA
from .metrics import LABELS
from .modeling.base import RationalePreTrainedModel
from .reading import evaluation_mode
from .training_args import RationaleTrainingArguments
from .visualization import render_marks


CARD_NAME = "README.md"
PIPELINE_TASK = "rationale-classification"

_FAITHFULNESS = {
    "attention": "the logits do not depend on the content of the other {marks}.",
    "zero": "the logits do not depend on the content of the other {marks}, but on their number and places.",
}


class ModelCardCallback(TrainerCallback):
    r"""
    Writes the model card of a [`RationaleTrainer`], which adds this callback by itself. The card is written when the
    model is saved after training, and again with every later evaluation, so that it has the scores.

    What a dataset is comes from `dataset.info` (`dataset_name`, `description` and `license`), which
    [`load_rationale_dataset`] fills in.

    Args:
        trainer: the trainer.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.training_seconds: float | None = None
        self.metrics: dict[str, dict[str, float]] = {}
        self.datasets: dict[str, Dataset] = {}
        self.report: Any = None
        self._started: float | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self._started = time.perf_counter()

    def on_train_end(self, args, state, control, **kwargs):
        self.training_seconds = time.perf_counter() - self._started
        self._started = None

    def on_evaluate(self, args, state, control, metrics=None, eval_dataloader=None, **kwargs):
        prefix = next((name.removesuffix("_runtime") for name in metrics if name.endswith("_runtime")), "eval")
        dataset = eval_dataloader.dataset
        split = "validation" if dataset is self.trainer.eval_dataset else "test" if prefix == "eval" else prefix
        self.metrics[split] = {name.removeprefix(f"{prefix}_"): value for name, value in metrics.items()}
        self.datasets[split] = dataset
        self._update()

    def add_report(self, report: Any):
        """Show the scores of a [`RationaleReport`], with their intervals, instead of the trainer's own."""
        self.report = report
        self._update()

    def _update(self):
        folder = Path(self.trainer.args.output_dir)
        if self._started is None and self.trainer.is_world_process_zero() and (folder / CARD_NAME).exists():
            self.write(folder)

    def write(self, folder: str | os.PathLike, **metadata):
        """Write the card into a model's `folder`, unless the model is still being trained. `metadata` are further
        fields of the card's header, such as `license`."""
        if self._started is None:
            card_of(self, Path(folder), **metadata).save(Path(folder) / CARD_NAME)


def card_of(callback: ModelCardCallback, folder: Path, **metadata) -> ModelCard:
    """The card of what the callback's trainer has trained."""
    trainer, report = callback.trainer, callback.report
    model, adapter = trained(trainer)
    args, config = trainer.args, model.config
    info = _info(trainer.train_dataset)
    corpus = CORPORA.get(((info and info.dataset_name) or "").split(" ")[0])
    name = _name(info)
    splits = {"train": trainer.train_dataset, **callback.datasets}
    labels = [config.id2label[index] for index in range(config.num_labels)]
    scores = _report_scores(report) if report else _metric_scores(callback.metrics)
    measured = next((split for split in ("test", *callback.metrics) if split in callback.metrics), None)
    measured_name = _name(_info(callback.datasets[measured])) if measured else name
    # What whole units add up to may be more, or less, than what was asked for.
    share = next((value for label, value, _ in scores if label.startswith("sparsity")), config.sparsity)
    has_pipeline = isinstance(model, RationalePreTrainedModel) and hasattr(model, "text_reader")
    example = (corpus and corpus.example) or "Your text."
    output = _example_output(trainer, example) if has_pipeline and corpus and corpus.example else None
    return ModelCard.from_template(
        ModelCardData(
            **{
                "library_name": "transformers" if adapter is None else "peft",
                "pipeline_tag": model.hub_task if has_pipeline or model.usage else None,
                "language": "en" if corpus and has_pipeline else None,
                "tags": ["hf_rationale", "rationale", "explainability", *trainer.name.split("+")],
                "model_name": folder.resolve().name,
                "eval_results": [
                    EvalResult(
                        task_type=model.hub_task,
                        dataset_type=measured_name,
                        dataset_name=measured_name,
                        dataset_split=measured,
                        metric_type=label.replace(" ", "_"),
                        metric_name=label,
                        metric_value=round(value, 4),
                    )
                    for label, value, _ in scores
                ],
                **metadata,
            }
        ),
        template_path=str(Path(__file__).with_name("model_card_template.md")),
        model_name=folder.resolve().name,
        model_id=str(folder),
        model_class=type(model).__name__,
        base_model=adapter and adapter.base_model_name_or_path,
        has_pipeline=has_pipeline,
        usage=model.usage and model.usage.format(folder=folder),
        selected=f"about {share:.0%}",
        unit="the words" if has_pipeline else "its input",
        faithfulness=_FAITHFULNESS.get(getattr(config, "masking", None), _FAITHFULNESS["attention"]).format(
            marks=f"{model.mark_name}s"
        ),
        example_name=model.example_name,
        mark_name=model.mark_name,
        example=repr(example),
        example_output=output and pformat(output, width=110, sort_dicts=False),
        example_marks=output and render_marks(example, output),
        data_name=name,
        data_description=(info and info.description) or "The training data has no description.",
        data_license=(info and info.license) or "not given",
        splits=[_split_row(split, data, labels) for split, data in splits.items() if isinstance(data, Dataset)],
        label_names=labels,
        method_description=f"{trainer.description} Source: {trainer.paper}.",
        hyperparameters={**_hyperparameters(trainer, config, args), **_adapter_settings(adapter)},
        checkpoint=f"the best by {(args.metric_for_best_model or 'loss').replace('_', ' ')} on the validation set"
        if args.load_best_model_at_end
        else "the last one",
        decoding=config.decoding,
        threshold=f"{config.rationale_threshold:.4f}",
        measured=(f"the {measured} set" + f" of {measured_name}" * (measured_name != name))
        if measured
        else "the evaluated data",
        count=f"{report.about[f'{model.example_name}s'] if report else len(callback.datasets[measured]):,}"
        if scores
        else "",
        scores=[
            (label.replace("texts", f"{model.example_name}s"), f"{value:.4f}", interval)
            for label, value, interval in scores
        ],
        yardstick=report.sections["yardsticks"].get("best") if report and "yardsticks" in report.sections else None,
        gold_share=next((f"{value:.4f}" for label, value, _ in scores if label.startswith("gold sparsity")), None),
        has_gold=any(label.startswith("rationale F1") for label, _, _ in scores),
        command=_command(),
        training_time=_duration(callback.training_seconds),
        versions=f"transformers {transformers.__version__} and torch {torch.__version__} on {_device_name()}",
    )


def trained(trainer: Trainer) -> tuple[RationalePreTrainedModel, PeftConfig | None]:
    """The trained model, and the configuration of its adapter, if it has one. The layers of an adapter are a part of
    the model."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        return model.get_base_model(), model.active_peft_config
    return model, None


def _info(dataset: Any) -> DatasetInfo | None:
    return dataset.info if isinstance(dataset, Dataset) else None


def _name(info: DatasetInfo | None) -> str:
    return (info and info.dataset_name) or "custom data"


def _command() -> str | None:
    """The script that is running, as it was called; None in a notebook or an interactive shell."""
    script = sys.argv[0]
    if not script.endswith(".py") or not Path(script).exists():
        return None
    processes = PartialState().num_processes
    launcher = "python" if processes == 1 else f"accelerate launch --num_processes {processes}"
    return f"{launcher} {shlex.join([os.path.relpath(script), *sys.argv[1:]])}"


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' * (threads > 1)}"


def _example_output(trainer: Trainer, example: str | dict[str, str]) -> dict[str, Any]:
    model, _ = trained(trainer)
    with evaluation_mode(model), torch.no_grad():
        pipe = pipeline(PIPELINE_TASK, model=model, tokenizer=trainer.processing_class, device=model.device)
        return pipe(example)


def _split_row(name: str, dataset: Dataset, label_names: list[str]) -> list[str]:
    """Of an encoded dataset: its name, size, mean number of words, share of each label, and share of marked words."""
    # Row by row, because the marks of all pixels of a corpus of images do not fit into memory as Python numbers.
    counts = [(len(row), sum(row) if row and row[0] >= 0 else None) for row in dataset["rationale"]]
    gold = [count for count in counts if count[1] is not None]
    labels = dataset["labels"][:] if "labels" in dataset.column_names else []
    shares = [f"{labels.count(index) / len(labels):.1%}" if labels else "-" for index in range(len(label_names))]
    marked = f"{sum(total for _, total in gold) / sum(length for length, _ in gold):.3f}" if gold else "-"
    return [name, f"{len(dataset):,}", f"{sum(length for length, _ in counts) / len(counts):.0f}", *shares, marked]


def _metric_scores(metrics: dict[str, dict[str, float]]) -> list[tuple[str, float, str]]:
    """(label, value, interval) of the test set, or else of the validation set."""
    own = metrics.get("test") or next(iter(metrics.values()), {})
    rows = {_row_name(name): value for name, value in own.items() if value is not None}
    return [(label, rows[name], "") for name, label in LABELS.items() if name in rows]


def _row_name(metric: str) -> str:
    """The row of a report that has the same measure as a metric of the trainer."""
    name = metric.removeprefix("rationale_")
    if name == "iou":
        return "mask iou"
    return f"token micro {name}" if name in ("precision", "recall", "f1") else name.replace("_", " ")


def _report_scores(report: Any) -> list[tuple[str, float, str]]:
    rows = {name: (value, interval) for name, (value, interval) in report.table().items() if value is not None}
    return [(label, rows[name][0], show_interval(rows[name][1])) for name, label in LABELS.items() if name in rows]


def show_interval(interval: tuple[float, float] | None) -> str:
    """An interval for people; nothing if there is none."""
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if interval and interval[0] is not None else ""


def _encoder_name(config) -> str:
    """The types of the encoders, and what they were loaded from."""
    encoders = [getattr(config, key) for key in config.sub_configs]
    names = [f"{one.model_type} ({one.name_or_path})" if one.name_or_path else one.model_type for one in encoders]
    return " and ".join(dict.fromkeys(names)) or config.model_type


def _adapter_settings(adapter: PeftConfig | None) -> dict[str, Any]:
    if adapter is None:
        return {}
    rank = {"rank of the adapter": adapter.r} if hasattr(adapter, "r") else {}  # IA3 has none
    return {"adapter": adapter.peft_type.value, **rank}


def _hyperparameters(trainer: Trainer, config, args: RationaleTrainingArguments) -> dict[str, Any]:
    common = {field.name for field in fields(RationaleTrainingArguments)}
    split = config.model_type == "plmr"
    values = {
        "method": trainer.name,
        **{
            field.name.replace("_", " "): getattr(args, field.name)
            for field in fields(trainer.arguments_class)
            if field.name not in common
        },
        "encoder": _encoder_name(config),
        "layers that extract": f"{config.split_layer} of {config.encoder_config.num_hidden_layers}" if split else None,
        "Dim-Reduction layers": f"{config.reduction_layers}, {config.sparsity_schedule} schedule" if split else None,
        "masking": getattr(config, "masking", None),
        "pooling": config.pooling,
        "selected by": getattr(config, "selection_level", None),
        "sampler": config.sampler,
        "sparsity s": config.sparsity,
        "sparsity weight λ1 / level": f"{config.sparsity_weight} / {config.sparsity_level}",
        "coherence weight λ2": config.coherence_weight,
        "full-text weight": args.full_text_weight or None,
        "match weight λ": args.match_weight or None,
        "match function h(x)": args.match_base and f"{args.match_base}^x",
        "decoding": config.decoding + (f", switch cost {config.switch_cost}" if config.switch_cost else ""),
        "number of units k": config.rationale_top_k,
        "parts of units first": f"{args.parts_first_ratio:.0%} of the steps" if args.parts_first_ratio else None,
        "predictor first": f"{args.predictor_first_ratio:.0%} of the steps" if args.predictor_first_ratio else None,
        "smallest share of the random units": args.predictor_first_share,
        "distillation weight": args.distillation_weight or None,
        "distillation from": args.distillation_from if args.distillation_weight else None,
        "weight of the marks": args.marks_weight or None,
        "predictor's rates": "scaled by s" if args.scale_predictor_rate else None,
        "predictor tuned last": f"{args.predictor_tuning_ratio:.0%} of the steps"
        if args.predictor_tuning_ratio
        else None,
        "initial sparsity": args.initial_sparsity
        and f"{args.initial_sparsity}, annealed over {args.sparsity_warmup_ratio:.0%} of the steps",
        "learning rate": args.learning_rate,
        "learning rates by part": args.learning_rate_mapping,
        "schedule / optimizer": f"{getattr(args.lr_scheduler_type, 'value', args.lr_scheduler_type)} / "
        f"{getattr(args.optim, 'value', args.optim)}",
        "gradient clipping": args.max_grad_norm or "none",
        "batch size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "epochs": args.num_train_epochs if args.max_steps < 0 else None,
        "steps": args.max_steps if args.max_steps > 0 else None,
        "max length": args.max_length,
        "seed": args.seed,
    }
    return {name: value for name, value in values.items() if value is not None}
