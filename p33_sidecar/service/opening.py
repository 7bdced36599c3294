"""Opening balances: how a symbol that has no book gets one, and how a doubtful book is shown to be right.

Two replies at least half a second apart must agree; the opening holds as of the first one's request. A result in
between starts it over, unless the symbol was flat: then it opens at zero and the fill is booked on top. Nothing
is adopted in hedge mode or from a symbol the reply does not list.
"""

from __future__ import annotations

import logging
from decimal import Decimal

import msgspec

from ..core.agreement import disagreement
from ..core.model import Book
from ..core.quantity import text
from ..core.results import Result
from ..store.books import BookStore, Change, JournalEntry
from ..store.connect import ServerClock
from ..store.state import BookLine
from .hooks import Hooks
from .memory import NO_LINE, Memory, Poll

log = logging.getLogger("p33.opening")

APART_MS = 500


class Candidate(msgspec.Struct, frozen=True):
    """What the first reply said, and when it was asked."""

    amt: Decimal
    as_of_ms: int


class Openings:
    """The bookkeeper's part for books that do not exist yet, or are in doubt after a gap."""

    def __init__(self, store: BookStore, memory: Memory, clock: ServerClock, hooks: Hooks, *, adopt: bool) -> None:
        self.store, self.memory, self.clock, self.hooks, self.adopt = store, memory, clock, hooks, adopt
        self.candidates: dict[str, Candidate] = {}
        self.pending = False
        self._seen_poll = 0

    def step(self) -> None:
        """Look at the newest good poll once; call only when every result there is has been booked."""
        poll = self.memory.last_good_poll
        if poll is None or poll.requested_mono_ns == self._seen_poll:
            return
        self._seen_poll = poll.requested_mono_ns
        if self.memory.gap_ms:
            self._clear_gaps(poll)
        wanted = [s for s in self.memory.scope if self.memory.books.get(s, NO_LINE).line.book is None]
        for symbol in wanted:
            self._consider(symbol, poll)
        self.candidates = {s: c for s, c in self.candidates.items() if s in wanted}
        self.pending = self.adopt and bool(self.candidates)
        self.memory.opening_pending = self.pending
        self.memory.openings_considered = True

    # -- opening ----------------------------------------------------------------------------------------------

    def _consider(self, symbol: str, poll: Poll) -> None:
        amt = self.memory.positions.get(symbol)
        if not self.adopt or amt is None:
            self.candidates.pop(symbol, None)
            return
        first = self.candidates.get(symbol)
        if first is None or first.amt != amt:
            self.candidates[symbol] = Candidate(amt, poll.requested_ms)
        elif poll.requested_ms - first.as_of_ms >= APART_MS:
            self._open(symbol, first)

    def _open(self, symbol: str, candidate: Candidate) -> None:
        before = self.memory.books.get(symbol, NO_LINE).line
        line = self._opened(symbol, candidate, before)
        change = Change(symbol=symbol, ver=before.ver, line=line, write_view=True,
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
        book = Book(symbol=symbol, amt=candidate.amt, rev=1, source="opening",
                    updated_epoch=self.clock.now_ms() // 1000, opened_ms=candidate.as_of_ms)
        return msgspec.structs.replace(before, book=book, ver=before.ver + 1, unsettled=0)

    def _entry(self, symbol: str, candidate: Candidate, why: str) -> JournalEntry:
        return JournalEntry(v=1, symbol=symbol, rev=1, cause="opening", delta=text(candidate.amt), amt_before=None,
                            amt_after=text(candidate.amt), at_ms=self.clock.now_ms(), by="bookkeeper",
                            why=f"{why}, as of {candidate.as_of_ms}")

    # -- a result for a symbol without a book -----------------------------------------------------------------

    def line_for(self, result: Result, seen_ms: int) -> BookLine:
        """The line a result is applied to: the book, or one opened at zero just before it, or none at all."""
        line = self.memory.books.get(result.symbol, NO_LINE).line
        if line.book is not None:
            return line
        poll = self.memory.last_good_poll
        flat = poll is not None and self.memory.positions.get(result.symbol) == 0 and poll.requested_ms < seen_ms
        first = self.candidates.get(result.symbol)
        if self.adopt and flat and (first is None or first.amt == 0):
            as_of_ms = first.as_of_ms if first else poll.requested_ms
            opened = self._opened(result.symbol, Candidate(Decimal(0), as_of_ms), line)
            return msgspec.structs.replace(opened, ver=line.ver)
        if first is not None and first.as_of_ms <= seen_ms:
            self.candidates.pop(result.symbol)
        return line

    def journal(self, symbol: str, line: BookLine) -> JournalEntry | None:
        """The journal entry of a book that `line_for` has just opened."""
        stored = self.memory.books.get(symbol, NO_LINE).line
        if stored.book is not None or line.book is None:
            return None
        return self._entry(symbol, Candidate(line.book.amt, line.book.opened_ms), "flat before its first fill")

    # -- after a gap ------------------------------------------------------------------------------------------

    def _clear_gaps(self, poll: Poll) -> None:
        """A snapshot requested after the gap that equals the book shows that nothing is missing from it."""
        if poll.requested_ms <= self.memory.gap_ms:
            return
        for symbol, kept in list(self.memory.books.items()):
            line, amt = kept.line, self.memory.positions.get(symbol)
            if not line.gap_since(self.memory.gap_ms) or line.book is None or amt is None:
                continue
            if disagreement(amt, line.book.amt, tolerance_pct=self.memory.policy.qty_tolerance_pct):
                continue
            cleared = msgspec.structs.replace(line, ver=line.ver + 1, gap_cleared_ms=self.memory.gap_ms)
            if self.store.change(Change(symbol=symbol, ver=line.ver, line=cleared)) is not None:
                self.memory.keep_book(symbol, cleared)
                log.info("gap.cleared", extra={"fields": {"symbol": symbol}})
