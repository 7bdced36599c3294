"""The load: plans published at a rate or in a burst, and the moment each became a permit.

The watcher blocks on the record stream, which the same atomic step writes as the permit: a record that can be
read means a permit that can be read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
import redis

from p33_sidecar.store import keys

PLANS = "quantum:apply.plan"
NULL_PLANS, NULL_RECORDS, NULL_PERMIT, NULL_GROUP = "bench:plan", "bench:records", "bench:permit:", "null"
LAST_ANSWER_S = 120
"""Waited for before a plan counts as lost: far beyond any answer, also on a starved machine."""
STEPS = '[{"step":"CLOSE_PARTIAL_75","type":"market_reduce_only","side":"close","pct":75.0}]'


class Target(msgspec.Struct, frozen=True):
    """Who is measured: where its plans go, where its records come, under which keys its permits stand."""

    name: str
    plans: str
    records: str
    permit: Callable[[str], str]


NULL = Target("null consumer", NULL_PLANS, NULL_RECORDS, lambda plan_id: NULL_PERMIT + plan_id)
SIDECAR = Target("sidecar", PLANS, keys.DECISIONS, keys.permit)


class Outcome(msgspec.Struct):
    """Latencies in ms of the plans that were answered, and what went wrong."""

    latencies_ms: list[float]
    lost: int
    twice: int
    seconds: float


def plan(plan_id: str, symbol: str) -> dict[str, str]:
    """A plan as found on a real stream (contract, chapter 1)."""
    return {"plan_id": plan_id, "symbol": symbol, "action": "PARTIAL_75", "kill_score": "0.539",
            "k_regime_flip": "0.0", "k_sigma_spike": "0.1084", "k_ts_drop": "0.1789", "k_age_penalty": "0.0417",
            "new_sl_proposed": "100.2", "R_net": "7.0136", "decision": "EXECUTE", "reason_codes": "", "steps": STEPS,
            "close_qty": "0.0", "price": "", "timestamp": str(int(time.time()))}


class Watcher:
    """Notes when each plan's record appeared, from the moment it was made."""

    def __init__(self, url: str, target: Target, expected: int) -> None:
        self.client = redis.Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=30)
        last = self.client.xrevrange(target.records, count=1)
        self.after, self.target, self.expected = (last[0][0] if last else "0-0"), target, expected
        self.seen: dict[str, float] = {}
        self.twice = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while len(self.seen) < self.expected and not self.done.is_set():
            reply = self.client.xread({self.target.records: self.after}, count=500, block=200)
            now = time.perf_counter()
            for entry_id, fields in reply[0][1] if reply else ():
                self.twice += fields["plan_id"] in self.seen
                self.seen.setdefault(fields["plan_id"], now)
                self.after = entry_id
        self.done.set()


def steady(url: str, target: Target, *, rate: int, seconds: float, symbols: list[str], tag: str) -> Outcome:
    """Publish `rate` plans a second for `seconds`, evenly, and wait for the last answer."""
    client = redis.Redis.from_url(url, protocol=2)
    count = int(rate * seconds)
    watcher, sent, start = Watcher(url, target, count), {}, time.perf_counter()
    for index in range(count):
        plan_id = f"{tag}-{index}"
        pause = start + index / rate - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        sent[plan_id] = time.perf_counter()
        client.xadd(target.plans, plan(plan_id, symbols[index % len(symbols)]))
    watcher.done.wait(LAST_ANSWER_S)
    return _outcome(client, target, watcher, sent, start)


def burst(url: str, target: Target, *, count: int, symbols: list[str], tag: str, hold: Callable[[], None],
          release: Callable[[], None]) -> Outcome:
    """Publish `count` plans while the consumer is held, release it, and time it until the last answer."""
    client = redis.Redis.from_url(url, protocol=2)
    hold()
    watcher, sent = Watcher(url, target, count), {}
    for first in range(0, count, 500):
        pipe = client.pipeline(transaction=False)
        for index in range(first, min(first + 500, count)):
            sent[f"{tag}-{index}"] = time.perf_counter()
            pipe.xadd(target.plans, plan(f"{tag}-{index}", symbols[index % len(symbols)]))
        pipe.execute()
    start = time.perf_counter()
    release()
    watcher.done.wait(LAST_ANSWER_S)
    return _outcome(client, target, watcher, sent, start)


def _outcome(client: redis.Redis, target: Target, watcher: Watcher, sent: dict[str, float], start: float) -> Outcome:
    end = max(watcher.seen.values(), default=time.perf_counter())
    watcher.done.set()
    watcher.thread.join()
    pipe = client.pipeline(transaction=False)
    for plan_id in sent:
        pipe.exists(target.permit(plan_id))
    missing = sum(1 for there in pipe.execute() if not there)
    latencies = [(watcher.seen[p] - t) * 1000 for p, t in sent.items() if p in watcher.seen]
    return Outcome(latencies, max(missing, len(sent) - len(latencies)), watcher.twice, end - start)
