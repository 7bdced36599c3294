"""The orders of one worker: sent once, or looked up.

What may not happen here: a second send, a request that could still be accepted after its permit's end, or an answer
that nobody gave read as `there is no such order`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from .. import logs
from ..errors import ContractViolated, ExchangeRejected, ExchangeUnavailable, OutcomeUnknown
from ..exchange import Exchange, OrderState
from ..store.applying import ApplyStore
from ..store.connect import ServerClock
from .intent import RECV_WINDOW_MS, OrderIntent
from .results import REJECTED, Outcome, became, not_sent

log = logging.getLogger("p33.apply")

LOOK_PAUSE_S: Final = 0.25
SETTLE_LOOKS: Final = 12
"""How often an order that is still open is asked for before it is reported as it is; the sidecar settles the rest."""


class Orders:
    """For one thread. `wait` pauses between look-ups and says whether the process is to stop."""

    def __init__(self, exchange: Exchange, store: ApplyStore, clock: ServerClock, *,
                 wait: Callable[[float], bool]) -> None:
        self._exchange, self._store, self._clock, self._wait = exchange, store, clock, wait

    @property
    def possible(self) -> bool:
        """Whether there are credentials to send with."""
        return self._exchange.configured

    def send(self, intent: OrderIntent) -> Outcome | None:
        """Send it. None: it may have arrived, nobody can say. Raises StoreUnavailable while nothing was accepted.

        The timestamp is taken before the last look at the permit's end: a process that sleeps between the two sends
        a request that the exchange refuses. A machine that was stopped as a whole wakes with a clock that stood still,
        and the exchange's offset, measured then, would hide its sleep: before a second try the end is looked at again.
        """
        def in_time() -> bool:
            return self._store.now_ms() < intent.expires_ms

        timestamp_ms = self._clock.now_ms()
        if not in_time():
            return not_sent("too late")
        try:
            state = self._exchange.close_market(
                intent.symbol, side=intent.side, quantity=intent.amount(), client_order_id=intent.client_id,
                recv_window_ms=RECV_WINDOW_MS, timestamp_ms=timestamp_ms, in_time=in_time)
        except ExchangeRejected as refusal:
            return Outcome(None, REJECTED, f"{refusal.code}: {refusal.message}")
        except OutcomeUnknown as unknown:
            logs.event(log, logging.WARNING, "order.unknown", gate="P3.3", plan_id=intent.plan_id, kind=unknown.kind)
            return None
        except (ExchangeUnavailable, ContractViolated) as failure:
            return not_sent(str(failure))
        return became(self._settled(intent, state))

    def look(self, intent: OrderIntent) -> OrderState | None:
        """What the exchange knows of it now; None: it knows no such order. Raises ExchangeUnavailable."""
        return self._exchange.order(intent.symbol, client_order_id=intent.client_id)

    def _settled(self, intent: OrderIntent, state: OrderState) -> OrderState:
        for _ in range(SETTLE_LOOKS):
            if state.terminal or self._wait(LOOK_PAUSE_S):
                break
            try:
                state = self.look(intent) or state
            except ExchangeUnavailable as failure:
                logs.event(log, logging.INFO, "order.unseen", gate="P3.3", plan_id=intent.plan_id, kind=failure.kind)
        return state
