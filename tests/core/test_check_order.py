"""Of several failing conditions the first of the contract's table names the reason."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import Phase
from p33_sidecar.core.reasons import Reason
from tests.core.made import NOW_MS, POLICY, bent, facts, verdict

FAILING = [  # in the contract's order; each makes its own check fail, whatever else is well
    ("symbol_not_allowed", lambda f: bent(f, context={"in_scope": False})),
    ("plan_expired", lambda f: bent(f, context={"answered": True})),
    ("plan_superseded", lambda f: bent(f, context={"last_order_age_ms": 900})),
    ("unsupported_action", lambda f: bent(f, plan={"action": "UPDATE_SL"})),
    ("action_step_mismatch", lambda f: bent(f, plan={"unreadable": "steps cannot be read"})),
    ("halted", lambda f: bent(f, context={"halted": True})),
    ("reconcile_hold_active", lambda f: bent(f, context={"held": True})),
    ("venue_mismatch", lambda f: bent(f, context={"venue_ok": False})),
    ("store_restarted", lambda f: bent(f, context={"store_restarted": True})),
    ("exchange_unconfigured", lambda f: bent(f, context={"configured": False})),
    ("hedge_mode_unsupported", lambda f: bent(f, context={"hedge": True})),
    ("no_symbol_filters", lambda f: replace(f, filters=None)),
    ("symbol_not_trading", lambda f: f if f.filters is None else bent(f, filters={"status": "SETTLING"})),
    ("stale_exchange_state", lambda f: bent(f, context={"snapshot_age_ms": 10_001})),
    ("no_position", lambda f: bent(f, snapshot={"amt": Decimal("0.0001")})),
    ("ledger_tampered", lambda f: bent(f, context={"tampered": True})),
    ("ledger_gap", lambda f: bent(f, context={"gap": True})),
    ("ledger_missing", lambda f: replace(f, book=None)),
    ("reconcile_required_side_mismatch", lambda f: f if f.book is None else bent(f, book={"amt": Decimal("-0.038")})),
    ("reconcile_required_qty_mismatch", lambda f: f if f.book is None else bent(
        f, book={"amt": min(f.book.amt, Decimal("0.010"))})),
    ("cooldown_in_flight", lambda f: bent(f, context={"unsettled_orders": 1})),
    ("permit_outstanding", lambda f: bent(f, context={"phase": Phase.OPEN, "phase_ends_ms": NOW_MS + 5_000})),
    ("qty_below_min", lambda f: f if f.filters is None else bent(f, filters={"min_qty": Decimal(1)})),
]
OLD_PLAN = facts(plan={"timestamp": str((NOW_MS - 2_000) / 1000)})


@pytest.mark.parametrize("at", range(len(FAILING)), ids=[name for name, _ in FAILING])
def test_each_condition_denies_by_its_own_name(at):
    """One condition fails, everything else is well: the verdict names that condition."""
    reason, breaks = FAILING[at]
    assert verdict(breaks(OLD_PLAN)) == f"DENY {reason}"


@pytest.mark.parametrize("at", range(len(FAILING) - 1), ids=[f"{a[0]}>{b[0]}" for a, b in zip(
    FAILING, FAILING[1:], strict=False)])
def test_the_earlier_of_two_failures_names_the_reason(at):
    """Of two adjacent failing conditions the earlier one of the contract's table wins."""
    (reason, first), (_, second) = FAILING[at], FAILING[at + 1]
    assert verdict(first(second(OLD_PLAN))) == f"DENY {reason}"


def test_everything_wrong_at_once_names_the_first():
    """With all conditions failing, removing them from the front walks the contract's table in order."""
    seen = []
    for start in range(len(FAILING)):
        given = OLD_PLAN
        for _, breaks in reversed(FAILING[start:]):
            given = breaks(given)
        seen.append(decide(given, POLICY).reason)
    assert seen == [name for name, _ in FAILING]


def test_the_table_of_failures_covers_every_reason():
    """Every reason of the enum has its place in the precedence table or is one of the three with another path."""
    elsewhere = {"clock_skew", "no_exchange_snapshot", "evaluation_error"}
    assert {name for name, _ in FAILING} | elsewhere == {str(reason) for reason in Reason}
