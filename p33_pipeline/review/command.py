"""`p33-review`: judges all policies over a range of the archive, writes the page, prints what it found.

Exit codes: 0 judged (whether or not a change is recommended), 2 it could not be done: one line on stderr says why
and what to do. Nothing is applied anywhere.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from p33_pipeline.audit.scope import opened, reading
from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.outermost import outermost
from p33_pipeline.ranges import add_range, iso, range_of
from p33_pipeline.render.page import counted, money, span
from p33_pipeline.review.choose import LEVEL
from p33_pipeline.review.heap import keep_memory
from p33_pipeline.review.output import as_json, write_page
from p33_pipeline.review.review import Parameters, Review, review
from p33_sidecar.core.model import Policy
from p33_sidecar.core.quantity import parse, scaled
from p33_sidecar.settings import load

MARGIN_MS = 3_600_000
"""Snapshots and trades are read so far beyond the range: a verdict's truth needs a snapshot after it."""


def main() -> int:
    """The command. Returns the exit code."""
    options = _parser().parse_args()
    return outermost("p33-review", lambda: _review(options))


def _review(options: argparse.Namespace) -> int:
    settings = load(os.environ)
    from_ms, to_ms = range_of(options, now_ms=time.time_ns() // 1_000_000)
    history = History(place_at(settings["P33_HISTORY_URL"]))
    found = review_range(history, from_ms=from_ms, to_ms=to_ms, fallback=settings.policy,
                         parameters=_parameters(options))
    html = write_page(found, history)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(as_json(found, html=html)), indent=2).decode())
    else:
        print(summary(found, html=html))
    return 0


def review_range(history: History, *, from_ms: int, to_ms: int, fallback: Policy,
                 parameters: Parameters | None = None) -> Review:
    """The review of a range of the archive. Raises HistoryUnreadable, HistoryUnavailable, ValueError."""
    wide = {"from_ms": max(from_ms - MARGIN_MS, 0), "to_ms": to_ms + MARGIN_MS}
    keep_memory()
    # A verdict's entry follows the moment it was decided by as long as issuing took.
    with reading(history):
        tables = {name: opened(history, TABLES[name], **wide) for name in ("decisions", "snapshots", "trades")}
        return review(tables, from_ms=from_ms, to_ms=to_ms, fallback=fallback, parameters=parameters)


def summary(found: Review, *, html: str) -> str:
    """The review in a few lines, for a terminal."""
    now = found.current
    lines = [
        f"{iso(found.from_ms)} to {iso(found.to_ms)}: {counted(found.verdicts, 'verdict')}, {found.judged:,} judged.",
        f"In force: {counted(now.wrong_allows, 'wrong allow')} ({money(now.wrong_cents)} USDT), "
        f"{counted(now.wrong_denials, 'wrong denial')} ({span(now.lost_ms)} lost).",
    ]
    best, sure = found.recommended, found.interval
    if best is None or sure is None:
        lines.append(f"No change is recommended: {found.why_not}.")
    else:
        low, high = sure.saved_per_1000
        lines += [f"Recommended: {counted(best.wrong_allows, 'wrong allow')}, "
                  f"{counted(best.wrong_denials, 'wrong denial')} ({span(best.lost_ms)} lost); saves {low} to {high} "
                  f"wrong denials per 1,000 verdicts at {LEVEL}, a wrong allow counted as {sure.weight:,}.",
                  found.env_diff.rstrip()]
    return "\n".join([*lines, f"Page: {html}"])


def _parameters(options: argparse.Namespace) -> Parameters:
    return Parameters(weight=options.weight, material_pct=options.material, stale_ms=options.stale,
                      cooldown_ms=options.cooldown, tolerance_pct=options.tolerance, poll_ms=options.poll)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="p33-review", description="Which thresholds would have served better, by the truth in hindsight.")
    add_range(parser)
    parser.add_argument("--json", action="store_true", help="the result for programs on stdout")
    parser.add_argument("--weight", type=_whole, default=0, metavar="N",
                        help="how many wrong denials a wrong allow weighs (default: more than all verdicts together)")
    parser.add_argument("--material", type=_percent, default=Parameters().material_pct, metavar="PCT",
                        help="how far a book may be off the truth before an ALLOW on it is wrong (default 5)")
    for name, what in (("stale", "stale thresholds"), ("cooldown", "cooldowns"), ("poll", "poll intervals")):
        parser.add_argument(f"--{name}", type=_listed(_seconds), default=(), metavar="S,S", help=f"{what} to judge")
    parser.add_argument("--tolerance", type=_listed(_percent), default=(), metavar="PCT,PCT",
                        help="quantity tolerances to judge")
    return parser


def _listed(read: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(read(part.strip()) for part in text.split(","))


def _seconds(text: str) -> int:
    ms = scaled(_decimal(text), 3)
    if not 0 <= ms <= 3_600_000 or ms != int(ms):
        raise argparse.ArgumentTypeError(f"{text!r}: seconds from 0 to 3600, to the millisecond")
    return int(ms)


def _percent(text: str) -> Decimal:
    pct = _decimal(text)
    if not 0 <= pct <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: a percentage from 0 to 100")
    return pct


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 to 1,000,000,000")
    return int(text)


def _decimal(text: str) -> Decimal:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
