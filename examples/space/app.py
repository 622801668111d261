"""A Space for the Hub: type a text, change how much is selected and in which units, and compare two models.

The variable MODELS has the folders or Hub ids of rationale models, separated by blanks.

    pip install gradio
    MODELS="outputs/quickstart" python examples/space/app.py
"""

import json
import os
import tempfile
from functools import cache
from pathlib import Path

import gradio as gr
from transformers import pipeline

import hf_rationale  # noqa: F401  registers the models and the pipeline
from hf_rationale.visualization import highlighted_text


MODELS = os.environ["MODELS"].split()
LEVELS = ["as trained", "word", "clause", "sentence"]
MAX_TEXT = 20_000  # characters
EXAMPLE = "the aroma is rotten and stale . the head is a gorgeous amber , and the mouthfeel seems smooth ."


@cache
def load(model: str):
    return pipeline("rationale-classification", model=model)


def explain(text: str, query: str, share: float, level: str, *models: str | None):
    """For each model its highlighted text and its labels, and a file with all answers."""
    if not text.strip():
        raise gr.Error("Type a text.", print_exception=False)
    if len(text) > MAX_TEXT:
        raise gr.Error(f"The text has {len(text):,} characters. This demo reads {MAX_TEXT:,}.", print_exception=False)
    options = {"rationale_ratio": share} | ({} if level == LEVELS[0] else {"rationale_level": level})
    inputs = {"text": query, "text_pair": text} if query.strip() else text
    outputs, answers = [], {}
    for model in models:
        if model is None:
            outputs += [None, None]
            continue
        try:
            ranked = load(model)(inputs, top_k=None, **options)
        except ValueError as error:
            raise gr.Error(f"{model}: {error}", print_exception=False) from None
        pieces = [(piece, None if score is None else "selected") for piece, score in highlighted_text(inputs, ranked)]
        outputs += [pieces, {one["label"]: one["score"] for one in ranked}]
        answers[model] = ranked[0]
    path = Path(tempfile.mkdtemp(), "rationale.json")
    path.write_text(
        json.dumps({"text": text, "query": query, **options, "answers": answers}, indent=1), encoding="utf-8"
    )
    return [*outputs, str(path)]


with gr.Blocks(title="hf_rationale") as demo:
    gr.Markdown("# Which words decide?\nThe label is predicted from the highlighted words alone.")
    text = gr.Textbox(EXAMPLE, label="Text", lines=4)
    query = gr.Textbox("", label="Question or claim (only for models of pairs)")
    with gr.Row():
        share = gr.Slider(0.01, 1.0, 0.2, step=0.01, label="Share of the words to select")
        level = gr.Dropdown(LEVELS, value=LEVELS[0], label="Units")
    button = gr.Button("Explain", variant="primary")
    choices, outputs = [], []
    with gr.Row():
        for number, default in enumerate((MODELS[0], None)):
            with gr.Column():
                choices.append(gr.Dropdown(MODELS, value=default, label=f"Model {number + 1}"))
                outputs.append(
                    gr.HighlightedText(label="Rationale", color_map={"selected": "orange"}, show_inline_category=False)
                )
                outputs.append(gr.Label(label="Labels"))
    outputs.append(gr.File(label="Download"))
    button.click(explain, [text, query, share, level, *choices], outputs)


if __name__ == "__main__":
    demo.launch()
