"""Rationales on a web page, and in a text in Markdown."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise

from .spans import checked_spans, ranked_labels, rationale_spans, split_pair


# A passage of a long text without anything selected is folded, except for its ends.
_FOLDED, _SHOWN = 2000, 400  # characters

# The amber of a <mark> deepens with the span's score, --s. Marks have no padding, which would break the joining of
# Arabic letters at a span's edge; the shadow gives them air instead.
_CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f5f2; --card: #fff; --line: #e4e1da; --ink: #1c1917; --text: #57534e; --soft: #6b6560;
  --amber: 251 176 36; --base: .22; --gold: #0f766e; --bar: #d97706; --track: #ece9e3;
  --good: #166534; --good-bg: #dcfce7; --bad: #991b1b; --bad-bg: #fee2e2; --warn: #9a3412; --chip: #f1efea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #141312; --card: #1e1c1a; --line: #33302c; --ink: #fafaf9; --text: #b5afa8; --soft: #a19b94;
    --amber: 217 119 6; --base: .2; --gold: #5eead4; --bar: #f59e0b; --track: #35322e;
    --good: #86efac; --good-bg: #14361f; --bad: #fca5a5; --bad-bg: #451a1a; --warn: #fdba74; --chip: #2b2825;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 2rem); background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%;
}
header, main { max-width: 50rem; margin: 0 auto; }
h1 { margin: 0; font-size: clamp(1.6rem, 5vw, 2.2rem); line-height: 1.2; letter-spacing: -.02em; text-wrap: balance; }
.lead { margin: .5rem 0 0; color: var(--text); }
.legend {
  display: flex; flex-wrap: wrap; gap: .5rem 1.75rem; margin: 1.25rem 0 1.75rem; padding: .75rem 0; list-style: none;
  border-block: 1px solid var(--line); color: var(--text); font-size: .875rem;
}
.scale span { padding: .15em .5em; }
.scale span:first-child { border-radius: .25em 0 0 .25em; }
.scale span:last-child { border-radius: 0 .25em .25em 0; }
article {
  margin: 0 0 1.25rem; padding: clamp(1rem, 3vw, 1.6rem); background: var(--card); border: 1px solid var(--line);
  border-radius: .9rem; box-shadow: 0 1px 2px rgb(0 0 0 / .05); break-inside: avoid;
}
.top { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .75rem 1.5rem; margin-bottom: 1rem; }
.labels {
  display: grid; grid-template-columns: auto minmax(4rem, 1fr) auto; gap: .15rem .75rem; flex: 0 1 22rem;
  margin: 0; padding: 0; list-style: none; font-size: .9rem; color: var(--soft);
}
.labels li { display: grid; grid-column: 1 / -1; grid-template-columns: subgrid; align-items: center; }
.labels bdi { overflow-wrap: anywhere; }
.labels .value { text-align: right; font-variant-numeric: tabular-nums; }
.labels li:first-child { font-size: 1.15rem; font-weight: 650; color: var(--ink); }
.labels h2 { margin: 0; font: inherit; }
.bar { height: .4rem; border-radius: .2rem; background: var(--track); overflow: hidden; }
.bar i { display: block; height: 100%; border-radius: inherit; background: var(--bar); }
.labels li + li .bar i { background: var(--soft); }
.chips {
  display: flex; flex-wrap: wrap; gap: .4rem; align-items: flex-start; margin: 0; padding: 0; list-style: none;
  font-size: .8rem;
}
.chips li { padding: .15rem .6rem; border-radius: 1rem; background: var(--chip); color: var(--text); }
.chips .warn { background: none; color: var(--warn); box-shadow: inset 0 0 0 1px; }
.chips .good { background: var(--good-bg); color: var(--good); }
.chips .bad { background: var(--bad-bg); color: var(--bad); }
.text, .pair { white-space: pre-wrap; overflow-wrap: anywhere; }
.text {
  color: var(--text); font-size: 1.1rem; line-height: 1.8;
  font-family: Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, "Noto Serif", serif;
}
.pair {
  margin-bottom: .9rem; padding-inline-start: .9rem; border-inline-start: 3px solid var(--line); color: var(--ink);
}
mark, .scale span {
  --shade: rgb(var(--amber) / calc(var(--base) + .55 * var(--s)));
  color: var(--ink); background: var(--shade);
}
mark {
  border-radius: .15em; box-shadow: 0 0 0 .12em var(--shade);
  -webkit-box-decoration-break: clone; box-decoration-break: clone;
}
u {
  text-decoration: underline .13em var(--gold); text-underline-offset: .28em; text-decoration-skip-ink: none;
}
.models { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1.25rem 2rem; }
.models h3 { margin: 0 0 .75rem; font-size: .9rem; color: var(--soft); }
body:has(.models) :is(header, main) { max-width: 76rem; }
.controls {
  display: flex; flex-wrap: wrap; gap: .4rem 1.25rem; margin: 0 0 1.5rem; color: var(--text); font-size: .875rem;
}
.controls fieldset { display: contents; }
.controls legend { position: absolute; clip-path: inset(50%); }
.controls label { cursor: pointer; }
main { display: flex; flex-direction: column; }
details { margin: .5rem 0; }
summary { width: max-content; cursor: pointer; color: var(--soft); font: .85rem/1.6 system-ui, sans-serif; }
@media print {
  .controls { display: none; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { background: none; }
}
"""


def render_html(
    texts: Sequence[str | Mapping[str, str]],
    results: Sequence[Mapping | Sequence[Mapping]] | Mapping[str, Sequence[Mapping | Sequence[Mapping]]],
    *,
    title: str = "Rationales",
    labels: Sequence[str] | None = None,
    references: Sequence[Sequence[tuple[int, int]]] | None = None,
) -> Page:
    """
    A web page with one card per text: the label, its score, and the text with its rationale highlighted. The page is
    complete in itself (no script, nothing loaded from elsewhere) and follows the reader's light or dark theme. The
    cards can be filtered by label and error, and sorted by score. Long passages without a rationale are folded.

    Args:
        texts (`Sequence` of length `num_texts`):
            What the pipeline was given: texts, or pairs as `{"text": ..., "text_pair": ...}`. Of a pair the second
            text is highlighted, because the rationale is selected from that one, and the first is shown above it.
        results (`Sequence` of length `num_texts`):
            What the pipeline returned for them; with `top_k`, all labels of a text are listed. To compare models side
            by side, give a dict: the results of each model by its name. Then one can also filter the texts to which
            they give different labels. Scores are sorted by those of the first model.
        title (`str`, *optional*, defaults to `"Rationales"`):
            The page's title and heading.
        labels (`Sequence[str]` of length `num_texts`, *optional*):
            The names of the true labels. They are shown as right or wrong next to the predicted ones.
        references (`Sequence` of length `num_texts`, *optional*):
            The spans that people marked, `(start, end)` in characters of the highlighted text; they are underlined. A
            text's list may be empty.

    Returns:
        [`Page`]: the page, which is a `str`. Write it with `encoding="utf-8"`. A notebook displays it.

    Raises:
        `TypeError`: if a single text is given in place of a list, or a label is not a name.
        `ValueError`: if there is no text or no model, if the sequences differ in length, if a result is not one of
            this pipeline or does not belong to its text, or if spans are empty, overlap or reach beyond the text.

    Example:

    ```python
    >>> page = render_html(texts, pipe(texts), title="Beer aroma", labels=["positive", "negative"])
    >>> Path("rationales.html").write_text(page, encoding="utf-8")
    >>> page = render_html(texts, {"RNP": rnp(texts), "N2R": n2r(texts)})  # side by side
    ```
    """
    if isinstance(texts, str | Mapping) or (isinstance(results, Mapping) and "label" in results):
        raise TypeError("`texts` and `results` must be lists, one result per text: wrap a single text in a list")
    models = dict(results) if isinstance(results, Mapping) else {None: results}
    if len(texts) == 0 or not models:
        raise ValueError(f"`{'results' if texts else 'texts'}` is empty: there is nothing to render")
    of_models = [("results" if name is None else f"results[{name!r}]", values) for name, values in models.items()]
    for name, values in (*of_models, ("labels", labels), ("references", references)):
        if values is not None and len(values) != len(texts):
            raise ValueError(f"`texts` and `{name}` must have the same length, got {len(texts)} and {len(values)}")

    if labels is not None and not all(isinstance(label, str) for label in labels):
        raise TypeError("`labels` must hold the labels' names, as the results do, not their ids")

    ranked = {
        model: [ranked_labels(result, f"result {i}") for i, result in enumerate(values)]
        for model, values in models.items()
    }
    first = next(iter(ranked.values()))
    by_score = sorted(range(len(texts)), key=lambda i: first[i][0]["score"])
    ranks = {i: rank for rank, i in enumerate(by_score)}
    predicted = {model: [one[0]["label"] for one in values] for model, values in ranked.items()}
    names = {name: number for number, name in enumerate(sorted({name for row in predicted.values() for name in row}))}
    cards = []
    for i, text in enumerate(texts):
        context, text = split_pair(text)
        gold = [] if references is None else checked_spans(references[i], len(text), f"reference {i}")
        label = None if labels is None else labels[i]
        readings = {}
        for model, values in ranked.items():
            spans = rationale_spans(values[i][0], text, f"result {i}")
            readings[model] = (values[i], _marked_text(text, spans, gold))
        found = [row[i] for row in predicted.values()]
        kinds = [f"label-{names[name]}" for name in dict.fromkeys(found)]
        kinds += ["wrong"] * (label is not None and set(found) != {label}) + ["differ"] * (len(set(found)) > 1)
        cards.append(_card(readings, context, label, ranks[i], kinds))

    summaries = []
    for model, values in ranked.items():
        sparsity = sum(one[0]["sparsity"] for one in values) / len(texts)
        facts = [f"{sparsity:.1%} selected{' on average' if len(texts) > 1 else ''}"]
        if model is None:
            facts.insert(0, _count_texts(texts))
        if labels is not None:
            right = sum(map(str.__eq__, predicted[model], labels))
            facts.append(f"{right:,} of {len(texts):,} labels right")
        summaries.append(("" if model is None else f"<bdi>{_escape(model)}</bdi>: ") + " · ".join(facts))
    if None not in ranked:
        summaries.insert(0, _count_texts(texts))
    legend = [
        '<li class="scale">Selected, by score: '
        + "".join(f'<span style="--s:{score}">{score}</span>' for score in (0.2, 0.4, 0.6, 0.8, 1.0))
        + "</li>"
    ]
    if references is not None:
        legend += [
            "<li><u>Gold</u></li>",
            '<li><mark style="--s:0.8"><u>Selected and gold</u></mark></li>',
        ]
    read = "the highlighted words alone"
    if any(split_pair(text)[0] is not None for text in texts):
        read += " (of a pair, also from the text above them)"
    title = html.escape(title)
    further = ["wrong"] * (labels is not None) + ["differ"] * (len(models) > 1)
    controls, rules = _controls(list(names), further) if len(texts) > 1 else ("", "")
    return Page(
        "\n".join(
            [
                "<!DOCTYPE html>",
                '<html lang="en">',
                "<head>",
                '<meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{title}</title>",
                f"<style>{_CSS}{rules}</style>",
                "</head>",
                "<body>",
                "<header>",
                f'<h1 dir="auto">{title}</h1>',
                f'<p class="lead">Each label is decided from {read}.</p>',
                *(f'<p class="lead">{summary}</p>' for summary in summaries),
                f'<ul class="legend" aria-label="Legend">{"".join(legend)}</ul>',
                *([controls] if controls else []),
                "</header>",
                "<main>",
                *cards,
                "</main>",
                "</body>",
                "</html>",
                "",
            ]
        )
    )


class Page(str):
    """A web page as a string, which a notebook displays in a frame."""

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{html.escape(self)}" style="width: 100%; height: 40rem; border: 0"></iframe>'


def render_marks(text: str | Mapping[str, str], result: Mapping | Sequence[Mapping]) -> str:
    """The text with its rationale in `<mark>` elements, for a page in Markdown, such as a model card on the Hub."""
    _, text = split_pair(text)
    spans = rationale_spans(ranked_labels(result, "the result")[0], text, "the result")
    rendered, place = [], 0
    for start, end, _ in spans:
        rendered += [_escape(text[place:start]), f"<mark>{_escape(text[start:end])}</mark>"]
        place = end
    # A blank line would end the element, and with it the protection from Markdown.
    return f"<blockquote>{''.join([*rendered, _escape(text[place:])])}</blockquote>".replace("\n", "<br>")


def _count_texts(texts: Sequence) -> str:
    return f"{len(texts):,} {'text' if len(texts) == 1 else 'texts'}"


def _controls(names: Sequence[str], further: Sequence[str]) -> tuple[str, str]:
    """The form that filters and sorts the cards, and its rules: no script is needed. `further` are kinds of cards
    besides those of a label."""
    choices = [
        ("all", "all"),
        *((f"label-{number}", f"<bdi>{_escape(name)}</bdi>") for number, name in enumerate(names)),
    ]
    choices += [(kind, {"wrong": "wrong", "differ": "different labels"}[kind]) for kind in further]
    radios = "".join(
        f'<label><input type="radio" name="show" id="show-{kind}"{" checked" if kind == "all" else ""}> {name}</label>'
        for kind, name in choices
    )
    sort = '<label><input type="checkbox" id="sort"> lowest score first</label>'
    rules = "".join(
        f"body:has(#show-{kind}:checked) article:not(.{kind}) {{ display: none; }}\n" for kind, _ in choices[1:]
    )
    rules += "body:has(#sort:checked) article { order: var(--rank); }\n"
    return f'<form class="controls"><fieldset><legend>Show</legend>{radios}</fieldset>{sort}</form>', rules


def _card(
    readings: Mapping[str | None, tuple[Sequence[Mapping], str]],
    context: str | None,
    label: str | None,
    rank: int,
    kinds: Sequence[str],
) -> str:
    """One text's `<article>`: for each model the labels and the marked text. `label` is the true one, `context` the
    other text of a pair."""
    lines = [f'<article class="{" ".join(kinds)}" style="--rank: {rank}">']
    # lang="" says that the language is not known: the page's English holds for its own words only. No white space may
    # stand inside these elements, because it would show.
    pair = [] if context is None else [f'<div class="pair" lang="" dir="auto">{_escape(context)}</div>']
    if None in readings:
        ranked, marked_text = readings[None]
        lines += [_labels_of(ranked, label), *pair, _text_of(marked_text)]
    else:
        lines += [*pair, '<div class="models">']
        for model, (ranked, marked_text) in readings.items():
            name = f'<h3 dir="auto">{_escape(model)}</h3>'
            lines += ["<section>", name, _labels_of(ranked, label), _text_of(marked_text), "</section>"]
        lines.append("</div>")
    return "\n".join([*lines, "</article>"])


def _text_of(marked_text: str) -> str:
    return f'<div class="text" lang="" dir="auto">{marked_text}</div>'


def _labels_of(ranked: Sequence[Mapping], label: str | None) -> str:
    """The predicted labels, how much was selected, and whether the true `label` was found."""
    rows = []
    for entry in ranked:
        name, score = f"<bdi>{_escape(entry['label'])}</bdi>", f"{entry['score']:.1%}"
        rows.append(
            f"<li>{name if rows else f'<h2>{name}</h2>'}"
            f'<span class="bar" aria-hidden="true"><i style="width:{score}"></i></span>'
            f'<span class="value">{score}</span></li>'
        )
    best = ranked[0]
    chips = [f'<li title="sparsity: the share of the text that was selected">{best["sparsity"]:.1%} selected</li>']
    if best["truncated"]:
        chips.append('<li class="warn" title="the model did not read the end of this text">truncated</li>')
    if label is not None:
        kind, verdict = ("good", "✓ true label:") if label == best["label"] else ("bad", "✗ true label:")
        chips.append(f'<li class="{kind}">{verdict} <bdi>{_escape(label)}</bdi></li>')
    return f'<div class="top"><ol class="labels">{"".join(rows)}</ol><ul class="chips">{"".join(chips)}</ul></div>'


def _marked_text(text: str, spans: list[tuple[int, int, float]], gold: list[tuple[int, int]]) -> str:
    """`text` as HTML: one `<mark>` per selected span, and `<u>` around each piece that people marked.

    The text is cut at every boundary of either kind, so no tag ever crosses another.
    """
    opening = {start: score for start, _, score in spans}
    closing = {end for _, end, _ in spans}
    gold_starts, gold_ends = {start for start, _ in gold}, {end for _, end in gold}
    cuts = sorted({0, len(text), *opening, *closing, *gold_starts, *gold_ends})
    pieces, in_mark, in_gold = [], False, False
    for start, end in pairwise(cuts):
        if start in opening:
            score = opening[start]
            pieces.append(f'<mark style="--s:{score:.2f}" title="selected, score {score:.2f}">')
        in_gold = start in gold_starts or (in_gold and start not in gold_ends)
        in_mark = start in opening or (in_mark and start not in closing)
        piece = _escape(text[start:end]) if in_mark or in_gold else _folded(text[start:end])
        pieces.append(f"<u>{piece}</u>" if in_gold else piece)
        if end in closing:
            pieces.append("</mark>")
    return "".join(pieces)


def _folded(passage: str) -> str:
    """A passage as HTML; of a long one, the middle is folded."""
    if len(passage) <= _FOLDED:
        return _escape(passage)
    start = passage.find(" ", _SHOWN) + 1 or _SHOWN
    end = passage.rfind(" ", start, len(passage) - _SHOWN) + 1 or len(passage) - _SHOWN
    summary = f'<summary lang="en" dir="ltr">{end - start:,} characters</summary>'
    middle = f"<details>{summary}{_escape(passage[start:end])}</details>"
    return f"{_escape(passage[:start])}{middle}{_escape(passage[end:])}"


def _escape(text: str) -> str:
    # A browser reads a bare carriage return as a line feed.
    return html.escape(text).replace("\r", "&#13;")
