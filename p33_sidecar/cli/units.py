"""Times and amounts as people type and read them. Pure: what the clock says is a parameter."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from ..core.model import LATEST_MS
from ..core.quantity import parse, seconds, text

_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
LONGEST_MS: Final = 36_525 * 86_400_000
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)

MS_CHECKS: Final = frozenset({"plan_fresh", "plan_after_last_order", "fresh_snapshot", "nothing_settling"})
"""Checks whose value, threshold and margin are milliseconds."""


def duration_ms(typed: str) -> int:
    """`30m`, `1h30m`, `1.5h`, `90s`, `250ms`, `2d`: positive milliseconds. Raises ValueError."""
    parts = _PART.findall(typed.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != typed.strip().lower():
        raise ValueError(f"{typed!r} is no duration: write 30m, 1h30m, 90s or 2d")
    total_ms = int(sum(parse(number) * _UNITS[unit] for number, unit in parts))
    if total_ms <= 0:
        raise ValueError(f"{typed!r} is no time at all")
    if total_ms > LONGEST_MS:
        raise ValueError(f"{typed!r} is longer than a hundred years")
    return total_ms


def moment_ms(typed: str) -> int:
    """ISO 8601 (UTC where no zone is named), or Unix seconds or milliseconds; not before 1970. Raises ValueError."""
    ms = _moment_ms(typed)
    if not 0 <= ms <= LATEST_MS:
        raise ValueError(f"{typed!r} is outside of 1970 to 9999")
    return ms


def _moment_ms(typed: str) -> int:
    if typed.isascii() and typed.isdigit():
        return int(typed) if len(typed) > 11 else int(typed) * 1000
    try:
        moment = datetime.fromisoformat(typed)
    except ValueError:
        raise ValueError(f"{typed!r} is no time: write 2026-01-31T08:00:00Z or Unix seconds") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * 1000 + moment.microsecond // 1000


def span(ms: int) -> str:
    """A time's length for people: `250 ms`, `8 s`, `3.25 s`, `2 min 5 s`, `3 h 12 min`, `2 d 4 h`."""
    sign, ms = ("-", -ms) if ms < 0 else ("", ms)
    if ms < 1000:
        return f"{sign}{ms} ms"
    if ms < 60_000:
        return f"{sign}{text(seconds(ms))} s"
    whole = ms // 1000
    for big, small, unit in (("min", "s", 60), ("h", "min", 3600), ("d", "h", 86_400)):
        if whole < unit * (24 if big == "h" else 60) or big == "d":
            rest = whole % unit // (unit // {"min": 60, "h": 60, "d": 24}[big])
            return f"{sign}{whole // unit} {big}" + (f" {rest} {small}" if rest else "")
    raise AssertionError("unreachable")


def age(ms: int | None) -> str:
    """How long ago, to a tenth of a second; a dash for what is not known."""
    return "-" if ms is None else span(ms if abs(ms) >= 60_000 or abs(ms) < 1000 else ms // 100 * 100)


def moment(ms: int | None) -> str:
    """UTC for people, to the millisecond; a dash for none."""
    if not ms:
        return "-"
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{ms % 1000:03d}Z"
    except (ValueError, OverflowError, OSError):
        return str(ms)


def amount(value: Decimal | None) -> str:
    """Canonical; a dash for what is not known."""
    return "-" if value is None else text(value)


def signed(value: Decimal | None) -> str:
    """Canonical with its sign; a dash for what is not known."""
    return "-" if value is None else f"+{text(value)}" if value > 0 else text(value)


def seen(check: str, value: Any) -> str:
    """A finding's value, threshold or margin for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and check in MS_CHECKS:
        return span(value)
    return plain(str(value))


def plain(untrusted: str) -> str:
    """Text from outside without what a terminal would act on: control characters are shown, not sent."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in untrusted)
