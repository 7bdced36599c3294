"""Fills: what the results tell of each order, beside what the exchange's trades and the journal say of it.

One order may be told of by several results, without its id first and with it later. Nothing here judges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import msgspec

from p33_pipeline.audit.scope import Scope, rows
from p33_sidecar.core.ledger import OrderReport
from p33_sidecar.core.orders import client_order_id, may_be_same
from p33_sidecar.core.quantity import ZERO, total
from p33_sidecar.core.results import result_of

_FIELDS = msgspec.json.Decoder(dict[str, str])
Deed = tuple[str, str]
"""A plan and its symbol: what a permit is for."""


class Fill(msgspec.Struct, frozen=True):
    """What one result entry says of one order, and what the exchange's trades say of it."""

    at_ms: int
    plan_id: str
    symbol: str
    order_id: str
    qty: Decimal
    settled: bool
    new: bool
    """The first entry that names the order."""
    entry: int
    """The how-manieth entry with an order of its own this is, of the plan; 0 for the first."""
    closes: bool
    traded_qty: Decimal
    last_trade_ms: int
    executed: Decimal
    """By all orders of the plan's first entry together, as far as they were told by then."""


class Trade(msgspec.Struct):
    """What the exchange's record has of one order."""

    symbol: str
    order_id: str
    client_order_id: str | None
    qty: Decimal
    first_ms: int
    last_ms: int


def traded(scope: Scope) -> dict[tuple[str, str], Trade]:
    """The exchange's trades, an order each."""
    found = rows(scope, "SELECT symbol, order_id, any_value(client_order_id) AS client_order_id, sum(qty) AS qty, "
                        "epoch_ms(min(traded_at)) AS first_ms, epoch_ms(max(traded_at)) AS last_ms "
                        "FROM trades WHERE qty IS NOT NULL GROUP BY symbol, order_id")
    return {(row["symbol"], row["order_id"]): Trade(**row) for row in found}


NO_TRADE: Final = Trade("", "", None, ZERO, 0, 0)


class _Order(msgspec.Struct):
    """An order as far as results have told of it. `entry` as in `Fill`; `executed` by their word or the trades'."""

    order_id: str
    client_id: str
    step: str
    entry: int
    executed: Decimal = ZERO

    def identity(self) -> tuple[str, str, str]:
        return self.order_id, self.client_id, self.step


class _Orders:
    """Which order a report is of: one may be told of without its id first and with it later, as in the book."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Order] = {}
        self._entries: dict[Deed, list[str]] = defaultdict(list)
        self._first: dict[Deed, list[_Order]] = defaultdict(list)

    def of(self, report: OrderReport, deed: Deed, result_id: str) -> tuple[_Order, bool]:
        """The order, and whether it is told of for the first time."""
        names = [(deed[1], name) for name in report.names]
        order = next((known for name in names if (known := self._known.get(name)) is not None
                      and may_be_same(known.identity(), report.identity())), None)
        new = order is None
        if order is None:
            order = _Order(*report.identity(), entry=self._entry(deed, result_id))
            if order.entry == 0:
                self._first[deed].append(order)
        order.order_id, order.client_id, order.step = (
            known or told for known, told in zip(order.identity(), report.identity(), strict=True))
        for name in names:
            self._known.setdefault(name, order)
        return order, new

    def executed(self, deed: Deed) -> Decimal:
        """By the orders of the plan's first entry together."""
        done = ZERO
        for order in self._first[deed]:
            done = total(done, order.executed)
        return done

    def _entry(self, deed: Deed, result_id: str) -> int:
        entries = self._entries[deed]
        if result_id not in entries:
            entries.append(result_id)
        return entries.index(result_id)


def fills_of(scope: Scope, trades: dict[tuple[str, str], Trade]) -> Iterator[Fill]:
    """Executed orders as the results tell them, in the order of the stream, from the first poll on."""
    by_client = {(t.symbol, t.client_order_id): t for t in trades.values() if t.client_order_id}
    by_result, by_order = _booked(scope)
    orders = _Orders()
    for row in rows(scope, "SELECT id, plan_id, symbol, raw, epoch_ms(\"at\") AS at_ms FROM results "
                           "WHERE len(orders) > 0 AND NOT would_execute AND problem IS NULL ORDER BY \"at\", seq"):
        deed = plan_id, symbol = row["plan_id"], row["symbol"]
        if row["at_ms"] < scope.begin_ms:
            continue
        told = []
        for report in result_of(_FIELDS.decode(row["raw"])).reports:
            order, new = orders.of(report, deed, row["id"])
            trade = trades.get((symbol, order.order_id))
            order.executed = max(order.executed, report.executed_qty, trade.qty if trade else ZERO)
            if not order.order_id:
                trade = by_client.get((symbol, client_order_id(plan_id)))
            told.append((report, order, new, trade or NO_TRADE))
        for report, order, new, trade in told:
            booked = by_result.get((row["id"], report.order_id)) or by_order.get((symbol, order.order_id)) or {}
            yield Fill(row["at_ms"], plan_id, symbol, order.order_id, report.executed_qty, report.settled, new,
                       order.entry, _closes(report, booked), trade.qty, trade.last_ms,
                       max(orders.executed(deed), trade.qty))


def _booked(scope: Scope) -> tuple[dict[tuple[str, str], dict], dict[tuple[str, str], dict]]:
    """The journal's lines by result and order, and the first of each order by its symbol: one whose result left its
    fate open was looked up at the exchange, and is booked by no result."""
    by_result, by_order = {}, {}
    for row in rows(scope, "SELECT symbol, result_id, order_id, delta, amt_before FROM ledger "
                           "WHERE cause = 'fill' AND problem IS NULL ORDER BY \"at\", seq"):
        by_result[row["result_id"], row["order_id"]] = row
        if row["order_id"]:
            by_order.setdefault((row["symbol"], row["order_id"]), row)
    return by_result, by_order


def _closes(order: OrderReport, booked: dict) -> bool:
    """Reduce-only by its own word, or booked against the position."""
    if order.reduce_only or not booked.get("amt_before"):
        return order.reduce_only
    before, delta = booked["amt_before"], booked["delta"] or ZERO
    return before < 0 < delta or delta < 0 < before
