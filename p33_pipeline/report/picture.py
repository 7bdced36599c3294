"""The report's pictures as SVG: the three accounts of a symbol over each other, denials by hour, polls by hour.

Pixels are integers made from exact amounts; colours come from the page's style, so that light, dark and print agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final

from markupsafe import Markup, escape

from p33_pipeline.render.page import amount, span, utc
from p33_pipeline.report.facts import HOUR_MS, Hour, Point, Timeline

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FLOOR = 900, 120, 86, 10, 8, 98
ACCOUNTS: Final = ("exchange", "ledger", "redis")
"""Drawn in this order; the later ones are dashed (in the page's style), so that an earlier one shows through."""
FRAME: Final = Markup('<use href="#hours"/>')
POINTS_IN_ALL: Final = 9_000
"""Of all timelines of a page together, so that 700 of them stay small."""


def timeline_svg(line: Timeline, shades: Iterable[tuple[int, int | None]], *, from_ms: int, to_ms: int,
                 until_ms: int, points: int) -> Markup:
    """One symbol's day; `shades` are its breaks (opened, closed or None). Nothing is drawn past `until_ms`, where
    what is known ends."""
    kept = {name: thinned(getattr(line, name), points) for name in ACCOUNTS}
    amounts = [amt for steps in kept.values() for _, amt in steps]
    low, high = min(amounts, default=Decimal(0)), max(amounts, default=Decimal(0))
    reach = high - low or Decimal(1)

    def x(at_ms: int) -> int:
        return LEFT + (min(max(at_ms, from_ms), to_ms) - from_ms) * (WIDTH - LEFT - RIGHT) // (to_ms - from_ms)

    def y(amt: Decimal) -> int:
        return FLOOR - int((amt - low) * (FLOOR - TOP - 8) / reach) - (0 if high > low else (FLOOR - TOP) // 2)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="accounts of {escape(line.symbol)}">']
    if drawn := _shades(shades, x, until_ms):
        parts.append(f'<path class="shade" d="{drawn}"/>')
    parts += [f'<text x="{LEFT - 6}" y="{y(amt) + 4}" text-anchor="end">{amount(amt)}</text>'
              for amt in dict.fromkeys((low, high))]
    parts.append(FRAME)
    parts += [f'<path class="trace {name}" d="{_steps(kept[name], x, y, until_ms)}"/>'
              for name in ACCOUNTS if kept[name]]
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - numbers and escaped names


def hours_svg(*, from_ms: int, to_ms: int) -> Markup:
    """The frame that all timelines of a page share, to be drawn once and used by each."""
    frame = _frame(from_ms=from_ms, to_ms=to_ms)
    drawn = f'<svg width="0" height="0" aria-hidden="true"><g id="hours">{frame}</g></svg>'
    return Markup(drawn)  # noqa: S704 - numbers of ours


def alone(timeline: Markup, *, from_ms: int, to_ms: int) -> Markup:
    """A timeline with the frame in it, for where there is no page around."""
    drawn = str(timeline).replace(FRAME, _frame(from_ms=from_ms, to_ms=to_ms))  # Markup would escape it
    return Markup(drawn)  # noqa: S704 - numbers and escaped names


def _frame(*, from_ms: int, to_ms: int) -> str:
    """An axis and at most nine marks on full hours."""
    every = max(-(-(to_ms - from_ms) // (8 * HOUR_MS)), 1) * HOUR_MS
    days, wide = to_ms - from_ms > 48 * HOUR_MS, WIDTH - LEFT - RIGHT
    marks = "".join(
        f'<text x="{LEFT + (at_ms - from_ms) * wide // (to_ms - from_ms)}" y="{HEIGHT - 6}">'
        f"{_label(at_ms, days=days)}</text>"
        for at_ms in range(-(-from_ms // HOUR_MS) * HOUR_MS, to_ms - every // 3, every))
    return f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{FLOOR}H{WIDTH - RIGHT}"/>{marks}'


def _shades(shades: Iterable[tuple[int, int | None]], x: Callable[[int], int], until_ms: int) -> str:
    """One path over all breaks, each at least two pixels wide."""
    parts = []
    for opened_ms, closed_ms in shades:
        wide = max(x(until_ms if closed_ms is None else closed_ms) - x(opened_ms), 2)
        parts.append(f"M{x(opened_ms)} {TOP}h{wide}v{FLOOR - TOP}h-{wide}z")
    return "".join(parts)


def thinned(steps: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` of the steps: of each stretch the lowest and the highest, so that no peak is lost."""
    if len(steps) <= most:
        return list(steps)
    size = -(-len(steps) * 2 // most)
    kept: list[Point] = []
    for start in range(0, len(steps), size):
        stretch = steps[start:start + size]
        ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(ends)
    return [*kept, steps[-1]] if kept[-1] != steps[-1] else kept


def denials_svg(hours: Sequence[Hour]) -> Markup:
    """Denials an hour as bars, each with its reasons to hover over."""
    most = max((sum(hour.denials.values()) for hour in hours), default=0) or 1
    bars = [(sum(hour.denials.values()),
             "; ".join(f"{reason} {count}" for reason, count in sorted(hour.denials.items(), key=lambda i: -i[1])))
            for hour in hours]
    return _bars(hours, [(n * 100 // most, f"{n} denials: {words}" if n else "", n) for n, words in bars], f"{most:,}")


def freshness_svg(hours: Sequence[Hour]) -> Markup:
    """The longest time without a good poll, by hour."""
    most = max((hour.longest_gap_ms or 0 for hour in hours), default=0) or 1
    return _bars(hours, [((hour.longest_gap_ms or 0) * 100 // most,
                          f"{span(hour.longest_gap_ms)} at most without a good poll; {hour.good_polls} good, "
                          f"{hour.failed_polls} failed", hour.longest_gap_ms) for hour in hours], span(most))


def _bars(hours: Sequence[Hour], bars: Sequence[tuple[int, str, int | None]], top_label: str) -> Markup:
    height, top, floor = 124, 8, 100
    wide = max((WIDTH - LEFT - RIGHT) // max(len(hours), 1), 1)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img">',
             f'<path class="axis" fill="none" d="M{LEFT} {top}V{floor}H{WIDTH - RIGHT}"/>',
             f'<text x="{LEFT - 6}" y="{top + 8}" text-anchor="end">{escape(top_label)}</text>',
             f'<text x="{LEFT - 6}" y="{floor}" text-anchor="end">0</text>']
    every, days = max(len(hours) // 8, 1), len(hours) > 48
    for index, (hour, (share, words, value)) in enumerate(zip(hours, bars, strict=True)):
        x = LEFT + index * wide
        tall = max(share * (floor - top) // 100, 1 if value else 0)
        if tall:
            parts.append(f'<rect class="bar" x="{x + 1}" y="{floor - tall}" width="{max(wide - 2, 1)}" height="{tall}">'
                         f"<title>{utc(hour.begin_ms)[5:16]} {escape(words)}</title></rect>")
        if index % every == 0:
            parts.append(f'<text x="{x}" y="{height - 8}">{_label(hour.begin_ms, days=days)}</text>')
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - numbers and escaped names


def _label(at_ms: int, *, days: bool) -> str:
    return utc(at_ms)[5:13] + "h" if days else utc(at_ms)[11:16]


def _steps(points: Sequence[Point], x: Callable[[int], int], y: Callable[[Decimal], int], until_ms: int) -> str:
    """An account holds its amount until the next step."""
    first = points[0]
    path = [f"M{x(first[0])} {y(first[1])}"]
    path += [f"H{x(at_ms)}V{y(amt)}" for at_ms, amt in points[1:]]
    return "".join([*path, f"H{x(until_ms)}"])
