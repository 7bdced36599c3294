"""The bookkeeper: results become bookings, strictly in stream order, each once.

A result is booked by the step that moves the cursor past it; between the two nothing can happen. What it does to a book
is `booking`'s to say, what opens one `opening`'s; here is only the order of things. What cannot be understood is kept
and passed over; what is missing from the stream is a gap (`gaps`); a symbol whose keys cannot be read is set aside and
denied, and stands in nobody else's way.
"""

from __future__ import annotations

import logging

from ..core.plan import MessageRefused
from ..core.results import Result, result_of
from ..exchange import OrderState
from ..store.books import BookStore, Change, Cursor, Unsettled, Wrecked
from ..store.connect import ServerClock
from ..store.result_stream import ResultStream
from ..store.state import BookLine, entry_order
from ..store.verdicts import reject
from .booking import Booked, Known, book_fate, book_result, names_of_fate
from .gaps import Gaps
from .hooks import Hooks
from .memory import NO_LINE, Memory
from .opening import Openings
from .views import Views

log = logging.getLogger("p33.bookkeeper")

BATCH = 200
IDLE_BLOCK_MS = 1000
OPENING_BLOCK_MS, FATE_BLOCK_MS = 50, 250
"""While openings or fates are waited for, which do not come through the stream."""
ATTEMPTS = 3


class Bookkeeper:
    """Owns every change of the books that results and fates cause. `step()` books what there is and returns."""

    def __init__(self, store: BookStore, memory: Memory, clock: ServerClock, hooks: Hooks, *, adopt: bool) -> None:
        self.store, self.memory, self.clock, self.hooks = store, memory, clock, hooks
        self.stream = ResultStream(store.redis, store.stream)
        self.openings = Openings(store, memory, clock, hooks, adopt=adopt)
        self.gaps = Gaps(store, self.stream, memory, clock, hooks)
        self.views = Views(store, memory, clock, hooks)

    # -- one turn ---------------------------------------------------------------------------------------------

    def step(self, *, block_ms: int | None = IDLE_BLOCK_MS) -> int:
        """Book what is there, then open, verify and renew. Returns how many results and fates it dealt with."""
        if self.memory.reread_books.is_set() or not self.memory.books_read:
            self._reload()
        entries, missing = self.stream.look(self.memory.cursor, count=BATCH)
        if missing:
            self.memory.cursor = self.gaps.declare(self.memory.cursor, missing)
            return 1
        for entry_id, fields in entries:
            if not self._book(entry_id, fields):
                self.memory.reread_books.set()
                return 0
        done = len(entries) + self._book_fates()
        if not done:
            self._be_idle(block_ms)
        return done

    def _be_idle(self, block_ms: int | None) -> None:
        try:
            self.openings.step(self.memory.cursor)
            self.gaps.step()
            self.views.step()
        except Wrecked as wrecked:
            self.views.set_aside(wrecked.symbol)
        if block_ms:
            self.stream.wait(self.memory.cursor, block_ms=min(block_ms, self._longest_wait_ms()))

    def _longest_wait_ms(self) -> int:
        if self.memory.opening_pending or not self.memory.compared:
            return OPENING_BLOCK_MS
        return FATE_BLOCK_MS if self.memory.unsettled else IDLE_BLOCK_MS

    # -- what is believed -------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Read cursor and books again: at the start, after a lost connection, and when somebody else changed them."""
        memory = self.memory
        memory.reread_books.clear()
        lines = self.store.lines(self.store.symbols())
        lines = {s: self.views.set_aside(s) if line is None or not line.ver else line for s, line in lines.items()}
        for symbol in [s for s in memory.books if s not in lines]:
            del memory.books[symbol]
        for symbol, line in lines.items():
            memory.keep_book(symbol, line, order_mono_ns=self._order_mono(symbol, line))
        memory.gap_ms = self.stream.gap_ms()
        self.memory.cursor = self.stream.cursor() or self.stream.begin()
        self._list_unsettled(lines)
        memory.unsettled = sum(line.unsettled for line in lines.values())
        memory.books_read = True

    def _order_mono(self, symbol: str, line: BookLine) -> int | None:
        """An order from the server's future (its clock was wrong) is as old as our knowledge of it (T13)."""
        known = self.memory.books.get(symbol, NO_LINE)
        same = known.line.book and line.book and known.line.book.last_order_ms == line.book.last_order_ms
        if same and known.order_mono_ns is not None:
            return known.order_mono_ns
        in_future = line.book is not None and line.book.last_order_ms > self.clock.now_ms()
        return self.clock.mono_ns() if in_future else None

    def _list_unsettled(self, lines: dict[str, BookLine]) -> None:
        """Orders that a book waits for and that the list lacks, so that nobody would ask, are listed again."""
        listed = [order.symbol for order in self.store.unsettled()]
        for symbol in [s for s, line in lines.items() if line.unsettled > listed.count(s)]:
            try:
                orders = tuple(Unsettled(symbol, key, mark.plan_id, mark.order_id, mark.side, mark.reduce_only,
                                         mark.seen_ms, mark.client_id)
                               for key, _, mark in self.store.marks(symbol) if mark and not mark.settled)
                self.store.change(Change(symbol=symbol, ver=lines[symbol].ver, unsettled=orders))
            except Wrecked as wrecked:
                self.views.set_aside(wrecked.symbol)

    def _line(self, symbol: str) -> BookLine:
        return self.memory.books.get(symbol, NO_LINE).line

    # -- results ----------------------------------------------------------------------------------------------

    def _book(self, entry_id: str, fields: dict[str, str]) -> bool:
        """One entry, in one atomic step. False: somebody else has moved the cursor or the book."""
        after = Cursor(last_id=entry_id, added=self.memory.cursor.added + 1)
        try:
            result = result_of(fields)
        except MessageRefused as refused:
            return self._refuse(entry_id, fields, refused.reason, after)
        for _ in range(ATTEMPTS):
            try:
                if self._try(entry_id, result, after):
                    self.memory.cursor = after
                    return True
                self.memory.keep_book(result.symbol, self.store.line(result.symbol))
            except Wrecked as wrecked:
                self.views.set_aside(wrecked.symbol)
            if self.stream.cursor() != self.memory.cursor:
                return False
        return False

    def _try(self, entry_id: str, result: Result, after: Cursor) -> bool:
        """The result on what is known now. False: the book or the cursor had moved."""
        entry_ms = entry_order(entry_id)[0]
        now_ms = self.clock.now_ms_at(entry_ms)
        seen_ms = min(entry_ms, now_ms)
        known = self._known(result.symbol, [name for report in result.reports for name in report.names])
        line, opening = self.openings.before(result, seen_ms)
        booked = book_result(line, result, known, entry_id=entry_id, seen_ms=seen_ms, now_ms=now_ms, opening=opening)
        return self._write(result.symbol, booked, plan_id=result.plan_id, result_ms=seen_ms, ending=result.ending,
                           cursor_from=self.memory.cursor, cursor_to=after)

    def _refuse(self, entry_id: str, fields: dict[str, str], reason: str, after: Cursor) -> bool:
        outcome = reject(self.store.redis, self.store.stream, entry_id, fields, reason=reason,
                         now_ms=self.clock.now_ms(), cursor=(self.memory.cursor.text(), after.text()))
        if outcome < 0:
            return False
        if outcome:
            self.hooks.rejected("result", reason)
            log.warning("result.rejected", extra={"fields": {"entry": entry_id, "reason": reason}})
        self.memory.cursor = after
        return True

    # -- fates ------------------------------------------------------------------------------------------------

    def _book_fates(self) -> int:
        """What the exchange said of orders that were not settled. An answer that is lost is asked for again."""
        done = 0
        while self.memory.fates:
            order, state = self.memory.fates.popleft()
            try:
                if not self._settle(order, state):
                    self.memory.reread_books.set()
            except Wrecked as wrecked:
                self.views.set_aside(wrecked.symbol)
            done += 1
        return done

    def _settle(self, order: Unsettled, state: OrderState | None) -> bool:
        known = self._known(order.symbol, list(names_of_fate(order, state)))
        booked = book_fate(self._line(order.symbol), order, known, state, now_ms=self.clock.now_ms())
        if not self._write(order.symbol, booked):
            return False
        log.info("order.settled", extra={"fields": {
            "symbol": order.symbol, "order_id": order.order_id or order.key, "status": state.status if state else "",
            "delta": [entry.delta for entry in booked.journal]}})
        return True

    # -- writing ----------------------------------------------------------------------------------------------

    def _known(self, symbol: str, names: list[str]) -> Known:
        if not names:
            return Known()
        horizon_ms, orders = self.store.known(symbol, list(dict.fromkeys(names)))
        return Known(orders, horizon_ms)

    def _write(self, symbol: str, booked: Booked, **result: object) -> bool:
        """All of it in one step, and memory follows. False: the book or the cursor had moved."""
        before = self._line(symbol)
        change = Change(
            symbol=symbol, ver=before.ver, line=booked.line, marks=booked.marks, names=booked.names,
            unsettled=tuple(booked.unsettled), settled=tuple(booked.settled), journal=tuple(booked.journal),
            write_view=booked.write_view, **result)
        if self.store.change(change) is None:
            return False
        if booked.line is not None:
            self._remember(symbol, before, booked.line)
        if booked.write_view:
            self.hooks.booked(symbol)
        for anomaly in booked.anomalies:
            self.hooks.anomaly(anomaly)
            log.error("booking.anomaly", extra={"fields": {"symbol": symbol, "kind": anomaly}})
        return True

    def _remember(self, symbol: str, before: BookLine, after: BookLine) -> None:
        """Memory's copy, and when an order last moved the book by our own clock."""
        moved = after.book is not None and (before.book is None or before.book.rev != after.book.rev)
        self.memory.keep_book(symbol, after, order_mono_ns=self.clock.mono_ns() if moved else None)
        self.memory.unsettled += after.unsettled - before.unsettled
