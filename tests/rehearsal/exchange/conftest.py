"""One running exchange for all tests of this folder, put back to its beginning before each, and a client that signs."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from p33_sidecar.rehearsal.exchange import SimExchange

START_MS = 1_795_500_000_000
FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "fixtures"


class Clock:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> None:
        self.now_ms += ms


class Caller:
    """Signs like any client; written without the simulator's own code, so that both have to be right."""

    def __init__(self, exchange: SimExchange, clock: Clock) -> None:
        self.http = httpx.Client(base_url=exchange.url, timeout=5, headers={"X-MBX-APIKEY": exchange.api_key})
        self.secret = exchange.api_secret.encode()
        self.clock = clock

    def signed(self, **params: object) -> str:
        payload = urlencode({"timestamp": self.clock.now_ms} | params)
        return f"{payload}&signature={hmac.new(self.secret, payload.encode(), hashlib.sha256).hexdigest()}"

    def __call__(self, method: str, path: str, **params: object) -> httpx.Response:
        return self.http.request(method, f"{path}?{self.signed(**params)}")

    def order(self, side: str = "SELL", quantity: str = "0.028", **params: object) -> httpx.Response:
        fields = {"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": quantity} | params
        return self("POST", "/fapi/v1/order", **fields)

    def limit(self, side: str, quantity: str, price: str, **params: object) -> httpx.Response:
        return self.order(side, quantity, **({"type": "LIMIT", "price": price, "timeInForce": "GTC"} | params))

    def sim(self, move: str, **body: object) -> httpx.Response:
        return self.http.post(f"/_sim/{move}", json=body)


@pytest.fixture(scope="session")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def running(clock):
    positions = {"BTCUSDT": "0.038", "TRXUSDT": "-123"}
    with SimExchange(
        symbols=70, positions=positions, clock=clock, keys={"reader": "s"}, read_only_keys=["reader"]
    ) as it:
        yield it


@pytest.fixture
def exchange(running, clock):
    clock.now_ms = START_MS
    running.reset()
    return running


@pytest.fixture
def call(exchange, clock):
    caller = Caller(exchange, clock)
    yield caller
    caller.http.close()


@pytest.fixture(scope="session")
def recorded():
    """Reads a recorded payload by its file name."""
    if not FIXTURES.is_dir():
        pytest.skip("the recorded payloads are not next to this checkout (../shared/fixtures)")
    return lambda name: json.loads((FIXTURES / name).read_text())
