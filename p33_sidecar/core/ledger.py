"""The ledger's arithmetic: what a report on an order does to the book.

A report is the order's total so far, never a step of it: of several reports on one order the largest
counts, in whatever order they arrive, so that booking twice changes nothing. Nothing here heals a book;
only orders and people change it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from .model import Value
from .quantity import ZERO, difference, product, total

SIGNS: Final = {"BUY": Decimal(1), "SELL": Decimal(-1)}


class OrderReport(Value):
    """What a message says of one order. `executed_qty` is the order's total so far, unsigned.

    `key` identifies the order within its symbol: the exchange's order id, or plan and step where there is none.
    `alias` is that plan-and-step key, under which an earlier message without the id may have been booked.
    """

    key: str
    alias: str
    side: str
    executed_qty: Decimal
    settled: bool
    reduce_only: bool = False
    order_id: str = ""


class OrderMark(Value):
    """What is already booked of an order. `contained`: it was part of an opening balance."""

    booked_qty: Decimal
    settled: bool
    side: str = ""
    contained: bool = False
    plan_id: str = ""
    order_id: str = ""
    seen_ms: int = 0
    reduce_only: bool = False


class Booking(Value):
    """The outcome of a report: the signed change, the new mark, and what was odd about it."""

    delta: Decimal
    amt_after: Decimal
    mark: OrderMark
    anomaly: str | None = None


def book_order(amt: Decimal, report: OrderReport, *, before: OrderMark | None, plan_id: str, seen_ms: int) -> Booking:
    """Signed arithmetic of one report on top of what is booked.

    An order keeps the side it was first booked with. Reduce-only moves a position towards zero and no further.
    What cannot be taken literally is booked as far as it can and named as an anomaly; a quantity without any
    side books nothing and leaves the order unsettled, to be looked up at the exchange.
    """
    mark = _grown(report, before=before, plan_id=plan_id, seen_ms=seen_ms)
    grown_by = difference(mark.booked_qty, before.booked_qty if before else ZERO)
    if grown_by and mark.side not in SIGNS:
        lost = msgspec.structs.replace(mark, booked_qty=difference(mark.booked_qty, grown_by), settled=False)
        return Booking(delta=ZERO, amt_after=amt, mark=lost, anomaly="order_without_side")
    literally = total(amt, product(grown_by, SIGNS[mark.side])) if grown_by else amt
    after, anomaly = _towards_zero(amt, literally) if mark.reduce_only else (literally, None)
    if report.side and report.side != mark.side:
        anomaly = "order_changed_side"
    return Booking(delta=difference(after, amt), amt_after=after, mark=mark, anomaly=anomaly)


def contain_order(report: OrderReport, *, before: OrderMark | None, plan_id: str, seen_ms: int) -> OrderMark:
    """The mark of an order that an opening balance already contains: nothing is booked, later growth is."""
    mark = _grown(report, before=before, plan_id=plan_id, seen_ms=seen_ms)
    return msgspec.structs.replace(mark, settled=True, contained=True)


def _grown(report: OrderReport, *, before: OrderMark | None, plan_id: str, seen_ms: int) -> OrderMark:
    """The order's mark with this report added: the larger total, and nothing forgotten that was known."""
    old = before or OrderMark(booked_qty=ZERO, settled=False)
    return OrderMark(
        booked_qty=max(old.booked_qty, report.executed_qty),
        settled=report.settled or old.settled,
        side=old.side or report.side,
        contained=old.contained,
        plan_id=plan_id or old.plan_id,
        order_id=report.order_id or old.order_id,
        seen_ms=seen_ms,
        reduce_only=report.reduce_only or old.reduce_only,
    )


def _towards_zero(before: Decimal, after: Decimal) -> tuple[Decimal, str | None]:
    """What of a reduce-only change can be: to zero and no further, and never away from it."""
    if before < 0 < after or after < 0 < before or (before == 0 and after != 0):
        return ZERO, "reduce_only_beyond_zero"
    if after.copy_abs() > before.copy_abs():
        return before, "reduce_only_grows_position"
    return after, None
