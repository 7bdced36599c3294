"""Incidents between exchange and verdict: the loops on a real server, asking the simulated exchange over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

import pytest

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.service.metrics import Metrics
from p33_sidecar.store import keys
from tests.service.over_http import POSITIONS, STALE, closed, served, under
from tests.service.world import World

TEN_MINUTES_OF_POLLS = 120
PATIENCE_S = 60


@pytest.fixture
def world(redis_url: str, sim: SimExchange) -> Iterator[World]:
    """Its book was adopted at 0.038 and agrees with the exchange."""
    built = served(redis_url, sim).open_books()
    yield built
    closed(built)


def mismatches(world: World) -> list[str]:
    return [event["state"] for event in world.records(keys.EVENTS) if event["kind"] == "mismatch"]


def gauge(world: World) -> bool:
    """Whether the mismatch is open in what is served at /metrics."""
    said = Metrics(world.memory, world.clock, version="1", policy_hash="a", loosened=False).render().decode()
    return 'p33_mismatch_open{symbol="BTCUSDT"} 1.0' in said


def test_i46_ten_minutes_of_mismatch_are_two_events_and_a_gauge(world: World, sim: SimExchange) -> None:
    """As many polls as ten minutes have: one opening while it lasts, one closing when the accounts agree again."""
    sim.set_position("BTCUSDT", "0.050")
    for _ in range(TEN_MINUTES_OF_POLLS):
        world.poll()
    assert (mismatches(world), gauge(world)) == (["opened"], True)
    sim.set_position("BTCUSDT", "0.038")
    for _ in range(3):
        world.poll()
    assert (mismatches(world), gauge(world)) == (["opened", "closed"], False)


def test_x05_mismatch_keeps_denying_ages_and_outlives_the_sidecar(world: World, redis_url: str,
                                                                  sim: SimExchange) -> None:
    """Asked again and again, and by the next process: denied each time, and since the same moment."""
    sim.set_position("BTCUSDT", "0.050")
    for _ in range(5):
        world.poll()
        assert world.ask() == "reconcile_required_qty_mismatch"
    since = world.memory.mismatches["BTCUSDT"]["opened_ms"]
    again = served(redis_url, sim).start_again()
    for n in range(5):
        again.poll()
        assert again.ask(plan_id=f"again{n}") == "reconcile_required_qty_mismatch"
    assert again.memory.mismatches["BTCUSDT"]["opened_ms"] == since and gauge(again)
    assert mismatches(again) == ["opened"]
    closed(again)


@pytest.mark.parametrize("fault", ["empty_list", "html_200", "error_200", "empty_200", "truncated", "http_503_b"])
def test_x01_i19_a_reply_that_is_none_is_no_flat_position(world: World, sim: SimExchange, fault: str) -> None:
    """Position and snapshot stay as they were, and the next close plan rests on what was really seen last."""
    before = world.redis.hgetall(keys.snapshot("BTCUSDT"))
    sim.fault(fault, POSITIONS)
    world.poll()
    assert world.redis.hgetall(keys.snapshot("BTCUSDT")) == before and before["position_amt"] == "0.038"
    assert world.records(keys.SNAPSHOTS)[-1]["outcome"] != "ok"
    assert world.ask() == "ALLOW 0.028"


def test_i19_symbol_that_the_reply_lacks_ages_and_denies(redis_url: str, sim: SimExchange) -> None:
    """Every other symbol is in the reply; this one is unknown, and denied once its snapshot is too old."""
    world = served(redis_url, sim).open_books()
    sim.fault("missing_rows", POSITIONS, times=None, symbols=("BTCUSDT",))
    before = world.redis.hgetall(keys.snapshot("BTCUSDT"))
    world.poll()
    assert world.records(keys.SNAPSHOTS)[-1]["outcome"] == "ok"
    assert world.redis.hgetall(keys.snapshot("BTCUSDT")) == before
    under(world, STALE)
    assert world.ask() == "stale_exchange_state"
    closed(world)


def test_i18_one_request_a_poll_for_566_symbols(redis_url: str) -> None:
    """However many there are, and every one of them has its snapshot, as old as the request's start."""
    with SimExchange(symbols=566, positions={"BTCUSDT": "0.038"}) as sim:
        world = served(redis_url, sim)
        world.memory.allowlist = None
        for polls in (1, 2, 3):
            world.poll()
            assert sim.request_count(POSITIONS) == polls
            stamps = {world.redis.hget(name, "ts_ms") for name in world.redis.scan_iter(f"{keys.SNAPSHOT}*")}
            assert stamps == {str(world.memory.last_good_poll.requested_ms)} and len(world.memory.snapshots) == 566
        closed(world)


def test_t18_refreshes_are_a_second_apart_however_many_plans_wait(redis_url: str, sim: SimExchange) -> None:
    """Stale snapshots, an exchange that fails at once, and a verdict that waits for the next reply all the time."""
    world = served(redis_url, sim, refresh_budget_ms=300).open_books()
    under(world, STALE)
    sim.fault("http_503_b", POSITIONS, times=None)
    before, plans, deadline_s = sim.request_count(POSITIONS), [], time.monotonic() + PATIENCE_S
    asked_ns: list[int] = []
    while len(asked_ns) < 4 and time.monotonic() < deadline_s:
        plans.append(world.publish())
        world.desk.step(block_ms=1)
        if world.poller.step(wait_s=0.02):
            asked_ns.append(world.memory.last_poll.requested_mono_ns)
    world.decide()
    assert sim.request_count(POSITIONS) - before == len(asked_ns) == 4 < len(plans)
    assert all(later - earlier >= 999_000_000 for earlier, later in pairwise(asked_ns)), asked_ns
    assert {world.verdict(plan) for plan in plans} == {"stale_exchange_state"} and not world.memory.ban_until_ms
    closed(world)


def test_i28_position_outside_the_list_can_be_closed(redis_url: str, sim: SimExchange) -> None:
    """The list was shrunk to another symbol; what is held on the exchange is in scope all the same."""
    world = served(redis_url, sim, allowlist=frozenset({"ETHUSDT"})).open_books()
    assert sim.position_amt("BTCUSDT") == Decimal("0.038")
    assert world.ask("CLOSE_FULL") == "ALLOW 0.038"
    closed(world)
