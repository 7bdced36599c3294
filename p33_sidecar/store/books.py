"""The bookkeeper's side of the store: results in, books out, the cursor moving only with what it caused.

The durable book never expires; the ledger's hash is its view and is rebuilt from it. Every change carries its
journal entry in the same step.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import redis

from ..core.ledger import OrderMark
from ..core.model import Value
from ..core.quantity import text
from . import keys, scripts
from .connect import store_errors
from .state import SEP, BookLine, book_fields, read_book, view_of

_ENCODE = msgspec.json.Encoder().encode
_BOOK_NAMES = ("amt", "rev", "source", "last_order_id", "last_order_ms", "updated_epoch", "opened_ms",
               "ver", "unsettled", "tampered", "gap_cleared_ms")


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

    def field(self) -> str:
        return f"{self.symbol} {self.key}"


class Change(msgspec.Struct, frozen=True):
    """Everything one step changes of one symbol. `ver` is the version it rests on."""

    symbol: str
    ver: int
    line: BookLine | None = None
    marks: dict[str, OrderMark] = {}
    unsettled: tuple[Unsettled, ...] = ()
    settled: tuple[str, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    write_view: bool = False
    plan_id: str = ""
    result_ms: int = 0
    ending: str = "over"
    cursor_from: Cursor | None = None
    cursor_to: Cursor | None = None


class BookStore:
    """Reads and changes books. Not for use by two threads."""

    def __init__(self, client: redis.Redis, *, result_stream: str) -> None:
        self.redis = client
        self.stream = result_stream

    # -- reading ----------------------------------------------------------------------------------------------

    def symbols(self) -> set[str]:
        with store_errors():
            return set(self.redis.smembers(keys.BOOKS))

    def line(self, symbol: str) -> BookLine:
        """Raises ValueError for a book that cannot be read."""
        with store_errors():
            values = self.redis.hmget(keys.book(symbol), _BOOK_NAMES)
        return read_book(symbol, SEP.join(value or "" for value in values))

    def lines(self, symbols: Iterable[str]) -> dict[str, BookLine]:
        """Many books in one round trip."""
        names = list(symbols)
        with store_errors():
            pipe = self.redis.pipeline(transaction=False)
            for symbol in names:
                pipe.hmget(keys.book(symbol), _BOOK_NAMES)
            replies = pipe.execute()
        return {s: read_book(s, SEP.join(v or "" for v in values)) for s, values in zip(names, replies, strict=True)}

    def marks(self, symbol: str, order_keys: list[str]) -> dict[str, OrderMark]:
        """What is booked of these orders; an order never seen is absent."""
        with store_errors():
            values = self.redis.hmget(keys.orders(symbol), order_keys)
        return {k: msgspec.json.decode(v, type=OrderMark) for k, v in zip(order_keys, values, strict=True) if v}

    def unsettled(self) -> list[Unsettled]:
        with store_errors():
            values = self.redis.hvals(keys.UNSETTLED)
        return [msgspec.json.decode(value, type=Unsettled) for value in values]

    def gap_ms(self) -> int:
        """When results were last found missing; 0 for never."""
        with store_errors():
            return int(self.redis.get(keys.GAP) or 0)

    # -- the result stream ------------------------------------------------------------------------------------

    def cursor(self) -> Cursor | None:
        """How far we are; None before the first start."""
        with store_errors():
            stored = self.redis.hget(keys.CURSOR, self.stream)
        if not stored:
            return None
        last_id, _, added = stored.partition(" ")
        return Cursor(last_id=last_id, added=int(added or 0))

    def put_cursor(self, cursor: Cursor) -> None:
        """Set the cursor outright: at the first start, and after a gap was declared."""
        with store_errors():
            self.redis.hset(keys.CURSOR, self.stream, cursor.text())

    def results(self, after: Cursor, *, count: int, block_ms: int | None) -> list[tuple[str, dict[str, str]]]:
        """The entries behind the cursor; waits up to `block_ms` for the first (None: not at all)."""
        with store_errors():
            reply = self.redis.xread({self.stream: after.last_id}, count=count, block=block_ms)
        return reply[0][1] if reply else []

    def stream_info(self) -> tuple[str, int, int, str] | None:
        """(first id, length, entries ever added, largest deleted id); None where there is no stream."""
        with store_errors():
            try:
                info = self.redis.xinfo_stream(self.stream)
            except redis.ResponseError as error:
                if "no such key" in str(error):
                    return None
                raise
        first = info.get("first-entry")
        return (first[0] if first else "", info["length"], info.get("entries-added", 0),
                info.get("max-deleted-entry-id", "0-0"))

    def declare_gap(self, *, at_ms: int, cursor: Cursor, event: bytes) -> None:
        """Entries are missing: every book is doubtful from now on, and the cursor stands where the stream begins."""
        with store_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.set(keys.GAP, at_ms)
            pipe.hset(keys.CURSOR, self.stream, cursor.text())
            pipe.xadd(keys.EVENTS, {"kind": "gap", "json": event})
            pipe.execute()

    # -- changing ---------------------------------------------------------------------------------------------

    def change(self, change: Change) -> str | None:
        """Make the change in one step. None: the book or the cursor had moved; else the plan whose permit it ended."""
        with store_errors():
            reply = scripts.run(self.redis, "book", self._keys(change),
                                [_ENCODE(_operation(change, self.stream)), keys.LEDGER_TTL_MS, keys.PLAN_TTL_MS])
        return reply[1] if reply[0] == "booked" else None

    def renew_views(self, lines: dict[str, BookLine]) -> tuple[list[str], list[str]]:
        """Renew the ledger hashes' life; (symbols whose hash is gone, symbols whose hash somebody else changed)."""
        names = [symbol for symbol, line in lines.items() if line.book]
        if not names:
            return [], []
        with store_errors():
            pipe = self.redis.pipeline(transaction=False)
            for symbol in names:
                pipe.hgetall(keys.ledger(symbol))
                pipe.pexpire(keys.ledger(symbol), keys.LEDGER_TTL_MS)
            replies = pipe.execute(raise_on_error=False)[::2]
        gone = [s for s, seen in zip(names, replies, strict=True) if seen == {}]
        changed = [s for s, seen in zip(names, replies, strict=True) if seen != {} and seen != view_of(lines[s].book)]
        return gone, changed

    def rebuild_view(self, symbol: str, line: BookLine) -> bool:
        """Write the ledger's hash from the book, as an unchanged version of it."""
        return self.change(Change(symbol=symbol, ver=line.ver, line=line, write_view=True)) is not None

    def _keys(self, change: Change) -> list[str]:
        s = change.symbol
        return [keys.book(s), keys.ledger(s), keys.orders(s), keys.UNSETTLED, keys.JOURNAL, keys.CURSOR,
                keys.open_permit(s), keys.plan(change.plan_id), keys.BOOKS, self.stream]


def _operation(change: Change, stream: str) -> dict:
    op = {
        "symbol": change.symbol, "ver": str(change.ver),
        "marks": [part for k, mark in change.marks.items() for part in (k, _mark_json(mark))],
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
    return op


def _mark_json(mark: OrderMark) -> str:
    plain = msgspec.to_builtins(mark)
    plain["booked_qty"] = text(mark.booked_qty)
    return _ENCODE(plain).decode()
