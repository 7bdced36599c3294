"""kill -9 at every step of issuing, enumerated: exactly one verdict a plan, whatever was lost."""

from __future__ import annotations

import pytest

from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.store import keys
from tests.service.breaking import Breaking, Died
from tests.service.world import PLANS, World

MOST_STEPS = 40


def _plans(world: World) -> list[str]:
    """Every way an entry can go: allowed, denied, second of its symbol, rejected, passed over."""
    plans = [world.publish("PARTIAL_75"), world.publish("CLOSE_FULL"), world.publish("FOO"),
             world.publish("PARTIAL_50", symbol="XRPUSDT")]
    world.redis.xadd(PLANS, {"plan_id": "", "symbol": "BTCUSDT", "decision": "EXECUTE"})
    world.redis.xadd(PLANS, {"plan_id": "quiet", "symbol": "BTCUSDT", "decision": "SKIP"})
    return plans


def _run(world: World) -> bool:
    """True if the desk died on the way."""
    try:
        world.decide()
    except (Died, StoreUnavailable):
        return True
    return False


def _steps_of_a_clean_run(url: str) -> int:
    world = World(url).open_books()
    world.decide()
    _plans(world)
    counter = Breaking(world.redis, world.desk.store.line)
    world.decide()
    world.close()
    return counter.count


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_killed_at_every_step_of_issuing(redis_url: str, executed: bool) -> None:
    """For each round trip of the desk: die there, start anew, and every plan has exactly one verdict."""
    steps = _steps_of_a_clean_run(redis_url)
    assert 5 <= steps <= MOST_STEPS
    for step in range(steps):
        first = World(redis_url)
        first.redis.flushall()
        first.close()
        first = World(redis_url).open_books()
        first.decide()
        plans = _plans(first)
        Breaking(first.redis, first.desk.store.line, at=step, executed=executed)
        died = _run(first)
        second = World(redis_url).start_again()
        second.decide()
        records = [record["plan_id"] for record in second.records(keys.DECISIONS)]
        assert sorted(records) == sorted(plans), f"step {step}, died {died}"
        verdicts = [second.verdict(plan) for plan in plans]
        assert verdicts == ["ALLOW 0.028", "permit_outstanding", "unsupported_action", "symbol_not_allowed"]
        assert len(second.records(keys.REJECTED)) == 1
        assert second.redis.xpending(PLANS, "p33")["pending"] == 0
        first.close()
        second.close()
