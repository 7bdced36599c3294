"""Findings as Dagster's UI can show them: Markdown short enough to stand inline, and pictures as data URIs.

Facts, tried on Dagster 1.13: Markdown below 1,000 characters is drawn in the metadata table, longer text behind a link;
a data-URI image is drawn; raw SVG and HTML are stripped. On a check all Markdown stands behind a link, a table does
not.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Final

from p33_pipeline.render.page import utc

INLINE: Final = 1_000
ROOM: Final = 60
"""What the line takes that says how many rows are left out."""
SHORT: Final = 16
_STYLE: Final = (
    "<style>svg{background:#fff}text{fill:#5b6570;font:11px sans-serif}.axis{stroke:#d9dee4}.bar{fill:#1f6feb}"
    ".trace{fill:none;stroke-width:2}.exchange{stroke:#1f6feb}.ledger{stroke:#b35900;stroke-dasharray:9 6}"
    ".redis{stroke:#1a7f5a;stroke-dasharray:2 5}.shade{fill:#b4231822}</style>")


def picture(svg: str, alt: str) -> str:
    """An SVG of a page, made to stand alone, as a Markdown image of its own size."""
    head, body = str(svg).split(">", 1)  # what is added to Markup would be escaped
    wide, tall = head.split('viewBox="0 0 ')[1].split('"')[0].split()
    size = f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{tall}"'
    return image(f"{head.replace('<svg', size, 1)}>{_STYLE}{body}", alt)


def image(svg: str, alt: str) -> str:
    """A whole SVG as a Markdown image."""
    return f"![{_plain(alt)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, most: int = 20) -> str:
    """A Markdown table of the first rows, as many as stand inline, which says how many are left out."""
    found = [_line(_cell(str(cell)) for cell in row) for row in rows]
    head = [_line(columns), "|" + "---|" * len(columns)]
    shown = min(len(found), most)
    while shown > 1 and sum(map(len, head + found[:shown])) + shown > INLINE - ROOM:
        shown -= 1
    left = [f"\n{len(found) - shown} more stand in the report."] if len(found) > shown else []
    return "\n".join([*head, *found[:shown], *left]) if found else "none"


def when(ms: int) -> str:
    """A moment to the minute, for a narrow column: nothing in it breaks the line."""
    return utc(ms)[5:16].replace("-", "\u2011")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    """Text from outside; what is short is kept on one line."""
    return _plain(text).replace(" ", "\u00a0") if len(text) <= SHORT else _plain(text)


def _plain(text: str) -> str:
    """Text from outside without anything that Markdown would take for its own."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|<>~" else " " if c in "\r\n\t" else c for c in text)
