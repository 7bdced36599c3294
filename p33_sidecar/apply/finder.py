"""Looks for every order that is in nobody's hand, until it is certain what became of it. It never sends.

In nobody's hand is an order whose permits were taken and whose result is not written: the process that took them died,
got no answer, or lost Redis on the way; or a server that lost its last writes has forgotten the taking itself, and only
our memory still knows (timeline T06).

What may not happen here: `order_not_sent` without the exchange's own word, given after the last moment at which it
could have accepted the order. While the exchange does not answer, nothing is certain.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from .. import logs
from ..errors import ExchangeUnavailable
from ..store import keys
from ..store.applying import ApplyStore, Kind
from .intent import OrderIntent, intent_of
from .layer import Hooks, Sent, conclude
from .orders import Orders
from .results import Outcome, became, not_sent

log = logging.getLogger("p33.apply")

OTHERS_MS: Final = 15_000
"""How long the order of another instance is left to it: longer than its own request may take."""
PAUSES_S: Final = (0.25, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Between two looks at one order; the last holds on."""
REMEMBERED_MS: Final = keys.TAKEN_TTL_MS // 2
"""How far back a server is asked what it still knows of our orders: well within the life of a taken mark."""
MOST_LOOKS: Final = 10
"""Looks in one turn: each may take as long as the exchange's timeout."""
OPEN_S: Final = 3.0
"""How long an order that is open is watched before it is reported as it is; the sidecar settles the rest."""


class Search:
    """One order that is looked for. Times are monotonic seconds."""

    def __init__(self, intent: OrderIntent, kind: Kind) -> None:
        self.intent, self.kind = intent, kind
        self.looks = 0
        self.due_s = 0.0
        self.open_since_s: float | None = None


class Finder:
    """`step()` is one turn, for one thread with connections of its own. `in_hand`: plans that a worker is at."""

    def __init__(self, store: ApplyStore, orders: Orders, hooks: Hooks, sent: Sent, *, instance: str,
                 in_hand: Callable[[], frozenset[str]], mono_s: Callable[[], float] = time.monotonic) -> None:
        self._store, self._orders, self._hooks, self._sent = store, orders, hooks, sent
        self._instance, self._in_hand, self._mono_s = instance, in_hand, mono_s
        self._searches: dict[str, Search] = {}
        self._unreadable: set[str] = set()
        self._run_id = ""

    @property
    def count(self) -> int:
        """Orders that are looked for."""
        return len(self._searches)

    def step(self) -> None:
        """Look at the orders that are due, the longest due first. Raises StoreUnavailable."""
        self._notice()
        due = [search for search in self._searches.values() if search.due_s <= self._mono_s()]
        for search in sorted(due, key=lambda search: search.due_s)[:MOST_LOOKS]:
            if self._look(search):
                del self._searches[search.intent.plan_id]

    # -- what is in nobody's hand -----------------------------------------------------------------------------

    def _notice(self) -> None:
        kept = self._store.intents()
        busy, now_ms = self._in_hand(), self._store.now_ms()
        found = {plan_id: intent for plan_id, raw in kept.items()
                 if plan_id not in busy and (intent := self._readable(plan_id, raw)) and self._ours(intent, now_ms)}
        self._searches = {plan_id: search for plan_id, search in self._searches.items()
                          if (plan_id in found if search.kind is Kind.ORDER else plan_id not in kept)}
        for plan_id, intent in found.items():
            self._searches.setdefault(plan_id, Search(intent, Kind.ORDER))
        if self._run_id != self._store.link.run_id:
            self._remember(kept, busy, now_ms)

    def _readable(self, plan_id: str, raw: str) -> OrderIntent | None:
        intent = intent_of(raw)
        intent = intent if intent and intent.plan_id == plan_id else None
        if intent is None and plan_id not in self._unreadable:
            self._unreadable.add(plan_id)
            logs.event(log, logging.ERROR, "intent.unreadable", gate="P3.3", plan_id=plan_id)
        return intent

    def _ours(self, intent: OrderIntent, now_ms: int) -> bool:
        """Looking does no harm to an order that its owner still handles; it is left alone to save requests."""
        return intent.instance == self._instance or now_ms - intent.noted_ms > OTHERS_MS

    def _remember(self, kept: dict[str, str], busy: frozenset[str], now_ms: int) -> None:
        """Another server process: of the orders we sent lately, seek those whose taking it does not know."""
        for intent in self._sent.since(now_ms - REMEMBERED_MS) if self._run_id else ():
            plan_id = intent.plan_id
            if plan_id not in kept and plan_id not in busy and not self._store.was_taken(plan_id):
                self._searches[plan_id] = Search(intent, Kind.FOUND)
                logs.event(log, logging.WARNING, "order.forgotten", gate="P3.3", plan_id=plan_id)
        self._run_id = self._store.link.run_id

    # -- one look ---------------------------------------------------------------------------------------------

    def _look(self, search: Search) -> bool:
        """Ask the exchange once. True: it is certain, and said."""
        search.due_s = self._mono_s() + PAUSES_S[min(search.looks, len(PAUSES_S) - 1)]
        search.looks += 1
        certain = self._store.now_ms() >= search.intent.until_ms
        try:
            state = self._orders.look(search.intent)
        except ExchangeUnavailable as failure:
            logs.event(log, logging.WARNING, "order.unseen", gate="P3.3", plan_id=search.intent.plan_id,
                       kind=failure.kind)
            return False
        if state is None:
            return certain and self._say(search, not_sent("the exchange knows no such order"))
        if not state.terminal and not self._watched_long_enough(search):
            return False
        return self._say(search, became(state))

    def _watched_long_enough(self, search: Search) -> bool:
        if search.open_since_s is None:
            search.open_since_s = self._mono_s()
        return self._mono_s() - search.open_since_s >= OPEN_S

    def _say(self, search: Search, outcome: Outcome) -> bool:
        if search.kind is Kind.ORDER or outcome.state is not None:
            conclude(self._store, self._hooks, search.intent, outcome, kind=search.kind)
        return True
