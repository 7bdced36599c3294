"""The bookkeeper's side of the store: books, the orders in them, and changes made in one step.

The durable book never expires; the ledger's hash is its view and is rebuilt from it. Every change carries its journal
entry in the same step. What one symbol's keys hold and cannot be read is set aside, never deleted, and stands in
nobody else's way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import redis

from ..core.ledger import OrderMark
from . import keys, scripts
from .changes import POINTER, Change, Cursor, JournalEntry, Unsettled, operation
from .connect import store_errors
from .state import SEP, BookLine, read_book, view_of

__all__ = ["BookStore", "Change", "Cursor", "JournalEntry", "Unsettled", "Wrecked"]

log = logging.getLogger("p33.books")

_BOOK_NAMES = ("amt", "rev", "source", "last_order_id", "last_order_ms", "updated_epoch", "opened_ms",
               "ver", "unsettled", "tampered", "gap_cleared_ms")
_PAGE = 500


class Wrecked(Exception):
    """A key of one symbol holds what cannot be read."""

    def __init__(self, symbol: str, key: str) -> None:
        super().__init__(f"{key} cannot be read")
        self.symbol, self.key = symbol, key


class Views(NamedTuple):
    """Symbols whose ledger hash is gone, or changed by somebody else, or whose orders are of another type."""

    gone: list[str] = []
    changed: list[str] = []
    wrecked: list[str] = []


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
        """Raises Wrecked for a book that cannot be read."""
        found = self.lines([symbol])[symbol]
        if found is None:
            raise Wrecked(symbol, keys.book(symbol))
        return found

    def lines(self, symbols: Iterable[str]) -> dict[str, BookLine | None]:
        """Many books in one round trip; None for one that cannot be read."""
        names = list(symbols)
        with store_errors():
            pipe = self.redis.pipeline(transaction=False)
            for symbol in names:
                pipe.hmget(keys.book(symbol), _BOOK_NAMES)
            replies = pipe.execute(raise_on_error=False)
            return {symbol: _line(symbol, reply) for symbol, reply in zip(names, replies, strict=True)}

    def known(self, symbol: str, names: list[str]) -> tuple[int, dict[str, tuple[str, OrderMark]]]:
        """(how far orders are forgotten, name -> (key it leads to, mark)); a name that leads nowhere is absent.

        Raises Wrecked where the symbol's orders cannot be read.
        """
        with store_errors():
            try:
                reply = scripts.run(self.redis, "known", [keys.orders(symbol), keys.book(symbol)], names)
            except redis.ResponseError as error:
                if "WRONGTYPE" in str(error):
                    raise Wrecked(symbol, keys.orders(symbol)) from error
                raise
        horizon, pairs = reply[0], zip(reply[1::2], reply[2::2], strict=True)
        try:
            found = {name: (key, msgspec.json.decode(mark, type=OrderMark))
                     for name, (key, mark) in zip(names, pairs, strict=True) if mark}
        except msgspec.MsgspecError as error:
            raise Wrecked(symbol, keys.orders(symbol)) from error
        return int(horizon) if horizon.isdigit() else 0, found

    def marks(self, symbol: str) -> Iterator[tuple[str, str, OrderMark | None]]:
        """(key, mark as written, mark) of every order of the symbol; None for one that cannot be read.

        Raises Wrecked where the key holds no orders at all.
        """
        with store_errors():
            try:
                for key, raw in self.redis.hscan_iter(keys.orders(symbol), count=_PAGE):
                    if not raw.startswith(POINTER):
                        yield key, raw, _mark(raw)
            except redis.ResponseError as error:
                if "WRONGTYPE" in str(error):
                    raise Wrecked(symbol, keys.orders(symbol)) from error
                raise

    def unsettled(self) -> list[Unsettled]:
        """Every order whose fate is open. An entry that cannot be read is passed over: its book still says so."""
        with store_errors():
            entries = self.redis.hgetall(keys.UNSETTLED)
        found = []
        for field, raw in entries.items():
            try:
                found.append(msgspec.json.decode(raw, type=Unsettled))
            except msgspec.MsgspecError:
                log.error("unsettled.unreadable", extra={"fields": {"entry": field}})
        return found

    # -- changing ---------------------------------------------------------------------------------------------

    def change(self, change: Change) -> str | None:
        """Make the change in one step. None: the book or the cursor had moved; else the plan whose permit it ended.

        Raises Wrecked where a key of the symbol holds another type of value, and redis.ResponseError for a shared one.
        """
        with store_errors():
            reply = scripts.run(self.redis, "book", self._keys(change),
                                [operation(change, self.stream), keys.LEDGER_TTL_MS, keys.PLAN_TTL_MS])
        if reply[0] == "wrong_type":
            if reply[1] in (keys.book(change.symbol), keys.orders(change.symbol)):
                raise Wrecked(change.symbol, reply[1])
            raise redis.ResponseError(f"{reply[1]} holds another type of value: nothing can be booked")
        return reply[1] if reply[0] == "booked" else None

    def renew_views(self, lines: dict[str, BookLine]) -> Views:
        """Renew the ledger hashes' life, and say which symbols' keys are not what we wrote."""
        names = [symbol for symbol, line in lines.items() if line.book]
        if not names:
            return Views()
        with store_errors():
            pipe = self.redis.pipeline(transaction=False)
            for symbol in names:
                pipe.hgetall(keys.ledger(symbol))
                pipe.pexpire(keys.ledger(symbol), keys.LEDGER_TTL_MS)
                pipe.type(keys.orders(symbol))
            replies = pipe.execute(raise_on_error=False)
        seen = dict(zip(names, replies[::3], strict=True))
        kinds = dict(zip(names, replies[2::3], strict=True))
        return Views(
            gone=[s for s in names if seen[s] == {}],
            changed=[s for s in names if seen[s] != {} and seen[s] != view_of(lines[s].book)],
            wrecked=[s for s in names if kinds[s] not in ("hash", "none")])

    def rebuild_view(self, symbol: str, line: BookLine) -> bool:
        """Write the ledger's hash from the book, as an unchanged version of it. False: the book had moved."""
        return self.change(Change(symbol=symbol, ver=line.ver, line=line, write_view=True)) is not None

    def set_aside(self, symbol: str, *, at_ms: int, event: bytes) -> list[str]:
        """Begin anew what cannot be read of a symbol, doubted until a person settles it. Returns the keys set aside."""
        with store_errors():
            return scripts.run(self.redis, "aside", [
                keys.book(symbol), keys.orders(symbol), keys.open_permit(symbol), keys.EVENTS, keys.BOOKS,
            ], [symbol, at_ms, event, keys.WRECKED, *self._unreadable(symbol)])

    def forget(self, symbol: str, *, horizon_ms: int, seen_before_ms: int) -> int:
        """Forget settled orders last told of before `seen_before_ms`, and that results up to the horizon are late."""
        forgotten, page = 0, []
        for key, raw, mark in self.marks(symbol):
            if mark is not None and mark.settled and mark.seen_ms < seen_before_ms:
                page += [key, raw, len(mark.names), *mark.names]
            if len(page) >= _PAGE:
                forgotten, page = forgotten + self._forget(symbol, horizon_ms, page), []
        return forgotten + (self._forget(symbol, horizon_ms, page) if page else 0)

    def _forget(self, symbol: str, horizon_ms: int, page: list) -> int:
        with store_errors():
            return scripts.run(self.redis, "forget", [keys.orders(symbol), keys.book(symbol)], [horizon_ms, *page])

    def _unreadable(self, symbol: str) -> list[str]:
        """The symbol's keys whose contents, not their type, are wrong."""
        wrong = []
        if self.lines([symbol])[symbol] is None:
            wrong.append(keys.book(symbol))
        try:
            if any(mark is None for _, _, mark in self.marks(symbol)):
                wrong.append(keys.orders(symbol))
        except Wrecked as found:
            wrong.append(found.key)
        return wrong

    def _keys(self, change: Change) -> list[str]:
        s = change.symbol
        return [keys.book(s), keys.ledger(s), keys.orders(s), keys.UNSETTLED, keys.JOURNAL, keys.CURSOR,
                keys.open_permit(s), keys.plan(change.plan_id), keys.BOOKS, self.stream]


def _line(symbol: str, reply: list[str | None] | Exception) -> BookLine | None:
    if isinstance(reply, Exception):
        if isinstance(reply, redis.ResponseError) and "WRONGTYPE" in str(reply):
            return None
        raise reply
    try:
        return read_book(symbol, SEP.join(value or "" for value in reply))
    except (ValueError, ArithmeticError):
        return None


def _mark(raw: str) -> OrderMark | None:
    try:
        return msgspec.json.decode(raw, type=OrderMark)
    except msgspec.MsgspecError:
        return None
