"""How much to close where there is no permit of ours to say it: the rollback to Governor-only mode.

What may not happen here: a quantity on anything but the exchange's own answer of this moment, or one that the rules of
the core would not give. Nothing else of the three-way check holds in this mode; it is for the hour in which the sidecar
cannot be used, and it says so with every order.
"""

from __future__ import annotations

from ..core.measures import plan_contradiction, safe_close_qty, smallest_order
from ..core.model import Context, Facts, Filters, Plan, Snapshot
from ..errors import ExchangeUnavailable
from ..exchange import Exchange
from .intent import Size


class GovernorSizes:
    """Asks the exchange. `filters` are its lot rules as far as they are known; read once where they are not."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._filters: dict[str, Filters] = {}

    def size(self, plan: Plan, *, now_ms: int) -> Size | str:
        """What the plan's action closes of the position, or why that cannot be said."""
        try:
            reply = self._exchange.positions()
            filters = self._filters_of(plan.symbol)
        except ExchangeUnavailable as failure:
            return f"position unknown: {failure.kind}"
        held = reply.positions.get(plan.symbol)
        if held is None or held.amt is None or filters is None:
            return "hedge mode" if held is not None and held.hedge else "position or lot rules unknown"
        snapshot = Snapshot(symbol=plan.symbol, amt=held.amt, ts_ms=reply.requested_ms)
        facts = Facts(now_ms, plan, snapshot, None, filters, Context())
        if contradiction := plan_contradiction(plan, snapshot):
            return contradiction
        quantity = safe_close_qty(facts)
        if quantity is None or quantity < smallest_order(filters):
            return "nothing that may be closed"
        return Size("SELL" if held.amt > 0 else "BUY", quantity)

    def _filters_of(self, symbol: str) -> Filters | None:
        if symbol not in self._filters:
            self._filters = self._exchange.filters().filters
        return self._filters.get(symbol)
