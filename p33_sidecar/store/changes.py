"""What one step changes of one symbol: values, and how lua/book.lua takes them.

A change rests on a version of its book and, where a result caused it, on a place in the result stream; the step that
makes it refuses anything else, so that nothing is booked twice or out of order.
"""

from __future__ import annotations

import msgspec

from ..core.ledger import OrderMark
from ..core.model import Value
from ..core.quantity import text
from .state import BookLine, book_fields, view_of

_ENCODE = msgspec.json.Encoder().encode
POINTER = "@"
"""Begins a field of the orders' hash that leads from a further name of an order to the one it is kept under."""


class Cursor(Value):
    """How far the result stream is booked: the last id, and how many entries had been added up to it."""

    last_id: str = "0-0"
    added: int = 0

    def text(self) -> str:
        return f"{self.last_id} {self.added}"


class JournalEntry(msgspec.Struct, frozen=True):
    """One change of a book (contract, chapter 2, `quantum:p33:ledger`). Amounts are canonical text."""

    v: int
    symbol: str
    rev: int
    cause: str
    delta: str
    amt_before: str | None
    amt_after: str | None
    at_ms: int
    order_id: str = ""
    plan_id: str = ""
    result_id: str = ""
    by: str = ""
    why: str = ""
    anomaly: str | None = None


class Unsettled(msgspec.Struct, frozen=True):
    """An order whose fate is to be asked for at the exchange."""

    symbol: str
    key: str
    plan_id: str
    order_id: str
    side: str
    reduce_only: bool
    since_ms: int
    client_id: str = ""

    def field(self) -> str:
        return f"{self.symbol} {self.key}"


class Change(msgspec.Struct, frozen=True):
    """Everything one step changes of one symbol. `ver` is the version it rests on.

    `marks` are orders by the key they are kept under, `names` lead from further names to such keys. `quiet_after`: only
    if the result stream holds nothing behind this cursor.
    """

    symbol: str
    ver: int
    line: BookLine | None = None
    marks: dict[str, OrderMark] = {}
    names: dict[str, str] = {}
    unsettled: tuple[Unsettled, ...] = ()
    settled: tuple[str, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    write_view: bool = False
    plan_id: str = ""
    result_ms: int = 0
    ending: str = "over"
    cursor_from: Cursor | None = None
    cursor_to: Cursor | None = None
    quiet_after: Cursor | None = None


def operation(change: Change, stream: str) -> bytes:
    """The change as the script's JSON: texts and lists of texts only, since no decimal may pass through cjson."""
    op = {
        "symbol": change.symbol, "ver": str(change.ver),
        "marks": [part for key, mark in change.marks.items() for part in (key, mark_json(mark))]
        + [part for name, key in change.names.items() for part in (name, POINTER + key)],
        "unsettled": [part for u in change.unsettled for part in (u.field(), _ENCODE(u).decode())],
        "settled": [f"{change.symbol} {key}" for key in change.settled],
        "journal": [_ENCODE(entry).decode() for entry in change.journal],
    }
    if change.line is not None:
        op |= {"new_ver": str(change.line.ver), "book": book_fields(change.line)}
        if change.write_view and change.line.book:
            op["view"] = [part for pair in view_of(change.line.book).items() for part in pair]
    if change.plan_id:
        op |= {"plan_id": change.plan_id, "result_ms": str(change.result_ms), "ending": change.ending}
    if change.cursor_from and change.cursor_to:
        op["cursor"] = {"stream": stream, "from": change.cursor_from.text(), "to": change.cursor_to.text(),
                        "id": change.cursor_to.last_id}
    if change.quiet_after:
        op["quiet_after"] = change.quiet_after.last_id
    return _ENCODE(op)


def mark_json(mark: OrderMark) -> str:
    """What is booked of an order: its quantity as canonical text, and nothing that says nothing."""
    told = {name: value for name, value in msgspec.to_builtins(mark).items() if value}
    return _ENCODE(told | {"booked_qty": text(mark.booked_qty), "settled": mark.settled}).decode()
