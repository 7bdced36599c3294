"""Gaps of the result stream: said once, doubted by every book, and over for a book that is shown to be right.

What was never read may have been a fill of any symbol. A book counts again when a snapshot requested after the gap
was noticed equals it, to the last digit, or when a person settles it.
"""

from __future__ import annotations

import logging
from decimal import Decimal

import msgspec

from ..store.books import BookStore, Change, Cursor
from ..store.connect import ServerClock
from ..store.result_stream import Missing, ResultStream
from ..store.switches import event_json
from .hooks import Hooks
from .memory import Memory

log = logging.getLogger("p33.gaps")


class Gaps:
    """Declares and clears gaps, on the bookkeeper's thread."""

    def __init__(self, store: BookStore, stream: ResultStream, memory: Memory, clock: ServerClock,
                 hooks: Hooks) -> None:
        self.store, self.stream, self.memory, self.clock, self.hooks = store, stream, memory, clock, hooks
        self._seen_poll = 0

    def declare(self, cursor: Cursor, missing: Missing) -> Cursor:
        """From now on every book is doubtful. Returns where to go on reading."""
        now_ms = self.clock.now_ms()
        event = event_json("gap", at_ms=now_ms, by=self.memory.instance, stream=self.stream.name, what=missing.what,
                           cursor=cursor.last_id, missing=missing.entries)
        self.stream.declare_gap(missing, at_ms=now_ms, event=event)
        self.memory.gap_ms = now_ms
        self.hooks.gap(self.stream.name)
        log.error("stream.gap", extra={"fields": {"stream": self.stream.name, "what": missing.what,
                                                  "missing": missing.entries}})
        return missing.restart

    def step(self) -> None:
        """Look at the newest good poll once; call only when every result there is has been booked."""
        poll, gap_ms = self.memory.last_good_poll, self.memory.gap_ms
        if not gap_ms or poll is None or poll.requested_mono_ns == self._seen_poll or poll.requested_ms <= gap_ms:
            return
        self._seen_poll = poll.requested_mono_ns
        for symbol in list(self.memory.books):
            self._clear(symbol, poll.positions.get(symbol))

    def _clear(self, symbol: str, amt: Decimal | None) -> None:
        line, gap_ms = self.memory.books[symbol].line, self.memory.gap_ms
        if line.book is None or not line.gap_since(gap_ms) or amt != line.book.amt:
            return
        cleared = msgspec.structs.replace(line, ver=line.ver + 1, gap_cleared_ms=gap_ms)
        if self.store.change(Change(symbol=symbol, ver=line.ver, line=cleared)) is None:
            self.memory.reread_books.set()
            return
        self.memory.keep_book(symbol, cleared)
        log.info("gap.cleared", extra={"fields": {"symbol": symbol}})
