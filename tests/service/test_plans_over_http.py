"""Incidents of the plan's way: every plan has its answer, once, and the exchange gets to see no more than one order."""

from __future__ import annotations

from decimal import Decimal

import pytest

from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.store import keys
from tests.service.breaking import Breaking
from tests.service.over_http import COOLING, PATIENT, POSITIONS, Floor, under
from tests.service.world import PLANS

HOUR_MS = 3_600_000

# -- an answer for each -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("symbol", "action", "mark", "reason"), [
    ("DOGEUSDT", "PARTIAL_75", "", "symbol_not_allowed"), ("BTCUSDT", "PARTIAL_75", "rubbish", "evaluation_error"),
    ("BTCUSDT", "OPEN_LONG", "", "unsupported_action"), ("ETHUSDT", "CLOSE_FULL", "", "no_position"),
])
def test_i13_a_plan_that_cannot_pass_is_answered_and_stops_no_other(floor: Floor, symbol: str, action: str, mark: str,
                                                                   reason: str) -> None:
    """Outside the list, impossible, or with an evaluation that fails, while the exchange is away: all hear why."""
    floor.world.memory.allowlist = frozenset({"BTCUSDT", "ETHUSDT"})
    floor.opened()
    floor.sim.fault("http_503_b", POSITIONS, times=None)
    floor.world.poll()
    if mark:
        floor.redis.set(keys.plan("odd"), mark)
    odd, good = floor.publish(action, symbol=symbol, plan_id="odd"), floor.publish(plan_id="good")
    floor.world.decide()
    decided = [fields["plan_id"] for _, fields in floor.redis.xrange(keys.DECISIONS)]
    assert sorted(decided) == ["good", "odd"] and floor.redis.xpending(PLANS, "p33")["pending"] == 0
    assert [floor.apply(odd), floor.apply(good)] == [f"p33_denied:{reason}", "SELL 0.028"]


# -- the same plan again ------------------------------------------------------------------------------------------


def test_i14_denied_in_the_cooldown_and_executed_after_it(floor: Floor) -> None:
    """The plan is judged afresh when it is published again; after its order a third publication changes nothing."""
    floor.opened()
    assert floor.carry() == "SELL 0.028"
    floor.see_order()
    under(floor.world, COOLING)
    assert floor.carry("CLOSE_FULL", plan_id="again") == "p33_denied:cooldown_in_flight"
    under(floor.world, PATIENT)
    assert floor.carry("CLOSE_FULL", plan_id="again") == "SELL 0.01"
    assert floor.accounts() == ("0", "0")
    before = floor.redis.xlen(keys.DECISIONS)
    third = floor.publish("CLOSE_FULL", plan_id="again")
    floor.world.decide()
    floor.applier.handle(third)
    assert floor.redis.xlen(keys.DECISIONS) == before and ("republished",) in floor.world.hooks.seen
    assert floor.orders() == [("BTCUSDT", Decimal("0.028")), ("BTCUSDT", Decimal("0.010"))]


def test_i14_published_again_while_its_permit_is_open(floor: Floor) -> None:
    """Nothing new: the very permit of the first publication is the one that is taken, and there is one order."""
    floor.opened()
    floor.publish(plan_id="twice")
    floor.world.decide()
    first = floor.redis.get(keys.permit("twice"))
    again = floor.publish(plan_id="twice")
    floor.world.decide()
    assert floor.redis.get(keys.permit("twice")) == first and floor.redis.xlen(keys.DECISIONS) == 1
    assert floor.apply(again) == "SELL 0.028" and len(floor.orders()) == 1


# -- a process that ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_i49_a_plan_in_hand_when_the_sidecar_dies_has_one_verdict_and_one_order(floor: Floor, executed: bool) -> None:
    """It dies at the issuing step, before or after the server did it; its successor has the same name."""
    floor.opened()
    floor.world.decide()
    entry = floor.publish()
    breaking = Breaking(floor.world.redis, floor.world.desk.store.line, at=1, executed=executed)
    with pytest.raises(StoreUnavailable, match="Died"):
        floor.world.desk.step(block_ms=1)
    assert breaking.count == 2 and floor.redis.xlen(keys.DECISIONS) == executed
    floor.restart().decide()
    assert floor.redis.xlen(keys.DECISIONS) == 1 and floor.redis.xpending(PLANS, "p33")["pending"] == 0
    assert floor.apply(entry) == "SELL 0.028" and floor.accounts() == ("0.01", "0.01")


def test_i49_a_plan_of_five_minutes_ago_is_not_carried_out_after_a_restart(floor: Floor) -> None:
    """Read and never answered; the sidecar that comes back says `plan_expired`, and so does the Apply Layer."""
    floor.opened()
    floor.world.decide()
    entry = floor.publish(timestamp=f"{floor.world.clock.now_ms() / 1000 - 300:.3f}")
    assert floor.redis.xreadgroup("p33", "test", {PLANS: ">"})
    floor.restart().decide()
    assert floor.world.verdict(entry.plan.plan_id) == "plan_expired"
    assert floor.apply(entry) == "plan_expired" and floor.orders() == []


def test_t13_a_permit_that_outlives_its_time_is_found_at_the_start(floor: Floor) -> None:
    """Redis' clock was set back an hour while the sidecar was down: the permit is worthless, the next is not."""
    floor.opened()
    entry = floor.publish()
    floor.world.decide()
    for name in (keys.open_permit("BTCUSDT"), keys.permit(entry.plan.plan_id)):
        floor.redis.pexpire(name, HOUR_MS)
    floor.restart()
    assert floor.apply(entry) == "withdrawn" and floor.orders() == []
    assert floor.carry() == "SELL 0.028" and floor.accounts() == ("0.01", "0.01")
