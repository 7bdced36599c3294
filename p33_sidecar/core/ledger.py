"""The ledger's arithmetic: what a report on an order does to the book.

A report is the order's total so far, never a step of it: of several reports on one order the largest
counts, in whatever order they arrive, so that booking twice changes nothing. Nothing here heals a book;
only orders and people change it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

import msgspec

from .model import Value
from .quantity import ZERO, difference, product, total

SIGNS: Final = {"BUY": Decimal(1), "SELL": Decimal(-1)}
_AS_OF: Final = re.compile(r", as of (\d{1,15})\Z", re.ASCII)


class OrderReport(Value):
    """What a message says of one order. `executed_qty` is the order's total so far, unsigned.

    `names` are all names it gives the order, the surest first (core/orders.py).
    """

    names: tuple[str, ...]
    side: str
    executed_qty: Decimal
    settled: bool
    reduce_only: bool = False
    order_id: str = ""
    client_id: str = ""
    step: str = ""

    def identity(self) -> tuple[str, str, str]:
        return self.order_id, self.client_id, self.step


class OrderMark(Value):
    """What is already booked of an order. `contained`: it was part of an opening balance.

    `names` are the further names that lead to it; `seen_ms` is when it was last told of.
    """

    booked_qty: Decimal
    settled: bool
    side: str = ""
    contained: bool = False
    plan_id: str = ""
    order_id: str = ""
    client_id: str = ""
    step: str = ""
    seen_ms: int = 0
    reduce_only: bool = False
    names: tuple[str, ...] = ()

    def identity(self) -> tuple[str, str, str]:
        return self.order_id, self.client_id, self.step


class Booking(Value):
    """The outcome of a report: the signed change, the new mark, and what was odd about it."""

    delta: Decimal
    amt_after: Decimal
    mark: OrderMark
    anomaly: str | None = None


def book_order(amt: Decimal, report: OrderReport, *, before: OrderMark | None, plan_id: str, seen_ms: int,
               doubles: tuple[OrderMark, ...] = ()) -> Booking:
    """Signed arithmetic of one report on top of what is booked.

    An order keeps the side it was first booked with. Reduce-only moves a position towards zero and no further.
    What cannot be taken literally is booked as far as it can and named as an anomaly; a quantity without any
    side books nothing and leaves the order unsettled, to be looked up at the exchange. `doubles` are further marks
    that this report shows to be the same order: what was booked twice is taken back.
    """
    mark = _grown(report, before=before, doubles=doubles, plan_id=plan_id, seen_ms=seen_ms)
    counted = ZERO
    for known in (before, *doubles):
        counted = total(counted, known.booked_qty) if known else counted
    grown_by = difference(mark.booked_qty, counted)
    if grown_by and mark.side not in SIGNS:
        lost = msgspec.structs.replace(mark, booked_qty=counted, settled=False)
        return Booking(delta=ZERO, amt_after=amt, mark=lost, anomaly="order_without_side")
    literally = total(amt, product(grown_by, SIGNS[mark.side])) if grown_by else amt
    after, anomaly = literally, "order_booked_twice" if grown_by < 0 else None
    if mark.reduce_only and grown_by > 0:
        after, anomaly = _towards_zero(amt, literally)
    if report.side and report.side != mark.side:
        anomaly = "order_changed_side"
    return Booking(delta=difference(after, amt), amt_after=after, mark=mark, anomaly=anomaly)


def contain_order(report: OrderReport, *, before: OrderMark | None, plan_id: str, seen_ms: int,
                  doubles: tuple[OrderMark, ...] = ()) -> OrderMark:
    """The mark of an order that an opening balance contains, or will: nothing is booked, later growth is.

    One that may still fill stays unsettled, and no opening is adopted before its fate is known.
    """
    mark = _grown(report, before=before, doubles=doubles, plan_id=plan_id, seen_ms=seen_ms)
    return msgspec.structs.replace(mark, contained=True)


def _grown(report: OrderReport, *, before: OrderMark | None, doubles: tuple[OrderMark, ...], plan_id: str,
           seen_ms: int) -> OrderMark:
    """The order's mark with this report added: the larger total, and nothing forgotten that was known."""
    known = [mark for mark in (before, *doubles) if mark]

    def first(name: str, told: str) -> str:
        return next((getattr(mark, name) for mark in known if getattr(mark, name)), told)

    return OrderMark(
        booked_qty=max([report.executed_qty, *(mark.booked_qty for mark in known)]),
        settled=report.settled or any(mark.settled for mark in known),
        side=first("side", report.side),
        contained=any(mark.contained for mark in known),
        plan_id=first("plan_id", plan_id),
        order_id=first("order_id", report.order_id),
        client_id=first("client_id", report.client_id),
        step=first("step", report.step),
        seen_ms=seen_ms,
        reduce_only=report.reduce_only or any(mark.reduce_only for mark in known),
    )


def _towards_zero(before: Decimal, after: Decimal) -> tuple[Decimal, str | None]:
    """What of a reduce-only change can be: to zero and no further, and never away from it."""
    if before < 0 < after or after < 0 < before or (before == 0 and after != 0):
        return ZERO, "reduce_only_beyond_zero"
    if after.copy_abs() > before.copy_abs():
        return before, "reduce_only_grows_position"
    return after, None


def opened_because(why: str, *, as_of_ms: int) -> str:
    """An opening's reason in the journal: from when on it holds is older than its entry."""
    return f"{why}, as of {as_of_ms}"


def opened_as_of(why: str) -> int | None:
    """From when on the opening of such a reason holds; None where it does not say."""
    said = _AS_OF.search(why)
    return int(said[1]) if said else None
