"""A ban holds for the address: whichever program earns it, the others send nothing before its end.

Each program asks as the Redis user of the deployment that is its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p33_pipeline.errors import SourceUnavailable
from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.running import archive_now
from p33_sidecar.errors import ExchangeBanned
from p33_sidecar.exchange import Credentials, Exchange
from p33_sidecar.rehearsal.exchange.sim import SimExchange
from p33_sidecar.settings import Settings, load
from p33_sidecar.store import keys, rights
from p33_sidecar.store.connect import server_ms
from p33_sidecar.store.positions import RedisBans
from tests.deployment.conftest import PLANS, RESULTS, Deployed

BAN_S = 3_600
OPENING = {"v": 1, "symbol": "BTCUSDT", "rev": 1, "cause": "opening", "delta": "0.038", "amt_before": None,
           "amt_after": "0.038", "at_ms": 1_769_301_000_000, "by": "host-a", "why": "two agreeing replies"}


@pytest.fixture
def sim(deployed: Deployed) -> Iterator[SimExchange]:
    """An exchange of its own for each test, and a store without any ban."""
    deployed.client().delete(keys.BAN, keys.EVENTS)
    with SimExchange(symbols=3, positions={"BTCUSDT": "0.038"}) as running:
        yield running


@pytest.fixture
def pipeline(deployed: Deployed, sim: SimExchange, tmp_path: Path) -> Settings:
    """The archive's settings; a booking makes it ask for the trades of BTCUSDT."""
    deployed.client().xadd(keys.JOURNAL, {"symbol": "BTCUSDT", "json": json.dumps(OPENING)})
    return load({
        "REDIS_URL": deployed.url(rights.PIPELINE), "P33_PLAN_STREAM": PLANS, "P33_RESULT_STREAM": RESULTS,
        "P33_HISTORY_URL": str(tmp_path / "history"), "P33_EXCHANGE_URL": sim.url,
        "BINANCE_TESTNET_API_KEY": sim.api_key, "BINANCE_TESTNET_API_SECRET": sim.api_secret})


@pytest.fixture
def asking(deployed: Deployed, sim: SimExchange) -> Iterator[Callable[[str], Exchange]]:
    """The exchange as a program sees it that logs in to Redis as a user of the deployment."""
    made: list[Exchange] = []

    def ask(user: str) -> Exchange:
        store = deployed.client(user)
        made.append(Exchange(sim.url, credentials=Credentials(sim.api_key, sim.api_secret),
                             bans=RedisBans(store, by=user), now_ms=lambda: server_ms(store)))
        return made[-1]

    yield ask
    for exchange in made:
        exchange.close()


@pytest.mark.parametrize("status", [418, 429])
def test_I22_a_ban_that_the_archive_meets_stops_the_sidecar(deployed, sim, pipeline, asking, status):
    """Its streams are archived all the same; the sidecar and the Apply Layer, just started, send nothing."""
    until_ms = sim.now_ms() + BAN_S * 1_000
    sim.fault("reject", status=status, code=-1003, msg=f"IP banned until {until_ms}.", times=None)
    with pytest.raises(SourceUnavailable, match="told this address to stay away until"):
        archive_now(pipeline)
    assert RedisBans(deployed.client(rights.SIDECAR)).ban_until_ms() == until_ms
    event, = (fields for _, fields in deployed.client().xrange(keys.EVENTS) if fields["kind"] == "ban")
    assert '"by":"pipeline"' in event["json"]
    sent = len(sim.requests)
    for user in (rights.SIDECAR, rights.APPLY):
        with pytest.raises(ExchangeBanned):
            asking(user).positions()
    with pytest.raises(SourceUnavailable):
        archive_now(pipeline)
    assert sent == 1 and len(sim.requests) == sent
    history = History(place_at(pipeline["P33_HISTORY_URL"]))
    assert "BTCUSDT" in history.scan(TABLES["ledger"], columns=["symbol"])["symbol"].to_pylist()


def test_I22_a_ban_that_the_sidecar_meets_stops_the_archive(sim, pipeline, asking):
    """The other way round: the archive does not ask even once."""
    sim.ban(BAN_S)
    with pytest.raises(ExchangeBanned):
        asking(rights.SIDECAR).positions()
    sent = len(sim.requests)
    with pytest.raises(SourceUnavailable, match="stay away until"):
        archive_now(pipeline)
    assert len(sim.requests) == sent == 1
