"""What a town's server holds, read back."""

from __future__ import annotations

import msgspec
import redis

from p33_sidecar.store import keys


class Written:
    """Whoever has a line to the server."""

    redis: redis.Redis

    def verdicts(self) -> list[str]:
        """Every verdict in the order it was given: `ALLOW 0.028` or `DENY reason`."""
        return [said(record) for record in self.records(keys.DECISIONS)]

    def verdict(self, plan_id: str) -> str:
        """The last one on a plan."""
        return next((said(r) for r in reversed(self.records(keys.DECISIONS)) if r["plan_id"] == plan_id), "NONE")

    def records(self, stream: str) -> list[dict]:
        return [self.decoded(fields) for _, fields in self.redis.xrange(stream)]

    @staticmethod
    def decoded(fields: dict[str, str]) -> dict:
        return msgspec.json.decode(fields["json"])

    def book_of(self, symbol: str = "BTCUSDT") -> str:
        return self.redis.hget(keys.ledger(symbol), "last_known_amt") or "none"

    def snapshot_of(self, symbol: str = "BTCUSDT") -> dict[str, str]:
        return self.redis.hgetall(keys.snapshot(symbol))

    def events(self, kind: str) -> list[dict]:
        return [event for event in self.records(keys.EVENTS) if event["kind"] == kind]


def said(record: dict) -> str:
    """A decision's record in a word and a number."""
    if record["outcome"] == "ALLOW":
        return f"ALLOW {record['safe_close_qty']}"
    return f"DENY {record['reason']}"
