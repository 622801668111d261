"""Hooks of mkdocs: what the pages of `docs` link to in the rest of the repository becomes a part of the site.

In the repository, `docs/train.md` links to `../benchmarks/inference.md`. In the site the folder `docs` is the root, so
that this page is `train.md` and links to `benchmarks/inference.md`.
"""

import os
import re
from pathlib import Path

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((?!\w+:)([^)\s#]+)(#[^)\s]*)?\)")


def repository_path(site_path: str) -> Path:
    """The place in the repository of a page of the site."""
    in_docs = ROOT / "docs" / site_path
    return in_docs if in_docs.exists() else ROOT / site_path


def site_path(path: Path) -> str:
    """The place in the site of a file of the repository."""
    return path.relative_to(ROOT).as_posix().removeprefix("docs/")


def targets(path: Path) -> set[Path]:
    """The files that a page links to."""
    found = LINK.findall(path.read_text(encoding="utf-8"))
    return {linked for link, _ in found if (linked := (path.parent / link).resolve()).is_file()}


def on_files(files: Files, config) -> Files:
    """Add the files that are linked to, and those that these link to."""
    known = {repository_path(file.src_uri) for file in files}
    waiting = [path for path in known if path.suffix == ".md"]
    while waiting:
        for path in targets(waiting.pop()) - known:
            known.add(path)
            place = site_path(path)
            files.append(File.generated(config, place, abs_src_path=str(path)))
            if path.suffix == ".md":
                waiting.append(path)
    return files


def on_page_content(html: str, page: Page, **kwargs) -> str:
    """Docstrings name things as [`X`], which is not markdown."""
    return re.sub(r"\[<code>~?([\w.]+)</code>\]", r"<code>\1</code>", html)


def on_page_markdown(markdown: str, page: Page, **kwargs) -> str:
    """Let the links of a page point to places in the site."""
    path = repository_path(page.file.src_uri)

    def moved(match: re.Match) -> str:
        linked = (path.parent / match[1]).resolve()
        if not linked.is_file():
            return match[0]  # mkdocs says that it is missing
        start = os.path.dirname(page.file.src_uri) or "."
        return f"]({os.path.relpath(site_path(linked), start)}{match[2] or ''})"

    return LINK.sub(moved, markdown)
