"""Pages: templates of the folder ``page``, and the pieces that all of them show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files


def fill(name: str, values: Mapping[str, str]) -> str:
    """Put values, and the style and script of all pages, into a template.

    It is one pass, so that no value is searched for marks itself.

    Args:
        name: The template's file name.
        values: Mark -> HTML.
    """
    page = files("rscd.output") / "page"
    own = {kind: (page / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}
    template = (page / name).read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: {**values, **own}[mark[1]], template)


def cards(numbers: Sequence[tuple[str, str]]) -> str:
    """Headline numbers with what they count, as HTML."""
    return "".join(f'<div class="card"><b>{escape(b)}</b><span>{escape(s)}</span></div>' for b, s in numbers)
