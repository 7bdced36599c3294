"""Orders whose fate is open are asked for at the exchange, less and less often, until it says how they ended.

Only questions are asked here; what the answers do to the books is the bookkeeper's. A status that is not known is no
end (incident X23), and neither is an order that the exchange does not find, unless it is too old to be found at all.
"""

from __future__ import annotations

import logging

from ..core.orders import client_order_id
from ..errors import ExchangeUnavailable
from ..exchange import Exchange, OrderState
from ..store.books import BookStore, Unsettled
from ..store.connect import ServerClock
from .hooks import Hooks
from .memory import Memory

log = logging.getLogger("p33.fates")

FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 500, 30_000
MOST_A_TURN = 3
"""Questions asked in one turn: a stream full of old orders does not eat the request weight of the polls."""
MISSED_AFTER_MS = 60_000
REFUSED = "rejected"
"""The kind of failure where the exchange refuses the question itself: an id that is none of its own, a symbol that it
does not list (exchange/failures.py). No later answer will be another one."""
RELIST_EVERY_MS = 60_000
"""How often the books are read again when they wait for more orders than are listed."""
FORGOTTEN_AFTER_MS = 3 * 86_400_000
"""The exchange finds an order that filled for 90 days, and one that ended without a fill for 3 (its docs, Query Order):
what it does not find after that has nothing to book, or never was."""


class Fates:
    """The clerk's part: `step()` asks for the orders that are due and hands the answers to the bookkeeper."""

    def __init__(self, exchange: Exchange, store: BookStore, memory: Memory, clock: ServerClock, hooks: Hooks) -> None:
        self.exchange, self.store, self.memory, self.clock, self.hooks = exchange, store, memory, clock, hooks
        self._due: dict[str, tuple[int, int]] = {}
        """Order -> (when it is asked for again, by the machine's own clock; the pause after that)."""
        self._missed: set[str] = set()
        self._relisted_ms = 0

    def step(self) -> None:
        """Ask for a few of the orders that are due, the one that waited longest first."""
        if not self.memory.unsettled or not self.exchange.configured:
            return
        now_ms, orders = self.clock.now_ms(), {order.field(): order for order in self.store.unsettled()}
        self._due = {field: self._due.get(field, (0, FIRST_PAUSE_MS)) for field in orders}
        self._missed &= orders.keys()
        if len(orders) < self.memory.unsettled and not 0 <= now_ms - self._relisted_ms < RELIST_EVERY_MS:
            self._relisted_ms = now_ms
            self.memory.reread_books.set()
        mono_ms = self.clock.mono_ns() // 1_000_000
        waiting = sorted((due_ms, field) for field, (due_ms, _) in self._due.items() if due_ms <= mono_ms)
        for _, field in waiting[:MOST_A_TURN]:
            pause_ms = self._due[field][1]
            self._due[field] = (mono_ms + pause_ms, min(pause_ms * 2, LONGEST_PAUSE_MS))
            self._ask(orders[field], now_ms)

    def _ask(self, order: Unsettled, now_ms: int) -> None:
        client_id = order.client_id or client_order_id(order.plan_id)
        try:
            state = self.exchange.order(order.symbol, order_id=order.order_id,
                                        client_order_id="" if order.order_id else client_id)
        except ExchangeUnavailable as failure:
            log.warning("order.unknown", extra={"fields": {"symbol": order.symbol, "kind": failure.kind}})
            if failure.kind == REFUSED:
                self._say_missed(order, now_ms)
            return
        if state is None:
            self._not_found(order, now_ms)
        elif state.terminal:
            self.memory.fates.append((order, state))

    def _not_found(self, order: Unsettled, now_ms: int) -> None:
        """Perhaps not visible yet; what is too old to be found any more is given up."""
        nothing: OrderState | None = None
        if self.memory.confirmed_ms(now_ms=now_ms, mono_ns=self.clock.mono_ns()) - order.since_ms > FORGOTTEN_AFTER_MS:
            self.memory.fates.append((order, nothing))
        else:
            self._say_missed(order, now_ms)

    def _say_missed(self, order: Unsettled, now_ms: int) -> None:
        """Once, after a minute: a person may have to settle it."""
        if now_ms - order.since_ms > MISSED_AFTER_MS and order.field() not in self._missed:
            self._missed.add(order.field())
            self.hooks.anomaly("order_not_found")
            log.error("order.not_found", extra={"fields": {"symbol": order.symbol, "plan_id": order.plan_id,
                                                           "order_id": order.order_id or order.key}})
