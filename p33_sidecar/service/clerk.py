"""The clerk: everything that may be slow and must not stand in anybody's way.

Symbol filters (hourly, and when a plan names a symbol that is not in them), orders whose fate is open, the
switches for the page, old records. A failure here is tried again at the next turn; verdicts go on meanwhile.
"""

from __future__ import annotations

import logging

import msgspec

from ..core.ledger import OrderMark, OrderReport, book_order
from ..core.model import Book
from ..core.orders import client_order_id
from ..core.quantity import text
from ..errors import ExchangeUnavailable
from ..exchange import Exchange, OrderState
from ..store import keys, switches
from ..store.books import BookStore, Change, JournalEntry, Unsettled
from ..store.connect import ServerClock, is_durable
from ..store.positions import PositionStore
from .hooks import Hooks
from .memory import Memory

log = logging.getLogger("p33.clerk")

FILTERS_EVERY_MS = 3_600_000
FILTERS_RETRY_MS = 5_000
UNKNOWN_SYMBOL_APART_MS = 60_000
LOOK_UP_FIRST_MS = 500
LOOK_UP_LONGEST_MS = 30_000
KEEP_RECORDS_MS = 14 * 86_400_000
TRIM_EVERY_MS = 600_000


class Clerk:
    """`step()` does what is due and returns; the lifecycle waits in between."""

    def __init__(self, exchange: Exchange, positions: PositionStore, books: BookStore, memory: Memory,
                 clock: ServerClock, hooks: Hooks) -> None:
        self.exchange, self.positions, self.books = exchange, positions, books
        self.memory, self.clock, self.hooks = memory, clock, hooks
        self._filters_tried_ms = self._trimmed_ms = 0
        self._looked_up: dict[str, tuple[int, int]] = {}
        self._durable_checked_ms = 0

    def step(self) -> None:
        """One turn over everything that is due."""
        now_ms = self.clock.now_ms()
        self.memory.halts = switches.halts_of(self.positions.redis, self.memory.scope)
        if self.memory.durable is None or now_ms - self._durable_checked_ms > 60_000:
            self.memory.durable, self._durable_checked_ms = is_durable(self.positions.redis), now_ms
        self._filters(now_ms)
        if self.memory.unsettled and self.exchange.configured:
            for order in self.books.unsettled():
                self._look_up(order, now_ms)
        self._trim(now_ms)

    # -- filters ----------------------------------------------------------------------------------------------

    def _filters(self, now_ms: int) -> None:
        memory = self.memory
        if memory.filters is None and (stored := self.positions.filters()):
            memory.filters_read_ms, memory.filters = stored
        if now_ms - self._filters_tried_ms < FILTERS_RETRY_MS or not self._filters_due(now_ms):
            return
        self._filters_tried_ms = now_ms
        try:
            reply = self.exchange.filters()
        except ExchangeUnavailable as failure:
            log.warning("filters.failed", extra={"fields": {"kind": failure.kind}})
            return
        self.positions.put_filters(reply.filters, read_ms=now_ms)
        memory.filters, memory.filters_read_ms = reply.filters, now_ms

    def _filters_due(self, now_ms: int) -> bool:
        memory = self.memory
        if memory.filters is None or now_ms - memory.filters_read_ms >= FILTERS_EVERY_MS:
            return True
        unknown = (memory.scope | memory.unknown_symbols) - memory.filters.keys()
        return bool(unknown) and now_ms - memory.filters_read_ms >= UNKNOWN_SYMBOL_APART_MS

    # -- orders whose fate is open ----------------------------------------------------------------------------

    def _look_up(self, order: Unsettled, now_ms: int) -> None:
        """Ask for the order, less and less often, until the exchange says how it ended."""
        due_ms, pause_ms = self._looked_up.get(order.field(), (0, LOOK_UP_FIRST_MS))
        if now_ms < due_ms:
            return
        self._looked_up[order.field()] = (now_ms + pause_ms, min(pause_ms * 2, LOOK_UP_LONGEST_MS))
        try:
            state = self.exchange.order(order.symbol, order_id=order.order_id,
                                        client_order_id="" if order.order_id else client_order_id(order.plan_id))
        except ExchangeUnavailable as failure:
            log.warning("order.unknown", extra={"fields": {"symbol": order.symbol, "kind": failure.kind}})
            return
        if state is None or not state.terminal:
            return
        if self._settle(order, state):
            self._looked_up.pop(order.field(), None)

    def _settle(self, order: Unsettled, state: OrderState) -> bool:
        """Book the order's final total, once, and free the symbol."""
        now_ms, line = self.clock.now_ms(), self.books.line(order.symbol)
        before = self.books.marks(order.symbol, [order.key]).get(order.key)
        if line.book is None or before is None or before.settled:
            return self._forget(order, line.ver)
        report = OrderReport(
            key=order.key, alias="", side=state.side or order.side, executed_qty=state.executed_qty, settled=True,
            reduce_only=order.reduce_only or state.reduce_only, order_id=state.order_id or order.order_id)
        booking = book_order(line.book.amt, report, before=before, plan_id=order.plan_id, seen_ms=now_ms)
        changed = bool(booking.delta)
        book = line.book if not changed else Book(
            symbol=order.symbol, amt=booking.amt_after, rev=line.book.rev + 1, source="fill",
            last_order_id=report.order_id or order.key, last_order_ms=now_ms, updated_epoch=now_ms // 1000,
            opened_ms=line.book.opened_ms)
        after = msgspec.structs.replace(line, book=book, ver=line.ver + 1, unsettled=max(line.unsettled - 1, 0))
        marks: dict[str, OrderMark] = {order.key: booking.mark}
        if report.order_id:
            marks[report.order_id] = booking.mark
        entry = JournalEntry(
            v=1, symbol=order.symbol, rev=book.rev, cause="fill", delta=text(booking.delta),
            amt_before=text(line.book.amt), amt_after=text(book.amt), at_ms=now_ms, order_id=report.order_id,
            plan_id=order.plan_id, by="clerk", why=f"looked up: {state.status}", anomaly=booking.anomaly)
        done = self.books.change(Change(
            symbol=order.symbol, ver=line.ver, line=after, marks=marks, settled=(order.key,),
            journal=(entry,) if changed else (), write_view=changed))
        if done is None:
            return False
        self.memory.keep_book(order.symbol, after, order_mono_ns=self.clock.mono_ns() if changed else None)
        self.memory.unsettled = max(self.memory.unsettled - 1, 0)
        log.info("order.settled", extra={"fields": {"symbol": order.symbol, "order_id": report.order_id,
                                                    "status": state.status, "delta": text(booking.delta)}})
        return True

    def _forget(self, order: Unsettled, ver: int) -> bool:
        """The order is settled already, or belongs to no book: take it off the list."""
        done = self.books.change(Change(symbol=order.symbol, ver=ver, settled=(order.key,)))
        self.memory.unsettled = max(self.memory.unsettled - 1, 0)
        return done is not None

    # -- old records ------------------------------------------------------------------------------------------

    def _trim(self, now_ms: int) -> None:
        """Records older than a fortnight go, an approximate cut at a time, so that memory stays bounded."""
        if now_ms - self._trimmed_ms < TRIM_EVERY_MS:
            return
        self._trimmed_ms = now_ms
        for stream in keys.RECORD_STREAMS:
            self.positions.redis.xtrim(stream, minid=f"{now_ms - KEEP_RECORDS_MS}-0", approximate=True)

