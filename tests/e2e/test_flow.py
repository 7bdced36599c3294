"""Plan to permits to order to result to booking, with every program a real process."""

from __future__ import annotations

from decimal import Decimal

from p33_sidecar.rehearsal.plan_source import plan_of
from p33_sidecar.store import keys
from tests.e2e.house import HELD, House


def test_a_plan_becomes_one_order_one_result_and_one_booking(house: House):
    """75 % of the position is sold reduce-only, both permits are gone, and the three accounts agree again."""
    symbol = house.take()
    plan = house.publish(symbol, "PARTIAL_75")
    fields, step = house.result(plan)
    assert (fields["decision"], fields["executed"], fields["error"], step["status"]) == (
        "EXECUTE", "True", "", "success")
    (order,) = house.orders(symbol)
    assert (order.client_order_id, order.reduce_only, order.side) == (f"p33-{plan.plan_id}", True, "SELL")
    assert order.executed_qty == Decimal(step["executed_qty"]) == Decimal("750")
    house.until("the booking", lambda: house.booked(symbol))
    assert house.ledger(symbol) == Decimal("250") and house.verdicts(plan) == ["ALLOW"]
    assert not house.stack.redis.exists(keys.permit(plan.plan_id), keys.governor_permit(plan.plan_id))
    assert house.stack.redis.get(keys.taken(plan.plan_id))


def test_i03_a_denial_leaves_the_governors_permit(house: House):
    """I03: an unknown action is denied by name; nothing is burned."""
    plan = house.publish(house.take(), "FOO")
    fields, step = house.result(plan)
    assert (fields["decision"], fields["executed"], fields["error"]) == (
        "BLOCKED", "False", "missing_or_denied_p33_permit")
    assert step["refusal"] == "p33_denied:unsupported_action"
    assert house.stack.redis.exists(keys.governor_permit(plan.plan_id))


def test_the_governors_denial_takes_nothing_of_ours(house: House):
    """Both or none: its no is the result's, and our ALLOW was not taken."""
    symbol = house.take()
    house.stack.governor.deny(symbol)
    plan = house.publish(symbol)
    fields, step = house.result(plan)
    assert (fields["error"], step["refusal"]) == ("missing_permit_or_redis", "governor_denied")
    house.until("the verdict", lambda: house.verdicts(plan))
    assert not house.orders(symbol) and not house.stack.redis.exists(keys.taken(plan.plan_id))


def test_i43_two_full_closes_at_once_close_once(house: House):
    """I43: A and B for one position: one ALLOW, the other `permit_outstanding`, one order, nothing opened."""
    symbol = house.take()
    plans = house.stack.source.publish_together(plan_of(symbol, "FULL_CLOSE_PROPOSED"),
                                                plan_of(symbol, "FULL_CLOSE_PROPOSED"))
    steps = [house.result(plan)[1] for plan in plans]
    assert sorted(verdict for plan in plans for verdict in house.verdicts(plan)) == ["ALLOW", "permit_outstanding"]
    assert sorted(step["status"] for step in steps) == ["blocked", "success"]
    assert len(house.orders(symbol)) == 1 and house.held(symbol) == 0
    house.until("the booking", lambda: house.booked(symbol))


def test_i56_a_lost_answer_ends_in_one_fill(house: House):
    """I56: the exchange filled it and nobody heard: looked up, said once, booked once."""
    symbol = house.take()
    house.stack.door.move("fault", kind="drop", endpoint="POST order", executed=True)
    plan = house.publish(symbol, "PARTIAL_50")
    fields, step = house.result(plan)
    assert (fields["executed"], Decimal(step["executed_qty"])) == ("True", HELD / 2)
    house.until("the booking", lambda: house.booked(symbol))
    assert len(house.orders(symbol)) == 1 and len(house.results(plan)) == 1


def test_a_definite_rejection_frees_the_symbol(house: House):
    """-2022: one try, no fill; the next plan is allowed."""
    symbol = house.take()
    house.stack.door.move("fault", kind="reject", endpoint="POST order", code=-2022, msg="ReduceOnly Order is refused.")
    fields, step = house.result(house.publish(symbol, "PARTIAL_25"))
    assert (fields["error"], fields["executed"]) == ("order_rejected", "False") and "-2022" in step["detail"]
    house.until("another plan is allowed", lambda: house.result(house.publish(symbol, "PARTIAL_25"))[0][
        "executed"] == "True")
    house.until("the booking", lambda: house.booked(symbol))


def test_t19_the_real_permit_behind_a_forgery_is_taken(house: House):
    """T19: an old writer's HASH stands at the key first; the real verdict replaces it and is taken."""
    symbol = house.take()
    plan = plan_of(symbol, "PARTIAL_75")
    house.stack.redis.hset(keys.permit(plan.plan_id), "allow", "true")
    house.stack.source.publish(plan)
    assert house.result(plan)[0]["executed"] == "True"
    house.until("the booking", lambda: house.booked(symbol))


def test_t10_a_position_closed_by_hand_is_not_closed_again(house: House):
    """T10: what a person did at the exchange is seen before the next order: denied until the books agree."""
    symbol = house.take()
    house.stack.door.move("position", symbol=symbol, amt="100")
    house.until("the poll shows it", lambda: house.stack.redis.hget(keys.snapshot(symbol), "position_amt") == "100")
    _, step = house.result(house.publish(symbol, "PARTIAL_75"))
    assert step["refusal"] == "p33_denied:reconcile_required_qty_mismatch" and not house.orders(symbol)
