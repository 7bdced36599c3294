"""What a break rests on: trades, bookings and results between the last look that agreed and the one that settled it.

An order of ours may be on its way while something else happens: what it did passes within the cooldown. So the look
that tells the cause is the last one within the cooldown after the first that differed.

From that evidence follows the class, by one table read top to bottom; the first rule that holds names it.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import msgspec

from p33_pipeline.audit.accounts import Step
from p33_pipeline.audit.moments import Moment
from p33_sidecar.core.agreement import disagreement
from p33_sidecar.core.ledger import SIGNS
from p33_sidecar.core.quantity import ZERO, product, total

OURS: Final = "p33-"
VENUES: Final = ("autoclose-", "adl_autoclose", "settlement_autoclose-", "delivery_autoclose-")
"""Client ids of orders that the exchange places itself (official documentation, forceOrders and user stream)."""


class Traded(msgspec.Struct, frozen=True):
    """A trade of the exchange's record. `ours`: its order is known from a result, the journal or its client id."""

    trade_id: int
    order_id: str
    client_order_id: str | None
    side: str
    qty: Decimal
    at_ms: int
    plan_id: str
    ours: bool

    @property
    def venue(self) -> bool:
        return (self.client_order_id or "").startswith(VENUES)

    @property
    def delta(self) -> Decimal:
        return product(self.qty, SIGNS[self.side])


class Case(msgspec.Struct, frozen=True):
    """A break's beginning with all that happened around it. `settled` is the look that tells the cause; `booked_plans`
    are those of orders that the journal knows by their plan alone."""

    first: Moment
    settled: Moment
    trades: tuple[Traded, ...]
    bookings: tuple[Step, ...]
    results: tuple[Step, ...]
    booked_orders: frozenset[str]
    booked_plans: frozenset[str]
    closed_within_cooldown: bool
    tolerance_pct: Decimal


def unopened(case: Case) -> bool:
    return case.first.ledger is None


def venue_acted(case: Case) -> bool:
    return any(trade.venue for trade in case.trades)


def somebody_traded(case: Case) -> bool:
    return any(not trade.ours and not trade.venue for trade in case.trades)


def passed_by_itself(case: Case) -> bool:
    """An order of ours on its way through the accounts, or a reply that was a little late."""
    return case.closed_within_cooldown


def fill_not_booked(case: Case) -> bool:
    """Our trade, or our result, whose order the journal does not know by then."""
    traded = any(trade.ours and trade.order_id not in case.booked_orders and trade.plan_id not in case.booked_plans
                 for trade in case.trades)
    then = case.settled
    missing = then.redis is not None and then.ledger is not None and disagreement(
        then.redis, then.ledger, tolerance_pct=case.tolerance_pct) is not None
    return traded or missing


def snapshot_is_old(case: Case) -> bool:
    """The exchange's own trades lead to the ledger's amount; only the snapshot does not show it."""
    now = case.first.before
    if now is None or not case.trades:
        return False
    for trade in case.trades:
        now = total(now, trade.delta)
    return disagreement(now, case.settled.ledger, tolerance_pct=case.tolerance_pct) is None


def only_the_ledger_has_it(case: Case) -> bool:
    """The exchange is flat, and no order of ours says why the ledger is not."""
    return case.settled.exchange == ZERO and not any(step.cause == "fill" for step in case.bookings)


def opposite_sides(case: Case) -> bool:
    then = case.settled
    others = [amt for amt in (then.ledger, then.redis) if amt is not None]
    return any(then.exchange < 0 < amt or amt < 0 < then.exchange for amt in others)


PASSES: Final = "timing"
RULES: Final[tuple[tuple[str, Callable[[Case], bool]], ...]] = (
    ("missing_ledger", unopened),
    ("venue_initiated", venue_acted),
    ("external_trade", somebody_traded),
    (PASSES, passed_by_itself),
    ("unbooked_fill", fill_not_booked),
    ("stale_source", snapshot_is_old),
    ("ghost_ledger", only_the_ledger_has_it),
    ("side", opposite_sides),
    ("quantity", lambda case: True),
)


def class_of(case: Case) -> str:
    """The class of the first rule that holds."""
    return next(name for name, holds in RULES if holds(case))
