"""The sidecar as a process: started, stopped, killed, left without its neighbours. All of them are real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import redis

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.rehearsal.exchange.model import Reply, Request
from p33_sidecar.rehearsal.processes import Process, Reaper
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys

PLANS = "quantum:apply.plan"
PATIENCE_S = 60.0


class Holding(SimExchange):
    """An exchange whose positionRisk can be made to hang from the moment it is asked until it is let go."""

    def __init__(self, **scene) -> None:
        super().__init__(**scene)
        self.hold, self.asked, self.let_go = threading.Event(), threading.Event(), threading.Event()

    def answer(self, request: Request) -> Reply:
        if self.hold.is_set() and request.path.endswith("/positionRisk"):
            self.asked.set()
            self.let_go.wait(PATIENCE_S)
        return super().answer(request)


class House:
    """A server, an exchange, and the sidecar on them."""

    def __init__(self, folder: Path) -> None:
        self.server = EmbeddedServer(tcp=True, durable=True).start()
        self.exchange = Holding(symbols=3, positions={"BTCUSDT": "0.038"}).start()
        self.reaper = Reaper(folder)
        self.reaper.watch(self.server.pid or 0)
        self.redis = redis.Redis.from_url(self.server.url, decode_responses=True, protocol=2)
        self.log = folder / "sidecar.log"
        self.process: Process | None = None
        self._serial = 0

    def start(self, *, ready: bool = True, **settings: str) -> None:
        """Start the sidecar, with a cooldown of a second; `ready`: and wait until /readyz says so."""
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
               "REDIS_URL": self.server.url, "P33_EXCHANGE_URL": self.exchange.url, "P33_METRICS_PORT": "0",
               "BINANCE_API_KEY": self.exchange.api_key, "BINANCE_API_SECRET": self.exchange.api_secret,
               "P33_COOLDOWN_SEC": "1", "P33_POLL_SEC": "1"}
        self._said = self.log.stat().st_size if self.log.exists() else 0
        self.process = Process("sidecar", [sys.executable, "-m", "p33_sidecar.service.main"], env=env | settings,
                               log=self.log, reaper=self.reaper).start()
        if ready:
            until("it is ready", lambda: self.not_ready() == [])

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> int | None:
        """SIGTERM; the exit code."""
        return self.process.stop(patience_s=PATIENCE_S)

    def not_ready(self) -> list[str] | None:
        """What /readyz has against an ALLOW; None while nobody answers."""
        said = self.log.read_text()[self._said:] if self.log.exists() else ""
        if not (port := re.search(r"service\.started .*port=(\d+)", said)):
            return None
        try:
            reply = httpx.get(f"http://127.0.0.1:{port[1]}/status.json", timeout=10, trust_env=False).json()
        except httpx.HTTPError:
            return None
        return [each["reason"] for each in reply["not_ready"]]

    def publish(self, action: str = "PARTIAL_75") -> str:
        self._serial += 1
        plan_id = f"plan-{self._serial}"
        self.redis.xadd(PLANS, {"plan_id": plan_id, "symbol": "BTCUSDT", "action": action, "decision": "EXECUTE",
                                "steps": "[]", "close_qty": "0.0", "timestamp": f"{time.time():.3f}"})
        return plan_id

    def verdict(self, plan_id: str) -> dict:
        """The permit, once it is there."""
        return msgspec.json.decode(until(f"{plan_id} has its verdict", lambda: self.redis.get(keys.permit(plan_id))))

    def ask(self, action: str = "PARTIAL_75") -> str:
        """`ALLOW`, or the reason."""
        permit = self.verdict(self.publish(action))
        return "ALLOW" if permit["allow"] else permit["reason"]

    def records(self, stream: str) -> list[dict]:
        return [msgspec.json.decode(fields["json"]) for _, fields in self.redis.xrange(stream)]

    def events(self) -> Counter[str]:
        return Counter(event["kind"] for event in self.records(keys.EVENTS))

    def close(self) -> None:
        if self.process:
            self.process.stop()
        self.redis.close()
        self.exchange.let_go.set()
        self.exchange.stop()
        self.server.stop()
        self.reaper.dismiss()


def until(what: str, holds: Callable[[], object]):
    """What `holds` returns, once it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)
    return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path)
    yield built
    built.close()


# -- the exchange ---------------------------------------------------------------------------------------------------


def test_i02_poll_that_hangs_delays_no_verdict(house: House) -> None:
    """The verdict is there while the poll that was begun before the plan still waits for its reply."""
    house.start()
    house.exchange.hold.set()
    assert house.exchange.asked.wait(PATIENCE_S)
    polls = house.redis.xlen(keys.SNAPSHOTS)
    assert house.ask() == "ALLOW"
    assert house.redis.xlen(keys.SNAPSHOTS) == polls, "the poll had ended: nothing was shown"
    house.exchange.let_go.set()


def test_i22_ban_is_obeyed_across_a_restart(house: House) -> None:
    """Not one request of any kind before its end, and the reason is named from the first moment."""
    house.start()
    house.exchange.ban(3_600)
    until("the ban is known", lambda: house.redis.get(keys.BAN))
    asked = len(house.exchange.requests)
    house.kill()
    house.start(ready=False)
    until("it says so", lambda: "exchange_banned" in (house.not_ready() or []))
    assert house.ask("FOO") == "unsupported_action"
    assert house.stop() == 0
    assert len(house.exchange.requests) == asked and house.events()["ban"] == 1


def test_i25_without_credentials_it_stays_up_and_denies(house: House) -> None:
    """No exit, no restart: a reason for every plan, 503, and exit code 0 at SIGTERM."""
    house.start(ready=False, BINANCE_API_KEY="", BINANCE_API_SECRET="")
    until("it says so", lambda: "exchange_unconfigured" in (house.not_ready() or []))
    assert house.ask() == "exchange_unconfigured"
    assert house.stop() == 0


def test_x07_ready_only_after_the_first_full_comparison(house: House) -> None:
    """A restart in front of an exchange that does not answer is not ready; the first good polls make it so."""
    house.start()
    house.kill()
    house.exchange.fault("http_502", "positionRisk", times=None)
    house.start(ready=False)
    until("polls have failed", lambda: house.records(keys.SNAPSHOTS)[-1]["outcome"] == "http_5xx")
    assert "not_compared" in until("the page answers", house.not_ready)
    house.exchange.clear()
    until("it is ready", lambda: house.not_ready() == [])


def test_i55_hedge_account_is_denied_by_name(house: House) -> None:
    """The account's own mode is read at the start."""
    house.exchange.set_position("BTCUSDT", 0)
    house.exchange.set_mode(hedge=True)
    house.start(ready=False)
    until("it says so", lambda: "hedge_mode_unsupported" in (house.not_ready() or []))
    assert house.ask() == "hedge_mode_unsupported"


# -- the database ---------------------------------------------------------------------------------------------------


def test_t06_server_that_restarts_is_not_trusted_for_a_cooldown(house: House) -> None:
    """Denied by name until a poll begun a cooldown later; noticed once, and then allowed again."""
    house.start(P33_COOLDOWN_SEC="3")
    house.server.restart()
    until("it was noticed", lambda: _alive(house) and "store_restarted" in (house.not_ready() or ()))
    assert house.ask() == "store_restarted"
    until("it is ready", lambda: house.not_ready() == [])
    assert house.ask() == "ALLOW" and house.events()["store_restarted"] == 1


def test_t06_database_that_is_emptied_is_noticed(house: House) -> None:
    """FLUSHALL under a running sidecar: the same denial, and everything is built up again."""
    house.start(P33_COOLDOWN_SEC="3")
    house.redis.flushall()
    assert house.ask() == "store_restarted", "a verdict sees it before any loop has noticed"
    until("it was noticed", lambda: "store_restarted" in (house.not_ready() or ()))
    until("it is ready", lambda: house.not_ready() == [])
    assert house.ask() == "ALLOW" and house.events()["store_restarted"] == 1


def test_t11_database_of_another_exchange_is_left_alone(house: House) -> None:
    """Nothing is written to it but the denials; given to us by an operator, it is used."""
    house.redis.set(keys.VENUE, "fapi.binance.com")
    house.start(ready=False)
    assert house.ask() == "venue_mismatch"
    until("it says so", lambda: "venue_mismatch" in (house.not_ready() or []))
    ours = [name for name in house.redis.keys("quantum:*") if not name.startswith((keys.PERMIT, keys.PLAN))]
    assert sorted(ours) == sorted([PLANS, keys.VENUE, keys.DECISIONS]) and house.exchange.requests == []
    house.redis.delete(keys.VENUE)
    until("it is ready", lambda: house.not_ready() == [])
    assert house.ask() == "ALLOW"


def test_thresholds_that_changed_since_the_last_start_are_an_event(house: House) -> None:
    """Said with the old and the new values, once (incident I24)."""
    house.start()
    assert house.stop() == 0
    house.start(P33_STALE_THRESHOLD_SEC="300")
    (event,) = [e for e in house.records(keys.EVENTS) if e["kind"] == "policy_changed"]
    assert (event["was"]["stale_threshold_ms"], event["policy"]["stale_threshold_ms"]) == (10_000, 300_000)


# -- ends and beginnings --------------------------------------------------------------------------------------------


def test_sigterm_finishes_what_is_being_decided(house: House) -> None:
    """Exit code 0; no plan has two verdicts, and after the next start none has none."""
    house.start()
    plans = [house.publish() for _ in range(200)]
    until("it is at work", lambda: house.redis.xlen(keys.DECISIONS))
    assert house.stop() == 0
    house.start()
    until("all are answered", lambda: house.redis.xlen(keys.DECISIONS) >= len(plans))
    _each_has_one_verdict(house, plans)


def test_kill_9_at_any_time_leaves_one_verdict_a_plan(house: House) -> None:
    """Killed in the midst of bursts, again and again."""
    plans: list[str] = []
    for _ in range(3):
        house.start(ready=False)
        plans += [house.publish() for _ in range(100)]
        seen = house.redis.xlen(keys.DECISIONS)
        until("it is at work", lambda seen=seen: house.redis.xlen(keys.DECISIONS) > seen)
        house.kill()
    house.start(ready=False)
    until("all are answered", lambda: house.redis.xlen(keys.DECISIONS) >= len(plans))
    _each_has_one_verdict(house, plans)


@pytest.mark.parametrize("terminated", [False, True], ids=["patience is over", "SIGTERM"])
def test_start_without_redis(tmp_path: Path, terminated: bool) -> None:
    """Exit code 69 when its patience (30 s, here less) is over; stopped before that, 0. It says what it waits for."""
    patience_s = PATIENCE_S if terminated else 0.5
    program = ("from functools import partialmethod\nfrom p33_sidecar.service import lifecycle, main\n"
               "assert lifecycle.STORE_PATIENCE_S == 30\nwait = lifecycle.Sidecar.wait_for_store\n"
               f"lifecycle.Sidecar.wait_for_store = partialmethod(wait, patience_s={patience_s})\nmain.main()")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
           "REDIS_URL": f"unix://{tmp_path}/nobody.sock", "P33_METRICS_PORT": "0"}
    with (tmp_path / "log").open("w+") as log, subprocess.Popen(
            [sys.executable, "-c", program], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
        until("it says so", lambda: "nobody.sock" in (tmp_path / "log").read_text())
        if terminated:
            process.terminate()
        assert process.wait(PATIENCE_S) == (0 if terminated else 69)


def _each_has_one_verdict(house: House, plans: list[str]) -> None:
    verdicts = Counter(record["plan_id"] for record in house.records(keys.DECISIONS))
    assert verdicts == Counter(plans)
    assert house.redis.xpending(PLANS, keys.GROUP)["pending"] == 0


def _alive(house: House) -> bool:
    try:
        return house.redis.ping()
    except redis.ConnectionError:
        return False
