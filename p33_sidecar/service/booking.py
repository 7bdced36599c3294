"""What a result, or the exchange's answer about an order, does to a book: pure, from values to one change.

No clock and no store here: what is known of the orders is handed in, what follows is handed out, to be written in one
step. Nothing is booked without a book; an order that an opening balance contains, or that is told of again after it was
forgotten, is recorded and books nothing.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from ..core.ledger import Booking, OrderMark, OrderReport, book_order, contain_order
from ..core.model import Book
from ..core.orders import may_be_same, order_names
from ..core.quantity import ZERO, text
from ..core.results import Result
from ..exchange import OrderState
from ..store.changes import JournalEntry, Unsettled
from ..store.state import BookLine

BOOKKEEPER = "bookkeeper"
FILL, CONTAINED, LATE, OPENING = "fill", "contained", "late", "opening"


class Known(msgspec.Struct, frozen=True):
    """What the store knows: name -> (key it leads to, mark), and how far orders have been forgotten."""

    orders: dict[str, tuple[str, OrderMark]] = {}
    horizon_ms: int = 0


class Source(msgspec.Struct, frozen=True):
    """Where a booking comes from. `seen_ms`: when the fill became known, `told_ms`: when its producer says it was."""

    symbol: str
    seen_ms: int
    told_ms: int
    now_ms: int
    plan_id: str = ""
    result_id: str = ""
    why: str = ""
    of_opening: bool = False
    """The order ended before the opening balance was asked for: whatever filled of it is in there."""


class Booked(msgspec.Struct):
    """All that follows for one symbol. `line` is None where nothing but marks changes."""

    line: BookLine | None = None
    marks: dict[str, OrderMark] = {}
    names: dict[str, str] = {}
    unsettled: list[Unsettled] = []
    settled: list[str] = []
    journal: list[JournalEntry] = []
    anomalies: list[str] = []
    write_view: bool = False


def book_result(line: BookLine, result: Result, known: Known, *, entry_id: str, seen_ms: int, now_ms: int,
                opening: JournalEntry | None = None) -> Booked:
    """Every report of the result on top of `line`; `opening` is the entry of a book that was opened just before."""
    told_ms = min(seen_ms, seen_ms if result.timestamp_ms is None else result.timestamp_ms)
    source = Source(result.symbol, seen_ms, told_ms, now_ms, result.plan_id, entry_id)
    work = _Work(line, known, source)
    if opening and result.reports:
        work.out.journal.append(opening)
        work.out.write_view = True
    for report in result.reports:
        work.take(report)
    return work.done()


def names_of_fate(order: Unsettled, state: OrderState | None) -> tuple[str, ...]:
    """The names to look up before `book_fate`: the one it is kept under, and the id the exchange gives it."""
    order_id = (state.order_id if state else "") or order.order_id
    names = (order.key, *order_names(order_id=order_id, client_id="", plan_id="", step="", only_step=False))
    return tuple(dict.fromkeys(names))


def book_fate(line: BookLine, order: Unsettled, known: Known, state: OrderState | None, *, now_ms: int) -> Booked:
    """The order's final total. No `state`: the exchange keeps no such order any more, and nothing is to come."""
    key, before = known.orders.get(order.key, (order.key, None))
    if before is None or before.settled:
        return Booked(settled=[order.key])
    report = OrderReport(
        names=names_of_fate(order, state), side=(state.side if state else "") or order.side, settled=True,
        executed_qty=state.executed_qty if state else before.booked_qty,
        reduce_only=order.reduce_only or (state is not None and state.reduce_only),
        order_id=(state.order_id if state else "") or order.order_id, client_id=before.client_id, step=before.step)
    opened_ms = line.book.opened_ms if line.book else 0
    of_opening = before.contained and state is not None and 0 < state.update_time_ms <= opened_ms
    why = f"looked up: {state.status}" if state else "looked up: the exchange keeps it no more"
    work = _Work(line, known, Source(order.symbol, now_ms, now_ms, now_ms, order.plan_id, why=why,
                                     of_opening=of_opening))
    work.take(report)
    return work.done()


class _Work:
    """One line on its way through the reports of one message."""

    def __init__(self, line: BookLine, known: Known, source: Source) -> None:
        self.start, self.line, self.source, self.horizon_ms = line, line, source, known.horizon_ms
        self.orders = dict(known.orders)
        self.out = Booked()

    def take(self, report: OrderReport) -> None:
        """One report: find its order, book what is new of it, and note whether its fate is still open."""
        found = self._found(report)
        key, before = next(iter(found.items()), (report.names[0], None))
        doubles = {other: mark for other, mark in found.items() if other != key}
        mark = self._mark(report, before, tuple(doubles.values()))
        self._note_fate(key, before, doubles, mark)
        self._keep(key, report, mark, before, doubles)

    def done(self) -> Booked:
        """What is to be written; the line's version moves on where anything of it did."""
        first_of_symbol = self.line.ver == 0 and bool(self.out.marks)
        if self.line != self.start or self.out.write_view or first_of_symbol:
            self.out.line = msgspec.structs.replace(self.line, ver=self.line.ver + 1)
        return self.out

    # -- which order it is ------------------------------------------------------------------------------------

    def _found(self, report: OrderReport) -> dict[str, OrderMark]:
        """key -> mark of every order known by one of the report's names that it can mean; the surest first."""
        found: dict[str, OrderMark] = {}
        for name in report.names:
            key, mark = self.orders.get(name, ("", None))
            if mark is not None and may_be_same(mark.identity(), report.identity()):
                found.setdefault(key, mark)
        return found

    def _keep(self, key: str, report: OrderReport, mark: OrderMark, before: OrderMark | None,
              doubles: dict[str, OrderMark]) -> None:
        """Keep the mark under its key, and let every free name of it lead there."""
        names = dict.fromkeys(before.names if before else ())
        for other, double in doubles.items():
            names |= dict.fromkeys((other, *double.names))
            self.out.marks.pop(other, None)
        names |= {name: None for name in report.names if name not in self.orders or self.orders[name][0] in doubles}
        names.pop(key, None)
        mark = msgspec.structs.replace(mark, names=tuple(names))
        self.out.marks[key] = mark
        self.out.names |= {name: key for name in names if not before or name not in before.names}
        self.orders |= dict.fromkeys((key, *names), (key, mark))

    # -- what it books ----------------------------------------------------------------------------------------

    def _mark(self, report: OrderReport, before: OrderMark | None, doubles: tuple[OrderMark, ...]) -> OrderMark:
        source = self.source
        told = {"before": before, "doubles": doubles, "plan_id": source.plan_id, "seen_ms": source.seen_ms}
        if before is None and source.told_ms <= self.horizon_ms:
            self.out.anomalies.append("late_result")
            self._record(LATE, report, ZERO, "late_result")
            return msgspec.structs.replace(contain_order(report, **told), settled=True)
        if not self._is_contained(report, before, doubles):
            return self._fill(report, told)
        if before is None:
            self._record(CONTAINED, report, ZERO, None)
        return contain_order(report, **told)

    def _is_contained(self, report: OrderReport, before: OrderMark | None, doubles: tuple[OrderMark, ...]) -> bool:
        """Part of an opening balance: of the one to come, of one asked for after the result, or known to be.

        One that was also booked under another name is not: what is too much of it has to be taken back.
        """
        book, source = self.line.book, self.source
        if book is None:
            return True
        if not all(double.contained for double in doubles):
            return False
        if source.of_opening:
            return True
        if before is None:
            return source.seen_ms < book.opened_ms <= source.now_ms
        return before.contained and before.settled and report.executed_qty <= before.booked_qty

    def _fill(self, report: OrderReport, told: dict) -> OrderMark:
        before = told["before"]
        booking = book_order(self.line.book.amt, report, **told)
        if before is None or booking.delta or booking.mark.booked_qty != before.booked_qty:
            self.out.anomalies += [booking.anomaly] if booking.anomaly else []
            self._move(report, booking)
        return booking.mark

    def _move(self, report: OrderReport, booking: Booking) -> None:
        """The next revision of the book. A first word of an order moves it even without a quantity: it is settling."""
        book, source = self.line.book, self.source
        after = Book(
            symbol=book.symbol, amt=booking.amt_after, rev=book.rev + 1, source=FILL,
            last_order_id=_in_line(booking.mark.order_id or booking.mark.client_id or report.names[0]),
            last_order_ms=source.seen_ms, updated_epoch=source.now_ms // 1000, opened_ms=book.opened_ms)
        self.line = msgspec.structs.replace(self.line, book=after)
        self.out.write_view = True
        self._record(FILL, report, booking.delta, booking.anomaly, before=book)

    def _record(self, cause: str, report: OrderReport, delta: Decimal, anomaly: str | None,
                before: Book | None = None) -> None:
        source, after = self.source, self.line.book
        self.out.journal.append(JournalEntry(
            v=1, symbol=source.symbol, rev=after.rev if after else 0, cause=cause, delta=text(delta),
            amt_before=text((before or after).amt) if after else None, amt_after=text(after.amt) if after else None,
            at_ms=source.now_ms, order_id=report.order_id, plan_id=source.plan_id, result_id=source.result_id,
            by=BOOKKEEPER, why=source.why, anomaly=anomaly))

    # -- whether it may still fill ----------------------------------------------------------------------------

    def _note_fate(self, key: str, before: OrderMark | None, doubles: dict[str, OrderMark], mark: OrderMark) -> None:
        """List an order that is not settled, so that it is asked for; strike off one that is."""
        was_open = [k for k, m in ({key: before} if before else {}).items() if not m.settled]
        was_open += [k for k, m in doubles.items() if not m.settled]
        still_open = [] if mark.settled else [key]
        self.out.settled += [k for k in was_open if k not in still_open]
        if still_open and (key not in was_open or mark.order_id != before.order_id):
            since_ms = before.seen_ms if before else self.source.seen_ms
            self.out.unsettled.append(Unsettled(
                self.source.symbol, key, mark.plan_id, mark.order_id, mark.side, mark.reduce_only, since_ms,
                mark.client_id))
        unsettled = self.line.unsettled + len(still_open) - len(was_open)
        self.line = msgspec.structs.replace(self.line, unsettled=max(unsettled, 0))


def _in_line(name: str) -> str:
    """An order's name as the book's line can hold it: what a producer sends as an id may carry our separators."""
    return name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name)
