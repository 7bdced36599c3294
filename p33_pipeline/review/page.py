"""The review for people: where the policy stands, what would serve better, what would change, and on what data."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from p33_pipeline.render.page import render
from p33_pipeline.review.choose import env_lines
from p33_pipeline.review.review import Review

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 300, 62, 44, 14, 18
FLIPS_SHOWN: Final = 500
DOTS: Final = 3_000


def page(review: Review) -> bytes:
    """One self-contained HTML file."""
    grid = review.grid
    axes = [] if grid is None else [
        ("P33_STALE_THRESHOLD_SEC", _seconds(grid.stale_ms)), ("P33_COOLDOWN_SEC", _seconds(grid.cooldown_ms)),
        ("P33_QTY_TOLERANCE_PCT", ", ".join(f"{pct.normalize():f}" for pct in grid.tolerance_pct)),
        ("P33_POLL_SEC", _seconds(grid.poll_ms))]
    return render("review/review.html", r=review, now=env_lines(review.current.policy),
                  then=env_lines(review.best.policy) if review.best else {}, axes=axes, picture=frontier_svg(review),
                  flips_shown=FLIPS_SHOWN)


def frontier_svg(review: Review) -> Markup:
    """Every policy as a dot, the frontier as a line, the present policy and the best one marked."""
    marks = [review.current, *([review.best] if review.best else [])]
    pairs = list(review.cloud) or [(mark.wrong_allows, mark.wrong_denials) for mark in marks]
    most_allows, most_denials = max(a for a, _ in pairs) or 1, max(d for _, d in pairs) or 1

    def at(allows: int, denials: int) -> tuple[int, int]:
        return (LEFT + denials * (WIDTH - LEFT - RIGHT) // most_denials,
                HEIGHT - BOTTOM - allows * (HEIGHT - BOTTOM - TOP) // most_allows)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="wrong allows over wrong denials">']
    parts += _axes(most_allows, most_denials)
    thinned = pairs[::len(pairs) // DOTS + 1]
    dots = sorted({at(*pair) for pair in thinned})
    parts += [f'<circle cx="{x}" cy="{y}" r="2" fill="var(--soft)" opacity=".45"/>' for x, y in dots]
    line = " ".join("{},{}".format(*at(o.wrong_allows, o.wrong_denials)) for o in review.frontier)
    parts.append(f'<polyline class="trace exchange" points="{line}"/>')
    for name, outcome, colour in (("in force", review.current, "--ledger"), ("best", review.best, "--good")):
        if outcome is not None:
            x, y = at(outcome.wrong_allows, outcome.wrong_denials)
            below = 14 if name == "in force" else -9
            parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="none" stroke-width="3" stroke="var({colour})">'
                         f'<title>{name}: {outcome.wrong_allows} wrong allows, {outcome.wrong_denials} wrong denials'
                         f'</title></circle><text x="{x + 10}" y="{y + below}">{name}</text>')
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - numbers and words of ours


def _axes(most_allows: int, most_denials: int) -> list[str]:
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    return [
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{floor}H{right}"/>',
        f'<text x="{LEFT - 8}" y="{TOP + 8}" text-anchor="end">{most_allows:,}</text>',
        f'<text x="{LEFT - 8}" y="{floor}" text-anchor="end">0</text>',
        f'<text x="{right}" y="{floor + 16}" text-anchor="end">{most_denials:,}</text>',
        f'<text x="{LEFT}" y="{floor + 16}">0</text>',
        f'<text x="{(LEFT + right) // 2}" y="{HEIGHT - 8}" text-anchor="middle">wrong denials</text>',
        f'<text transform="translate(16 {(TOP + floor) // 2}) rotate(-90)" text-anchor="middle">wrong allows</text>',
    ]


def _seconds(values_ms: tuple[int, ...]) -> str:
    return ", ".join(f"{ms // 1000}" if ms % 1000 == 0 else f"{ms / 1000:g}" for ms in values_ms)
