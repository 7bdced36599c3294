"""An outsider who has read the contract and nothing else: own key names, own HMAC, own reading of every shape.

What may not happen here: an import of p33. What this file expects is what the outside world may rely on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import redis

PATIENCE_S = 60
CHECKS_RECORD = {"name", "pass", "value", "threshold", "margin"}


def until(what: str, look: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """What `look` returns, once it is anything; fails with `what` after a minute."""
    deadline = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
        time.sleep(0.02)
    return found


def exact(raw: bytes | str) -> Any:
    """JSON with its numbers as they are written."""
    return json.loads(raw, parse_float=Decimal)


def verified(raw: bytes, key: bytes) -> bool:
    """Cut before `,"sig":`, compute, compare: chapter 2's recipe."""
    body, mark, tail = raw.partition(b',"sig":')
    return bool(mark) and hmac.compare_digest(hmac.new(key, body, hashlib.sha256).hexdigest(), json.loads(tail[:-1]))


def signed(members: dict[str, Any], key: bytes) -> bytes:
    """A permit as chapter 2 writes it; `sig` comes last, over every byte before it."""
    body = json.dumps(members, separators=(",", ":"))[:-1].encode()
    return body + b',"sig":"' + hmac.new(key, body, hashlib.sha256).hexdigest().encode() + b'"}'


def words(value: Any) -> list[str]:
    """Every text anywhere in a JSON value."""
    if isinstance(value, dict):
        return [word for item in value.values() for word in words(item)]
    if isinstance(value, list):
        return [word for item in value for word in words(item)]
    return [value] if isinstance(value, str) else []


class Outsider:
    """A producer of plans and results and a reader of everything, on one database."""

    def __init__(self, url: str, *, plans: str, results: str) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True, protocol=2, socket_timeout=30)
        self.raw = redis.Redis.from_url(url, protocol=2, socket_timeout=30)
        self.plans, self.results = plans, results
        self._serial = 0

    # -- writing --------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return seconds * 1000 + micros // 1000

    def plan(self, symbol: str, action: str = "PARTIAL_75", **fields: str | None) -> tuple[str, str]:
        """Publish a plan; (plan_id, entry id). A field given as None is left out."""
        self._serial += 1
        plan_id = fields.pop("plan_id", f"plan-{self._serial:04d}")
        now = self.now_ms()
        message = {"plan_id": plan_id, "symbol": symbol, "action": action, "decision": "EXECUTE", "steps": "[]",
                   "close_qty": "0.0", "side": "", "timestamp": f"{now // 1000}.{now % 1000:03d}"} | fields
        return plan_id, self.redis.xadd(self.plans, {k: v for k, v in message.items() if v is not None})

    def result(self, symbol: str, *, plan_id: str = "", **fields: str) -> str:
        """Publish a result of exactly these fields beside plan and symbol."""
        self._serial += 1
        named = {"plan_id": plan_id or f"foreign-{self._serial:04d}", "symbol": symbol, "timestamp": "1769301010"}
        return self.redis.xadd(self.results, named | fields)

    # -- reading --------------------------------------------------------------------------------------------------

    def permit_raw(self, plan_id: str) -> bytes:
        """The permit's bytes, waited for."""
        return until(f"a verdict on {plan_id}", lambda: self.raw.get(f"quantum:permit:p33:{plan_id}"))

    def permit(self, plan_id: str) -> dict[str, Any]:
        return exact(self.permit_raw(plan_id))

    def verdict(self, symbol: str, action: str = "PARTIAL_75", **fields: str | None) -> dict[str, Any]:
        """Publish, wait, read."""
        return self.permit(self.plan(symbol, action, **fields)[0])

    def snapshot(self, symbol: str) -> dict[str, str]:
        return self.redis.hgetall(f"quantum:position:snapshot:{symbol}")

    def ledger(self, symbol: str) -> dict[str, str]:
        return self.redis.hgetall(f"quantum:position:ledger:{symbol}")

    def records(self, stream: str, **fields: str) -> list[dict[str, Any]]:
        """The JSON of every entry with these fields, with the entry's named fields under `_entry`."""
        found = []
        for entry_id, entry in self.redis.xrange(stream):
            if all(entry.get(name) == value for name, value in fields.items()):
                found.append(exact(entry["json"]) | {"_entry": entry | {"id": entry_id}})
        return found

    def answers(self, plan_id: str) -> list[dict[str, Any]]:
        """The results that name a plan, with their steps read."""
        found = [fields for _, fields in self.redis.xrange(self.results) if fields.get("plan_id") == plan_id]
        return [fields | {"steps": exact(fields.get("steps_results") or "[]")} for fields in found]

    def answer(self, plan_id: str) -> dict[str, Any]:
        """The one result of a plan, waited for."""
        until(f"a result for {plan_id}", lambda: self.answers(plan_id))
        (one,) = self.answers(plan_id)
        return one


class Page:
    """Port 8045, as a scraper sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> tuple[int, str, str]:
        """(status, content type, body)."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.url + path, timeout=PATIENCE_S) as reply:
                return reply.status, reply.headers["Content-Type"], reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Series name -> labels in alphabetical order -> value."""
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for line in self.get("/metrics")[2].splitlines():
            if line and not line.startswith("#"):
                name, labels, value = re.fullmatch(r"([a-z0-9_]+)(?:\{(.*)\})? (\S+)", line).groups()
                pairs = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")))
                found.setdefault(name, {})[pairs] = float(value)
        return found
