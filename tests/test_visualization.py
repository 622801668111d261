import random
import re
from html.parser import HTMLParser

import pytest

from hf_rationale.visualization import highlighted_text, render_ansi, render_html, render_marks, spans_of_words


TEXTS = {
    "plain": "Pours a clear gold with a thick white head. Smells of nothing.",
    "html": "<script>alert(\"1\")</script> & 'so' &amp; on </div><mark>",
    "unicode": "Cafe\u0301 👩\u200d👩\u200d👧 𝒜 – 好吃。שלום مرحبا\u200f!",
    "space": "\n\n  two\n lines,\ta tab,\r\na bare\rreturn and trailing  \n",
    "one": "x",
}
VOID = {"meta", "input"}


def make_result(text: str, *spans: tuple[int, int], score: float = 0.9, **kwargs) -> dict:
    return {
        "label": "positive",
        "score": 0.974,
        "rationale": [{"start": start, "end": end, "text": text[start:end], "score": score} for start, end in spans],
        "sparsity": 0.25,
        "truncated": False,
    } | kwargs


def random_spans(rng: random.Random, length: int) -> list[tuple[int, int]]:
    """Sorted spans that do not overlap; neighbours may touch."""
    spans, start = [], 0
    while start < length:
        start += rng.choice([0, 1, 3])
        end = start + rng.randint(1, 6)
        if end > length:
            break
        spans.append((start, end))
        start = end
    return spans


class Page(HTMLParser):
    """Reads a page back: each card's text with the places of its <mark> and <u>, and every element's text."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.texts, self.pairs = [], [], [], []
        self.marks, self.golds, self.titles, self.words = [], [], [], []
        self.in_text, self.folds = None, 0
        self.feed(page)
        self.close()
        assert not self.open, "every element must be closed"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in VOID:
            self.open.append((tag, attrs.get("class")))
        if attrs.get("class") == "text":
            self.texts.append("")
            self.marks.append([])
            self.golds.append([])
            self.titles.append([])
            self.in_text = len(self.open)
        elif attrs.get("class") == "pair":
            self.pairs.append("")
        elif self.in_text and tag in ("details", "summary"):
            self.folds += tag == "details"
        elif self.in_text:
            assert tag in ("mark", "u")
            spans = self.marks[-1] if tag == "mark" else self.golds[-1]
            spans.append((len(self.texts[-1]), None))
            if tag == "mark":
                self.titles[-1].append(attrs["title"])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, "elements must nest"
        if self.in_text and len(self.open) < self.in_text:
            self.in_text = None
        elif self.in_text and tag not in ("details", "summary"):
            spans = self.marks[-1] if tag == "mark" else self.golds[-1]
            spans[-1] = (spans[-1][0], len(self.texts[-1]))

    def handle_data(self, data):
        if self.in_text and self.open[-1][0] != "summary":
            self.texts[-1] += data
        elif self.open and self.open[-1][1] == "pair":
            self.pairs[-1] += data
        elif self.open and self.open[-1][0] != "style":
            self.words.append(data)

    @property
    def shown(self) -> str:
        """The page's own words, outside the texts."""
        return " ".join(" ".join(self.words).split())


def characters(spans) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}


# ANSI


def strip_ansi(rendered: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", rendered)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_ansi_adds_nothing_but_codes(text):
    rng = random.Random(0)
    for _ in range(20):
        result = make_result(text, *random_spans(rng, len(text)))
        assert strip_ansi(render_ansi(text, result, color=True)) == text.replace("\r", "␍")


def test_ansi_highlights_the_spans():
    text = "a bad beer"
    colored = render_ansi(text, make_result(text, (2, 5)), color=True)
    assert re.fullmatch(r"a \x1b\[[0-9;]+mbad\x1b\[0m beer", colored)
    assert render_ansi(text, make_result(text, (2, 5)), color=False) == "a [[bad]] beer"
    assert render_ansi(text, make_result(text), color=True) == text
    assert render_ansi(text, make_result(text, (2, 5), (5, 10)), color=False) == "a [[bad]][[ beer]]"


def test_ansi_strength_follows_the_score():
    rendered = [render_ansi("x", make_result("x", (0, 1), score=score), color=True) for score in (0.0, 0.3, 0.6, 1.0)]
    assert len(set(rendered)) == 4


def test_ansi_background_does_not_cross_a_line_break():
    text = "one\n\ntwo"
    rendered = render_ansi(text, make_result(text, (0, 8)), color=True)
    first, blank, second = rendered.split("\n")
    assert first.endswith("one\x1b[0m")
    assert blank == ""
    assert second.endswith("two\x1b[0m")


def test_ansi_color_by_default(monkeypatch):
    text, result = "a bad beer", make_result("a bad beer", (2, 5))
    colored, plain = render_ansi(text, result, color=True), render_ansi(text, result, color=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert render_ansi(text, result) == colored
    monkeypatch.setenv("NO_COLOR", "")  # the convention: an empty value does not count
    assert render_ansi(text, result) == colored
    monkeypatch.setenv("NO_COLOR", "1")
    assert render_ansi(text, result) == plain
    assert render_ansi(text, result, color=True) == colored
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert render_ansi(text, result) == plain


def test_ansi_pair_and_top_k():
    result = make_result("a bad beer", (2, 5))
    pair = {"text": "Is it good?", "text_pair": "a bad beer"}
    assert render_ansi(pair, result, color=False) == "a [[bad]] beer"
    assert render_ansi({"text": "a bad beer"}, result, color=False) == "a [[bad]] beer"
    assert render_ansi(pair, [result, result | {"label": "negative", "score": 0.026}], color=False) == "a [[bad]] beer"


# HTML


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_html_keeps_text_and_spans(text):
    rng = random.Random(0)
    for _ in range(30):
        spans, gold = random_spans(rng, len(text)), random_spans(rng, len(text))
        page = Page(render_html([text], [make_result(text, *spans)], references=[gold]))
        assert page.texts == [text]
        assert page.marks == [spans]
        # A marked span is cut where a selected one begins or ends, and nowhere else.
        assert characters(page.golds[0]) == characters(gold)
        cuts = {place for span in [*gold, *spans] for place in span}
        assert {place for span in page.golds[0] for place in span} == cuts & {
            place for start, end in gold for place in range(start, end + 1)
        }


def test_html_carriage_returns_reach_the_browser():
    # Python's parser keeps a bare one, a browser would turn it into a line feed.
    source = render_html(["a\rb"], [make_result("a\rb")])
    assert "\r" not in source
    assert Page(source).texts == ["a\rb"]


def test_html_overlap_by_hand():
    text = "abcdef"
    page = render_html([text], [make_result(text, (1, 4))], references=[[(0, 2), (3, 6)]])
    assert (
        '<u>a</u><mark style="--s:0.90" title="selected, score 0.90"><u>b</u>c<u>d</u></mark><u>ef</u></div>' in page
    )


def test_html_is_one_self_contained_document():
    text = TEXTS["plain"]
    source = render_html([text], [make_result(text, (8, 42))])
    page = Page(source)
    names = [tag for tag, _ in page.tags]
    assert source.startswith("<!DOCTYPE html>\n")
    assert ("html", {"lang": "en"}) in page.tags
    assert ("meta", {"charset": "utf-8"}) in page.tags
    assert not {"script", "link", "img", "iframe"} & set(names)
    assert "url(" not in source
    assert "http" not in source
    assert "@import" not in source
    assert names.count("h1") == names.count("title") == 1
    assert "prefers-color-scheme: dark" in source


def test_html_shows_the_result():
    text = TEXTS["plain"]
    page = Page(render_html([text], [make_result(text, (8, 42))], title="Beer"))
    assert page.shown.startswith("Beer Beer Each label is decided from the highlighted words alone.")
    assert "1 text · 25.0% selected" in page.shown
    assert "on average" not in page.shown
    assert page.shown.endswith("positive 97.4% 25.0% selected")
    assert page.titles == [["selected, score 0.90"]]
    assert "Selected and gold" not in page.shown
    assert [attrs["dir"] for tag, attrs in page.tags if attrs.get("class") == "text"] == ["auto"]


def test_spans_of_words():
    tokens = ["a", "fine", "nose", ",", "flat"]
    spans = spans_of_words(tokens, [0, 1, 1, 0, 1])
    assert [" ".join(tokens)[start:end] for start, end in spans] == ["fine nose", "flat"]
    assert spans_of_words(tokens, [0] * 5) == []


def test_html_optional_parts():
    texts = ["good", "bad"]
    results = [make_result("good", (0, 4)), make_result("bad", truncated=True, sparsity=0.0)]
    page = Page(render_html(texts, results, labels=["positive", "negative"], references=[[(0, 4)], []]))
    assert "2 texts · 12.5% selected on average · 1 of 2 labels right" in page.shown
    assert "✓ true label: positive" in page.shown
    assert "✗ true label: negative" in page.shown
    assert page.shown.count("truncated") == 1
    assert "Selected and gold" in page.shown
    assert page.golds == [[(0, 4)], []]


def test_ansi_shows_control_characters_instead_of_obeying_them():
    text = "good\x1b[2J\x07 beer\x9b31m\x7f"
    for color in (True, False):
        rendered = strip_ansi(render_ansi(text, make_result(text, (0, 8)), color=color))
        assert rendered.replace("[[", "", 1).replace("]]", "") == "good␛[2J␇ beer\ufffd31m␡"


def test_html_folds_long_passages_without_a_rationale():
    words = " ".join(f"word{number}" for number in range(2000))
    text = f"{words} good {words} fine {words[:1000]}"
    spans = [(len(words) + 1, len(words) + 5), (len(words) * 2 + 7, len(words) * 2 + 11)]
    page = Page(render_html([text], [make_result(text, *spans)], references=[[(10, 15)]]))
    assert page.texts == [text] and page.marks == [spans] and page.golds == [[(10, 15)]]
    assert page.folds == 2  # before and after the first span, but not the short end
    everything = Page(render_html([words], [make_result(words, (0, len(words)))]))
    assert everything.texts == [words] and everything.folds == 0


def test_html_filters_and_sorts_without_a_script():
    results = [
        make_result("good", score=0.6, label="yes") | {"score": 0.6},
        make_result("bad", label="no") | {"score": 0.9},
        make_result("fine", label="yes") | {"score": 0.8},
    ]
    source = render_html(["good", "bad", "fine"], results, labels=["yes", "yes", "no"])
    page = Page(source)
    cards = [attrs for tag, attrs in page.tags if tag == "article"]
    assert [card["class"] for card in cards] == ["label-1", "label-0 wrong", "label-1 wrong"]
    assert [card["style"] for card in cards] == ["--rank: 0", "--rank: 2", "--rank: 1"]
    assert "Show all no yes wrong lowest score first" in page.shown
    for kind in ("label-0", "label-1", "wrong"):
        assert f"body:has(#show-{kind}:checked) article:not(.{kind})" in source
    assert "<form" not in render_html(["good"], results[:1])


def test_html_of_two_models_side_by_side():
    texts = ["a good beer", {"text": "is it?", "text_pair": "bad beer"}]
    mine = [make_result(texts[0], (2, 6), label="yes"), make_result("bad beer", (0, 3), label="no")]
    others = [make_result(texts[0], (7, 11), label="no"), make_result("bad beer", label="no")]
    source = render_html(texts, {"RNP <1>": mine, "N2R": others}, labels=["yes", "no"], references=[[(2, 6)], []])
    page = Page(source)
    cards = [attrs["class"] for tag, attrs in page.tags if tag == "article"]
    assert cards == ["label-1 label-0 wrong differ", "label-0"]
    assert page.texts == ["a good beer", "a good beer", "bad beer", "bad beer"]
    assert page.marks == [[(2, 6)], [(7, 11)], [(0, 3)], []]
    assert page.golds == [[(2, 6)], [(2, 6)], [], []]
    assert source.count("is it?") == 1 and source.count("<h3") == 4 and "RNP &lt;1&gt;" in source
    assert "RNP <1> : 25.0% selected on average · 2 of 2 labels right" in page.shown
    assert "N2R : 25.0% selected on average · 1 of 2 labels right" in page.shown
    assert "Show all no yes wrong different labels lowest score first" in page.shown
    with pytest.raises(ValueError, match=r"`texts` and `results\['N2R'\]` must have the same length"):
        render_html(texts, {"RNP": mine, "N2R": others[:1]})
    with pytest.raises(ValueError, match="`results` is empty"):
        render_html(texts, {})


def test_a_notebook_displays_the_page():
    page = render_html(["good"], [make_result("good")])
    assert isinstance(page, str)
    frame = page._repr_html_()
    assert frame.startswith("<iframe srcdoc=") and "<article" not in frame and "&lt;article" in frame


def test_marks_for_markdown():
    text = "a *good*\n\n<b>beer</b> & more"
    result = make_result(text, (2, 8), (13, 17))
    assert render_marks(text, result) == (
        "<blockquote>a <mark>*good*</mark><br><br>&lt;b&gt;<mark>beer</mark>&lt;/b&gt; &amp; more</blockquote>"
    )


def test_pieces_for_gradio():
    text = "a good beer"
    result = make_result(text, (2, 6))
    assert highlighted_text(text, result) == [("a ", None), ("good", 0.9), (" beer", None)]
    assert highlighted_text("good", make_result("good", (0, 4))) == [("good", 0.9)]


def test_html_top_k_lists_every_label_once():
    best = make_result("good", (0, 4), score=0.8)
    page = Page(render_html(["good"], [[best, best | {"label": "negative", "score": 0.026}]], labels=["negative"]))
    assert "positive 97.4% negative 2.6%" in page.shown
    assert page.marks == [[(0, 4)]]
    assert "0 of 1 labels right" in page.shown


def test_html_pair():
    pair = {"text": "<Is it good?>\n", "text_pair": "a bad beer"}
    page = Page(render_html([pair], [make_result("a bad beer", (2, 5))]))
    assert page.pairs == [pair["text"]]
    assert page.texts == [pair["text_pair"]]
    assert page.marks == [[(2, 5)]]
    assert "highlighted words alone (of a pair, also from the text above them)." in page.shown


def test_html_escapes_everything():
    bad = "<script>alert(1)</script>\"'&"
    result = make_result(bad, (0, 8), label=bad)
    source = render_html([bad, {"text": bad, "text_pair": bad}], [result] * 2, title=bad, labels=[bad, bad])
    page = Page(source)
    assert "<script" not in source
    assert page.texts == [bad] * 2
    assert page.pairs == [bad]
    assert page.shown.count(bad) == 2 + 1 + 2 * 2  # title, heading, filter; predicted and true label of each card


def test_html_order_of_spans_does_not_matter():
    text = TEXTS["plain"]
    source = render_html([text], [make_result(text, (0, 5), (8, 42))], references=[[(0, 5), (8, 13)]])
    assert source == render_html([text], [make_result(text, (8, 42), (0, 5))], references=[[(8, 13), (0, 5)]])


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 5)], "span (0, 5) is not a part of its text of 4 characters"),
        ([(-1, 2)], "span (-1, 2) is not a part of its text of 4 characters"),
        ([(2, 2)], "span (2, 2) is not a part of its text of 4 characters"),
        ([(3, 2)], "span (3, 2) is not a part of its text of 4 characters"),
        ([(0.0, 2)], "span (0.0, 2) is not a part of its text of 4 characters"),
        ([(1, 4), (0, 2)], "spans (0, 2) and (1, 4) overlap"),
        ([(0, 2), (0, 2)], "spans (0, 2) and (0, 2) overlap"),
    ],
)
def test_bad_spans(spans, message):
    rationale = [{"start": start, "end": end, "text": "good", "score": 0.5} for start, end in spans]
    with pytest.raises(ValueError, match=re.escape(f"the result: {message}")):
        render_ansi("good", make_result("good", rationale=rationale))
    with pytest.raises(ValueError, match=re.escape(f"result 1: {message}")):
        render_html(["good", "good"], [make_result("good"), make_result("good", rationale=rationale)])
    with pytest.raises(ValueError, match=re.escape(f"reference 1: {message}")):
        render_html(["good"] * 2, [make_result("good")] * 2, references=[[], spans])


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_bad_score(score):
    with pytest.raises(ValueError, match=r"score of span \(0, 4\) must be in \[0, 1\]"):
        render_ansi("good", make_result("good", (0, 4), score=score))


def test_result_of_another_text():
    message = "does not belong to its text: span (0, 3) is 'bad', but the text has 'goo' there"
    with pytest.raises(ValueError, match=re.escape(f"the result {message}")):
        render_ansi("good", make_result("bad", (0, 3)))
    with pytest.raises(ValueError, match=re.escape(f"result 0 {message}")):
        render_html(["good", "bad"], [make_result("bad", (0, 3)), make_result("good", (0, 4))])


def test_result_of_another_pipeline():
    with pytest.raises(ValueError, match=r"lacks \['rationale', 'sparsity', 'truncated'\]"):
        render_ansi("good", {"label": "positive", "score": 0.9})
    with pytest.raises(ValueError, match="result 0 has no label"):
        render_html(["good"], [[]])


def test_wrong_lengths_and_types():
    result = make_result("good")
    for name, kwargs in {
        "results": {"results": [result] * 2},
        "labels": {"labels": []},
        "references": {"references": [[], []]},
    }.items():
        with pytest.raises(ValueError, match=f"`texts` and `{name}` must have the same length, got 1 and"):
            render_html(**({"texts": ["good"], "results": [result]} | kwargs))
    with pytest.raises(ValueError, match="`texts` is empty"):
        render_html([], [])
    for texts, results in (("good", [result]), ({"text": "good"}, [result]), (["good"], result)):
        with pytest.raises(TypeError, match="must be lists, one result per text"):
            render_html(texts, results)
    with pytest.raises(TypeError, match="`labels` must hold the labels' names"):
        render_html(["good"], [result], labels=[1])
