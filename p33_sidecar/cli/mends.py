"""For each check, the least change of its facts that makes it pass, in words and as facts.

Pure. What is unknown is not invented: where nobody can know what the facts would have been, there are only words.
A change alone proves nothing; `differ` decides again on what comes out of here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

import msgspec

from ..core.actions import FRACTIONS
from ..core.measures import exchange_amt, last_order_age_ms, plan_age_ms, smallest_order
from ..core.model import Book, Facts, Finding, Phase, Policy
from ..core.quantity import difference, product, scaled, text, total
from .units import plain, span

replace = msgspec.structs.replace

Change = tuple[str, Facts | None]
"""What would have had to be, in words, and the facts if it were (None: cannot be known)."""
Mend = Callable[[Facts, Policy, Finding], Change]


def _plan_fresh(facts: Facts, policy: Policy, failed: Finding) -> Change:
    plan, age_ms = facts.plan, plan_age_ms(facts)
    if plan.bad_timestamp:
        stamped = replace(plan, bad_timestamp=False, timestamp_ms=plan.entry_ms)
        return "a `timestamp` that can be read, at the time it was published", replace(facts, plan=stamped)
    if age_ms < -policy.skew_ms:
        stamped = replace(plan, timestamp_ms=facts.now_ms + policy.skew_ms)
        return (f"a plan at most {span(policy.skew_ms)} ahead of Redis' clock (it was {span(-age_ms)})",
                replace(facts, plan=stamped))
    if facts.context.answered:
        return "no result for the plan younger than its entry", in_context(facts, answered=False)
    stamped = replace(plan, timestamp_ms=facts.now_ms - policy.plan_max_age_ms)
    return (f"a plan at most {span(policy.plan_max_age_ms)} old when evaluated "
            f"({span(age_ms - policy.plan_max_age_ms)} younger)", replace(facts, plan=stamped))


def _plan_after_last_order(facts: Facts, policy: Policy, failed: Finding) -> Change:
    by_ms = 1 - failed.margin
    stamp_ms = facts.now_ms - plan_age_ms(facts) + by_ms
    return (f"a plan decided after the last order: `timestamp` at least {span(by_ms)} later",
            replace(facts, plan=replace(facts.plan, timestamp_ms=stamp_ms)))


def _action_closes(facts: Facts, policy: Policy, failed: Finding) -> Change:
    told = facts.plan.step_fraction
    if told in FRACTIONS.values():
        action = next(a for a, fraction in FRACTIONS.items() if fraction == told)
        return f"a closing action; its step says {action}", replace(facts, plan=replace(facts.plan, action=action))
    return f"one of the closing actions: {', '.join(FRACTIONS)}", None


def _action_matches_steps(facts: Facts, policy: Policy, failed: Finding) -> Change:
    agreed = replace(facts.plan, unreadable="", step_fraction=None, side="")
    return (f"steps, close_qty and side that say what the action says (they said: {plain(str(failed.value))})",
            replace(facts, plan=agreed))


def _one_way_mode(facts: Facts, policy: Policy, failed: Finding) -> Change:
    return "an account in one-way mode; what its one position would be is not known", None


def _filters_known(facts: Facts, policy: Policy, failed: Finding) -> Change:
    return "the symbol's lot rules, read from the exchange; without them no quantity can be computed", None


def _symbol_trading(facts: Facts, policy: Policy, failed: Finding) -> Change:
    if facts.filters is None:
        return "the symbol listed as TRADING by the exchange", None
    return (f"the symbol TRADING on the exchange (it was {plain(facts.filters.status)})",
            replace(facts, filters=replace(facts.filters, status="TRADING")))


def _fresh_snapshot(facts: Facts, policy: Policy, failed: Finding) -> Change:
    snapshot, age_ms = facts.snapshot, facts.context.snapshot_age_ms
    if snapshot is None or age_ms is None:
        return "a snapshot of the exchange; without one the position is unknown", None
    if age_ms < -policy.skew_ms:
        return (f"a snapshot at most {span(policy.skew_ms)} ahead of Redis' clock (it was {span(-age_ms)})",
                aged_snapshot(facts, -policy.skew_ms))
    limit = policy.stale_threshold_ms
    return (f"a snapshot at most {span(limit)} old ({span(age_ms - limit)} younger)", aged_snapshot(facts, limit))


def _has_position(facts: Facts, policy: Policy, failed: Finding) -> Change:
    amt, filters = exchange_amt(facts), facts.filters
    if amt is None or filters is None:
        return "a known position on the exchange, and the symbol's step", None
    wanted = filters.step.copy_sign(amt)
    return (f"a position of at least {text(filters.step)} ({text(difference(filters.step, amt.copy_abs()))} more, "
            f"in exchange and book alike)", with_position(facts, wanted))


def _same_side(facts: Facts, policy: Policy, failed: Finding) -> Change:
    context = facts.context
    if context.tampered:
        return "a ledger hash that nobody else has changed", in_context(facts, tampered=False)
    if context.gap:
        return "a result stream that reaches back to the cursor", in_context(facts, gap=False)
    if facts.book is None:
        amt = exchange_amt(facts)
        if amt is None:
            return "a book for the symbol, and a known position", None
        book = Book(symbol=facts.plan.symbol, amt=amt, rev=1)
        return f"a book for the symbol (opened at the exchange's {text(amt)})", replace(facts, book=book)
    return _same_quantity(facts, policy, failed)


def _same_quantity(facts: Facts, policy: Policy, failed: Finding) -> Change:
    amt, book = exchange_amt(facts), facts.book
    if amt is None or book is None:
        return "an exchange's position and a book, both known", None
    low, high = tolerated(amt, policy)
    nearest = min(max(book.amt, low), high)
    return (f"a book between {text(low)} and {text(high)} (it was {text(book.amt)}, "
            f"{text(difference(nearest, book.amt).copy_abs())} off)", replace(facts, book=replace(book, amt=nearest)))


def _nothing_settling(facts: Facts, policy: Policy, failed: Finding) -> Change:
    context, order_age = facts.context, last_order_age_ms(facts)
    if context.unsettled_orders:
        return f"no order whose fate is unknown (there was {context.unsettled_orders})", \
            in_context(facts, unsettled_orders=0)
    if context.unbooked_results:
        return "every result older than the plan booked", in_context(facts, unbooked_results=False)
    if failed.value == "snapshot_not_newer" and order_age is not None and context.snapshot_age_ms is not None \
            and context.snapshot_age_ms >= order_age:
        late_ms = context.snapshot_age_ms - order_age + 1
        return f"a snapshot requested after the last order (at least {span(late_ms)} later)", \
            aged_snapshot(facts, order_age - 1)
    if failed.value == "snapshot_not_newer":
        return "a snapshot requested after the last permit was let go", in_context(facts, released_ms=0)
    left_ms = policy.cooldown_ms - (order_age or 0)
    return (f"the last order at least {span(policy.cooldown_ms)} ago (it was {span(order_age or 0)}: "
            f"{span(left_ms)} to wait)", aged_order(facts, policy.cooldown_ms))


def _no_permit_outstanding(facts: Facts, policy: Policy, failed: Finding) -> Change:
    left_ms = facts.context.phase_ends_ms - facts.now_ms
    return (f"no other permit of the symbol {failed.value} (it ends by itself {span(max(left_ms, 0))} later)",
            in_context(facts, phase=Phase.FREE))


def _closable_quantity(facts: Facts, policy: Policy, failed: Finding) -> Change:
    amt, filters, fraction = exchange_amt(facts), facts.filters, FRACTIONS.get(facts.plan.action)
    if amt is None or filters is None or fraction is None:
        return "a known position, lot rules and a closing action", None
    least = smallest_order(filters)
    if 0 < facts.plan.close_qty < least:
        return (f"a close_qty of at least {text(least)}",
                replace(facts, plan=replace(facts.plan, close_qty=least)))
    steps = (least / fraction / filters.step).to_integral_value(ROUND_CEILING)
    wanted = product(steps, filters.step)
    return (f"a position of at least {text(wanted)} (it was {text(amt.copy_abs())}) for {facts.plan.action} "
            f"to reach the minimum of {text(least)}, or a larger fraction", with_position(facts, wanted.copy_sign(amt)))


def _unset(words: str, **context: Any) -> Mend:
    return lambda facts, policy, failed: (words, in_context(facts, **context))


MENDS: Final[dict[str, Mend]] = {
    "symbol_in_scope": _unset("the symbol in P33_ALLOWLIST, or a position in it", in_scope=True),
    "plan_fresh": _plan_fresh,
    "plan_after_last_order": _plan_after_last_order,
    "action_closes": _action_closes,
    "action_matches_steps": _action_matches_steps,
    "not_halted": _unset("no halt, global or of the symbol", halted=False),
    "not_held": _unset("no reconciliation hold on the symbol", held=False),
    "venue_matches": _unset("a database that belongs to the exchange in use", venue_ok=True),
    "store_steady": _unset("a server that had not restarted, or a poll begun one cooldown after that",
                           store_restarted=False),
    "exchange_configured": _unset("credentials for the exchange", configured=True),
    "one_way_mode": _one_way_mode,
    "filters_known": _filters_known,
    "symbol_trading": _symbol_trading,
    "fresh_snapshot": _fresh_snapshot,
    "has_position": _has_position,
    "same_side": _same_side,
    "same_quantity": _same_quantity,
    "nothing_settling": _nothing_settling,
    "no_permit_outstanding": _no_permit_outstanding,
    "closable_quantity": _closable_quantity,
}


# -- facts, changed ---------------------------------------------------------------------------------------------


def tolerated(amt: Decimal, policy: Policy) -> tuple[Decimal, Decimal]:
    """[lo, hi]: the books that agree with the exchange's amount."""
    allowed = scaled(product(amt.copy_abs(), policy.qty_tolerance_pct), -2)
    return difference(amt, allowed), total(amt, allowed)


def in_context(facts: Facts, **changed: Any) -> Facts:
    """Another context, everything else as it was."""
    return replace(facts, context=replace(facts.context, **changed))


def aged_snapshot(facts: Facts, age_ms: int) -> Facts:
    """The same snapshot, requested at another time."""
    snapshot = replace(facts.snapshot, ts_ms=facts.now_ms - age_ms)
    return replace(facts, snapshot=snapshot, context=replace(facts.context, snapshot_age_ms=age_ms))


def aged_order(facts: Facts, age_ms: int) -> Facts:
    """The same last order, at another time."""
    book = facts.book and replace(facts.book, last_order_ms=facts.now_ms - age_ms)
    return replace(facts, book=book, context=replace(facts.context, last_order_age_ms=age_ms))


def with_position(facts: Facts, amt: Decimal) -> Facts:
    """Exchange and book moved alike, so that their difference stays what it was."""
    moved = difference(amt, facts.snapshot.amt)
    book = facts.book and replace(facts.book, amt=total(facts.book.amt, moved))
    return replace(facts, snapshot=replace(facts.snapshot, amt=amt), book=book)
