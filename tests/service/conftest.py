"""A world of loops per test, beside an exchange that says what it is told or the simulated one over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p33_sidecar.rehearsal.exchange import SimExchange
from tests.cli.conftest import Tool, environment
from tests.service.keeping import Keeping
from tests.service.over_http import Floor
from tests.service.world import World


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    """Loops on an empty database, before their first poll."""
    built = World(redis_url)
    yield built
    built.close()


@pytest.fixture
def ready(world: World) -> World:
    """A world whose BTCUSDT book was adopted at 0.038 and agrees with the exchange."""
    return world.open_books()


@pytest.fixture
def keeping(redis_url: str) -> Iterator[Keeping]:
    """Before the first poll."""
    built = Keeping(redis_url, scope="BTCUSDT TRXUSDT")
    yield built
    built.close()


@pytest.fixture
def opened(keeping: Keeping) -> Keeping:
    """BTCUSDT adopted at 0.038, TRXUSDT at 120."""
    return keeping.opened("0.038", TRXUSDT="120")


@pytest.fixture(scope="module")
def running_exchange() -> Iterator[SimExchange]:
    with SimExchange(symbols=5, positions={"BTCUSDT": "0.038"}) as exchange:
        yield exchange


@pytest.fixture
def sim(running_exchange: SimExchange) -> SimExchange:
    """The simulated exchange as it was at its beginning: 0.038 BTCUSDT."""
    running_exchange.reset()
    return running_exchange


@pytest.fixture
def floor(redis_url: str, sim: SimExchange) -> Iterator[Floor]:
    """The whole path on an empty database, before the first poll."""
    built = Floor(redis_url, sim)
    yield built
    built.close()


@pytest.fixture
def p33(redis_url: str, sim: SimExchange) -> Tool:
    """The operator's command at the same database and exchange."""
    return Tool(**environment(redis_url, P33_EXCHANGE_URL=sim.url))
