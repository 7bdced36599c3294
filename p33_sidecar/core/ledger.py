"""The ledger's arithmetic: what a report on an order does to the book.

A report is the order's total so far, never a step of it: of several reports on one order the largest
counts, in whatever order they arrive, so that booking twice changes nothing. Nothing here heals a book;
only orders and people change it.
"""

from __future__ import annotations

from decimal import Decimal

from .model import Value
from .quantity import ZERO, total


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
    """Signed arithmetic of one report on top of what is booked; reduce-only stops at zero with an anomaly."""
    booked = before.booked_qty if before else ZERO
    new_qty = max(booked, report.executed_qty)
    signed = total(new_qty, -booked) * (1 if report.side == "BUY" else -1)
    anomaly = None
    if before and before.side and report.side and before.side != report.side:
        anomaly = "order_changed_side"
    after = total(amt, signed)
    if report.reduce_only and signed and _oversteps(amt, after):
        after, anomaly = ZERO, "reduce_only_beyond_zero"
    mark = OrderMark(
        booked_qty=new_qty,
        settled=report.settled or (before is not None and before.settled),
        side=report.side or (before.side if before else ""),
        contained=before.contained if before else False,
        plan_id=plan_id,
        order_id=report.order_id or (before.order_id if before else ""),
        seen_ms=seen_ms,
        reduce_only=report.reduce_only,
    )
    return Booking(delta=total(after, -amt), amt_after=after, mark=mark, anomaly=anomaly)


def contain_order(report: OrderReport, *, before: OrderMark | None, plan_id: str, seen_ms: int) -> OrderMark:
    """The mark of an order that an opening balance already contains: nothing is booked, later growth is."""
    booked = max(before.booked_qty if before else ZERO, report.executed_qty)
    return OrderMark(
        booked_qty=booked, settled=True, side=report.side, contained=True, plan_id=plan_id,
        order_id=report.order_id, seen_ms=seen_ms, reduce_only=report.reduce_only,
    )


def _oversteps(before: Decimal, after: Decimal) -> bool:
    """A reduce-only order may shrink a position to zero and no further, and never grow or open one."""
    return before == 0 or (before > 0) != (after > 0) and after != 0 or abs(after) > abs(before)
