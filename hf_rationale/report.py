"""The report of an evaluation: as JSON, as Markdown, and as a page with figures."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .diagnostics import FailureRate, GoldAgainstSelected, GoldReplacement, Homogeneity, Lipschitz
from .model_card import show_interval


# The diagnostics with a figure: the class of their section, and the caption of the figure.
FIGURES = {
    "gold_replacement": (GoldReplacement, "The predictor as random words are replaced by gold words (N2R, figure 3)"),
    "gold_against_selected": (GoldAgainstSelected, "The predictor on selected and on gold words (VER, figure 3)"),
    "lipschitz": (Lipschitz, "How steep the predictor is at each rationale (VER, figure 4)"),
    "failure_rate": (FailureRate, "Right decisions from meaningless words (PLMR, table 2)"),
    "homogeneity": (Homogeneity, "How alike tokens become with depth, in the extractor (PLMR, figure 4)"),
}

NOT_MEASURED = "not measured"  # the only key of a section that could not be measured; its value is the reason
_PARTS = ("precision", "recall", "f1")
_CSS = """
:root { color-scheme: light dark; --text: #1c1917; --back: #fff; --line: #e4e1da; --faint: #57534e; }
@media (prefers-color-scheme: dark) { :root { --text: #e7e5e4; --back: #1c1917; --line: #44403c; --faint: #a8a29e; } }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--text);
  background: var(--back); }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td + td, th + th { text-align: right; }
figure { margin: 2rem 0; }
figcaption { color: var(--faint); }
svg { max-width: 100%; height: auto; background: #fff; }
"""


@dataclass(frozen=True)
class RationaleReport:
    r"""
    The result of [`evaluate_rationales`].

    Args:
        about (`dict`): the model, the data and the settings.
        sections (`dict[str, dict]`): the measurements by section.
    """

    about: dict[str, Any]
    sections: dict[str, dict]

    def to_dict(self) -> dict[str, Any]:
        return {"about": self.about, "sections": self.sections}

    def table(self) -> dict[str, tuple[float | None, tuple[float, float] | None]]:
        """The single numbers by name (None if undefined), each with its 95 % bootstrap interval if there is one."""
        measured = {name: self.sections[name] if self._is_measured(name) else {} for name in self.sections}
        rows: dict[str, tuple[float | None, tuple[float, float] | None]] = {}
        for name, value in measured.get("classification", {}).items():
            if isinstance(value, dict):
                rows |= {f"accuracy of group {group}": (accuracy, None) for group, accuracy in value.items()}
            else:
                rows[name.replace("_", " ")] = value, None
        plausibility = measured.get("plausibility", {})
        for name, value in plausibility.get("scores", {}).items():
            interval = plausibility["intervals"][name]
            if isinstance(value, dict):
                for part in _PARTS:
                    rows[f"{name} {part}".replace("_", " ")] = value[part], interval[part]
            else:
                rows[name.replace("_", " ")] = value, interval
        if simple := measured.get("yardsticks"):
            selectors = {"best yardstick": simple["scores"][simple["best"]]}
            selectors |= {f"yardstick {name}": scores for name, scores in simple["scores"].items()}
            for name, scores in selectors.items():
                rows |= {
                    f"{name} {measure}": (scores[measure], None) for measure in ("f1", "iou") if measure in scores
                }
        for name, value in measured.get("faithfulness", {}).items():
            if not isinstance(value, dict):
                rows[name.replace("_", " ")] = value, None
        if gold := measured.get("gold_against_selected"):
            for name in ("accuracy", "median_loss"):
                rows |= {
                    f"{name} on {read} words".replace("_", " "): (value, None) for read, value in gold[name].items()
                }
        if lipschitz := measured.get("lipschitz"):
            rows["Lipschitz estimate of the predictor"] = lipschitz["estimate"], None
        if failure := measured.get("failure_rate"):
            rows["meaningless share of the selection"] = failure["meaningless_share"], None
            rows |= {f"failure rate at {name}": (value, None) for name, value in failure["rates"].items()}
        return rows

    def _is_measured(self, section: str) -> bool:
        return NOT_MEASURED not in self.sections[section]

    def figures(self) -> dict[str, Figure]:
        """By section."""
        return {
            name: report(**self.sections[name]).figure()
            for name, (report, _) in FIGURES.items()
            if name in self.sections and self._is_measured(name)
        }

    def to_markdown(self) -> str:
        lines = [f"- {name}: {value}" for name, value in self._about()]
        lines += ["", "| measure | value | 95 % interval |", "|---|---|---|"]
        lines += [f"| {name} | {value} | {interval} |" for name, value, interval in self._rows()]
        return "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """One page that contains the figures and loads nothing."""
        about, rows = _table_rows(self._about()), _table_rows(self._rows())
        figures = "".join(
            f"<figure>{_svg(figure)}<figcaption>{_text(FIGURES[name][1])}</figcaption></figure>"
            for name, figure in self.figures().items()
        )
        title = f"Rationales of {_text(self.about['model'])}"
        return (
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_CSS}</style></head>'
            f"<body><h1>{title}</h1><table>{about}</table><table><tr><th>measure</th><th>value</th>"
            f"<th>95 % interval</th></tr>{rows}</table>{figures}</body></html>\n"
        )

    def save(self, folder: str | os.PathLike):
        """Write `report.md` and `report.html`."""
        folder = Path(folder)
        (folder / "report.md").write_text(self.to_markdown(), encoding="utf-8")
        (folder / "report.html").write_text(self.to_html(), encoding="utf-8")

    def _about(self) -> list[tuple[str, Any]]:
        reasons = [
            (f"{name.replace('_', ' ')} was not measured", section[NOT_MEASURED])
            for name, section in self.sections.items()
            if not self._is_measured(name)
        ]
        return [*self.about.items(), *reasons]

    def _rows(self) -> list[tuple[str, str, str]]:
        return [
            (name, "undefined" if value is None else f"{value:.4f}", show_interval(interval))
            for name, (value, interval) in self.table().items()
        ]


def _table_rows(rows: Iterable[Sequence[Any]]) -> str:
    return "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)


def _text(value: Any) -> str:
    return html.escape(str(value))


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg")
    drawing = file.getvalue()
    return drawing[drawing.index("<svg") :]
