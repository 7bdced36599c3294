"""A stand-in for the Governor: the neighbour that grants a plan its budget before p33 looks at the position.

What may not happen here: a look at p33's verdict. The Governor knows limits, not positions; that both have to agree
is what the gate is for. It keeps nothing that it cannot lose: a reservation that nobody settles ends with its permit.

Its permit is `quantum:permit:<plan_id>`: STRING, JSON, `{"granted":true,...}`, with a TTL (contract, chapter 4).
`deny` and `allow` work on a SET in Redis, so that they reach a Governor in another process too.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections import deque
from typing import Final

import msgspec
import redis

from p33_sidecar.errors import ConfigurationInvalid
from p33_sidecar.program import CONFIGURATION, UNAVAILABLE
from p33_sidecar.settings import load
from p33_sidecar.store import keys

GROUP: Final = "governor"
CONSUMER: Final = "governor-1"
DENIED: Final = "quantum:rehearsal:governor:denied"
"""SET of symbols that get no permit; `*` is all of them."""
EVERYTHING: Final = "*"
BLOCK_MS: Final = 200
RETRY_S: Final = 0.2
MINUTE_S: Final = 60.0


class Limits(msgspec.Struct, frozen=True):
    """How much is granted: closes in flight for one symbol, and grants a minute for all."""

    in_flight: int = 3
    grants_per_minute: int = 600
    permit_ttl_ms: int = 60_000


class Reservations:
    """What is in flight, by monotonic seconds. Pure bookkeeping: no Redis, no clock of its own."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._held: dict[str, tuple[str, float]] = {}
        self._grants_s: deque[float] = deque()
        self._settled: dict[str, None] = {}

    def refusal(self, plan_id: str, symbol: str, *, now_s: float) -> str:
        """Why there is no room for the plan; empty, and reserved, where there is."""
        self._expire(now_s)
        if plan_id in self._settled:
            return "already_settled"
        if plan_id in self._held:
            return ""
        if sum(held == symbol for held, _ in self._held.values()) >= self.limits.in_flight:
            return "in_flight_limit"
        if len(self._grants_s) >= self.limits.grants_per_minute:
            return "grants_per_minute"
        self._held[plan_id] = (symbol, now_s + self.limits.permit_ttl_ms / 1000)
        self._grants_s.append(now_s)
        return ""

    def settle(self, plan_id: str, *, executed: bool) -> None:
        """A result came: the room is free again. A plan that executed gets no second grant."""
        self._held.pop(plan_id, None)
        if executed:
            self._settled[plan_id] = None

    def in_flight(self, symbol: str) -> int:
        """Plans of the symbol that hold a reservation."""
        return sum(held == symbol for held, _ in self._held.values())

    def _expire(self, now_s: float) -> None:
        self._held = {p: (s, until_s) for p, (s, until_s) in self._held.items() if until_s > now_s}
        while self._grants_s and self._grants_s[0] <= now_s - MINUTE_S:
            self._grants_s.popleft()


class Governor:
    """Answers every EXECUTE plan with a permit. `step()` by hand, or `start()` and `stop()` as a thread."""

    def __init__(self, redis_url: str, *, plan_stream: str = "quantum:apply.plan",
                 result_stream: str = "quantum:apply.result", limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        # a plan that is no UTF-8 is somebody's mistake, and must not end the thread that answers the others
        self._redis = redis.Redis.from_url(redis_url, decode_responses=True, encoding_errors="replace", protocol=2,
                                           socket_timeout=5)
        self._plans, self._results = plan_stream, result_stream
        self.reservations = Reservations(limits)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # -- what a person may tell it --------------------------------------------------------------------------------

    def deny(self, symbol: str = EVERYTHING) -> None:
        """From now on no permit for this symbol, or for anything."""
        self._redis.sadd(DENIED, symbol)

    def allow(self, symbol: str = EVERYTHING) -> None:
        """Take a `deny` back."""
        self._redis.srem(DENIED, symbol)

    # -- the work -------------------------------------------------------------------------------------------------

    def ensure_groups(self) -> None:
        """Its consumer group on both streams, from their beginning; existing ones stay as they are."""
        for stream in (self._plans, self._results):
            try:
                self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def step(self, *, block_ms: int = BLOCK_MS) -> int:
        """Handle what has come; returns how many entries that were. Raises redis.RedisError."""
        try:
            reply = self._redis.xreadgroup(GROUP, CONSUMER, {self._results: ">", self._plans: ">"}, count=100,
                                           block=block_ms)
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self.ensure_groups()
            return 0
        handled = 0
        for stream, entries in reply or []:
            for entry_id, fields in entries:
                self._handle(stream, fields)
                self._redis.xack(stream, GROUP, entry_id)
                handled += 1
        return handled

    def run(self) -> None:
        """Until `stop()`: a server that is away is asked again."""
        while not self._stopping.is_set():
            try:
                self.step()
            except redis.RedisError:
                self._stopping.wait(RETRY_S)

    def start(self) -> Governor:
        """As a thread. Its groups exist when this returns."""
        self.ensure_groups()
        self._stopping.clear()
        self._thread = threading.Thread(target=self.run, name="governor", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and the connection. May be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(BLOCK_MS / 1000 + 5)
            self._thread = None
        self._redis.close()

    def _handle(self, stream: str, fields: dict[str, str]) -> None:
        plan_id = fields.get("plan_id", "")
        if stream == self._results:
            executed = fields.get("executed", "").lower() in ("true", "1")
            self.reservations.settle(plan_id, executed=executed)
        elif plan_id and fields.get("decision") == "EXECUTE":
            self._answer(plan_id, fields.get("symbol", ""))

    def _answer(self, plan_id: str, symbol: str) -> None:
        denied = any(self._redis.smismember(DENIED, [symbol, EVERYTHING]))
        reason = "denied_by_operator" if denied else self.reservations.refusal(
            plan_id, symbol, now_s=time.monotonic())
        answer = {"granted": not reason, "plan_id": plan_id, "symbol": symbol,
                  "issued_ms": time.time_ns() // 1_000_000} | ({"reason": reason} if reason else {})
        self._redis.set(keys.governor_permit(plan_id), msgspec.json.encode(answer),
                        px=self.reservations.limits.permit_ttl_ms)


def main(argv: list[str] | None = None) -> int:
    """`python -m p33_sidecar.rehearsal.governor`: the Governor as a process; Redis and streams as in the settings.

    Exit codes: 0 stopped on request, 2 wrong usage, 69 Redis does not serve it at the start, 78 configuration.
    """
    parser = argparse.ArgumentParser(prog="python -m p33_sidecar.rehearsal.governor")
    parser.add_argument("--deny", action="append", default=[], metavar="SYMBOL", help="no permit for it; * for all")
    args = parser.parse_args(argv)
    try:
        settings = load(os.environ)
    except ConfigurationInvalid as invalid:
        print("\n".join(invalid.problems), file=sys.stderr)
        return CONFIGURATION
    governor = Governor(settings.redis_url, plan_stream=settings["P33_PLAN_STREAM"],
                        result_stream=settings["P33_RESULT_STREAM"])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        for symbol in args.deny:
            governor.deny(symbol)
        governor.start()
    except redis.RedisError as error:
        print(f"governor: Redis does not serve us: {error}", file=sys.stderr)
        return UNAVAILABLE
    print("governor: ready", flush=True)
    stop.wait()
    governor.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
