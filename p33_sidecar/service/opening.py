"""Opening balances: how a symbol that has no book gets one.

Two replies at least half a second apart must agree; the opening holds as of the first one's request. A result in
between starts it over, unless the symbol was flat: then it opens at zero and the fill is booked on top. Nothing is
adopted in hedge mode, from a symbol the reply does not list, while an order of the symbol may still fill, or where a
book was there and is lost: that is a person's to settle.
"""

from __future__ import annotations

import logging
from decimal import Decimal

import msgspec

from ..core.ledger import opened_because
from ..core.model import Book
from ..core.quantity import ZERO, text
from ..core.results import Result
from ..store.books import BookStore, Change, Cursor, JournalEntry
from ..store.connect import ServerClock
from ..store.state import BookLine
from .booking import BOOKKEEPER, OPENING
from .hooks import Hooks
from .memory import NO_LINE, Memory, Poll

log = logging.getLogger("p33.opening")

APART_MS = 500


class Candidate(msgspec.Struct, frozen=True):
    """What the first reply said, and when it was asked."""

    amt: Decimal
    as_of_ms: int


class Openings:
    """The bookkeeper's part for books that do not exist yet."""

    def __init__(self, store: BookStore, memory: Memory, clock: ServerClock, hooks: Hooks, *, adopt: bool) -> None:
        self.store, self.memory, self.clock, self.hooks, self.adopt = store, memory, clock, hooks, adopt
        self.candidates: dict[str, Candidate] = {}
        self._seen_poll = 0

    def step(self, cursor: Cursor) -> None:
        """Look at the newest good poll once; call only when every result up to `cursor` has been booked."""
        poll = self.memory.last_good_poll
        if poll is None or poll.requested_mono_ns == self._seen_poll:
            return
        self._seen_poll = poll.requested_mono_ns
        wanted = [s for s in self.memory.scope if self._line(s).book is None]
        for symbol in wanted:
            self._consider(symbol, poll, cursor)
        self.candidates = {s: c for s, c in self.candidates.items() if s in wanted}
        self.memory.opening_pending = self.adopt and bool(self.candidates)
        self.memory.openings_considered = True

    def _line(self, symbol: str) -> BookLine:
        return self.memory.books.get(symbol, NO_LINE).line

    # -- from two replies -------------------------------------------------------------------------------------

    def _consider(self, symbol: str, poll: Poll, cursor: Cursor) -> None:
        amt = poll.positions.get(symbol)
        if amt is None or not self._may_open(symbol):
            self.candidates.pop(symbol, None)
            return
        first = self.candidates.get(symbol)
        if first is None or first.amt != amt:
            self.candidates[symbol] = Candidate(amt, poll.requested_ms)
        elif poll.requested_ms - first.as_of_ms >= APART_MS:
            self._open(symbol, first, cursor)

    def _may_open(self, symbol: str) -> bool:
        line = self._line(symbol)
        return self.adopt and not line.unsettled and not line.tampered

    def _open(self, symbol: str, candidate: Candidate, cursor: Cursor) -> None:
        """Adopt it, unless a result has come in meanwhile: then it is read first, and may start this over."""
        before = self._line(symbol)
        line = self._opened(symbol, candidate, before)
        change = Change(symbol=symbol, ver=before.ver, line=line, write_view=True, quiet_after=cursor,
                        journal=(self._entry(symbol, candidate, "two agreeing replies"),))
        if self.store.change(change) is None:
            self.memory.reread_books.set()
            return
        self.candidates.pop(symbol, None)
        self.memory.keep_book(symbol, line)
        self.hooks.booked(symbol)
        if candidate.amt:
            log.info("book.opened", extra={"fields": {"symbol": symbol, "amt": text(candidate.amt)}})

    def _opened(self, symbol: str, candidate: Candidate, before: BookLine) -> BookLine:
        book = Book(symbol=symbol, amt=candidate.amt, rev=1, source=OPENING,
                    updated_epoch=self.clock.now_ms() // 1000, opened_ms=candidate.as_of_ms)
        return msgspec.structs.replace(before, book=book, ver=before.ver + 1)

    def _entry(self, symbol: str, candidate: Candidate, why: str) -> JournalEntry:
        return JournalEntry(v=1, symbol=symbol, rev=1, cause=OPENING, delta=text(candidate.amt), amt_before=None,
                            amt_after=text(candidate.amt), at_ms=self.clock.now_ms(), by=BOOKKEEPER,
                            why=opened_because(why, as_of_ms=candidate.as_of_ms))

    # -- from a first fill ------------------------------------------------------------------------------------

    def before(self, result: Result, seen_ms: int) -> tuple[BookLine, JournalEntry | None]:
        """(the line a result is applied to, the entry of a book that was opened at zero just before it).

        For a symbol without a book that is not known to have been flat, the adoption starts over.
        """
        symbol, line = result.symbol, self._line(result.symbol)
        if line.book is not None or not result.reports:
            return line, None
        first = self.candidates.get(symbol)
        if self._may_open(symbol) and self._was_flat(symbol, seen_ms) and (first is None or first.amt == 0):
            flat = Candidate(ZERO, first.as_of_ms if first else self.memory.last_good_poll.requested_ms)
            opened = msgspec.structs.replace(self._opened(symbol, flat, line), ver=line.ver)
            return opened, self._entry(symbol, flat, "flat before its first fill")
        if first is not None and first.as_of_ms <= seen_ms:
            self.candidates.pop(symbol)
        return line, None

    def _was_flat(self, symbol: str, seen_ms: int) -> bool:
        """In the last good reply, asked for before the result became known."""
        poll = self.memory.last_good_poll
        return poll is not None and poll.requested_ms < seen_ms and poll.positions.get(symbol) == 0
