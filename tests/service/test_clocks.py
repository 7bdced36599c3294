"""A server's clock that was set, as the poller finds it: the leap is in what the server is heard to say."""

from __future__ import annotations

import pytest

from p33_sidecar.gate import Gate, Refused
from p33_sidecar.service import clocks
from p33_sidecar.store import keys
from p33_sidecar.store.connect import server_ms
from tests.service.world import VENUE, World

HOUR_MS = 3_600_000


@pytest.fixture
def allowed(ready: World) -> tuple[World, str]:
    """A world with an open ALLOW."""
    plan = ready.publish()
    ready.decide()
    assert ready.verdict(plan) == "ALLOW 0.028"
    ready.redis.set(keys.governor_permit(plan), '{"granted":true}')
    return ready, plan


def _leap(monkeypatch: pytest.MonkeyPatch, by_ms: int) -> None:
    monkeypatch.setattr(clocks, "server_ms", lambda client: server_ms(client) + by_ms)


def _events(world: World, kind: str) -> list[dict]:
    return [event for event in world.records(keys.EVENTS) if event["kind"] == kind]


@pytest.mark.parametrize("by_ms", [-HOUR_MS, HOUR_MS])
def test_t13_open_permits_end_when_the_clock_was_set(allowed, monkeypatch: pytest.MonkeyPatch, by_ms: int) -> None:
    """Its 60 s are not 60 s any more: the permit is worthless, said once, and the Governor's is still there."""
    world, plan = allowed
    _leap(monkeypatch, by_ms)
    world.poller.clocks.sync()
    world.poller.clocks.sync()
    (skew,), (ended,) = _events(world, "clock_skew"), _events(world, "withdrawal")
    assert skew["clock"] == "store" and abs(skew["by_ms"] - by_ms) < 60_000
    assert (ended["symbol"], ended["why"]) == ("BTCUSDT", "server clock set")
    gate = Gate(world.redis_url, key=(), venue=VENUE, by="apply-1")
    refused = gate.take(plan, "BTCUSDT", entry_ms=0, wait_ms=0)
    gate.close()
    assert isinstance(refused, Refused) and refused.named == "withdrawn"
    assert world.redis.exists(keys.governor_permit(plan))


def test_t13_leap_that_another_loop_saw_first_is_noticed(allowed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk renews the common clock with every verdict: what the watch saw last is its own."""
    world, _ = allowed
    world.poller.clocks.sync()
    _leap(monkeypatch, -HOUR_MS)
    world.clock.sync(server_ms(world.redis) - HOUR_MS)
    world.poller.clocks.sync()
    assert len(_events(world, "clock_skew")) == len(_events(world, "withdrawal")) == 1


def test_a_clock_that_goes_on_is_no_leap(allowed) -> None:
    """Looked at again and again: no event, and the permit stays."""
    world, plan = allowed
    for _ in range(20):
        world.poller.clocks.sync()
    assert not _events(world, "clock_skew") and world.redis.get(keys.open_permit("BTCUSDT")).startswith(plan)
