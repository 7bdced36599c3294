"""A range of time as people type it: `--from`/`--to` in ISO 8601 UTC, or `--last 24h`. Whole ms, `to` is open."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from typing import Final

UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_LENGTH: Final = re.compile(r"(\d{1,6})([smhdw])\Z", re.ASCII)
LATEST_YEAR: Final = 2200
DEFAULT_LAST: Final = "24h"


class NoRange(argparse.ArgumentTypeError, ValueError):
    """What was typed is no time or no length of it: a wrong option to argparse, a wrong value to everybody else."""


def add_range(parser: argparse.ArgumentParser) -> None:
    """The three options of every command that takes a range."""
    parser.add_argument("--from", dest="from_ms", type=moment, metavar="TIME", help="ISO 8601, UTC unless it says so")
    parser.add_argument("--to", dest="to_ms", type=moment, metavar="TIME", help="now by default")
    parser.add_argument("--last", dest="last_ms", type=length, metavar="24h",
                        help=f"the time up to now: a number and s, m, h, d or w (default {DEFAULT_LAST})")


def range_of(options: argparse.Namespace, *, now_ms: int) -> tuple[int, int]:
    """(from, to) in milliseconds. Raises ValueError for options that contradict each other."""
    if options.last_ms is not None and (options.from_ms is not None or options.to_ms is not None):
        raise ValueError("--last stands alone: give it, or --from and --to")
    to_ms = now_ms if options.to_ms is None else options.to_ms
    from_ms = options.from_ms
    if from_ms is None:
        from_ms = to_ms - (options.last_ms or length(DEFAULT_LAST))
    if from_ms >= to_ms:
        raise ValueError("--from is not before --to")
    if from_ms < 0:
        raise ValueError("--last reaches back to before 1970")
    return from_ms, to_ms


def moment(text: str) -> int:
    """Unix milliseconds of an ISO 8601 time; one without a zone is UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise NoRange(f"{text!r} is no ISO 8601 time, as 2026-11-21T06:00:00Z is") from None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if not 1970 <= time.year < LATEST_YEAR:
        raise NoRange(f"{text!r} lies before 1970 or after {LATEST_YEAR - 1}")
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def length(text: str) -> int:
    """Milliseconds of `90s`, `30m`, `24h`, `7d`, `2w`."""
    match = _LENGTH.match(text)
    if not match or not int(match[1]):
        raise NoRange(f"{text!r} is no length of time, as 24h or 7d is")
    return int(match[1]) * UNITS_MS[match[2]]


def iso(ms: int) -> str:
    """A moment as ISO 8601 in UTC, to the second; what `moment` reads."""
    return datetime.fromtimestamp(ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamp(ms: int) -> str:
    """A moment as it stands in a file's name."""
    return datetime.fromtimestamp(ms // 1_000, UTC).strftime("%Y%m%dT%H%M%SZ")
