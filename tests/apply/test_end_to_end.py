"""Plan to order to ledger, through real processes: sidecar, Apply Layer, a real server, the simulated exchange."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import msgspec
import pytest
import redis

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.server import EmbeddedServer


class House:
    """The processes, their neighbours, and what they did."""

    def __init__(self) -> None:
        self.server = EmbeddedServer(tcp=True).start()
        self.exchange = SimExchange(symbols=3, positions={"BTCUSDT": "0.038"}).start()
        self.redis = redis.Redis.from_url(self.server.url, decode_responses=True, protocol=2)
        self.env = os.environ | {
            "REDIS_URL": self.server.url, "P33_EXCHANGE_URL": self.exchange.url, "P33_METRICS_PORT": "0",
            "BINANCE_API_KEY": self.exchange.api_key, "BINANCE_API_SECRET": self.exchange.api_secret,
            "P33_PERMIT_KEY": "k" * 32, "P33_POLL_SEC": "0.5", "P33_COOLDOWN_SEC": "0.5", "APPLY_MODE": "testnet",
            "APPLY_METRICS_PORT": "0"}
        self.processes = {name: self.spawn(name) for name in ("p33_sidecar.service.main", "p33_sidecar.apply.main")}
        self.until(lambda: self.redis.exists("quantum:position:ledger:BTCUSDT"))

    def spawn(self, module: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", module], env=self.env, stderr=subprocess.PIPE, text=True)

    def until(self, holds: Callable[[], object], *, within_s: float = 15.0) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)

    def publish(self, plan_id: str, action: str = "PARTIAL_75", *, governor: bool = True) -> None:
        if governor:
            self.redis.set(f"quantum:permit:{plan_id}", '{"granted":true}', ex=60)
        self.redis.xadd("quantum:apply.plan", {
            "plan_id": plan_id, "symbol": "BTCUSDT", "action": action, "decision": "EXECUTE", "steps": "",
            "close_qty": "0.0", "timestamp": f"{time.time():.3f}"})

    def results(self) -> list[dict[str, str]]:
        return [fields for _, fields in self.redis.xrange("quantum:apply.result")]

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
            process.communicate()
        self.exchange.stop()
        self.server.stop()


@pytest.fixture
def house() -> Iterator[House]:
    built = House()
    yield built
    built.close()


def test_plan_becomes_one_reduce_only_order_and_one_booking(house: House) -> None:
    """0.038 x 75 % at step 0.001: 0.028 is sold, both permits are gone, the ledger follows."""
    house.publish("f1a8d7f48713d5cf")
    house.until(house.results)
    (result,) = house.results()
    (step,) = msgspec.json.decode(result["steps_results"])
    assert (result["executed"], result["error"], step["executed_qty"]) == ("True", "", "0.028")
    (order,) = house.exchange.orders
    assert order.client_order_id == "p33-f1a8d7f48713d5cf" and order.reduce_only
    house.until(lambda: house.redis.hget("quantum:position:ledger:BTCUSDT", "last_known_amt") == "0.01")
    assert house.exchange.position_amt("BTCUSDT") == Decimal("0.010")
    assert not house.redis.keys("quantum:permit:*f1a8d7f48713d5cf")


def test_denied_plan_is_blocked_and_the_governors_permit_stays(house: House) -> None:
    """I03: a denial burns nothing and names its reason."""
    house.publish("p1", "FOO")
    house.until(house.results)
    (result,) = house.results()
    assert result["decision"] == "BLOCKED" and result["error"] == "missing_or_denied_p33_permit"
    assert "unsupported_action" in result["steps_results"] and not house.exchange.orders
    assert house.redis.exists("quantum:permit:p1")


def test_without_the_governors_permit_nothing_is_sent(house: House) -> None:
    """Both or none: ours alone is not taken."""
    house.publish("p2", governor=False)
    house.until(house.results)
    assert house.results()[0]["error"] == "missing_permit_or_redis" and not house.exchange.orders
    assert house.redis.exists("quantum:permit:p33:p2")


def test_i56_unknown_outcome_is_looked_up_and_never_sent_again(house: House) -> None:
    """The order executed, its answer was lost: one order, one result, one fill."""
    house.exchange.fault("drop", "order", times=1, executed=True)
    house.publish("p3")
    house.until(house.results)
    assert len(house.exchange.orders) == 1 and [r["executed"] for r in house.results()] == ["True"]


def test_sigterm_ends_both_with_zero(house: House) -> None:
    """What is being decided is finished; the exit code says stopped on request."""
    for process in house.processes.values():
        process.send_signal(signal.SIGTERM)
    assert [process.wait(15) for process in house.processes.values()] == [0, 0]
