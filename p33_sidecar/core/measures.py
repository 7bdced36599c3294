"""What the checks measure: ages, quantities, contradictions. Each is one question to the facts, with one answer.

Nothing is judged here: what is enough and what is too much is said in `checks`. None means not known, never zero.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from .actions import FRACTIONS
from .model import Facts, Filters, Plan, Policy, Snapshot
from .quantity import floor_to_grid, product, text
from .reasons import FINAL
from .reasons import Reason as R

REMEMBERED = 512
"""Answers kept of what depends on quantities alone: between two polls the same are asked for again and again."""


def plan_age_ms(facts: Facts) -> int:
    """Since the plan's `timestamp`, or its stream entry where it has none."""
    stamp = facts.plan.timestamp_ms
    return facts.now_ms - (facts.plan.entry_ms if stamp is None else stamp)


def plan_contradiction(plan: Plan, snapshot: Snapshot | None) -> str:
    """What in the plan contradicts itself or the position, in words; empty where nothing does."""
    if plan.unreadable:
        return plan.unreadable
    fraction = FRACTIONS.get(plan.action)
    if plan.step_fraction is not None and fraction is not None and plan.step_fraction != fraction:
        return f"action closes {text(fraction)}, step closes {text(plan.step_fraction)}"
    amt = snapshot.amt if snapshot else None
    if amt and plan.side in ("BUY", "SELL") and (plan.side == "SELL") != (amt > 0):
        return f"side {plan.side} does not close {text(amt)}"
    return ""


def requested_qty(facts: Facts) -> Decimal | None:
    """What the plan asks for: its fraction of the exchange's position, at most its `close_qty` where it has one."""
    return _sizes(facts.plan.action, facts.plan.close_qty, exchange_amt(facts), facts.filters)[0]


def safe_close_qty(facts: Facts) -> Decimal | None:
    """The largest legal quantity that closes no more than asked, held, or allowed in one order."""
    return _sizes(facts.plan.action, facts.plan.close_qty, exchange_amt(facts), facts.filters)[1]


@lru_cache(maxsize=REMEMBERED)
def _sizes(action: str, bound: Decimal, amt: Decimal | None,
           filters: Filters | None) -> tuple[Decimal | None, Decimal | None]:
    """(what is asked for, the legal quantity not above it)."""
    fraction = FRACTIONS.get(action)
    if amt is None or fraction is None:
        return None, None
    held = amt.copy_abs()
    wanted = product(held, fraction)
    if bound > 0:
        wanted = min(wanted, bound)
    if filters is None:
        return wanted, None
    return wanted, floor_to_grid(min(wanted, held, filters.max_qty), step=filters.step, anchor=filters.min_qty)


def smallest_order(filters: Filters) -> Decimal:
    """The exchange's minimum, and never less than one step (a minimum of 0 exists)."""
    return max(filters.min_qty, filters.step)


def retry_after_ms(reason: str | None, facts: Facts, policy: Policy) -> int | None:
    """When another try makes sense; None where the same plan can never pass."""
    if reason is None or reason in FINAL:
        return None
    context = facts.context
    order_age_ms = last_order_age_ms(facts)
    if reason == R.COOLDOWN_IN_FLIGHT and order_age_ms is not None:
        return max(policy.cooldown_ms - order_age_ms, policy.skew_ms)
    if reason == R.PERMIT_OUTSTANDING:
        return max(context.phase_ends_ms - facts.now_ms, policy.skew_ms)
    if reason == R.STORE_RESTARTED:
        return policy.cooldown_ms
    return policy.poll_ms


def still_settling(facts: Facts) -> str:
    """Why the symbol's last order cannot be trusted to be in the snapshot; empty if it can."""
    context = facts.context
    if context.unsettled_orders:
        return "order_not_settled"
    if context.unbooked_results:
        return "results_not_booked"
    order_age, snapshot_age = last_order_age_ms(facts), context.snapshot_age_ms
    if order_age is not None and snapshot_age is not None and snapshot_age >= order_age:
        return "snapshot_not_newer"
    if context.released_ms and (facts.snapshot is None or facts.snapshot.ts_ms <= context.released_ms):
        return "snapshot_not_newer"
    return ""


def last_order_age_ms(facts: Facts) -> int | None:
    """As measured; else by the book's own time, so that an order nobody measured still counts."""
    age_ms, book = facts.context.last_order_age_ms, facts.book
    if age_ms is None and book is not None and book.last_order_ms:
        return facts.now_ms - book.last_order_ms
    return age_ms


def last_order_ms(facts: Facts) -> int | None:
    """When the last order was: as booked, unless that lies ahead of a clock that was set right since (T13)."""
    book, age_ms = facts.book, last_order_age_ms(facts)
    if book is not None and 0 < book.last_order_ms <= facts.now_ms:
        return book.last_order_ms
    return None if age_ms is None else facts.now_ms - age_ms


def exchange_amt(facts: Facts) -> Decimal | None:
    """The exchange's signed position; None where it is unknown or in legs."""
    return facts.snapshot.amt if facts.snapshot else None
