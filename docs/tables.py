"""Write the tables of the documents that list what is registered in the code: `make docs`.

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in README.md or in a page of this folder.
"""

import re
from collections.abc import Callable
from pathlib import Path

from hf_rationale import METHODS
from hf_rationale.data import corpora_table
from hf_rationale.text.encoder_traits import ENCODER_TRAITS


ROOT = Path(__file__).resolve().parent.parent


def methods_table() -> str:
    lines = ["| `--method` | trainer | what it does | paper |", "|---|---|---|---|"]
    for name, trainer in METHODS.items():
        _, _, description = trainer.description.partition(": ")
        description = description[0].upper() + description[1:]
        lines.append(f"| `{name}` | `{trainer.__name__}` | {description} | {trainer.paper} |")
    return "\n".join(lines)


def encoders_table() -> str:
    head = ("type", "reads only the visible tokens at inference", "can be split by depth (PLMR)", "default masking")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|"]
    for name, traits in ENCODER_TRAITS.items():
        marks = ("yes" if one else "no" for one in (traits.positions, traits.splits))
        lines.append(f"| `{name}` | {' | '.join(marks)} | `{traits.masking}` |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods_table,
    "corpora": corpora_table,
    "encoders": encoders_table,
}


def with_tables(text: str) -> str:
    """`text` with its tables made anew."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name}:begin -->\n).*?(\n<!-- {name}:end -->)"
        text = re.sub(pattern, lambda match, table=table: match[1] + table() + match[2], text, flags=re.DOTALL)
    return text


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
