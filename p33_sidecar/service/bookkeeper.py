"""The bookkeeper: results become bookings, strictly in stream order, each once.

A result is booked by the step that moves the cursor past it; between the two nothing can happen. A fill never
opens a book by itself. What cannot be understood is kept and passed over; what is missing from the stream is a
gap, said aloud, and makes every book doubtful until it is shown to be right.
"""

from __future__ import annotations

import logging
from decimal import Decimal

import msgspec

from ..core.ledger import Booking, OrderMark, OrderReport, book_order, contain_order
from ..core.model import Book
from ..core.plan import MessageRefused
from ..core.quantity import ZERO, text
from ..core.results import Result, result_of
from ..store.books import BookStore, Change, Cursor, JournalEntry, Unsettled
from ..store.connect import ServerClock
from ..store.state import BookLine, entry_order
from ..store.switches import event_json
from ..store.verdicts import reject
from .hooks import Hooks
from .memory import NO_LINE, Memory
from .opening import Openings

log = logging.getLogger("p33.bookkeeper")

BATCH = 200
IDLE_BLOCK_MS = 1000
OPENING_BLOCK_MS = 50
RENEW_EVERY_MS = 20_000
GAP_CHECK_EVERY_MS = 2_000
_LATE_CHUNK = 100


class Bookkeeper:
    """Owns every change of the books that results cause. `step()` books what there is and returns."""

    def __init__(self, store: BookStore, memory: Memory, clock: ServerClock, hooks: Hooks, *, adopt: bool) -> None:
        self.store, self.memory, self.clock, self.hooks = store, memory, clock, hooks
        self.openings = Openings(store, memory, clock, hooks, adopt=adopt)
        self.cursor: Cursor | None = None
        self._renewed_ms = self._gap_checked_ms = 0
        self._to_renew: list[str] = []

    # -- one turn ---------------------------------------------------------------------------------------------

    def step(self, *, block_ms: int | None = IDLE_BLOCK_MS) -> int:
        """Book the results that are there, then open, verify and renew. Returns how many results it passed."""
        if self.cursor is None or self.memory.reread_books.is_set():
            self._reload()
        self._look_for_gap()
        settling_in = self.openings.pending or not self.memory.compared
        block_ms = min(block_ms, OPENING_BLOCK_MS) if block_ms and settling_in else block_ms
        entries = self.store.results(self.cursor, count=BATCH, block_ms=block_ms)
        for entry_id, fields in entries:
            if not self._book(entry_id, fields):
                self._reload()
                return 0
        if not entries:
            self.openings.step()
            self._tend_views()
        return len(entries)

    def _reload(self) -> None:
        """Read cursor and books again: at the start, after a lost connection, and when somebody else changed them."""
        memory = self.memory
        memory.reread_books.clear()
        lines = self.store.lines(self.store.symbols())
        for symbol in [s for s in memory.books if s not in lines]:
            del memory.books[symbol]
        for symbol, line in lines.items():
            memory.keep_book(symbol, line, order_mono_ns=self._order_mono(symbol, line))
        memory.gap_ms = self.store.gap_ms()
        memory.unsettled = len(self.store.unsettled())
        self.cursor = self.store.cursor() or self._first_cursor()
        memory.books_read = True

    def _order_mono(self, symbol: str, line: BookLine) -> int | None:
        """An order from the server's future (its clock was wrong) is as old as our knowledge of it (T13)."""
        known = self.memory.books.get(symbol, NO_LINE)
        same = known.line.book and line.book and known.line.book.last_order_ms == line.book.last_order_ms
        if same and known.order_mono_ns is not None:
            return known.order_mono_ns
        in_future = line.book is not None and line.book.last_order_ms > self.clock.now_ms()
        return self.clock.mono_ns() if in_future else None

    def _first_cursor(self) -> Cursor:
        """The very first start: everything still in the stream will be read, as contained in the openings."""
        info = self.store.stream_info()
        cursor = Cursor(last_id="0-0", added=max(info[2] - info[1], 0) if info else 0)
        self.store.put_cursor(cursor)
        return cursor

    # -- gaps -------------------------------------------------------------------------------------------------

    def _look_for_gap(self) -> None:
        """Entries that were added behind the cursor and are no longer there (incident I50)."""
        now_ms = self.clock.now_ms()
        if now_ms - self._gap_checked_ms < GAP_CHECK_EVERY_MS and now_ms >= self._gap_checked_ms:
            return
        self._gap_checked_ms = now_ms
        cursor, info = self.cursor, self.store.stream_info()
        missing = missing_entries(cursor, info)
        if not missing:
            return
        first, length, added, _ = info or ("", 0, 0, "0-0")
        restart = Cursor(last_id="0-0" if _recreated(cursor, info) else cursor.last_id, added=added - length)
        event = event_json("gap", at_ms=now_ms, by=self.memory.instance, stream=self.store.stream,
                           cursor=cursor.last_id, first=first, missing=missing)
        self.store.declare_gap(at_ms=now_ms, cursor=restart, event=event)
        self.cursor, self.memory.gap_ms = restart, now_ms
        self.hooks.gap(self.store.stream)
        log.error("stream.gap", extra={"fields": {"stream": self.store.stream, "missing": missing}})

    # -- booking ----------------------------------------------------------------------------------------------

    def _book(self, entry_id: str, fields: dict[str, str]) -> bool:
        """One entry, in one atomic step. False: somebody else has moved the cursor or the book."""
        after = Cursor(last_id=entry_id, added=self.cursor.added + 1)
        try:
            result = result_of(fields)
        except MessageRefused as refused:
            return self._refuse(entry_id, fields, refused.reason, after)
        for _ in range(3):
            change, booked = self._change(entry_id, result, after)
            if self.store.change(change) is not None:
                self._kept(change, booked)
                self.cursor = after
                return True
            if self.store.cursor() != self.cursor:
                return False
            self.memory.keep_book(result.symbol, self.store.line(result.symbol))
        return False

    def _refuse(self, entry_id: str, fields: dict[str, str], reason: str, after: Cursor) -> bool:
        outcome = reject(self.store.redis, self.store.stream, entry_id, fields, reason=reason,
                         now_ms=self.clock.now_ms(), cursor=(self.cursor.text(), after.text()))
        if outcome < 0:
            return False
        self.hooks.rejected("result", reason)
        log.warning("result.rejected", extra={"fields": {"entry": entry_id, "reason": reason}})
        self.cursor = after
        return True

    def _change(self, entry_id: str, result: Result, after: Cursor) -> tuple[Change, list[str | None]]:
        """What the result does to its symbol's book; (the change, anomalies of what was booked)."""
        now_ms = self.clock.now_ms()
        seen_ms = min(entry_order(entry_id)[0], now_ms)
        line = self.openings.line_for(result, seen_ms) if result.reports else self._line(result.symbol)
        booking = _Booking(self.store, line, result, entry_id=entry_id, seen_ms=seen_ms, now_ms=now_ms)
        booking.run(opening=self.openings.journal(result.symbol, line))
        change = Change(
            symbol=result.symbol, ver=self._line(result.symbol).ver, line=booking.line, marks=booking.marks,
            unsettled=tuple(booking.unsettled), settled=tuple(booking.settled), journal=tuple(booking.journal),
            write_view=booking.rewrites_view, plan_id=result.plan_id, result_ms=seen_ms, ending=result.ending,
            cursor_from=self.cursor, cursor_to=after,
        )
        return change, booking.anomalies

    def _line(self, symbol: str) -> BookLine:
        return self.memory.books.get(symbol, NO_LINE).line

    def _kept(self, change: Change, anomalies: list[str | None]) -> None:
        """The step is done: memory follows."""
        before = self._line(change.symbol)
        if change.line is not None:
            moved = change.line.book and (not before.book or change.line.book.last_order_ms != before.book.last_order_ms
                                          or change.line.book.rev != before.book.rev)
            self.memory.keep_book(change.symbol, change.line, order_mono_ns=self.clock.mono_ns() if moved else None)
            self.memory.unsettled += change.line.unsettled - before.unsettled
        if any(entry.cause in ("fill", "opening") for entry in change.journal):
            self.hooks.booked(change.symbol)
        for anomaly in filter(None, anomalies):
            self.hooks.anomaly(anomaly)
            log.error("booking.anomaly", extra={"fields": {"symbol": change.symbol, "kind": anomaly}})

    # -- the views --------------------------------------------------------------------------------------------

    def _tend_views(self) -> None:
        """Renew the ledger hashes a chunk at a time; rebuild one that is gone, flag one that somebody changed."""
        now_ms = self.clock.now_ms()
        if not self._to_renew:
            if now_ms - self._renewed_ms < RENEW_EVERY_MS and now_ms >= self._renewed_ms:
                return
            self._renewed_ms, self._to_renew = now_ms, list(self.memory.books)
        chunk, self._to_renew = self._to_renew[:_LATE_CHUNK], self._to_renew[_LATE_CHUNK:]
        lines = {symbol: self._line(symbol) for symbol in chunk if symbol in self.memory.books}
        gone, changed = self.store.renew_views(lines)
        for symbol in gone:
            self.store.rebuild_view(symbol, lines[symbol])
        for symbol in changed:
            self.flag_tampered(symbol, lines[symbol])

    def flag_tampered(self, symbol: str, line: BookLine) -> None:
        """A changed hash stays denied until a person settles it, even if the writer puts the old value back."""
        if line.tampered:
            return
        now_ms = self.clock.now_ms()
        flagged = msgspec.structs.replace(line, ver=line.ver + 1, tampered=f"noticed {now_ms}")
        if self.store.change(Change(symbol=symbol, ver=line.ver, line=flagged)) is None:
            self.memory.reread_books.set()
            return
        self.memory.keep_book(symbol, flagged)
        self.store.redis.xadd("quantum:p33:events", {"kind": "tampering", "json": event_json(
            "tampering", at_ms=now_ms, by=self.memory.instance, symbol=symbol)})
        self.hooks.anomaly("ledger_tampered")
        log.error("ledger.tampered", extra={"fields": {"symbol": symbol}})


class _Booking:
    """The reports of one result, applied one after the other to one book."""

    def __init__(self, store: BookStore, line: BookLine, result: Result, *, entry_id: str, seen_ms: int,
                 now_ms: int) -> None:
        self.store, self.line, self.result = store, line, result
        self.entry_id, self.seen_ms, self.now_ms = entry_id, seen_ms, now_ms
        self.marks: dict[str, OrderMark] = {}
        self.unsettled: list[Unsettled] = []
        self.settled: list[str] = []
        self.journal: list[JournalEntry] = []
        self.anomalies: list[str | None] = []
        self.rewrites_view = False
        self._start = line

    def run(self, *, opening: JournalEntry | None) -> None:
        if not self.result.reports:
            self.line = None
            return
        if opening:
            self.journal.append(opening)
            self.rewrites_view = True
        for report, aliases in zip(self.result.reports, self.result.aliases, strict=True):
            self._apply(report, aliases)
        changed = self.line != self._start or self.rewrites_view
        self.line = msgspec.structs.replace(self.line, ver=self.line.ver + 1) if changed else None

    def _apply(self, report: OrderReport, aliases: tuple[str, ...]) -> None:
        key, before = self._known(report, aliases)
        contained = self.line.book is None or (before is not None and before.contained and before.settled
                                               and report.executed_qty <= before.booked_qty)
        if contained:
            mark = contain_order(report, before=before, plan_id=self.result.plan_id, seen_ms=self.seen_ms)
            if before is None:
                self._write_journal("contained", report, ZERO, None)
        else:
            mark = self._fill(report, key, before)
        self.marks[key] = mark
        for alias in aliases:
            if alias != key:
                self.marks[alias] = mark

    def _known(self, report: OrderReport, aliases: tuple[str, ...]) -> tuple[str, OrderMark | None]:
        """(key the order is kept under, its mark): a fill first told without its id is the same fill."""
        names = list(dict.fromkeys((report.key, *aliases)))
        found = self.store.marks(self.result.symbol, names) | {n: self.marks[n] for n in names if n in self.marks}
        if report.key in found and report.order_id:
            return report.key, found[report.key]
        for name in names:
            mark = found.get(name)
            if mark and report.order_id and mark.order_id in ("", report.order_id):
                return report.key, mark
            if mark and not report.order_id:
                return mark.order_id or name, mark
        return report.key, None

    def _fill(self, report: OrderReport, key: str, before: OrderMark | None) -> OrderMark:
        book = self.line.book
        booking = book_order(book.amt, report, before=before, plan_id=self.result.plan_id, seen_ms=self.seen_ms)
        mark = booking.mark
        was_open, is_open = before is not None and not before.settled, not mark.settled
        if before is None or booking.delta or was_open != is_open:
            self._keep(report, booking, new=before is None)
        if is_open and not was_open:
            self.unsettled.append(Unsettled(self.result.symbol, key, self.result.plan_id, report.order_id, report.side,
                                            report.reduce_only, self.now_ms))
        if before is not None and before.order_id != mark.order_id and was_open:
            self.settled.append(f"plan {before.plan_id} ".strip() if not before.order_id else before.order_id)
        if was_open and not is_open:
            self.settled.append(key)
        return mark

    def _keep(self, report: OrderReport, booking: Booking, *, new: bool) -> None:
        book = self.line.book
        changed = bool(booking.delta) or new
        after = Book(
            symbol=book.symbol, amt=booking.amt_after, rev=book.rev + (1 if changed else 0),
            source="fill" if changed else book.source,
            last_order_id=(report.order_id or report.key) if changed else book.last_order_id,
            last_order_ms=self.seen_ms if changed else book.last_order_ms,
            updated_epoch=self.now_ms // 1000 if changed else book.updated_epoch, opened_ms=book.opened_ms,
        )
        self.line = msgspec.structs.replace(self.line, book=after)
        self.rewrites_view = self.rewrites_view or changed
        self.anomalies.append(booking.anomaly)
        if changed:
            self._write_journal("fill", report, booking.delta, booking.anomaly, before=book)

    def _write_journal(self, cause: str, report: OrderReport, delta: Decimal, anomaly: str | None,
                       before: Book | None = None) -> None:
        after = self.line.book
        self.journal.append(JournalEntry(
            v=1, symbol=self.result.symbol, rev=after.rev if after else 0, cause=cause, delta=text(delta),
            amt_before=text(before.amt) if before else None, amt_after=text(after.amt) if after else None,
            at_ms=self.now_ms, order_id=report.order_id, plan_id=self.result.plan_id, result_id=self.entry_id,
            by="bookkeeper", why="", anomaly=anomaly,
        ))


def missing_entries(cursor: Cursor, info: tuple[str, int, int, str] | None) -> int:
    """How many entries behind the cursor can no longer be read (at least; 1 where it cannot be counted)."""
    if cursor.last_id == "0-0" and not cursor.added:
        return 0 if info is None else max(info[2] - info[1], 0)
    if info is None or _recreated(cursor, info):
        return 1
    first, length, added, deleted = info
    if entry_order(deleted) > entry_order(cursor.last_id):
        return 1
    if first and entry_order(first) <= entry_order(cursor.last_id):
        return 0
    return max(added - cursor.added - length, 0)


def _recreated(cursor: Cursor, info: tuple[str, int, int, str] | None) -> bool:
    """The stream is not the one the cursor was made for."""
    return info is None or info[2] < cursor.added
