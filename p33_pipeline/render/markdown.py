"""Findings as Dagster's UI can show them: Markdown short enough to stand inline, and pictures as data URIs.

Facts, tried on Dagster 1.13: Markdown below 1,000 characters is drawn in the metadata table, longer text behind a link;
a data-URI image is drawn; raw SVG and HTML are stripped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Final

INLINE: Final = 1_000
_STYLE: Final = (
    "<style>svg{background:#fff}text{fill:#5b6570;font:11px sans-serif}.axis{stroke:#d9dee4}.bar{fill:#1f6feb}"
    ".trace{fill:none;stroke-width:2}.exchange{stroke:#1f6feb}.ledger{stroke:#b35900;stroke-dasharray:9 6}"
    ".redis{stroke:#1a7f5a;stroke-dasharray:2 5}.shade{fill:#b4231822}</style>")


def picture(svg: str, alt: str) -> str:
    """An SVG of ours, made to stand alone, as a Markdown image."""
    head, body = svg.split(">", 1)
    whole = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + ">" + _STYLE + body
    return f"![{_plain(alt)}](data:image/svg+xml;base64,{base64.b64encode(whole.encode()).decode()})"


def sparkline(values: Sequence[int], *, alt: str, width: int = 240, height: int = 40) -> str:
    """A line small enough to stand inline."""
    if not values:
        return "–"
    low, high = min(values), max(values)
    reach, last = (high - low) or 1, max(len(values) - 1, 1)
    points = " ".join(f"{i * width // last},{height - 2 - (v - low) * (height - 4) // reach}"
                      for i, v in enumerate(values))
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
           f'<polyline fill="none" stroke="#1f6feb" points="{points}"/></svg>')
    return f"![{_plain(alt)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, most: int = 20) -> str:
    """A Markdown table of the first rows, which says how many are left out."""
    found = list(rows)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_plain(str(cell)) for cell in row) + " |" for row in found[:most]]
    if len(found) > most:
        lines.append(f"\n{len(found) - most} more stand in the report.")
    return "\n".join(lines) if found else "none"


def _plain(text: str) -> str:
    """Text from outside without anything that Markdown would take for its own."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|<>~" else " " if c in "\r\n\t" else c for c in text)
