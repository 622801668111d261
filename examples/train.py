"""Train a rationale classifier on a corpus, and write a complete model folder with its scores and card.

    accelerate launch examples/train.py --method rnp --encoder gru --dataset beer --aspect aroma --data_dir DIR \\
        --sparsity 0.15 --output_dir outputs/rnp-gru-aroma

Every field of RationaleTrainingArguments, and so of transformers' TrainingArguments, is a flag too.
"""

import json
import logging
import os
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from typing import Any

from transformers import AutoModel, AutoTokenizer, HfArgumentParser, PreTrainedModel, pipeline, set_seed
from transformers.trainer_utils import get_last_checkpoint

from hf_rationale import (
    METHODS,
    GruConfig,
    GruModel,
    PlmrForSequenceClassification,
    PLMRTrainer,
    RationaleForSequenceClassification,
    RationaleTrainer,
    RationaleTrainingArguments,
    compose,
    evaluate_rationales,
    load_rationale_dataset,
    word_level_tokenizer,
)
from hf_rationale.data import DESCRIPTIONS
from hf_rationale.model_card import write_model_card


logger = logging.getLogger("hf_rationale.train")

# Asked for the card; invented, because most corpora are not ours to print.
EXAMPLES = {
    "beer": "Pours a hazy copper with a thin white head that is gone at once . Smells of wet cardboard .",
    "hotel": "The room was spotless and the bed was soft , but breakfast was cold and the street was loud .",
    "movies": "A bloated script and wooden acting sink what could have been a charming little thriller .",
    "tweets": "my train is late again , worst morning ever",
    "multirc": {
        "text": "What did Ann forget ? || Her keys",
        "text_pair": "Ann locked the door . Her keys lay inside .",
    },
    "fever": {"text": "Ann lives in Oslo.", "text_pair": "Ann was born in Oslo . She has lived in Rome since 1990 ."},
    "aspect_reviews": "the aroma is rotten and stale . the head is gorgeous , and the mouthfeel seems smooth .",
}

# What works for a GRU from scratch, and for a pretrained encoder; any flag overrides it. A pretrained encoder needs a
# predictor that understands text, and an easy start, before the selection is any good. Clipping the gradients of all
# players by their common norm lets the one with the largest slow the others down; the papers mention no clipping.
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
}


@dataclass
class ScriptArguments:
    """What to train on what."""

    dataset: str = field(metadata={"help": f"One of {sorted(DESCRIPTIONS)}."})
    method: str = field(default="rnp", metadata={"help": f"One of {sorted(METHODS)}, or several joined by +."})
    encoder: str = field(default="gru", metadata={"help": "gru, or a folder or Hub id of a transformers encoder."})
    encoder_config: str = field(
        default="{}",
        metadata={
            "help": "JSON: fields of a pretrained encoder's own configuration, to override them, such as "
            "attention_probs_dropout_prob: 0 is faster on long texts where fused attention has no dropout, as on a "
            "CPU."
        },
    )
    data_dir: str | None = field(default=None, metadata={"help": "Where the corpus is."})
    aspect: str | None = field(default=None, metadata={"help": "Of beer, hotel and aspect_reviews."})
    dataset_options: str = field(default="{}", metadata={"help": "JSON: further options of the corpus's reader."})
    data_description: str | None = field(default=None, metadata={"help": "For the card: what the data is."})
    vectors: str | None = field(
        default=None,
        metadata={
            "help": "For the gru: a GloVe text file. By default glove*.txt[.gz] in data_dir or in a folder 'glove' "
            "beside it; word vectors are learned where there is none, or with 'none'."
        },
    )
    sparsity: float = field(default=0.2, metadata={"help": "Share of the words to select."})
    sparsity_weight: float = field(default=10.0, metadata={"help": "λ1, of compactness."})
    coherence_weight: float = field(default=1.0, metadata={"help": "λ2, of coherence."})
    sparsity_level: str = field(default="example", metadata={"help": "example or batch."})
    selection_level: str = field(default="word", metadata={"help": "word or token."})
    masking: str | None = field(default=None, metadata={"help": "attention or zero; not of plmr."})
    full_text_weight: float | None = field(
        default=None,
        metadata={
            "help": "Of the cross-entropy on the full text. Default: 2 for plmr (with its match term of weight 1, 1 "
            "would cancel it), 1 for other pretrained encoders, 0 for the gru."
        },
    )
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


def parse_arguments() -> tuple[ScriptArguments, RationaleTrainingArguments, dict[str, Any]]:
    """What to train, how, and the method's own options."""
    parser = HfArgumentParser((ScriptArguments, RationaleTrainingArguments))
    given = parser.parse_known_args()[0]
    if not given.output_dir:
        raise SystemExit("--output_dir says where the model goes.")
    parser.set_defaults(**(GRU_DEFAULTS if given.encoder == "gru" else PRETRAINED_DEFAULTS))
    options = parser.add_argument_group(f"options of the method {given.method}")
    for name, default in trainer_of(given.method).method_options().items():
        options.add_argument(f"--{name}", type=type(default), default=default, help="(default: %(default)s)")
    script, training, *method_options = parser.parse_args_into_dataclasses()
    for name in ("dataset_options", "encoder_config", "model_config"):
        try:
            setattr(script, name, dict(json.loads(getattr(script, name))))
        except (TypeError, ValueError):
            raise SystemExit(f"--{name} is a JSON object; got {getattr(script, name)}") from None
    return script, training, vars(method_options[0]) if method_options else {}


def find_vectors(script: ScriptArguments) -> Path | None:
    """The word vectors of a GRU."""
    if script.vectors is not None:
        return None if script.vectors == "none" else Path(script.vectors)
    if script.data_dir is None:
        return None
    data_dir = Path(script.data_dir)
    places = [data_dir, data_dir / "glove", data_dir.parent / "glove"]
    return next((path for place in places for path in sorted(place.glob("glove*.txt*"))), None)


def build_encoder(script: ScriptArguments, train_dataset):
    """The encoder (a name, or a model), its tokenizer, and what the card says of it."""
    if script.encoder != "gru":
        encoder = script.encoder
        if script.encoder_config:
            encoder = AutoModel.from_pretrained(encoder, dtype="float32", **script.encoder_config)
        return encoder, AutoTokenizer.from_pretrained(script.encoder), script.encoder
    if script.encoder_config:
        raise SystemExit("--encoder_config overrides the configuration of a pretrained encoder; gru has none.")
    vectors = find_vectors(script)
    if vectors is not None:
        logger.info(f"Word vectors: {vectors}, frozen")
        return *GruModel.from_word_vectors(vectors), f"bidirectional GRU over {vectors.name}, frozen"
    logger.info("Word vectors: learned from scratch")
    tokenizer = word_level_tokenizer(sorted({word.lower() for tokens in train_dataset["tokens"] for word in tokens}))
    config = GruConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    return GruModel(config), tokenizer, "bidirectional GRU, word vectors learned from scratch"


def build_model(script: ScriptArguments, method: type[RationaleTrainer], encoder, **names) -> PreTrainedModel:
    """The model that the method trains, as the flags say."""
    options = {
        name: getattr(script, name)
        for name in ("sparsity", "sparsity_weight", "coherence_weight", "sparsity_level", "selection_level", "pooling")
    }
    if issubclass(method, PLMRTrainer):
        model_class = PlmrForSequenceClassification
    else:
        model_class = RationaleForSequenceClassification
        from_scratch = script.encoder == "gru"
        options["tie_word_embeddings"] = from_scratch and encoder.config.freeze_embeddings
        options["full_text_weight"] = 0.0 if from_scratch else 1.0
        options |= method.model_options
    options |= {
        name: value for name in ("masking", "full_text_weight") if (value := getattr(script, name)) is not None
    }
    return model_class.from_encoder_pretrained(encoder, **names, **options | script.model_config)


def main():
    script, args, method_options = parse_arguments()
    method = trainer_of(script.method)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_rationale").setLevel(logging.INFO if args.should_log else logging.ERROR)
    set_seed(args.seed)

    dataset = load_rationale_dataset(script.dataset, script.data_dir, script.aspect, **script.dataset_options)
    for split in ("train", "validation", "test"):
        if split not in dataset:
            raise SystemExit(f"{script.dataset} in {script.data_dir} has no {split} split; there are {list(dataset)}")
    encoder, tokenizer, encoder_description = build_encoder(script, dataset["train"])
    names = dataset["train"].features["label"].names
    model = build_model(
        script,
        method,
        encoder,
        tokenizer=tokenizer,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )

    trainer = method(
        model=model,
        args=args,
        train_dataset=dataset["train"],
        eval_dataset=dataset["validation"],
        processing_class=tokenizer,
        **method_options,
    )
    resume = args.resume_from_checkpoint
    if resume == "last":
        resume = get_last_checkpoint(args.output_dir) if os.path.isdir(args.output_dir) else None
        logger.info(f"Resuming from {resume}" if resume else f"No checkpoint in {args.output_dir}: from the beginning")
    started = time.perf_counter()
    result = trainer.train(resume_from_checkpoint=resume)
    training_seconds = time.perf_counter() - started

    validation = trainer.evaluate(metric_key_prefix="validation")  # calibrates, so the model is saved after it
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("train", result.metrics)
    trainer.save_metrics("validation", validation)
    # From here on "eval" is the test set: annotated by people, and not used for anything above.
    metrics = trainer.evaluate(dataset["test"], metric_key_prefix="eval")
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)

    if trainer.is_world_process_zero():
        report = evaluate_rationales(
            trainer.model,
            dataset["test"],
            tokenizer,
            sections=("classification", "plausibility", "faithfulness"),
            batch_size=args.per_device_eval_batch_size,
            max_length=args.max_length,
        )
        example = EXAMPLES[script.dataset]
        pipe = pipeline("rationale-classification", model=trainer.model, tokenizer=tokenizer, device="cpu")
        card = write_model_card(
            args.output_dir,
            model=trainer.model,
            args=args,
            dataset=dataset,
            dataset_name=" ".join(filter(None, (script.dataset, script.aspect))),
            data_description=script.data_description or DESCRIPTIONS[script.dataset],
            method=script.method,
            method_description=trainer.description,
            method_options=method_options,
            encoder=encoder_description,
            report=report,
            command=f"accelerate launch {shlex.join([os.path.relpath(sys.argv[0]), *sys.argv[1:]])}",
            training_seconds=training_seconds,
            example=example,
            example_output=pformat(pipe(example), width=110, sort_dicts=False),
        )
        print(f"The model, its scores and its card ({card}) are in {args.output_dir}")


if __name__ == "__main__":
    main()
