"""Train a rationale classifier on a corpus. The output is a complete model folder with scores and a model card.

    accelerate launch examples/train.py --method rnp --encoder gru --dataset beer --aspect aroma --data_dir DIR \\
        --sparsity 0.15 --output_dir outputs/rnp-gru-aroma

Every field of the method's training arguments, which include those of transformers' TrainingArguments, is a flag.
"""

import argparse
import json
import logging
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, HfArgumentParser, PreTrainedModel, set_seed

from hf_rationale import (
    METHODS,
    GraphRationaleConfig,
    GruConfig,
    GruModel,
    PlmrForSequenceClassification,
    PLMRTrainer,
    RationaleForGraphClassification,
    RationaleForSequenceClassification,
    RationaleTrainer,
    RationaleTrainingArguments,
    SentenceRationaleConfig,
    SentenceRationaleForSequenceClassification,
    compose,
    evaluate_rationales,
    load_rationale_dataset,
    word_level_tokenizer,
)
from hf_rationale.checkpoints import last_checkpoint
from hf_rationale.data import CORPORA
from hf_rationale.sentences.encoding import sentence_encoder
from hf_rationale.yardsticks import weak_marks


logger = logging.getLogger("hf_rationale.train")

# Settings that work for a GRU that is trained from scratch, and for a pretrained encoder. Any flag overrides them.
# With a pretrained encoder, the predictor has to understand text, and the start has to be easy, before the selection
# is any good. Gradients are not clipped: clipping by the common norm of all players would slow down the players with
# small gradients, and the papers do not mention it.
GRU_DEFAULTS = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 128,
    "per_device_eval_batch_size": 128,
    "num_train_epochs": 10,
    "max_length": 1024,
    "max_grad_norm": 0.0,
}
PRETRAINED_DEFAULTS = {
    "learning_rate": 5e-5,
    "learning_rate_mapping": '{"selector|classifier": 1e-3}',
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "num_train_epochs": 5,
    "warmup_steps": 50,
    "initial_sparsity": 0.6,
    "full_text_weight": 1.0,
}
# Where clauses or sentences are selected: at first the predictor learns from random ones, and the extractor from the
# predictor's gradients.
DISTILLED = {"predictor_first_ratio": 0.3, "distillation_weight": 1.0, "full_text_weight": 1.0}
# The clauses or sentences of an encoder that reads tokens. Selecting words first selects worse.
UNITS = ("clause", "sentence")
UNIT_DEFAULTS = {**DISTILLED, "initial_sparsity": None, "predictor_tuning_ratio": 0.2}
SENTENCES = "sentences:"  # before an encoder that gives one vector to each sentence
SENTENCE_DEFAULTS = {
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "num_train_epochs": 30,
    "max_grad_norm": 0.0,
    **DISTILLED,
}
GRAPH_LAYERS = ("gcn", "gin", "gat")  # encoders of graphs
GRAPH_DEFAULTS = {
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 64,
    "per_device_eval_batch_size": 128,
    "num_train_epochs": 46,
    "full_text_weight": 1.0,
    "initial_sparsity": 0.95,
    "predictor_tuning_ratio": 0.3,
}
# The flags that are fields of the model's configuration.
MODEL_OPTIONS = (
    "sparsity",
    "sparsity_weight",
    "coherence_weight",
    "sparsity_level",
    "selection_level",
    "masking",
    "pooling",
)
# What `--lora` trains as a whole: the mask predictor and the classifier, which are new.
HEADS = (".norm", "selector", "classifier")
# What only makes the start of a new model easy. The weights of a finished model (`--model`) do not need it.
START_DEFAULTS = ("initial_sparsity", "predictor_first_ratio", "distillation_weight")


@dataclass
class ScriptArguments:
    """The corpus, the method and the model."""

    dataset: str = field(metadata={"help": f"One of {sorted(CORPORA)}."})
    method: str = field(default="rnp", metadata={"help": f"One of {sorted(METHODS)}, or several joined by +."})
    encoder: str = field(
        default="gru",
        metadata={
            "help": "gru, a folder or Hub id of a transformers encoder, or sentences: and one of these, for documents "
            "of any length as sequences of sentences; or gcn, gin or gat, for graphs."
        },
    )
    model: str | None = field(
        default=None,
        metadata={
            "help": "Instead of an encoder: the folder or Hub id of a finished model, whose training goes on. Its "
            "settings stay, except those that are given here."
        },
    )
    encoder_config: str = field(
        default="{}",
        metadata={
            "help": "JSON: fields of a pretrained encoder's configuration to override. On a CPU, fused attention has "
            "no dropout, so attention_probs_dropout_prob: 0 is faster on long texts."
        },
    )
    data_dir: str | None = field(default=None, metadata={"help": "The folder of the corpus."})
    aspect: str | None = field(default=None, metadata={"help": "The aspect, for corpora that have aspects."})
    dataset_options: str = field(default="{}", metadata={"help": "JSON: options of the corpus's reader."})
    data_description: str | None = field(
        default=None,
        metadata={"help": "What the data is, for the model card (default: the corpus's description)."},
    )
    vectors: str | None = field(
        default=None,
        metadata={
            "help": "For the gru: a GloVe text file. The default is glove*.txt[.gz] in data_dir, or in a folder "
            "'glove' in or next to it. Word vectors are learned if there is no such file, or with 'none'."
        },
    )
    lora: int | None = field(
        default=None,
        metadata={
            "help": "Train the heads and a LoRA adapter of this rank over the linear layers of the encoder. The "
            "folder base of output_dir gets the model without it."
        },
    )
    marked_texts: int | None = field(
        default=None, metadata={"help": "With marks_weight: the number of training texts whose marks are used."}
    )
    weak_marks: str | None = field(
        default=None,
        metadata={
            "help": "With marks_weight: a yardstick that marks the training texts instead of people, such as "
            "first_clause, overlap_sentence, linear_word, keywords_sentence or (with sentences: before the encoder) "
            "similarity_sentence and hybrid_sentence."
        },
    )
    keywords: list[str] = field(
        default_factory=list, metadata={"help": "The words of the yardsticks keywords and similarity."}
    )
    sparsity: float | None = field(default=None, metadata={"help": "Share of the words to select (default: 0.2)."})
    sparsity_weight: float | None = field(
        default=None, metadata={"help": "λ1, the weight of compactness (default: 10)."}
    )
    coherence_weight: float | None = field(default=None, metadata={"help": "λ2, weight of coherence (default: 1)."})
    sparsity_level: str | None = field(default=None, metadata={"help": "example (default), batch or unit."})
    selection_level: str | None = field(
        default=None,
        metadata={"help": "token, word (default), clause or sentence (default with sentences: before the encoder)."},
    )
    masking: str | None = field(default=None, metadata={"help": "attention or zero; plmr has only attention."})
    pooling: str | None = field(default=None, metadata={"help": "mean, max or cls."})
    model_config: str = field(
        default="{}",
        metadata={"help": "JSON: further fields of the model's configuration, such as split_layer for plmr."},
    )


def trainer_of(method: str) -> type[RationaleTrainer]:
    """The trainer of a method, or of several joined by +."""
    names = method.split("+")
    if unknown := sorted(set(names) - set(METHODS)):
        raise SystemExit(f"--method {method}: there is no {', '.join(unknown)}; there are {sorted(METHODS)}")
    try:
        return compose(*(METHODS[name] for name in names))
    except ValueError as error:
        raise SystemExit(f"--method {method}: {error}") from None


def parse_arguments() -> tuple[ScriptArguments, RationaleTrainingArguments]:
    """The script's arguments, and the training arguments of the method."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # the flags depend on the method
    first.add_argument("--method", default="rnp")
    first.add_argument("--encoder", default="gru")
    first.add_argument("--model")
    first.add_argument("--selection_level")
    given, _ = first.parse_known_args()
    method = trainer_of(given.method)
    parser = HfArgumentParser((ScriptArguments, method.arguments_class))
    parser.set_defaults(**defaults_of(method, given.encoder, given.model, given.selection_level))
    if not parser.parse_args().output_dir:
        raise SystemExit("Pass --output_dir, the folder of the model.")
    script, training = parser.parse_args_into_dataclasses()
    for name in ("dataset_options", "encoder_config", "model_config"):
        try:
            setattr(script, name, dict(json.loads(getattr(script, name))))
        except (TypeError, ValueError):
            raise SystemExit(f"--{name} must be a JSON object, but is {getattr(script, name)}") from None
    return script, training


def defaults_of(method: type[RationaleTrainer], encoder: str, model: str | None, level: str | None) -> dict[str, Any]:
    """The training arguments that suit an encoder and the units that are selected, or a finished model."""
    if model is not None:
        config = AutoConfig.from_pretrained(model)
        over_gru = any(isinstance(getattr(config, name), GruConfig) for name in config.sub_configs)
        encoder = SENTENCES if isinstance(config, SentenceRationaleConfig) else "gru" if over_gru else model
        encoder = config.layer_type if isinstance(config, GraphRationaleConfig) else encoder
    if encoder in GRAPH_LAYERS:
        defaults = dict(GRAPH_DEFAULTS)
    elif encoder.startswith(SENTENCES):
        defaults = dict(SENTENCE_DEFAULTS)
    else:
        defaults = dict(GRU_DEFAULTS if encoder == "gru" else PRETRAINED_DEFAULTS)
        defaults |= UNIT_DEFAULTS if level in UNITS else {}
    if model is not None:
        defaults = {name: value for name, value in defaults.items() if name not in START_DEFAULTS}
    if issubclass(method, PLMRTrainer):
        defaults.pop("full_text_weight", None)  # the method has its own
    return defaults


def find_vectors(script: ScriptArguments) -> Path | None:
    """The file of word vectors of a GRU, or None."""
    if script.vectors is not None:
        return None if script.vectors == "none" else Path(script.vectors)
    if script.data_dir is None:
        return None
    data_dir = Path(script.data_dir)
    places = [data_dir, data_dir / "glove", data_dir.parent / "glove"]
    return next((path for place in places for path in sorted(place.glob("glove*.txt*"))), None)


def keep_marks(dataset: Dataset, count: int, seed: int) -> Dataset:
    """The dataset with the marks of `count` of its texts only."""
    kept = set(random.Random(seed).sample(range(len(dataset)), count))
    return dataset.map(
        lambda row, index: {"rationale": row["rationale"] if index in kept else None}, with_indices=True
    )


def build_encoder(script: ScriptArguments, train_dataset):
    """The encoder (a name, or a model; none with `--model`, and for graphs) and its tokenizer."""
    has_edges = "edge_index" in train_dataset.column_names
    if script.model is None and has_edges != (script.encoder in GRAPH_LAYERS):
        raise SystemExit(
            f"--encoder {script.encoder}: graphs need one of {', '.join(GRAPH_LAYERS)}, and texts another."
        )
    if has_edges:
        return None, None
    if script.model is not None:
        return None, AutoTokenizer.from_pretrained(script.model)
    if script.encoder != "gru":
        name = encoder = script.encoder.removeprefix(SENTENCES)
        if script.encoder_config:
            encoder = AutoModel.from_pretrained(name, dtype="float32", **script.encoder_config)
        return encoder, AutoTokenizer.from_pretrained(name)
    if script.encoder_config:
        raise SystemExit("--encoder_config overrides the configuration of a pretrained encoder, and the gru has none.")
    vectors = find_vectors(script)
    if vectors is not None:
        logger.info(f"Word vectors: {vectors}, frozen")
        return GruModel.from_word_vectors(vectors)
    logger.info("Word vectors: learned from scratch")
    tokenizer = word_level_tokenizer(sorted({word.lower() for tokens in train_dataset["tokens"] for word in tokens}))
    config = GruConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    return GruModel(config), tokenizer


def build_model(
    script: ScriptArguments, method: type[RationaleTrainer], encoder, train_dataset: Dataset, **names
) -> PreTrainedModel:
    """The model that the method trains."""
    given = {name: getattr(script, name) for name in MODEL_OPTIONS if getattr(script, name) is not None}
    given |= script.model_config
    if script.model is not None:
        names.pop("tokenizer")
        return RationaleForSequenceClassification.from_pretrained(script.model, **names, **given)
    split = issubclass(method, PLMRTrainer)
    if split and (script.encoder in GRAPH_LAYERS or script.encoder.startswith(SENTENCES)):
        raise SystemExit(
            f"plmr splits a transformer by depth, and --encoder {script.encoder} has none. Choose a transformer that "
            "reads tokens, or another method."
        )
    if script.encoder in GRAPH_LAYERS:
        names.pop("tokenizer")
        width = len(train_dataset[0]["features"][0])
        options = {"layer_type": script.encoder, "num_features": width, "coherence_weight": 40.0}
        options |= method.model_options
        RationaleForGraphClassification.check_fields(given)
        return RationaleForGraphClassification(GraphRationaleConfig(**names, **options | given))
    if script.encoder.startswith(SENTENCES):
        model_class = SentenceRationaleForSequenceClassification
        has_query = "query" in train_dataset.column_names
        options = {"compare_query": has_query and not given.get("train_encoder"), **method.model_options}
    elif split:
        model_class, options = PlmrForSequenceClassification, {"selection_level": "word"}
    else:
        tied = script.encoder == "gru" and encoder.config.freeze_embeddings
        options = {"selection_level": "word", "tie_word_embeddings": tied, **method.model_options}
        model_class = RationaleForSequenceClassification
    return model_class.from_encoder_pretrained(encoder, **names, **options | given)


def with_adapter(model: PreTrainedModel, tokenizer, rank: int, folder: Path, save: bool) -> PreTrainedModel:
    """The model with a LoRA adapter, which can be loaded only together with its base: this is saved in `folder`."""
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    inside = [name for name in linear if not name.endswith(HEADS)]
    if not inside or model.main_input_name != "input_ids":
        raise SystemExit(
            "--lora adapts the linear layers of a transformers encoder over tokens. Choose one, or leave it."
        )
    if save:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    model.name_or_path = model.config.name_or_path = str(folder)
    adapter = LoraConfig(
        task_type="SEQ_CLS", r=rank, lora_alpha=2 * rank, target_modules=inside, modules_to_save=list(HEADS)
    )
    return get_peft_model(model, adapter)


def main():
    script, args = parse_arguments()
    method = trainer_of(script.method)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_rationale").setLevel(logging.INFO if args.should_log else logging.ERROR)
    set_seed(args.seed)
    if script.weak_marks is not None and not args.marks_weight:
        raise SystemExit("--weak_marks has an effect only with --marks_weight above 0.")

    dataset = load_rationale_dataset(script.dataset, script.data_dir, script.aspect, **script.dataset_options)
    for split in ("train", "validation", "test"):
        if split not in dataset:
            raise SystemExit(f"{script.dataset} in {script.data_dir} has no {split} split, but {list(dataset)}")
    if "image" in dataset["train"].column_names:
        raise SystemExit(f"{script.dataset} has images. Train on them with examples/train_images.py.")
    if script.data_description:
        dataset["train"].info.description = script.data_description
    if script.marked_texts is not None:
        dataset["train"] = keep_marks(dataset["train"], script.marked_texts, args.seed)
    encoder, tokenizer = build_encoder(script, dataset["train"])
    names = dataset["train"].features["label"].names
    model = build_model(
        script,
        method,
        encoder,
        dataset["train"],
        tokenizer=tokenizer,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )

    if script.weak_marks is not None:
        of_sentences = isinstance(model, SentenceRationaleForSequenceClassification)
        dataset["train"] = weak_marks(
            dataset["train"],
            script.weak_marks,
            model.config.sparsity if model.config.decoding != "top_k" else None,
            top_k=model.config.rationale_top_k,
            validation_dataset=dataset["validation"],
            keywords=script.keywords,
            encode=sentence_encoder(model, tokenizer) if of_sentences else None,
        )
        dataset["train"].info.description += f" The training texts are marked by {script.weak_marks}, not by people."

    if script.lora is not None:
        model = with_adapter(model, tokenizer, script.lora, Path(args.output_dir, "base"), args.should_save)

    trainer = method(
        model=model,
        args=args,
        train_dataset=dataset["train"],
        eval_dataset=dataset["validation"],
        processing_class=tokenizer,
    )
    resume = args.resume_from_checkpoint
    if resume == "last":
        resume = last_checkpoint(args.output_dir)
        logger.info(f"Resuming from {resume}" if resume else f"No checkpoint in {args.output_dir}: starting anew")
    result = trainer.train(resume_from_checkpoint=resume)

    validation = trainer.evaluate(metric_key_prefix="validation")  # calibrates, so the model is saved after it
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("train", result.metrics)
    trainer.save_metrics("validation", validation)
    # From here on "eval" is the test set, which people have annotated. Nothing above has used it.
    metrics = trainer.evaluate(dataset["test"], metric_key_prefix="eval")
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)

    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        report = evaluate_rationales(
            model if script.lora is None else model.get_base_model(),  # the adapter's layers are a part of it
            dataset["test"],
            tokenizer,
            sections=("classification", "plausibility", "yardsticks", "faithfulness"),
            batch_size=args.per_device_eval_batch_size,
            max_length=args.max_length,
            train_dataset=dataset["train"],
            validation_dataset=dataset["validation"],
        )
        trainer.model_card.add_report(report)
        if "scores" in (simple := report.sections["yardsticks"]):
            best = simple["best"]
            trainer.save_metrics("yardstick", {"yardstick": best, "yardstick_f1": simple["scores"][best]["f1"]})
    if args.push_to_hub:
        trainer.push_to_hub(commit_message="Scores")  # with the card of the report
    if trainer.is_world_process_zero():
        print(f"The model, its scores and its card ({Path(args.output_dir) / 'README.md'}) are in {args.output_dir}")


if __name__ == "__main__":
    main()
