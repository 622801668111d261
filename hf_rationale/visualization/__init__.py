"""Showing results of the rationale pipeline: in a terminal, on a web page, and as spans for other libraries."""

from .page import Page, render_html, render_marks
from .spans import highlighted_text, spans_of_words
from .terminal import render_ansi


__all__ = ["Page", "highlighted_text", "render_ansi", "render_html", "render_marks", "spans_of_words"]
