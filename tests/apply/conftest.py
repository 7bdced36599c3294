"""A shop on an empty database and a fresh exchange."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p33_sidecar.rehearsal.exchange import SimExchange
from tests.apply.shop import Shop


@pytest.fixture(scope="module")
def running_exchange() -> Iterator[SimExchange]:
    with SimExchange(symbols=5, positions={"BTCUSDT": "0.038"}) as exchange:
        yield exchange


@pytest.fixture
def shop(redis_url: str, running_exchange: SimExchange) -> Iterator[Shop]:
    running_exchange.reset()
    built = Shop(redis_url, running_exchange)
    yield built
    built.close()
