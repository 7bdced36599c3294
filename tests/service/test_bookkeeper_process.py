"""The real sidecar, really killed in the middle of a stream of results: each fill is booked once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import redis

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.processes import Process, Reaper
from p33_sidecar.store import keys
from tests.service.world import RESULTS

PATIENCE_S = 90
KILLS, A_ROUND = 4, 60


def until(process: Process, what: str, holds: Callable[[], object]) -> None:
    """Wait for it, however slow the machine is."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        process.check()
        assert time.monotonic() < deadline, f"{what}:\n{process.tail()}"
        time.sleep(0.02)


def sidecar(url: str, exchange: SimExchange, folder: Path, reaper: Reaper) -> Process:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "REDIS_URL": url,
           "P33_EXCHANGE_URL": exchange.url, "BINANCE_API_KEY": exchange.api_key, "P33_POLL_SEC": "0.5",
           "BINANCE_API_SECRET": exchange.api_secret, "P33_METRICS_PORT": "0"}
    return Process("sidecar", [sys.executable, "-m", "p33_sidecar.service.main"], env=env,
                   log=folder / "sidecar.log", reaper=reaper)


def told(client: redis.Redis, number: int) -> str:
    """A fill of 0.001, told once with its id and once without."""
    step = {"step": "CLOSE", "status": "FILLED", "side": "SELL", "executed_qty": "0.001"}
    for more in ({"order_id": str(1000 + number)}, {}):
        entry = client.xadd(RESULTS, {"plan_id": f"p{number}", "symbol": "BTCUSDT", "executed": "True",
                                      "steps_results": msgspec.json.encode([step | more]).decode()})
    return entry


def test_i35_killed_again_and_again_each_fill_is_booked_once(redis_url: str, redis_client: redis.Redis,
                                                              tmp_path: Path) -> None:
    """kill -9 while it books: a fill is neither lost nor doubled, the journal has no hole, the cursor no gap."""
    reaper = Reaper(tmp_path)
    with SimExchange(symbols=3, positions={"BTCUSDT": "1"}) as exchange:
        process = sidecar(redis_url, exchange, tmp_path, reaper).start()
        try:
            until(process, "the book is open", lambda: redis_client.exists(keys.ledger("BTCUSDT")))
            for kill in range(KILLS):
                booked = redis_client.xlen(keys.JOURNAL)
                last = [told(redis_client, kill * A_ROUND + n) for n in range(A_ROUND)][-1]
                until(process, "it books", lambda before=booked: redis_client.xlen(keys.JOURNAL) > before)
                process.kill()
                process.start()
            until(process, "all is booked",
                  lambda: (redis_client.hget(keys.CURSOR, RESULTS) or "").startswith(f"{last} "))
        finally:
            process.kill()
            reaper.dismiss()
    fills = [msgspec.json.decode(f["json"]) for _, f in redis_client.xrange(keys.JOURNAL) if f["symbol"] == "BTCUSDT"]
    assert [fill["rev"] for fill in fills] == list(range(1, KILLS * A_ROUND + 2))
    assert sorted(fill["order_id"] for fill in fills[1:]) == sorted(str(1000 + n) for n in range(KILLS * A_ROUND))
    assert redis_client.hget(keys.book("BTCUSDT"), "amt") == "0.76"
    kinds = {fields["kind"] for _, fields in redis_client.xrange(keys.EVENTS)}
    assert not kinds & {"gap", "tampering"}
