"""A person sets a book right: the exchange's amount adopted, or an amount of their own, with who and why.

The ledger is never healed silently, and never while the symbol is not free (incident T22): a fill between its
execution and its booking would be counted twice. What is settled is the amount, a hash that somebody changed, orders
whose fate is unknown and a gap of the result stream; the last order stays what it was, so that the cooldown is not
restarted (incident I34). A change rests on the version it was worked out on, or is worked out again.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import redis

from ..core.ledger import OrderMark
from ..core.model import Book, Phase, Policy
from ..core.quantity import ZERO, difference, text
from ..errors import P33Error
from . import keys
from .books import BookStore, Change, JournalEntry, Unsettled, Wrecked
from .connect import store_errors
from .reading import Reading, Standing
from .state import BookLine
from .switches import add_event

ATTEMPTS = 5
SOURCE = "adjustment"


class SettlingRefused(P33Error):
    """The book stays as it is. `reasons` says why, one line each; `forcible` whether --force would do it."""

    def __init__(self, reasons: list[str], *, forcible: bool) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons
        self.forcible = forcible


class Person(msgspec.Struct, frozen=True):
    """Who changes a book, and why; both go into the journal."""

    by: str
    why: str


class Settled(msgspec.Struct, frozen=True):
    """What was changed. Amounts are canonical text; `overruled` is what would have refused without force."""

    symbol: str
    rev: int
    amt_before: str | None
    amt_after: str
    was_tampered: bool
    was_gap: bool
    orders_settled: tuple[str, ...]
    overruled: tuple[str, ...]


Amount = Callable[[Standing], tuple[Decimal, int]]
"""From what is believed: the amount the book shall hold, and since when (ms)."""


class Settler:
    """Changes books for a person. Raises StoreUnavailable like the store, SettlingRefused for what must not be."""

    def __init__(self, client: redis.Redis, *, reading: Reading, policy: Policy) -> None:
        self.redis, self.reading, self.policy = client, reading, policy
        self.books = BookStore(client, result_stream=reading.result_stream)

    def adopt(self, symbol: str, *, person: Person, force: bool = False) -> Settled:
        """The exchange's newest snapshot becomes the book: fresh, and newer than the last order, or refused."""
        return self._settle(symbol, self._exchange_amount, person=person, force=force)

    def adjust(self, symbol: str, amt: Decimal, *, person: Person, force: bool = False) -> Settled:
        """`amt`, signed, becomes the book."""

        def given(standing: Standing) -> tuple[Decimal, int]:
            book = standing.line.book
            return amt, book.opened_ms if book else standing.now_ms

        return self._settle(symbol, given, person=person, force=force)

    def _settle(self, symbol: str, amount: Amount, *, person: Person, force: bool) -> Settled:
        for _ in range(ATTEMPTS):
            standing = self.reading.standing(symbol)
            if standing.unreadable:
                raise SettlingRefused([standing.unreadable], forcible=False)
            amt, opened_ms = amount(standing)
            orders = [o for o in self.books.unsettled() if o.symbol == symbol]
            waiting = [*self._read_elsewhere(), *not_free(standing, self.policy, orders=orders)]
            if waiting and not force:
                raise SettlingRefused(waiting, forcible=True)
            try:
                written = self._write(standing, amt, opened_ms, orders, person)
            except Wrecked as wrecked:
                raise SettlingRefused([f"{wrecked}; the running sidecar sets it aside"], forcible=False) from wrecked
            if written:
                return self._report(standing, amt, orders, person, waiting)
        raise SettlingRefused([f"the book of {symbol} keeps changing; try again"], forcible=False)

    def _read_elsewhere(self) -> list[str]:
        """Whether the gate books results of other streams than these settings name: what waits there is not seen."""
        with store_errors():
            booked = sorted(self.redis.hkeys(keys.CURSOR))
        if not booked or self.reading.result_stream in booked:
            return []
        return [f"the gate books the results of {', '.join(booked)}; P33_RESULT_STREAM is "
                f"{self.reading.result_stream} here"]

    def _exchange_amount(self, standing: Standing) -> tuple[Decimal, int]:
        snapshot, age_ms, order_age_ms = standing.snapshot, standing.snapshot_age_ms, standing.order_age_ms
        limit = self.policy.stale_threshold_ms
        if snapshot is None or age_ms is None:
            problem = "there is no snapshot of the exchange"
        elif snapshot.amt is None:
            problem = "the exchange reports LONG/SHORT legs (hedge mode)"
        elif not -self.policy.skew_ms <= age_ms <= limit:
            problem = f"the newest snapshot is {age_ms} ms old; at most {limit} ms are allowed"
        elif order_age_ms is not None and age_ms >= order_age_ms:
            problem = "the newest snapshot is not newer than the last order"
        else:
            return snapshot.amt, snapshot.ts_ms
        raise SettlingRefused([problem], forcible=False)

    def _write(self, standing: Standing, amt: Decimal, opened_ms: int, orders: list[Unsettled],
               person: Person) -> bool:
        line, now_ms, symbol = standing.line, standing.now_ms, standing.symbol
        book = _settled_book(standing, amt, opened_ms)
        change = Change(
            symbol=symbol, ver=line.ver, write_view=True,
            line=BookLine(book=book, ver=line.ver + 1, unsettled=0, tampered="", gap_cleared_ms=now_ms),
            marks=self._settled_marks(symbol, orders),
            settled=tuple(o.key for o in orders),
            journal=(_journal(line.book, book, now_ms, person),),
        )
        return self.books.change(change) is not None

    def _settled_marks(self, symbol: str, orders: list[Unsettled]) -> dict[str, OrderMark]:
        """Every order of the symbol that is not settled, under all its names: what is booked of it stays."""
        marks = {o.key: _mark_of(o) for o in orders}
        marks |= {key: mark for key, _, mark in self.books.marks(symbol) if mark}
        return {key: msgspec.structs.replace(m, settled=True) for key, m in marks.items() if not m.settled}

    def _report(self, standing: Standing, amt: Decimal, orders: list[Unsettled], person: Person,
                overruled: list[str]) -> Settled:
        before = standing.line.book
        settled = Settled(
            symbol=standing.symbol, rev=before.rev + 1 if before else 1,
            amt_before=text(before.amt) if before else None, amt_after=text(amt),
            was_tampered=standing.tampered, was_gap=standing.gap,
            orders_settled=tuple(o.order_id or o.key for o in orders), overruled=tuple(overruled),
        )
        what = msgspec.to_builtins(settled) | {"why": person.why}
        add_event(self.redis, SOURCE, at_ms=standing.now_ms, by=person.by, **what)
        return settled


def not_free(standing: Standing, policy: Policy, *, orders: list[Unsettled]) -> list[str]:
    """Why the symbol is open, taken or settling (contract, chapter 2), one line each; empty where it is free."""
    phase, ends_ms, released_ms = standing.phase(policy)
    plan_id = standing.issued.plan_id if standing.issued else ""
    left_ms, order_age = ends_ms - standing.now_ms, standing.order_age_ms
    snapshot_ms = standing.snapshot.ts_ms if standing.snapshot else 0
    last_order_ms = standing.line.book.last_order_ms if standing.line.book else 0
    reasons = [
        (f"open: the permit of plan {plan_id} can be taken for another {left_ms} ms", phase == Phase.OPEN),
        (f"taken: the order of plan {plan_id} is on its way, for another {left_ms} ms", phase == Phase.TAKEN),
        (f"settling: the last order was {order_age} ms ago, the cooldown is {policy.cooldown_ms} ms",
         order_age is not None and order_age < policy.cooldown_ms),
        (f"settling: orders whose fate is not known: {', '.join(o.order_id or o.key for o in orders)}", bool(orders)),
        ("settling: an order whose fate is not known", bool(standing.line.unsettled) and not orders),
        ("settling: results in the stream that are not booked yet", standing.state.unbooked != "0"),
        ("settling: no snapshot was requested since the last order",
         snapshot_ms <= max(last_order_ms, released_ms) and max(last_order_ms, released_ms) > 0),
    ]
    return [reason for reason, holds in reasons if holds]


def _settled_book(standing: Standing, amt: Decimal, opened_ms: int) -> Book:
    """The next revision of the book; the last order stays what it was."""
    before = standing.line.book
    if before is None:
        before = Book(symbol=standing.symbol, amt=ZERO, rev=0)
    return msgspec.structs.replace(before, amt=amt, rev=before.rev + 1, source=SOURCE, opened_ms=opened_ms,
                                   updated_epoch=standing.now_ms // 1000)


def _mark_of(order: Unsettled) -> OrderMark:
    """For an order that is waited for and of which nothing was kept."""
    return OrderMark(booked_qty=ZERO, settled=False, side=order.side, plan_id=order.plan_id, order_id=order.order_id,
                     seen_ms=order.since_ms, reduce_only=order.reduce_only)


def _journal(before: Book | None, after: Book, now_ms: int, person: Person) -> JournalEntry:
    return JournalEntry(
        v=1, symbol=after.symbol, rev=after.rev, cause=SOURCE,
        delta=text(difference(after.amt, before.amt if before else ZERO)),
        amt_before=text(before.amt) if before else None, amt_after=text(after.amt), at_ms=now_ms,
        by=person.by, why=person.why,
    )
