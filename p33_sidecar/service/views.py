"""The ledger's hashes: views of the books, renewed while the service runs, rebuilt where they are gone.

What somebody else changed is never put right in silence: its symbol is denied until a person settles it, even if the
writer puts the old value back. A book, or its orders, that cannot be read at all make way for one that says so.
"""

from __future__ import annotations

import logging

import msgspec

from ..store.books import BookStore, Change
from ..store.connect import ServerClock
from ..store.state import BookLine
from ..store.switches import add_event, event_json
from .hooks import Hooks
from .memory import Memory

log = logging.getLogger("p33.views")

RENEW_EVERY_MS = 20_000
CHUNK = 100
"""Hashes looked at in one turn, so that results never wait for all of them."""


class Views:
    """`step()` looks at the next few hashes when a round is due."""

    def __init__(self, store: BookStore, memory: Memory, clock: ServerClock, hooks: Hooks) -> None:
        self.store, self.memory, self.clock, self.hooks = store, memory, clock, hooks
        self._round_ms = 0
        self._to_renew: list[str] = []

    def step(self) -> None:
        """Renew the next chunk; rebuild a hash that is gone, flag one that somebody changed."""
        now_ms = self.clock.now_ms()
        if not self._to_renew:
            if 0 <= now_ms - self._round_ms < RENEW_EVERY_MS:
                return
            self._round_ms, self._to_renew = now_ms, list(self.memory.books)
        chunk, self._to_renew = self._to_renew[:CHUNK], self._to_renew[CHUNK:]
        lines = {symbol: self.memory.books[symbol].line for symbol in chunk if symbol in self.memory.books}
        found = self.store.renew_views(lines)
        for symbol in found.wrecked:
            self.set_aside(symbol)
        for symbol in set(found.gone) - set(found.wrecked):
            if not self.store.rebuild_view(symbol, lines[symbol]):
                self.memory.reread_books.set()
        for symbol in set(found.changed) - set(found.wrecked):
            self.flag(symbol, lines[symbol])

    def set_aside(self, symbol: str) -> BookLine:
        """Keys of the symbol that cannot be read make way for a book that a person has to settle."""
        now_ms = self.clock.now_ms()
        event = event_json("tampering", at_ms=now_ms, by=self.memory.instance, symbol=symbol, what="unreadable")
        wrecked = self.store.set_aside(symbol, at_ms=now_ms, event=event)
        if wrecked:
            self.hooks.anomaly("book_unreadable")
            log.error("book.unreadable", extra={"fields": {"symbol": symbol, "keys": wrecked}})
        line = self.store.line(symbol)
        self.memory.keep_book(symbol, line)
        return line

    def flag(self, symbol: str, line: BookLine) -> None:
        """Deny the symbol from now on, once, with an event."""
        if line.tampered:
            return
        now_ms = self.clock.now_ms()
        flagged = msgspec.structs.replace(line, ver=line.ver + 1, tampered=f"noticed {now_ms}")
        if self.store.change(Change(symbol=symbol, ver=line.ver, line=flagged)) is None:
            self.memory.reread_books.set()
            return
        self.memory.keep_book(symbol, flagged)
        add_event(self.store.redis, "tampering", at_ms=now_ms, by=self.memory.instance, symbol=symbol)
        self.hooks.anomaly("ledger_tampered")
        log.error("ledger.tampered", extra={"fields": {"symbol": symbol}})
