"""Which kill switches stood when a plan was denied, from the journal: who set each, why, and until when.

The verdict itself looks only at whether there is one, since every further read would be waited for. A switch that was
set by hand is journalled when the sidecar next looks, after the first denials it caused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ..store import keys
from ..store.reading import Reading, entry_ms
from ..store.switch_journal import BY_HAND
from .units import moment, plain

NOTICED_WITHIN_MS: Final = 60_000
"""A switch set by hand is journalled well before that while a sidecar runs."""
CLOCKS_APART_MS: Final = 1_000


class Halt(msgspec.Struct, frozen=True):
    """A kill switch as its event tells it; no `symbol`: everything."""

    symbol: str | None
    by: str
    reason: str
    since_ms: int
    until_ms: int | None

    @property
    def words(self) -> str:
        until = moment(self.until_ms) if self.until_ms else "somebody resumes"
        return (f"{plain(self.symbol or 'everything')} by {plain(self.by)} from {moment(self.since_ms)} until {until}: "
                f"{plain(self.reason) or 'no reason given'}")


def halts_behind(reading: Reading, symbol: str, at_ms: int) -> list[Halt]:
    """Those that stood for the symbol then, the global one first; none where no event tells of it."""
    noted = reading.noted(keys.EVENTS, to_ms=at_ms + NOTICED_WITHIN_MS)
    return standing(((entry_ms(entry_id), event) for entry_id, event in noted), symbol, at_ms)


def standing(events: Iterable[tuple[int, dict[str, Any]]], symbol: str, at_ms: int) -> list[Halt]:
    """The same from events with the times of their entries, oldest first."""
    ours = [(event_ms, event) for event_ms, event in events
            if event.get("kind") in ("halt", "resume") and event.get("symbol") in (None, symbol)]
    found: dict[str | None, Halt] = {}
    for event_ms, event in ours:
        if event["kind"] == "halt" and event_ms <= at_ms:
            found[event.get("symbol")] = _halt(event)
        elif event_ms < at_ms:
            found.pop(event.get("symbol"), None)
    stood = [found[of] for of in (None, symbol) if of in found and not _is_over(found[of], at_ms)]
    return stood or [_halt(event) for event_ms, event in ours
                     if event_ms > at_ms and event["kind"] == "halt" and event.get("by") == BY_HAND][:1]


def _halt(event: dict[str, Any]) -> Halt:
    until_ms = event.get("until_ms")
    return Halt(event.get("symbol"), str(event.get("by") or BY_HAND), str(event.get("reason") or ""),
                int(event.get("at_ms") or 0), until_ms if isinstance(until_ms, int) else None)


def _is_over(halt: Halt, at_ms: int) -> bool:
    """That its time was over is journalled a moment later, or by the next start."""
    return halt.until_ms is not None and halt.until_ms < at_ms - CLOCKS_APART_MS
