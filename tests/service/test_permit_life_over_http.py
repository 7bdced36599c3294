"""What becomes of a permit before it is taken, and of a plan that is published again: the whole path, over HTTP."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from p33_sidecar.store import keys
from tests.apply.shop import until
from tests.cli.conftest import Tool
from tests.service.breaking import Breaking
from tests.service.over_http import COOLING, PATIENT, Floor, under

PATIENCE_MS = 60_000


def test_t03_halted_by_hand_between_issue_and_take(floor: Floor) -> None:
    """0 ALLOW · 10 `SET quantum:p33:halt 1` · 20 take: refused `halted`, and the Governor's permit is still there."""
    floor.opened()
    entry = floor.publish()
    floor.world.decide()
    assert floor.world.verdict("plan1") == "ALLOW 0.028"
    floor.redis.set(keys.HALT, "1")
    assert floor.apply(entry) == "halted"
    assert floor.redis.exists(keys.governor_permit("plan1")) and not floor.redis.exists(keys.taken("plan1"))
    assert floor.orders() == []
    floor.redis.delete(keys.HALT)
    assert floor.carry() == "SELL 0.028", "nothing of the halted plan stands in the next one's way"


def test_t04_the_bytes_of_a_withdrawn_permit_are_set_again(floor: Floor, p33: Tool) -> None:
    """0 ALLOW · 5 `p33 halt` withdraws it, `p33 resume` · 6 its signed bytes are put back · 7 take: `withdrawn`."""
    floor.opened()
    entry = floor.publish()
    floor.world.decide()
    signed = floor.redis.get(keys.permit("plan1"))
    assert [p33("halt", "--reason", "a look").code, p33("resume").code] == [0, 0]
    floor.redis.set(keys.permit("plan1"), signed, px=PATIENCE_MS)
    assert floor.apply(entry) == "withdrawn"
    assert (floor.permits_left("plan1"), floor.orders()) == (2, [])
    assert floor.carry() == "SELL 0.028", "a permit of today is none of those"


def test_t09_plan_decided_before_the_last_order_is_superseded(floor: Floor) -> None:
    """Of 0.100, A and B want 75 % each. A fills 0.075; B, published again as it was, gets nothing of the rest."""
    floor.opened(BTCUSDT="0.100")
    then = f"{floor.world.clock.now_ms() / 1000 - 2:.3f}"
    first, second = floor.publish(timestamp=then), floor.publish(timestamp=then)
    floor.world.decide()
    assert [floor.apply(first), floor.apply(second)] == ["SELL 0.075", "p33_denied:permit_outstanding"]
    floor.see_order()
    assert floor.carry(plan_id="plan2", timestamp=then) == "p33_denied:plan_superseded"
    assert floor.orders() == [("BTCUSDT", Decimal("0.075"))] and floor.accounts() == ("0.025", "0.025")


def test_t15_denied_published_again_and_looked_at_before_it_is_judged(floor: Floor) -> None:
    """8,000 DENY, still in Redis · 16,000 again · the Apply Layer looks at once: it waits, and takes the ALLOW."""
    floor.opened()
    floor.carry("PARTIAL_25")
    floor.see_order()
    under(floor.world, COOLING)
    plan = floor.publish(plan_id="again").plan
    floor.world.decide()
    assert floor.world.verdict(plan.plan_id) == "cooldown_in_flight"
    under(floor.world, PATIENT)
    entry = floor.publish(plan_id=plan.plan_id)
    floor.applier = floor.shop.applier(wait_ms=PATIENCE_MS)
    applying = threading.Thread(target=floor.applier.handle, args=(entry,), daemon=True)
    applying.start()
    until(lambda: floor.redis.info("clients")["blocked_clients"], "the Apply Layer has looked, and waits for more")
    floor.world.decide()
    applying.join(PATIENCE_MS / 1000)
    floor.world.book()
    assert [result.error for result in floor.shop.results()] == ["", ""]
    assert floor.orders() == [("BTCUSDT", Decimal("0.009")), ("BTCUSDT", Decimal("0.021"))]
    assert floor.accounts() == ("0.008", "0.008")


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_t16_the_reply_to_a_take_is_lost(floor: Floor, executed: bool) -> None:
    """At each round trip of a taking, before or after the server acted: asked again, one taking, one order."""
    floor.opened(BTCUSDT="1")
    steps, at = 1, -1
    while at < steps:
        floor.applier = floor.shop.applier()
        gate, number = floor.applier.gate, at + 2
        breaking = Breaking(gate._link.redis, gate._takings.line, at=at, executed=executed)
        assert floor.carry("PARTIAL_25").startswith("SELL"), f"round trip {at}"
        assert len(floor.orders()) == floor.redis.xlen(keys.TAKINGS) == len(floor.shop.results()) == number
        floor.see_order()
        steps, at = breaking.count if at < 0 else steps, at + 1
    assert steps >= 2
    assert floor.accounts()[0] == floor.accounts()[1]
