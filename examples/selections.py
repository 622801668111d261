"""Write a page that shows what models select from texts of a corpus, beside each other and what people marked.

python examples/selections.py outputs/before outputs/after --dataset movies --data_dir data --output movies.html
"""

import argparse
from pathlib import Path

from transformers import pipeline

import hf_rationale  # noqa: F401 (registers the pipeline)
from hf_rationale import load_rationale_dataset
from hf_rationale.data import CORPORA
from hf_rationale.visualization import render_html, spans_of_words


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="folders or Hub ids; each text is shown once for every model")
    parser.add_argument("--dataset", required=True, choices=list(CORPORA))
    parser.add_argument("--data_dir", help="the folder of the corpus's files")
    parser.add_argument("--aspect", help="the aspect, for corpora that have aspects")
    parser.add_argument("--count", type=int, default=10, help="the number of texts")
    parser.add_argument("--seed", type=int, default=0, help="chooses the texts among those that people marked")
    parser.add_argument("--output", type=Path, default=Path("selections.html"))
    options = parser.parse_args()

    texts = load_rationale_dataset(options.dataset, options.data_dir, options.aspect)["test"]
    if "tokens" not in texts.column_names:
        parser.error(f"--dataset: {options.dataset} has no texts, which the page shows")
    texts = texts.filter(lambda row: any(row["rationale"] or ())).shuffle(seed=options.seed)
    texts = texts.select(range(min(options.count, len(texts))))
    inputs = [" ".join(tokens) for tokens in texts["tokens"]]
    if "query" in texts.column_names:
        inputs = [
            {"text": " ".join(query), "text_pair": text} for query, text in zip(texts["query"], inputs, strict=True)
        ]
    results = [pipeline("rationale-classification", model=model)(inputs) for model in options.models]
    names = texts.features["label"].names
    shown = [(row, result) for row, of_models in enumerate(zip(*results, strict=True)) for result in of_models]
    page = render_html(
        [inputs[row] for row, _ in shown],
        [result for _, result in shown],
        title=f"{options.dataset}: {', then '.join(Path(model).name for model in options.models)}",
        labels=[names[texts["label"][row]] for row, _ in shown],
        references=[spans_of_words(texts["tokens"][row], texts["rationale"][row]) for row, _ in shown],
    )
    options.output.write_text(page, encoding="utf-8")
    print(f"{len(texts)} texts are in {options.output}")


if __name__ == "__main__":
    main()
