"""Write the tables of the documents that list what is registered in the code: `make docs`.

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in README.md, in paper_index.md, or in a page of
this folder.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from hf_rationale import METHODS, RationaleTrainingArguments
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


def index_table() -> str:
    """Every method, with a link to its entry in the paper index or in the page of baselines."""
    lines = ["| method | name | trainer | file |", "|---|---|---|---|"]
    own = (ROOT / "paper_index.md").read_text(encoding="utf-8")
    for name, trainer in METHODS.items():
        title, _, _ = trainer.description.partition(":")
        anchor = re.sub(r"[^\w\- ]", "", title.lower())
        page = "" if f"\n## {title}\n" in own else "docs/baselines.md"
        file = Path(inspect.getfile(trainer)).relative_to(ROOT).as_posix()
        lines.append(f"| [{title}]({page}#{anchor}) | `{name}` | `{trainer.__name__}` | `{file}` |")
    return "\n".join(lines)


def numbers_table() -> str:
    """The fields that the methods' arguments add to those of all methods, or that they change."""
    lines = ["| class | field | default | meaning |", "|---|---|---|---|"]
    common = {one.name: one.default for one in fields(RationaleTrainingArguments)}
    for arguments in dict.fromkeys(trainer.arguments_class for trainer in METHODS.values()):
        for one in fields(arguments):
            if one.name not in common or common[one.name] != one.default:
                _, _, meaning = f": {one.metadata['help']}".rpartition(": ")
                lines.append(
                    f"| `{arguments.__name__}` | `{one.name}` | {one.default} | {lowered(meaning.rstrip('.'))} |"
                )
    return "\n".join(lines)


def lowered(text: str) -> str:
    return text[0].lower() + text[1:]


def encoders_table() -> str:
    head = ("type", "reads only the visible tokens at inference", "can be split by depth (PLMR)", "default masking")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|"]
    for name, traits in ENCODER_TRAITS.items():
        marks = ("yes" if one else "no" for one in (traits.positions, traits.splits))
        lines.append(f"| `{name}` | {' | '.join(marks)} | `{traits.masking}` |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods_table,
    "index": index_table,
    "numbers": numbers_table,
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
    return [ROOT / "README.md", ROOT / "paper_index.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
