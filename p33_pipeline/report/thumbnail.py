"""Pictures small enough to stand inline in Dagster's metadata table, as Markdown: breaks by symbol, denials by hour.

What does not fit is left out from the least dear on, and says so. Pixels are integers; names are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import escape

from p33_pipeline.audit.findings import Audit, Break
from p33_pipeline.render.markdown import INLINE, image
from p33_pipeline.render.page import utc
from p33_pipeline.report.facts import Hour

WIDTH, LEFT, ROW, TOP = 440, 96, 15, 4
NAME_LETTERS: Final = 13
ROWS_MOST: Final = 8
_INK: Final = 'fill="#5b6570" font-family="sans-serif" font-size="11"'


def breaks_thumbnail(audit: Audit) -> str:
    """When each symbol's accounts differed, the dearest symbols first; none where nothing did."""
    rows = _by_symbol(audit.breaks)
    for most in range(min(len(rows), ROWS_MOST), 0, -1):
        for bars in (24, 6, 1):
            drawn = image(_breaks_svg(audit, rows[:most], bars), "breaks by symbol")
            if len(drawn) < INLINE - 60:
                left = len(rows) - most
                return drawn + (f"\n\nand {left} more {'symbol' if left == 1 else 'symbols'}" if left else "")
    return "none"


def _by_symbol(breaks: Sequence[Break]) -> list[tuple[str, list[Break]]]:
    """Each symbol's breaks, dearest first; the symbol of the dearest first."""
    found: dict[str, list[Break]] = {}
    for one in sorted(breaks, key=lambda b: (-b.notional, b.opened_ms)):
        found.setdefault(one.symbol, []).append(one)
    return list(found.items())


def _breaks_svg(audit: Audit, rows: list[tuple[str, list[Break]]], bars: int) -> str:
    floor = TOP + len(rows) * ROW
    names, path = [], []
    for index, (symbol, found) in enumerate(rows):
        name = symbol if len(symbol) <= NAME_LETTERS else f"{symbol[:NAME_LETTERS - 1]}…"
        names.append(f'<text y="{TOP + index * ROW + 11}">{escape(name)}</text>')
        for one in found[:bars]:
            begin = _x(audit, one.opened_ms)
            end = _x(audit, audit.until_ms if one.closed_ms is None else one.closed_ms)
            path.append(f"M{begin} {TOP + index * ROW + 2}h{max(end - begin, 2)}v10H{begin}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{floor + 16}" {_INK}>{"".join(names)}'
            f'<path fill="#b42318" d="{"".join(path)}"/><path stroke="#9aa5b1" d="M{LEFT} {floor}H{WIDTH}"/>'
            f'<text x="{LEFT}" y="{floor + 13}">{_hour(audit.from_ms)}</text>'
            f'<text x="{WIDTH}" y="{floor + 13}" text-anchor="end">{_hour(audit.to_ms)}</text></svg>')


def _x(audit: Audit, at_ms: int) -> int:
    inside = min(max(at_ms, audit.from_ms), audit.to_ms) - audit.from_ms
    return LEFT + inside * (WIDTH - LEFT - 2) // (audit.to_ms - audit.from_ms)


def _hour(at_ms: int) -> str:
    return utc(at_ms)[5:16]


def denials_thumbnail(hours: Sequence[Hour]) -> str:
    """Denials an hour as bars, and how many the highest is; none where nothing was denied."""
    counts = [sum(hour.denials.values()) for hour in hours]
    most = max(counts, default=0)
    if not most:
        return "none"
    wide, floor = max((WIDTH - LEFT) // len(counts), 2), 44
    path = "".join(f"M{LEFT + i * wide} {floor}v-{tall}h{wide - 1}v{tall}"
                   for i, n in enumerate(counts) if (tall := -(-n * 36 // most)))
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="60" {_INK}>'
           f'<text y="16">{most:,} at most</text><path fill="#1f6feb" d="{path}"/>'
           f'<path stroke="#9aa5b1" d="M{LEFT} {floor}H{WIDTH}"/><text x="{LEFT}" y="57">{_hour(hours[0].begin_ms)}'
           f'</text><text x="{WIDTH}" y="57" text-anchor="end">{_hour(hours[-1].begin_ms)}</text></svg>')
    drawn = image(svg, "denials by hour")
    return drawn if len(drawn) < INLINE else f"{most:,} in the hour with the most; drawn in the report"
