"""The model card: data, method, hyper-parameters, scores and their source, the command, and a snippet that runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import DatasetDict
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .modeling.base import RationalePreTrainedModel
from .report import RationaleReport, show_interval
from .training_args import RationaleTrainingArguments


# What a card shows of a report, and what it calls it.
_SCORES = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced accuracy",
    "token micro precision": "rationale precision",
    "token micro recall": "rationale recall",
    "token micro f1": "rationale F1",
    "token macro f1": "rationale F1, mean over texts",
    "iou macro f1": "span F1 at half overlap, mean over texts",
    "auprc": "AUPRC of the scores",
    "sparsity": "sparsity (selected share)",
    "gold sparsity": "gold sparsity (marked share)",
    "oracle f1": "oracle F1 at this sparsity",
    "f1 over oracle": "F1 / oracle",
    "comprehensiveness aopc": "comprehensiveness (AOPC)",
    "sufficiency aopc": "sufficiency (AOPC)",
}

_FAITHFULNESS = {
    "attention": "whatever the other words say, the logits are the same.",
    "zero": "whatever the other words say, the logits are the same; how many there are and where still counts.",
}


def write_model_card(
    folder: str | os.PathLike,
    *,
    model: RationalePreTrainedModel,
    args: RationaleTrainingArguments,
    dataset: DatasetDict,
    dataset_name: str,
    data_description: str,
    method: str,
    method_description: str,
    method_options: dict[str, Any],
    encoder: str,
    report: RationaleReport,
    command: str,
    training_seconds: float,
    example: str | dict[str, str],
    example_output: Any = None,
) -> Path:
    r"""
    Write `README.md` into a model's folder.

    Args:
        folder: the model's folder.
        model, args: the trained model and its training arguments.
        dataset: its splits, in [`load_rationale_dataset`]'s schema.
        dataset_name, data_description: what the data is, and what it is not.
        method, method_description, method_options: the method's short name, a sentence on it, and its own numbers.
        encoder: what the model started from.
        report: of the test split; the sections classification, plausibility and faithfulness are shown.
        command: what was typed.
        training_seconds: how long training took.
        example, example_output: an input of the pipeline, and what came out.

    Returns:
        the card's path.
    """
    config, folder = model.config, Path(folder)
    label_names = [config.id2label[index] for index in range(config.num_labels)]
    table = report.table()
    scores = {name: table[name] for name in _SCORES if table.get(name, (None,))[0] is not None}
    unit = "the words" if config.selection_level == "word" else "the tokens"
    card = ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            pipeline_tag="text-classification",
            language="en",
            tags=["hf_rationale", "rationale", "explainability", method],
            model_name=folder.resolve().name,
            eval_results=[
                EvalResult(
                    task_type="text-classification",
                    dataset_type=dataset_name,
                    dataset_name=dataset_name,
                    dataset_split="test",
                    metric_type=name.replace(" ", "_"),
                    metric_name=_SCORES[name],
                    metric_value=round(value, 4),
                )
                for name, (value, _) in scores.items()
            ],
        ),
        template_path=str(Path(__file__).with_name("model_card_template.md")),
        model_name=folder.resolve().name,
        model_id=str(folder),
        selected=f"about {config.sparsity:.0%}",
        unit=unit,
        faithfulness=_FAITHFULNESS[config.masking],
        example=repr(example),
        example_output=example_output,
        data_description=data_description,
        splits=[_split_row(name, split, label_names) for name, split in dataset.items()],
        label_names=label_names,
        method_description=method_description,
        hyperparameters=_hyperparameters(config, args, method, method_options, encoder),
        checkpoint=f"the best by {(args.metric_for_best_model or 'loss').replace('_', ' ')} on the validation set"
        if args.load_best_model_at_end
        else "the last",
        threshold=f"{config.rationale_threshold:.4f}",
        test_texts=f"{len(dataset['test']):,}",
        scores=[
            (_SCORES[name], f"{value:.4f}", show_interval(interval)) for name, (value, interval) in scores.items()
        ],
        gold_sparsity=f"{scores['gold sparsity'][0]:.4f}" if "gold sparsity" in scores else "-",
        command=command,
        training_time=f"{training_seconds:.0f} s" if training_seconds < 600 else f"{training_seconds / 60:.0f} min",
        versions=f"transformers {transformers.__version__} and torch {torch.__version__} on {_device_name()}",
        limits="" if "token micro f1" in scores else "Nobody marked rationales in the test split, so none was scored.",
    )
    path = folder / "README.md"
    card.save(path)
    return path


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' * (threads > 1)}"


def _split_row(name: str, split, label_names: list[str]) -> list[str]:
    labels, marked = split["label"], [mark for mark in split["rationale"] if mark is not None]
    words = sum(len(tokens) for tokens in split["tokens"])
    gold = f"{sum(map(sum, marked)) / sum(map(len, marked)):.3f}" if marked else "-"
    shares = [f"{labels.count(index) / len(split):.1%}" for index in range(len(label_names))]
    return [name, f"{len(split):,}", f"{words / len(split):.0f}", *shares, gold]


def _split(config) -> dict[str, Any]:
    if config.model_type != "plmr":
        return {}
    return {
        "layers that extract": f"{config.split_layer} of {config.encoder_config.num_hidden_layers}",
        "Dim-Reduction layers": f"{config.reduction_layers}, {config.sparsity_schedule} schedule",
    }


def _hyperparameters(
    config, args: RationaleTrainingArguments, method: str, method_options: dict[str, Any], encoder: str
) -> dict[str, Any]:
    values = {
        "method": method,
        **{name.replace("_", " "): value for name, value in method_options.items()},
        "encoder": encoder,
        "masking / pooling": f"{config.masking} / {config.pooling}",
        "selected by": config.selection_level,
        "sparsity s": config.sparsity,
        "sparsity weight λ1 / level": f"{config.sparsity_weight} / {config.sparsity_level}",
        "coherence weight λ2": config.coherence_weight,
        "full-text weight": config.full_text_weight,
        "match weight λ": config.match_weight or None,
        "match function h(x)": config.match_base and f"{config.match_base}^x",
        **_split(config),
        "initial sparsity": args.initial_sparsity
        and f"{args.initial_sparsity}, annealed over {args.sparsity_warmup_ratio:.0%} of the steps",
        "learning rate": args.learning_rate,
        "learning rates by part": args.learning_rate_mapping,
        "schedule / optimizer": f"{getattr(args.lr_scheduler_type, 'value', args.lr_scheduler_type)} / "
        f"{getattr(args.optim, 'value', args.optim)}",
        "gradient clipping": args.max_grad_norm or "none",
        "batch size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "epochs": args.num_train_epochs,
        "max length": args.max_length,
        "seed": args.seed,
    }
    return {name: value for name, value in values.items() if value is not None}
