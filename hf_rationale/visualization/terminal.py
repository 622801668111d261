"""Rationales in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from .spans import ranked_labels, rationale_spans, split_pair


# Black on four ambers of the 256-colour palette, weakest first: readable on dark and on light terminals.
_ANSI_LEVELS = tuple(f"\x1b[1;38;5;16;48;5;{amber}m" for amber in (230, 228, 221, 214))
_ANSI_RESET = "\x1b[0m"
# Other control characters than line breaks and tabs would reach the terminal. Their pictures are shown instead.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def render_ansi(text: str | Mapping[str, str], result: Mapping | Sequence[Mapping], color: bool | None = None) -> str:
    """
    The text with its rationale highlighted, for `print`. Only the highlighting is added. Control characters of the
    text, which a terminal would obey, are replaced by their pictures.

    Args:
        text (`str` or `Mapping[str, str]`):
            What the pipeline was given: a text, or a pair as `{"text": ..., "text_pair": ...}`. Of a pair the second
            text is rendered, because the rationale is selected from that one.
        result (`Mapping` or `Sequence[Mapping]`):
            What the pipeline returned for it; with `top_k`, the list of all labels.
        color (`bool`, *optional*):
            `True` highlights with an amber background, which is stronger for a higher score. `False` writes `[[...]]`
            around each span. By default colour is used if the standard output is a terminal and the
            environment variable [`NO_COLOR`](https://no-color.org) is not set.

    Returns:
        `str`: the text with escape sequences or brackets.

    Raises:
        `ValueError`: if the result is not one of this pipeline, or does not belong to this text.
    """
    if color is None:
        color = not os.environ.get("NO_COLOR") and sys.stdout.isatty()
    _, text = split_pair(text)
    best = ranked_labels(result, "the result")[0]
    rendered, end_of_last = [], 0
    for start, end, score in rationale_spans(best, text, "the result"):
        rendered.append(text[end_of_last:start].translate(_CONTROLS))
        selected = text[start:end].translate(_CONTROLS)
        if color:
            level = _ANSI_LEVELS[min(int(score * len(_ANSI_LEVELS)), len(_ANSI_LEVELS) - 1)]
            # A background that is on across a line break fills the rest of the line in some terminals.
            lines = selected.split("\n")
            rendered.append("\n".join(f"{level}{line}{_ANSI_RESET}" if line else "" for line in lines))
        else:
            rendered.append(f"[[{selected}]]")
        end_of_last = end
    rendered.append(text[end_of_last:].translate(_CONTROLS))
    return "".join(rendered)
