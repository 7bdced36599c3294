"""kill -9 of `p33-apply` at every round trip of a plan, enumerated: one order at most, one result, one fill."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal

import pytest

from p33_sidecar.store import keys
from tests.apply.shop import DEADLINE_S, PLANS, Shop, until
from tests.gate.sidecar import KEY, SYMBOL

EXPECTED = {"pair", "take", "order_new", "result"}
"""Round trips that have to be among those that are enumerated."""



class Zygote:
    """Starts one `p33-apply` at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.apply.zygote"], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: [self._lines.put(said) for said in self._process.stdout], daemon=True).start()
        self.pid = 0

    def start(self, shop: Shop, *, at: int = -1, executed: bool = False) -> None:
        env = {"REDIS_URL": shop.url, "P33_EXCHANGE_URL": shop.exchange.url, "P33_PERMIT_KEY": KEY.decode(),
               "BINANCE_API_KEY": shop.exchange.api_key, "BINANCE_API_SECRET": shop.exchange.api_secret,
               "APPLY_MODE": "testnet", "APPLY_METRICS_PORT": "0", "P33_INSTANCE": "apply-1"}
        self._process.stdin.write(json.dumps({"env": env, "at": at, "executed": executed}) + "\n")
        self._process.stdin.flush()
        self.pid = self._heard()["pid"]

    def ended(self) -> tuple[int, list[str]]:
        """Wait for the end: (exit status, the worker's round trips)."""
        said = self._heard()
        self.pid = 0
        return said["status"], said["trips"]

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, list[str]]:
        os.kill(self.pid, how)
        return self.ended()

    def _heard(self) -> dict:
        return json.loads(self._lines.get(timeout=DEADLINE_S))

    def close(self) -> None:
        """End it, and the process it started if a test left one."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


def settled(shop: Shop) -> bool:
    """The plan has its result and nothing is left over."""
    if not shop.results() or shop.intents():
        return False
    return not shop.redis.xpending(PLANS, keys.APPLY_GROUP)["pending"]


def begin(shop: Shop, plan_id: str) -> None:
    """An empty house with one plan that could be taken."""
    shop.redis.flushall()
    shop.exchange.reset()
    shop.hand.__init__(shop.redis, venue=shop.venue)
    shop.redis.set(keys.VENUE, shop.venue)
    shop.allowed(plan_id)


def one_order_one_result_one_fill(shop: Shop, where: str) -> None:
    """The law."""
    orders, results = shop.exchange.orders, shop.results()
    assert len(orders) <= 1 and shop.sends() <= 1, where
    assert len(results) == 1, f"{where}: {results}"
    assert (results[0].executed == "True") == bool(orders), f"{where}: {results}"
    assert shop.exchange.position_amt(SYMBOL) == Decimal("0.010" if orders else "0.038"), where
    if orders:
        assert results[0].step["executed_qty"] == "0.028", where
    else:
        assert results[0].error == "order_not_sent", where


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_killed_at_every_round_trip(shop: Shop, zygote: Zygote, executed: bool):
    """T12, I56: die there, start again, and all is as if nobody had died."""
    begin(shop, "clean")
    zygote.start(shop)
    until(lambda: settled(shop), "a life without a death")
    status, trips = zygote.end()
    assert status == 0 and set(trips) >= EXPECTED, trips
    for at, name in enumerate(trips):
        begin(shop, f"plan-{at}")
        zygote.start(shop, at=at, executed=executed)
        assert zygote.ended()[0] == -signal.SIGKILL, f"it did not die at {at} ({name})"
        zygote.start(shop)
        until(lambda: settled(shop), f"after the death at {at} ({name})")
        zygote.end(signal.SIGKILL)
        one_order_one_result_one_fill(shop, f"killed at {at} ({name}) of {trips}")


@pytest.mark.parametrize("executed", [False, True], ids=["it did not arrive", "it arrived"])
def test_killed_while_the_outcome_is_unknown(shop: Shop, zygote: Zygote, executed: bool):
    """The answer was lost, then the process: the next life asks until it knows."""
    begin(shop, "lost")
    shop.exchange.fault("drop", "POST order", executed=executed)
    zygote.start(shop)
    until(lambda: shop.sends(), "sent")
    os.kill(zygote.pid, signal.SIGKILL)
    zygote.ended()
    zygote.start(shop)
    until(lambda: settled(shop), "the next life knows")
    zygote.end(signal.SIGKILL)
    one_order_one_result_one_fill(shop, "unknown outcome") if executed else None
    assert [result.error for result in shop.results()] == ["" if executed else "order_not_sent"]
    assert len(shop.exchange.orders) == int(executed)
