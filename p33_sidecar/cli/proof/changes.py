"""What is different from the last proof: versions, thresholds, settings, and what people and the gate did since.

A change is no fault: the point fails only where the comparison itself cannot be made, or where the stale threshold
stands loosened, which somebody once meant for half an hour (incident I24).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from ...store import keys
from ..session import Session
from ..units import moment, plain
from .points import Point, Seen

COUNTED: Final = 20_000
"""Verdicts counted at most; more than that is said as `at least`."""


class Picture(msgspec.Struct, frozen=True):
    """What a proof keeps to compare the next one with. No secret: settings as `public` shows them."""

    at_ms: int
    version: str
    policy_hash: str
    venue: str
    settings: dict[str, str]
    books: dict[str, str]


class _Kept(msgspec.Struct):
    """The part of a kept proof that is compared."""

    picture: Picture


def taken(session: Session, seen: Seen) -> Picture:
    """How things stand now."""
    status = seen.status
    return Picture(
        at_ms=session.reading.now_ms(), version=str(status.get("version", "")),
        policy_hash=str(status.get("policy_hash", "")), venue=str(status.get("venue", "")),
        settings=session.settings.public(),
        books={s["symbol"]: s["ledger"]["amt"] for s in status.get("symbols", []) if s["ledger"]})


def changes(session: Session, now: Picture, kept: Path | None) -> Point:
    """Now against the proof in `kept`, where there is one."""
    loosened = [w for w in session.settings.warnings() if "is loosened" in w]
    try:
        before = _read(kept)
    except (OSError, msgspec.MsgspecError) as error:
        return Point("changes", False, plain(f"{kept} cannot be compared with: {error}"))
    if before is None:
        said = ["this is the first proof kept here" if kept else "nothing to compare with (--keep FILE)"]
    else:
        said = [f"since {moment(before.at_ms)}", *(_apart(before, now) or ["same version, thresholds and settings"]),
                *_happened(session, before.at_ms)]
    return Point("changes", not loosened, plain("; ".join([*loosened, *said])))


def _read(kept: Path | None) -> Picture | None:
    if kept is None or not kept.exists():
        return None
    return msgspec.json.decode(kept.read_bytes(), type=_Kept).picture


def _apart(before: Picture, now: Picture) -> list[str]:
    names = [(name, getattr(before, name), getattr(now, name)) for name in ("version", "policy_hash", "venue")]
    settings = sorted(before.settings.keys() | now.settings.keys())
    names += [(name, before.settings.get(name, ""), now.settings.get(name, "")) for name in settings]
    names += [(f"book {symbol}", before.books.get(symbol, "-"), now.books.get(symbol, "-"))
              for symbol in sorted(before.books.keys() | now.books.keys())]
    return [f"{name} {was or '-'} → {is_ or '-'}" for name, was, is_ in names if was != is_]


def _happened(session: Session, since_ms: int) -> list[str]:
    """Verdicts and events since, counted."""
    outcomes: Counter[str] = Counter()
    for entry in session.reading.decisions(from_ms=since_ms):
        outcomes[entry.fields.get("outcome", "?")] += 1
        if outcomes.total() >= COUNTED:
            break
    least = "at least " if outcomes.total() >= COUNTED else ""
    kinds = Counter(fields.get("kind", "?") for _, fields in _events(session, since_ms))
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "no events"
    return [f"{least}{outcomes['ALLOW']} ALLOW and {outcomes['DENY']} DENY", told]


def _events(session: Session, since_ms: int) -> list[tuple[str, dict[str, Any]]]:
    return list(session.reading.entries(keys.EVENTS, from_ms=since_ms))
