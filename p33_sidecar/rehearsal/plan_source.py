"""A stand-in for the planner: publishes close plans as the real one does, and again where a denial says "later".

What may not happen here: a decision about permits. The planner sees positions and verdicts, nothing else.
The fields are those of a plan found on a real stream (contract, chapter 1).
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

import httpx
import msgspec
import redis

from p33_sidecar.errors import ConfigurationInvalid
from p33_sidecar.program import CONFIGURATION
from p33_sidecar.settings import load
from p33_sidecar.store import keys

PERCENT: Final = {"FULL_CLOSE_PROPOSED": "100.0", "CLOSE_FULL": "100.0", "PARTIAL_75": "75.0", "PARTIAL_50": "50.0",
                  "PARTIAL_25": "25.0"}
STEP_NAMES: Final = {"FULL_CLOSE_PROPOSED": "CLOSE_FULL", "CLOSE_FULL": "CLOSE_FULL"}
TRIES: Final = 5
RETRY_S: Final = 0.5
Positions = Callable[[], Mapping[str, Decimal]]


class Plan(msgspec.Struct, frozen=True):
    """A plan and where it was published. `entry_ms` is the stream entry's time."""

    plan_id: str
    symbol: str
    action: str
    fields: dict[str, str]
    entry_id: str = ""

    @property
    def entry_ms(self) -> int:
        return int(self.entry_id.partition("-")[0])


def plan_of(symbol: str, action: str, *, plan_id: str = "", **fields: str) -> Plan:
    """A realistic plan, decided now; `fields` replace or add to what it carries."""
    plan_id = plan_id or secrets.token_hex(8)
    step = {"step": STEP_NAMES.get(action, f"CLOSE_{action}"), "type": "market_reduce_only", "side": "close"}
    pct = f',"pct":{PERCENT[action]}' if action in PERCENT else ""
    now_ms = time.time_ns() // 1_000_000
    carried = {
        "plan_id": plan_id, "symbol": symbol, "action": action, "kill_score": "0.539", "k_regime_flip": "0.0",
        "k_sigma_spike": "0.1084", "k_ts_drop": "0.1789", "k_age_penalty": "0.0417", "new_sl_proposed": "100.2",
        "R_net": "7.0136", "decision": "EXECUTE", "reason_codes": "",
        "steps": f"[{msgspec.json.encode(step).decode()[:-1]}{pct}}}]", "close_qty": "0.0", "price": "",
        "timestamp": f"{now_ms // 1000}.{now_ms % 1000:03d}",
    }
    return Plan(plan_id, symbol, action, carried | fields)


class PlanSource:
    """Publishes plans. For one thread."""

    def __init__(self, client: redis.Redis, *, stream: str = "quantum:apply.plan") -> None:
        self._redis, self._stream = client, stream

    def publish(self, plan: Plan) -> Plan:
        """The plan, with its entry's id. The same plan again is a republication."""
        return self.publish_together(plan)[0]

    def publish_together(self, *plans: Plan) -> list[Plan]:
        """All in one transaction: nobody reads the first without the others."""
        with self._redis.pipeline(transaction=True) as pipe:
            for plan in plans:
                pipe.xadd(self._stream, plan.fields)
            entry_ids = pipe.execute()
        named = (i.decode() if isinstance(i, bytes) else i for i in entry_ids)
        return [msgspec.structs.replace(p, entry_id=i) for p, i in zip(plans, named, strict=True)]


class _Verdict(msgspec.Struct):
    stream_id: str
    plan_id: str
    outcome: str
    reason: str | None = None
    retry_after_ms: int | None = None


class Planner:
    """Goes round the positions and proposes to close a quarter of each; publishes again what may be tried again."""

    def __init__(self, redis_url: str, positions: Positions, *, every_s: float = 1.0, action: str = "PARTIAL_25",
                 stream: str = "quantum:apply.plan") -> None:
        self._redis = redis.Redis.from_url(redis_url, decode_responses=True, protocol=2, socket_timeout=5)
        self._source = PlanSource(self._redis, stream=stream)
        self._positions, self._every_s, self._action = positions, every_s, action
        self._waiting: dict[str, tuple[Plan, int]] = {}
        self._again: list[tuple[float, Plan]] = []
        self._seen_id = "$"
        self._turn = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def step(self) -> None:
        """Read the verdicts, publish what is due again, and one new plan. Raises redis.RedisError, httpx.HTTPError."""
        now_s = time.monotonic()
        self._hear(now_s)
        due = [plan for at_s, plan in self._again if at_s <= now_s]
        self._again = [(at_s, plan) for at_s, plan in self._again if at_s > now_s]
        for plan in due:
            self._source.publish(plan)
        busy = {plan.symbol for plan, _ in self._waiting.values()}
        held = sorted(s for s, amt in self._positions().items() if amt and s not in busy)
        if held:
            plan = plan_of(held[self._turn % len(held)], self._action)
            self._turn += 1
            self._waiting[plan.plan_id] = (plan, TRIES)
            self._source.publish(plan)

    def _hear(self, now_s: float) -> None:
        if self._seen_id == "$":
            last = self._redis.xrevrange(keys.DECISIONS, count=1)
            self._seen_id = last[0][0] if last else "0-0"
        for entry_id, fields in self._redis.xrange(keys.DECISIONS, f"({self._seen_id}", "+"):
            self._seen_id = entry_id
            verdict = msgspec.json.decode(fields["json"], type=_Verdict)
            plan, tries = self._waiting.pop(verdict.plan_id, (None, 0))
            if plan is not None and verdict.retry_after_ms is not None and tries > 1:
                self._waiting[plan.plan_id] = (plan, tries - 1)
                self._again.append((now_s + max(verdict.retry_after_ms / 1000, RETRY_S), plan))

    def run(self) -> None:
        """Until `stop()`; who is away is asked again."""
        while not self._stopping.wait(self._every_s):
            try:
                self.step()
            except (redis.RedisError, httpx.HTTPError):
                continue

    def start(self) -> Planner:
        """As a thread."""
        self._thread = threading.Thread(target=self.run, name="planner", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and the connection. May be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(self._every_s + 5)
            self._thread = None
        self._redis.close()


def main(argv: list[str] | None = None) -> int:
    """`python -m p33_sidecar.rehearsal.plan_source`: plans for what the simulated exchange holds, until SIGTERM."""
    from p33_sidecar.rehearsal.stage_door import StageDoor

    parser = argparse.ArgumentParser(prog="python -m p33_sidecar.rehearsal.plan_source")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--action", default="PARTIAL_25", choices=sorted(PERCENT))
    args = parser.parse_args(argv)
    try:
        settings = load(os.environ)
    except ConfigurationInvalid as invalid:
        print("\n".join(invalid.problems), file=sys.stderr)
        return CONFIGURATION
    door = StageDoor(settings.exchange_url)
    planner = Planner(settings.redis_url, door.positions, every_s=args.every, action=args.action,
                      stream=settings["P33_PLAN_STREAM"])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    planner.start()
    stop.wait()
    planner.stop()
    door.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
