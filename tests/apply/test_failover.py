"""The Apply Layer through a fail-over that closes none of its connections (timeline T06)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis

from p33_sidecar.apply.house import House
from p33_sidecar.apply.metrics import ApplyMetrics
from p33_sidecar.settings import load
from tests.failover import Pair, until


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_t06_after_a_fail_over_orders_are_sought_on_the_new_primary(pair: Pair) -> None:
    """Reader and finder: the finder, who only reads, would hear nothing new from what is a replica now."""
    settings = load({"REDIS_URL": pair.name.url, "P33_EXCHANGE_URL": "http://127.0.0.1:9"})
    house = House(settings, ApplyMetrics(version="0", mode="dry_run", gate="both"))
    house.wait_for_store()
    running = threading.Thread(target=house.run)
    running.start()
    try:
        loops = {"p33-apply", "p33-apply-finder"}
        until("both are there", lambda: loops <= _names(pair.old.url))
        pair.fail_over()
        until("both have followed", lambda: loops <= _names(pair.new.url))
        until("none has stayed", lambda: not loops & _names(pair.old.url))
    finally:
        house.stopping.set()
        running.join()


def _names(url: str) -> set[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return {each["name"] for each in client.client_list()}
