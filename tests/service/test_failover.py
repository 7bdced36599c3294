"""The sidecar through a fail-over that closes none of its connections (timeline T06: the new server may know less)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from p33_sidecar.store import keys
from tests.failover import Pair
from tests.service.test_lifecycle import House, until
from tests.service.world import RESULTS


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.fixture
def house(tmp_path: Path, pair: Pair) -> Iterator[House]:
    """A sidecar that knows the pair by its name; what the test reads and writes is the primary's."""
    built = House(tmp_path)
    built.redis.close()
    built.redis = redis.Redis.from_url(pair.old.url, decode_responses=True, protocol=2)
    yield built
    built.close()


def test_t06_fail_over_that_closes_no_connection_is_followed(house: House, pair: Pair) -> None:
    """Every loop goes over to the new primary: verdicts, polls and bookings, after the denials of one cooldown."""
    house.start(REDIS_URL=pair.name.url, P33_COOLDOWN_SEC="3")
    assert house.ask() == "ALLOW"
    polls = house.redis.xlen(keys.SNAPSHOTS)
    pair.fail_over()
    house.redis.close()
    house.redis = redis.Redis.from_url(pair.new.url, decode_responses=True, protocol=2)
    assert house.ask() == "store_restarted"
    until("it is ready", lambda: house.not_ready() == [])
    assert house.ask() == "ALLOW" and house.redis.xlen(keys.SNAPSHOTS) > polls
    entry = house.redis.xadd(RESULTS, {"plan_id": "p0", "symbol": "BTCUSDT", "executed": "False"})
    until("it is booked", lambda: house.redis.hget(keys.CURSOR, RESULTS).startswith(entry))
    assert house.events()["store_restarted"] == 1
