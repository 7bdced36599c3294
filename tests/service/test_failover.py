"""The sidecar through a fail-over that closes none of its connections (timeline T06: the new server may know less)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.service import identity
from p33_sidecar.store import keys
from tests.failover import Pair
from tests.service.test_lifecycle import House, until
from tests.service.world import RESULTS, World


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
    until("it was noticed", lambda: house.events()["store_restarted"])
    until("it is ready", lambda: house.not_ready() == [])
    assert house.ask() == "ALLOW" and house.redis.xlen(keys.SNAPSHOTS) > polls
    entry = house.redis.xadd(RESULTS, {"plan_id": "p0", "symbol": "BTCUSDT", "executed": "False"})
    until("it is booked", lambda: house.redis.hget(keys.CURSOR, RESULTS).startswith(entry))
    assert house.events()["store_restarted"] == 1


@pytest.mark.parametrize("emptied", [False, True], ids=["restarted", "emptied"])
def test_t06_a_notice_that_failed_half_way_is_begun_again(emptied: bool) -> None:
    """The server comes back without memory to write to: once it has some, what was open is withdrawn all the same."""
    with EmbeddedServer(durable=True) as server:
        world = World(server.url).open_books()
        watch = identity.Watch(world.link, world.memory, world.clock)
        assert world.ask(plan_id="p1") == "ALLOW 0.028"
        opened = world.redis.get(keys.open_permit("BTCUSDT"))
        if emptied:
            world.redis.flushall()
        else:
            server.restart()
        with redis.Redis.from_url(server.url) as client:
            client.set(keys.open_permit("BTCUSDT"), opened, px=60_000)
            client.hset(keys.ISSUED, "BTCUSDT", "p1 n 1 2 0.038 1")
            client.config_set("maxmemory", "1")
            for _ in range(3):
                with pytest.raises((StoreUnavailable, redis.RedisError)):
                    _look(world, watch)
            client.config_set("maxmemory", "0")
        _look(world, watch)
        assert not world.redis.exists(keys.open_permit("BTCUSDT")) and world.memory.restarted
        _look(world, watch)
        told = [event["kind"] for event in world.records(keys.EVENTS)]
        assert told[-2:] == ["store_restarted", "withdrawal"] and told.count("store_restarted") == 1
        world.close()


def _look(world: World, watch: identity.Watch) -> None:
    """A turn of a loop, as far as it is about the server."""
    world.redis.ping()
    identity.check(world.link, world.memory, world.clock)
    watch.step()
