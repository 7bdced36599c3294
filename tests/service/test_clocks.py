"""A server's clock that was set, as the poller finds it: the leap is in what the server is heard to say."""

from __future__ import annotations

import pytest

from p33_sidecar.gate import Gate, Refused
from p33_sidecar.service import clocks
from p33_sidecar.service.recall import recall
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


def _taking(world: World, plan: str) -> str:
    """Empty where both permits were taken, else why not."""
    gate = Gate(world.redis_url, key=(), venue=VENUE, by="apply-1")
    answer = gate.take(plan, "BTCUSDT", entry_ms=0, wait_ms=0)
    gate.close()
    return answer.named if isinstance(answer, Refused) else ""


def _start(world: World) -> World:
    """Another sidecar on the same database, as far as it looks back."""
    again = World(world.redis_url)
    recall(again.link, again.memory, again.clock)
    return again


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
    assert _taking(world, plan) == "withdrawn"
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


@pytest.mark.parametrize("life_ms", [HOUR_MS, 120_000, None])
def test_t13_permit_that_outlives_its_time_ends_at_the_start(allowed, life_ms: int | None) -> None:
    """What a clock set back while nobody looked makes of an open permit: it ends, once, and the symbol is free."""
    world, plan = allowed
    if life_ms is None:
        world.redis.persist(keys.open_permit("BTCUSDT"))
    else:
        world.redis.pexpire(keys.open_permit("BTCUSDT"), life_ms)
    for _ in range(2):
        _start(world).close()
    (ended,) = _events(world, "withdrawal")
    assert (ended["symbol"], ended["why"]) == ("BTCUSDT", "outlives P33_PERMIT_TTL")
    assert _taking(world, plan) == "withdrawn" and world.redis.exists(keys.governor_permit(plan))
    assert world.ask() == "ALLOW 0.028"


def test_a_permit_of_the_usual_life_outlasts_a_start(allowed) -> None:
    """A restart alone withdraws nothing."""
    world, plan = allowed
    _start(world).close()
    assert not _events(world, "withdrawal") and not _taking(world, plan)


def test_a_permit_that_no_list_knows_ends_at_the_start_too(allowed) -> None:
    """The list of ALLOWs is of another type: what is open is found by its own key."""
    world, plan = allowed
    world.redis.pexpire(keys.open_permit("BTCUSDT"), HOUR_MS)
    world.redis.delete(keys.ISSUED)
    world.redis.set(keys.ISSUED, "rubbish")
    _start(world).close()
    assert len(_events(world, "withdrawal")) == 1 and _taking(world, plan) == "withdrawn"


@pytest.mark.parametrize(("behind_ms", "ended"), [(30_000, True), (-30_000, False), (900, False)])
def test_t13_permit_ends_when_the_first_poll_of_a_start_finds_the_clock_behind(
        allowed, behind_ms: int, ended: bool) -> None:
    """Set back by less than the permit's age while no sidecar ran: the exchange knows, and what lives too long ends.
    A clock that is ahead, or within the tolerance, makes no permit older than it is."""
    world, plan = allowed
    second = _start(world)
    second.exchange.offset_ms = behind_ms
    for _ in range(2):
        second.poll()
    assert [event["why"] for event in _events(world, "withdrawal")] == ["server clock behind the exchange's"] * ended
    assert _taking(world, plan) == ("withdrawn" if ended else "")
    second.close()
