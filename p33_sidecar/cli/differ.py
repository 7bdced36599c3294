"""What would have had to differ for the other verdict: computed on the facts, and proven by deciding again.

Pure. For a DENY each failing check's fact is changed by the least that makes it pass; `decide` says whether it
does and which check denies next, until nothing does. For an ALLOW each margin is overstepped by the least there is,
and `decide` says whether that turns the verdict. What is unknown is not invented: there the computation ends.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import msgspec

from ..core.checks import decide
from ..core.measures import last_order_age_ms, plan_age_ms, smallest_order
from ..core.model import Decision, Facts, Finding, Policy
from ..core.quantity import ZERO, difference, product, text, total
from .mends import MENDS, Change, aged_order, aged_snapshot, tolerated, with_position
from .units import span

replace = msgspec.structs.replace


class Step(msgspec.Struct, frozen=True):
    """One change: the check it is for, what would have had to be, and whether deciding again shows that it suffices.

    `then` is the reason that would deny next, or ALLOW; None where it cannot be computed (something is unknown).
    """

    check: str
    needed: str
    proven: bool
    then: str | None


class Flip(msgspec.Struct, frozen=True):
    """One margin of an ALLOW: what oversteps it by the least, and the reason it would have denied with."""

    check: str
    margin: int | str
    change: str
    reason: str | None
    proven: bool


def path_to_allow(facts: Facts, policy: Policy) -> list[Step]:
    """The changes that turn a DENY into an ALLOW, check by check in their order; ends where something is unknown."""
    steps: list[Step] = []
    decision = decide(facts, policy)
    while not decision.allow and len(steps) <= len(decision.findings):
        failed = decision.failed
        needed, changed = _mended(failed, facts, policy)
        if changed is None:
            steps.append(Step(failed.name, needed, False, None))
            break
        facts, decision = changed, decide(changed, policy)
        proven = _named(decision, failed.name).ok
        steps.append(Step(failed.name, needed, proven, decision.reason or "ALLOW"))
        if not proven:
            break
    return steps


def flips(facts: Facts, policy: Policy) -> list[Flip]:
    """What would have turned an ALLOW into a DENY, one line for each margin."""
    found = []
    for finding in decide(facts, policy).findings:
        overstep = _OVERSTEPS.get(finding.name)
        if overstep is None or finding.margin is None:
            continue
        words, changed = overstep(facts, policy, finding)
        decision = decide(changed, policy)
        found.append(Flip(finding.name, finding.margin, words, decision.reason,
                          not _named(decision, finding.name).ok))
    return found


def _named(decision: Decision, name: str) -> Finding:
    return next(f for f in decision.findings if f.name == name)


def _mended(failed: Finding, facts: Facts, policy: Policy) -> Change:
    """Change what the check looks at until it passes: one cause can hide another behind it."""
    words: list[str] = []
    for _ in range(4):
        needed, changed = MENDS[failed.name](facts, policy, failed)
        words.append(needed)
        if changed is None:
            return "; and ".join(words), None
        facts = changed
        failed = _named(decide(facts, policy), failed.name)
        if failed.ok:
            break
    return "; and ".join(words), facts


# -- how far an ALLOW was from turning --------------------------------------------------------------------------


def _older_plan(facts: Facts, policy: Policy, finding: Finding) -> tuple[str, Facts]:
    by_ms = finding.margin + (1 if finding.name == "plan_fresh" else 0)
    stamped = replace(facts.plan, timestamp_ms=facts.now_ms - plan_age_ms(facts) - by_ms)
    return f"a plan {span(by_ms)} older", replace(facts, plan=stamped)


def _older_snapshot(facts: Facts, policy: Policy, finding: Finding) -> tuple[str, Facts]:
    by_ms = finding.margin + 1
    return f"a snapshot {span(by_ms)} older", aged_snapshot(facts, facts.context.snapshot_age_ms + by_ms)


def _younger_order(facts: Facts, policy: Policy, finding: Finding) -> tuple[str, Facts]:
    by_ms = finding.margin + 1
    return f"a last order {span(by_ms)} younger", aged_order(facts, last_order_age_ms(facts) - by_ms)


def _smaller_position(facts: Facts, policy: Policy, finding: Finding) -> tuple[str, Facts]:
    amt, step = facts.snapshot.amt, facts.filters.step
    by = total(Decimal(finding.margin), step)
    return (f"a position {text(by)} smaller, in exchange and book alike",
            with_position(facts, max(difference(amt.copy_abs(), by), ZERO).copy_sign(amt)))


def _book_further_off(facts: Facts, policy: Policy, finding: Finding) -> tuple[str, Facts]:
    low, high = tolerated(facts.snapshot.amt, policy)
    unit = facts.filters.step
    if difference(high, facts.book.amt) <= difference(facts.book.amt, low):
        return f"a book above {text(high)}", replace(facts, book=replace(facts.book, amt=total(high, unit)))
    return f"a book below {text(low)}", replace(facts, book=replace(facts.book, amt=difference(low, unit)))


def _smaller_order(facts: Facts, policy: Policy, finding: Finding) -> tuple[str, Facts]:
    least, step = smallest_order(facts.filters), facts.filters.step
    bound = max(difference(least, step), product(step, Decimal("0.5")))
    return (f"less than {text(least)} left to close", replace(facts, plan=replace(facts.plan, close_qty=bound)))


_OVERSTEPS: Final[dict[str, Callable[[Facts, Policy, Finding], tuple[str, Facts]]]] = {
    "plan_fresh": _older_plan,
    "plan_after_last_order": _older_plan,
    "fresh_snapshot": _older_snapshot,
    "has_position": _smaller_position,
    "same_quantity": _book_further_off,
    "nothing_settling": _younger_order,
    "closable_quantity": _smaller_order,
}
