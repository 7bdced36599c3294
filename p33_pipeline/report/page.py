"""The report as one HTML file: opens offline, prints, and stays below two megabytes whatever was found.

Each section has its share of bytes, the table of all breaks what is left; a section that shows less than was found says
so, and where the rest is. The ids behind a break are listed for the dearest ones, and only those are linked, so that no
link is dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from markupsafe import Markup, escape

from p33_pipeline.audit.findings import Break
from p33_pipeline.render.page import amount, render, span, usdt, utc
from p33_pipeline.report.picture import POINTS_IN_ALL, alone, denials_svg, freshness_svg, hours_svg, timeline_svg
from p33_pipeline.report.report import STATES, Report

PAGE_BYTES: Final = 1_990_000
FRAME_BYTES: Final = 20_000
"""The page without its sections: style, headings, figures, what is said of things left out."""
EVIDENCE_BYTES: Final = 200_000
FLOW_BYTES: Final = 200_000
SOURCES_BYTES: Final = 100_000
TIMELINES_BYTES: Final = 600_000
DETAIL_LETTERS: Final = 400
OPEN_SHOWN: Final = 100
SHADES_IN_ALL: Final = 6_000


def page(report: Report) -> bytes:
    """The file's bytes."""
    breaks = sorted(report.audit.breaks, key=lambda b: (-b.notional, b.opened_ms, b.break_id))
    evident = _evident(breaks)
    linked = frozenset(break_id for break_id, _ in evident)
    unshown = sum(1 for found in breaks if found.break_id not in linked and any(_ids(found)))
    sections = {
        "flow": _fitting(_flow_rows(report), FLOW_BYTES), "sources": _fitting(_source_rows(report), SOURCES_BYTES),
        "timelines": _fitting((f"<h3>{escape(symbol)}</h3><div class=wide>{svg}</div>\n"
                               for symbol, svg in _timelines(report)), TIMELINES_BYTES),
        "open_rows": _fitting(_rows(report, report.open_breaks[:OPEN_SHOWN], linked, named=False), EVIDENCE_BYTES),
    }
    pictures = {
        "hours": hours_svg(from_ms=report.audit.from_ms, to_ms=report.audit.to_ms),
        "denials": denials_svg(report.facts.hours), "freshness": freshness_svg(report.facts.hours)}
    taken = sum(_size(row) for rows in sections.values() for row in rows) + sum(map(_size, pictures.values()))
    left = PAGE_BYTES - FRAME_BYTES - EVIDENCE_BYTES - taken
    return render("report/report.html", r=report, audit=report.audit, breaks=breaks, evident=evident,
                  unshown=unshown, rows=_fitting(_rows(report, breaks, linked), left), **sections, **pictures)


def _fitting(rows: Iterable[str], most: int) -> list[Markup]:
    """As many of the first rows as stay within so many bytes."""
    shown: list[Markup] = []
    for row in rows:
        most -= _size(row)
        if most < 0:
            break
        shown.append(Markup(row))  # noqa: S704 - every text in it is escaped where the row is made
    return shown


def _size(text: str) -> int:
    return len(text.encode())


def largest_timeline(report: Report) -> tuple[str, Markup] | None:
    """The symbol of the dearest break and its accounts, for where there is room for one picture only."""
    dearest = max(report.audit.breaks, key=lambda b: b.notional, default=None)
    if dearest is None:
        return None
    span_ms = {"from_ms": report.audit.from_ms, "to_ms": report.audit.to_ms}
    return next(((symbol, alone(svg, **span_ms)) for symbol, svg in _timelines(report) if symbol == dearest.symbol),
                None)


def _evident(breaks: list[Break]) -> list[tuple[str, list[str]]]:
    """(break id, its ids by kind) of the first breaks that have any, as many as fit."""
    shown, left = [], EVIDENCE_BYTES
    for found in breaks:
        kinds = _ids(found)
        left -= sum(_size(escape(ids)) for ids in kinds) + 150
        if left < 0:
            break
        if any(kinds):
            shown.append((found.break_id, kinds))
    return shown


def _ids(found: Break) -> list[str]:
    """The ids it rests on, by kind."""
    e = found.evidence
    return [" ".join(ids) for ids in (e.trade_ids, e.order_ids, e.plan_ids, e.decision_ids)]


def _timelines(report: Report) -> list[tuple[str, Markup]]:
    audit, lines = report.audit, report.facts.timelines
    points = max(12, min(150, POINTS_IN_ALL // max(len(lines), 1)))
    shades: dict[str, list[tuple[int, int | None]]] = {}
    for found in audit.breaks:
        shades.setdefault(found.symbol, []).append((found.opened_ms, found.closed_ms))
    most = max(8, min(60, SHADES_IN_ALL // max(len(lines), 1)))
    return [(line.symbol, timeline_svg(line, _joined(shades.get(line.symbol, ()), most), from_ms=audit.from_ms,
                                       to_ms=audit.to_ms, until_ms=audit.until_ms, points=points)) for line in lines]


def _joined(spans: Iterable[tuple[int, int | None]], most: int) -> list[tuple[int, int | None]]:
    """At most `most` of them: what is more is drawn as longer ones, each from a first to a last."""
    ordered = sorted(spans, key=lambda s: s[0])
    size = -(-len(ordered) // most)
    if size <= 1:
        return ordered
    groups = [ordered[i:i + size] for i in range(0, len(ordered), size)]
    return [(group[0][0], None if any(end is None for _, end in group) else max(end for _, end in group if end))
            for group in groups]


def _rows(report: Report, breaks: list[Break], linked: frozenset[str], *, named: bool = True) -> Iterator[str]:
    """Table rows without closing tags, which HTML does not ask for: ten thousand of them must stay small."""
    until_ms = report.audit.until_ms
    for found in breaks:
        note = report.note(found)
        label = f"<a href=#e-{found.break_id}>{found.break_id}</a>" if found.break_id in linked else found.break_id
        closed = "" if found.closed_ms is not None else " class=bad"
        who = f" · {escape(note.owner)}" if note.owner else ""
        state = "closed" if found.closed_ms is not None and note.state == STATES[0] else note.state
        anchor = f" id=b-{found.break_id}" if named and found.break_id in linked else ""
        yield (f"<tr{anchor}><td>{label}<td>{found.kind}<td>{escape(found.symbol)}<td>{utc(found.opened_ms)[5:]}"
               f"<td{closed}>{span(found.age_ms(until_ms))}<td>{amount(found.max_difference)}"
               f"<td>{usdt(found.notional)}<td>{escape(state)}{who}\n")


def _flow_rows(report: Report) -> Iterator[str]:
    for found in report.audit.flow:
        yield (f"<tr><td>{found.finding}<td>{escape(found.symbol)}<td>{utc(found.at_ms)}"
               f"<td class=i>{escape(found.plan_id or '–')}<td class=i>{escape(found.order_id or '–')}"
               f"<td class=d>{_clipped(found.detail)}\n")


def _source_rows(report: Report) -> Iterator[str]:
    for found in report.audit.sources:
        yield f"<tr><td>{found.finding}<td>{utc(found.at_ms)}<td class=d>{_clipped(found.detail)}\n"


def _clipped(detail: str) -> str:
    return escape(detail if len(detail) <= DETAIL_LETTERS else f"{detail[:DETAIL_LETTERS]}…")
