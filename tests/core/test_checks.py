"""The checks: their boundaries by table, and the incidents that are a pure rule."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from p33_sidecar.core.checks import CHECKS, decide, evaluation_failed
from p33_sidecar.core.model import HEDGE, Phase
from tests.core.made import NOW_MS, POLICY, bent, facts, finding, verdict

SECONDS_AGO = {s: str((NOW_MS - s * 1000) / 1000) for s in (1, 2, 60)}


def test_the_sample_plan_is_allowed():
    """0.038 long, PARTIAL_75, everything agrees: 0.028 may be sold, and every check is in the record."""
    decision = decide(facts(), POLICY)
    assert (decision.allow, decision.safe_close_qty, decision.close_side) == (True, Decimal("0.028"), "SELL")
    assert decision.requested_qty == Decimal("0.0285")
    assert [f.name for f in decision.findings] == [check.__name__ for check in CHECKS]
    assert decision.reason is None and decision.retry_after_ms is None


@pytest.mark.parametrize(("age_ms", "expected"), [
    (0, "ALLOW 0.028 SELL"), (10_000, "ALLOW 0.028 SELL"), (10_001, "DENY stale_exchange_state"),
    (-1_000, "ALLOW 0.028 SELL"), (-1_001, "DENY clock_skew"),
])
def test_snapshot_age_boundaries(age_ms, expected):
    """10.000 s passes and 10.001 does not; -1 s passes, further in the future is clock_skew."""
    assert verdict(facts(snapshot_age_ms=age_ms)) == expected


@pytest.mark.parametrize(("age", "expected"), [
    ("60.000", "ALLOW 0.028 SELL"), ("60.001", "DENY plan_expired"),
    ("-1.000", "ALLOW 0.028 SELL"), ("-1.001", "DENY clock_skew"), ("0.999", "ALLOW 0.028 SELL"),
])
def test_plan_age_boundaries(age, expected):
    """A plan may be 60.000 s old and lie 1.000 s ahead; fractions of the timestamp count."""
    stamp = f"{Decimal(NOW_MS) / 1000 - Decimal(age):f}"
    assert verdict(facts(plan={"timestamp": stamp})) == expected


@pytest.mark.parametrize(("entry_age_ms", "expected"), [(60_000, "ALLOW 0.028 SELL"), (60_001, "DENY plan_expired")])
def test_plan_without_timestamp_ages_from_its_entry(entry_age_ms, expected):
    """Without a timestamp the stream id's time counts."""
    base = bent(facts(plan={"timestamp": ""}), plan={"entry_ms": NOW_MS - entry_age_ms})
    assert verdict(base) == expected


@pytest.mark.parametrize("stamp", ["yesterday", "nan", "1e90", "9" * 50, "2026-01-25T00:30:08Z"])
def test_unreadable_timestamp_expires(stamp):
    """A timestamp that is no time, or none that any clock reaches, gives a verdict and never an ALLOW."""
    assert verdict(facts(plan={"timestamp": stamp})) == "DENY plan_expired"


@pytest.mark.parametrize(("order_age_ms", "expected"), [
    (15_000, "ALLOW 0.028 SELL"), (14_999, "DENY cooldown_in_flight"), (3_201, "DENY cooldown_in_flight"),
])
def test_cooldown_boundaries(order_age_ms, expected):
    """15.000 s after the last order passes, 14.999 does not."""
    assert verdict(facts(last_order_age_ms=order_age_ms)) == expected


def test_order_time_counts_although_nobody_measured_its_age():
    """The book's own order time stands in where the age is not known: unknown is not long ago."""
    assert verdict(facts(last_order_ms=NOW_MS - 4_000)) == "DENY cooldown_in_flight"
    assert verdict(facts(last_order_ms=NOW_MS - 15_000)) == "ALLOW 0.028 SELL"


@pytest.mark.parametrize(("plan_age_s", "expected"), [
    ("19.001", "ALLOW 0.028 SELL"), ("20.999", "ALLOW 0.028 SELL"), ("21", "DENY plan_superseded"),
])
def test_plan_is_superseded_when_stamp_and_a_second_is_not_later_than_the_order(plan_age_s, expected):
    """Order 20 s ago: a plan of 20.999 s is later with the second whole seconds may hide; 21 s is not."""
    stamp = f"{Decimal(NOW_MS) / 1000 - Decimal(plan_age_s):f}"
    given = facts(plan={"timestamp": stamp}, last_order_age_ms=20_000, last_order_ms=NOW_MS - 20_000)
    assert verdict(given) == expected


def test_t13_clock_set_back_does_not_unsupersede_a_plan():
    """Order and plan were stamped by one clock: what passed since by another does not reorder them."""
    given = facts(plan={"timestamp": SECONDS_AGO[60]}, last_order_ms=NOW_MS - 50_000, last_order_age_ms=65_000)
    assert verdict(given) == "DENY plan_superseded"


def test_t13_order_stamped_an_hour_ahead_does_not_deny_for_an_hour():
    """An order time ahead of the clock was stamped wrong: the measured age decides instead."""
    assert verdict(facts(last_order_ms=NOW_MS + 3_600_000, last_order_age_ms=15_000)) == "ALLOW 0.028 SELL"


@pytest.mark.parametrize(("amt", "ledger", "expected"), [
    ("0.0500", "0.0495", "ALLOW"), ("0.0500", "0.0494", "DENY reconcile_required_qty_mismatch"),
    ("0.0500", "0.0505", "ALLOW"), ("0.0500", "0.0506", "DENY reconcile_required_qty_mismatch"),
    ("-0.0500", "-0.0495", "ALLOW"), ("-0.0500", "-0.0494", "DENY reconcile_required_qty_mismatch"),
    ("0.0500", "0", "DENY reconcile_required_qty_mismatch"),
    ("0.0500", "-0.0500", "DENY reconcile_required_side_mismatch"),
    ("-0.0500", "0.0001", "DENY reconcile_required_side_mismatch"),
    ("1.00000000000000000000000000001", "0.99", "DENY reconcile_required_qty_mismatch"),
])
def test_i54_tolerance_is_a_share_of_the_exchange_exactly(amt, ledger, expected):
    """1 % of the exchange's amount, exactly: 0.0495 of 0.0500 passes, 0.0494 does not; no digit is dropped."""
    assert verdict(facts(amt=amt, ledger=ledger, step="0.0001")).startswith(expected)


@pytest.mark.parametrize(("amt", "expected"), [
    ("0.0009", "no_position"), ("-0.0009", "no_position"), ("0", "no_position"), ("0.001", "qty_below_min"),
])
def test_position_below_one_step_is_none(amt, expected):
    """|exchange| below one step is no position; exactly one step is one."""
    assert verdict(facts(amt=amt)) == f"DENY {expected}"


@pytest.mark.parametrize(("action", "amt", "expected"), [
    ("FULL_CLOSE_PROPOSED", "0.040", "0.040"), ("CLOSE_FULL", "0.040", "0.040"),
    ("PARTIAL_75", "0.040", "0.030"), ("CLOSE_PARTIAL_75", "0.040", "0.030"),
    ("PARTIAL_50", "0.040", "0.020"), ("CLOSE_PARTIAL_50", "0.040", "0.020"),
    ("PARTIAL_25", "0.040", "0.010"), ("CLOSE_PARTIAL_25", "-0.040", "0.010"),
])
def test_i12_table_of_actions(action, amt, expected):
    """Each action of the table closes its fraction of the position, and nothing else closes anything."""
    decision = decide(facts(amt=amt, plan={"action": action}), POLICY)
    assert decision.safe_close_qty == Decimal(expected)
    assert decision.close_side == ("SELL" if Decimal(amt) > 0 else "BUY")


@pytest.mark.parametrize("action", ["FOO", "", "UPDATE_SL", "partial_75", " PARTIAL_75", "OPEN_LONG", "INCREASE"])
def test_i12_unknown_action_closes_nothing(action):
    """Actions match exactly; whatever is not in the table is unsupported, never a full close."""
    assert verdict(facts(plan={"action": action})) == "DENY unsupported_action"


@pytest.mark.parametrize(("step", "amt", "action", "expected"), [
    ("0.001", "0.038", "PARTIAL_75", "ALLOW 0.028 SELL"),
    ("1", "123.9", "PARTIAL_50", "ALLOW 61 SELL"),
    ("0.001", "0.0035", "PARTIAL_75", "ALLOW 0.002 SELL"),
    ("0.001", "0.012", "PARTIAL_75", "ALLOW 0.009 SELL"),
])
def test_i53_step_from_exchange_floored(step, amt, action, expected):
    """The step is the exchange's, and a quantity is floored to it: never rounded up, never a float."""
    assert verdict(facts(amt=amt, step=step, plan={"action": action})) == expected


def test_i53_unknown_step_denies():
    """A symbol the exchange's list lacks has no step: deny, never assume one."""
    assert verdict(replace(facts(), filters=None)) == "DENY no_symbol_filters"


def test_filters_never_read_are_not_filters_that_lack_the_symbol():
    """A list that was never read says nothing of the symbol: the exchange's state is what is unknown."""
    given = replace(bent(facts(), context={"filters_read": False}), filters=None)
    assert verdict(given) == "DENY no_exchange_snapshot"


def test_i08_quantity_below_one_step_is_denied():
    """0.001 x 50 % at step 0.001 is 0.0005, floored to nothing: qty_below_min, never 'use the plan's'."""
    assert verdict(facts(amt="0.001", plan={"action": "PARTIAL_50", "close_qty": "0.001"})) == "DENY qty_below_min"


@pytest.mark.parametrize("side", ["BUY", "SELL", ""])
def test_i10_close_on_a_flat_symbol_is_no_position(side):
    """A close plan on a flat symbol never becomes an opening order."""
    plan = {"side": side, "action": "FULL_CLOSE_PROPOSED", "close_qty": "5"}
    assert verdict(facts(amt="0", plan=plan)) == "DENY no_position"


def test_x20_dust_has_a_named_reason():
    """Above the lot step and below the minimum: qty_below_min, at every try."""
    given = facts(amt="0.004", step="0.001", min_qty="0.005", plan={"action": "CLOSE_FULL"})
    assert verdict(given) == "DENY qty_below_min"
    assert finding(decide(given, POLICY), "closable_quantity").margin == "-0.001"


def test_i33_a_short_is_no_side_mismatch():
    """SHORT -0.012 on both sides agrees, and is closed by buying."""
    assert verdict(facts(amt="-0.012", plan={"action": "PARTIAL_50"})) == "ALLOW 0.006 BUY"


def test_i34_an_adjustment_does_not_start_the_cooldown():
    """Cooldown runs from the last order; a book adjusted this moment has no new order."""
    adjusted = {"source": "adjustment", "updated_epoch": NOW_MS // 1000, "rev": 9}
    given = bent(facts(last_order_ms=NOW_MS - 20_000, last_order_age_ms=20_000), book=adjusted)
    assert verdict(given) == "ALLOW 0.028 SELL"


def test_i57_snapshot_older_than_the_last_order_denies():
    """Order at 0 s, snapshot of -1 s, plan at 15 s: not before a newer snapshot, however lax the threshold."""
    policy = replace(POLICY, stale_threshold_ms=30_000)
    assert verdict(facts(snapshot_age_ms=16_000, last_order_age_ms=15_000), policy) == "DENY cooldown_in_flight"
    assert verdict(facts(snapshot_age_ms=15_000, last_order_age_ms=15_000), policy) == "DENY cooldown_in_flight"
    assert verdict(facts(snapshot_age_ms=14_999, last_order_age_ms=15_000), policy) == "ALLOW 0.028 SELL"


def test_t09_second_partial_of_the_same_moment_is_superseded():
    """Position 0.100, A fills 0.075; B, decided 10 ms after A, is published again: not another 75 %."""
    given = facts(amt="0.025", plan={"timestamp": f"{Decimal(NOW_MS - 16_590) / 1000:f}"},
                  last_order_ms=NOW_MS - 15_500, last_order_age_ms=15_500)
    assert verdict(given) == "DENY plan_superseded"


@pytest.mark.parametrize("base", [
    bent(facts(), context={"hedge": True}),
    bent(facts(), snapshot={"amt": None, "side": HEDGE}),
    bent(facts(), snapshot={"side": HEDGE}),
])
def test_i55_hedge_rows_are_never_netted(base):
    """LONG/SHORT rows deny, whichever of the facts shows them."""
    assert verdict(base) == "DENY hedge_mode_unsupported"


@pytest.mark.parametrize(("plan", "said"), [
    ({"steps": '[{"step":"CLOSE_PARTIAL_50","pct":50.0}]'}, "action closes 0.75, step closes 0.5"),
    ({"steps": '[{"step":"CLOSE_PARTIAL_75","pct":50.0}]'}, "with pct 50.0"),
    ({"steps": "[{"}, "steps cannot be read"), ({"steps": "null"}, "steps cannot be read"),
    ({"close_qty": "lots"}, "close_qty cannot be read"), ({"close_qty": "-1"}, "negative"),
    ({"close_qty": "NaN"}, "close_qty cannot be read"), ({"side": "BUY"}, "does not close 0.038"),
])
def test_contradictions_name_themselves(plan, said):
    """Action, closing step, close_qty and side must tell one story; the finding says where they do not."""
    decision = decide(facts(plan=plan), POLICY)
    assert decision.reason == "action_step_mismatch"
    assert said in finding(decision, "action_matches_steps").value


@pytest.mark.parametrize("plan", [
    {"steps": '[{"step":"CLOSE_PARTIAL_75","type":"market_reduce_only","side":"close","pct":75.0}]'},
    {"steps": '[{"step":"CLOSE_PARTIAL_75","pct":"75"},{"step":"UPDATE_SL","price":100.2}]'},
    {"steps": "[]"}, {"steps": ""}, {"side": "SELL"}, {"side": "LONG"}, {"close_qty": "0.0"},
])
def test_plans_that_agree_with_themselves_pass(plan):
    """No closing step: the action decides; a pct is the same number however it is written."""
    assert verdict(facts(plan=plan)) == "ALLOW 0.028 SELL"


@pytest.mark.parametrize(("close_qty", "expected"), [
    ("0.0105", "ALLOW 0.010 SELL"), ("5", "ALLOW 0.028 SELL"), ("0.0001", "DENY qty_below_min"),
])
def test_close_qty_is_an_upper_bound(close_qty, expected):
    """A close_qty above zero lowers the quantity and never raises it."""
    assert verdict(facts(plan={"close_qty": close_qty})) == expected


def test_exchange_maximum_bounds_one_order():
    """A position beyond the exchange's maximum is closed by at most that maximum."""
    assert verdict(facts(amt="500", plan={"action": "CLOSE_FULL"})) == "ALLOW 120.000 SELL"


@pytest.mark.parametrize("context", [{"unsettled_orders": 1}, {"unbooked_results": True}, {"released_ms": NOW_MS}])
def test_what_is_still_on_its_way_denies(context):
    """An order not settled, results not booked, a snapshot from before a permit was let go: still in flight."""
    assert verdict(facts(**context)) == "DENY cooldown_in_flight"


@pytest.mark.parametrize(("given", "retry_ms"), [
    (facts(last_order_age_ms=6_000), 9_000), (facts(last_order_age_ms=14_999), 1_000),
    (facts(phase=Phase.TAKEN, phase_ends_ms=NOW_MS + 42_000), 42_000), (facts(store_restarted=True), 15_000),
    (facts(snapshot_age_ms=20_000), 5_000), (facts(in_scope=False), None),
])
def test_retry_after_says_when_another_try_makes_sense(given, retry_ms):
    """Retryable denials carry a wait of at least a second; the five final ones carry none."""
    assert decide(given, POLICY).retry_after_ms == retry_ms


def test_a_failed_evaluation_is_a_denial():
    """An error inside the evaluation denies with its own name and may be tried again."""
    decision = evaluation_failed(POLICY)
    assert (decision.allow, decision.reason, decision.safe_close_qty) == (False, "evaluation_error", None)
    assert decision.retry_after_ms == 5_000
