"""Train a small rationale classifier from scratch in a few minutes on a CPU, and look at what it selects.

    python examples/quickstart.py

The reviews are generated, so that the words that decide are known exactly. A review says how a beer looks, smells and
feels, with a separate opinion on each, and the label is the opinion on the smell. The model is trained with the label
only, and has to find the words by itself.
"""

import argparse
import os
import time
from pathlib import Path

import torch
from transformers import pipeline, set_seed
from transformers.utils import logging

from hf_rationale import (
    GruConfig,
    GruModel,
    RationaleForSequenceClassification,
    RationaleTrainingArguments,
    RNPTrainer,
    load_rationale_dataset,
    word_level_tokenizer,
)
from hf_rationale.visualization import render_ansi, render_html, spans_of_words


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--output_dir", default="outputs/quickstart", help="folder for the model and the page")
parser.add_argument("--epochs", type=float, default=6)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

started = time.perf_counter()
torch.set_num_threads(1)  # more threads gain little for a model this small, and lose much on a busy machine
logging.set_verbosity_error()
set_seed(options.seed)

# 1. Reviews with labels. The words that decide are marked, but only the scores at the end use the marks.
reviews = load_rationale_dataset("aspect_reviews", aspect="aroma", n_train=4000, seed=options.seed)

# 2. A model: an extractor that selects about 12 % of the words, and a predictor that reads only these.
tokenizer = word_level_tokenizer(sorted({word for tokens in reviews["train"]["tokens"] for word in tokens}))
model = RationaleForSequenceClassification.from_encoder_pretrained(
    GruModel(GruConfig(vocab_size=len(tokenizer))),
    tokenizer=tokenizer,
    id2label={0: "negative", 1: "positive"},
    sparsity=0.12,
    coherence_weight=0.1,  # the words that decide are often apart
    selection_level="word",
    decoding="threshold",  # how many words decide differs from review to review
)

# 3. Training. At first the predictor learns from random words, and the extractor learns to select the words on which
# the predictor's decision depends most. The checkpoint is chosen by accuracy on the validation set.
trainer = RNPTrainer(
    model=model,
    args=RationaleTrainingArguments(
        output_dir=options.output_dir,
        learning_rate=2e-3,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        num_train_epochs=options.epochs,
        seed=options.seed,
        predictor_first_ratio=0.3,
        distillation_weight=1.0,
        logging_strategy="epoch",
        report_to="none",
    ),
    train_dataset=reviews["train"],
    eval_dataset=reviews["validation"],
    processing_class=tokenizer,
)
trainer.train()
scores = trainer.evaluate(reviews["test"], metric_key_prefix="test")
trainer.save_model()

# 4. The saved model explains its predictions.
pipe = pipeline("rationale-classification", model=options.output_dir)
examples = reviews["test"].select(range(8))
texts = [" ".join(tokens) for tokens in examples["tokens"]]
results = pipe(texts, batch_size=8)

print("\nSmells good or bad? The words that decided:\n")
for text, result in zip(texts[:4], results[:4], strict=True):
    print(f"{result['label']} ({result['score']:.2f})  {render_ansi(text, result)}\n")

page = Path(options.output_dir) / "rationales.html"
page.write_text(
    render_html(
        texts,
        results,
        title="Does it smell good? What decided",
        references=[
            spans_of_words(tokens, marks)
            for tokens, marks in zip(examples["tokens"], examples["rationale"], strict=True)
        ],
    ),
    encoding="utf-8",
)

print(f"On {len(reviews['test'])} test reviews, against the words that really decide:")
for name in ("accuracy", "rationale_precision", "rationale_recall", "rationale_f1", "rationale_sparsity"):
    print(f"  {name.replace('_', ' '):20} {scores[f'test_{name}']:.3f}")
print(f"  {'random selection':20} {scores['test_rationale_gold_sparsity']:.3f} precision")
print(f"\nThe model is in {options.output_dir}, the highlighted texts are in {os.path.abspath(page)}")
print(f"All of it took {time.perf_counter() - started:.0f} s.")
