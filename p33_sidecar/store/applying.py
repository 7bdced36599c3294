"""The Apply Layer's side of the store: plans in, results out, and the orders that may be on their way."""

from __future__ import annotations

from enum import StrEnum

import redis

from . import keys, scripts
from .connect import server_ms, store_errors

CLAIM_IDLE_MS = 30_000
ENTRY_MARK = keys.TAKINGS + "-entry:"
"""STRING, 24 h: a plan entry that has its result."""


class Kind(StrEnum):
    """What a result is about: a taken plan's order, or a plan of which nothing was taken."""

    ORDER = "order"
    OTHER = "other"


class ApplyStore:
    """Reads plans as one consumer of the Apply Layer's group and writes results. For one thread."""

    def __init__(self, client: redis.Redis, *, plan_stream: str, result_stream: str, consumer: str,
                 max_age_ms: int) -> None:
        self.redis, self._plans, self._results = client, plan_stream, result_stream
        self._consumer, self._max_age_ms = consumer, max_age_ms

    def now_ms(self) -> int:
        """The server's time."""
        with store_errors():
            return server_ms(self.redis)

    def read(self, after: str, *, block_ms: int | None) -> list[tuple[str, dict[str, str]]]:
        """Entries `>` new or of our own pending ones; the group is made where it is missing."""
        with store_errors():
            try:
                reply = self.redis.xreadgroup(keys.APPLY_GROUP, self._consumer, {self._plans: after}, count=64,
                                              block=block_ms)
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error) and "UNBLOCKED" not in str(error):
                    raise
                self._make_group()
                return []
        return [(entry_id, fields or {}) for entry_id, fields in reply[0][1]] if reply else []

    def claim(self) -> list[tuple[str, dict[str, str]]]:
        """What a dead consumer has left for 30 s becomes ours."""
        with store_errors():
            try:
                reply = self.redis.xautoclaim(self._plans, keys.APPLY_GROUP, self._consumer, CLAIM_IDLE_MS, "0-0")
            except redis.ResponseError:
                return []
        return [(entry_id, fields or {}) for entry_id, fields in reply[1]]

    def _make_group(self) -> None:
        start = f"{max(server_ms(self.redis) - self._max_age_ms, 0)}-0"
        try:
            self.redis.xgroup_create(self._plans, keys.APPLY_GROUP, id=start, mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def acknowledge(self, entry_id: str) -> None:
        with store_errors():
            self.redis.xack(self._plans, keys.APPLY_GROUP, entry_id)

    def finish(self, kind: Kind, *, plan_id: str, entry_id: str, fields: dict[str, str]) -> bool:
        """Result, acknowledgement and the end of the intent in one step. False: it had been said already."""
        names = [self._plans, self._results, keys.ORDER_INTENTS, keys.taken(plan_id),
                 f"{ENTRY_MARK}{self._plans}:{entry_id}"]
        flat = [part for pair in fields.items() for part in pair]
        with store_errors():
            return bool(scripts.run(self.redis, "result", names, [
                entry_id, keys.APPLY_GROUP, plan_id, str(kind), "", keys.TAKEN_TTL_MS, keys.TAKEN_TTL_MS, *flat]))

    def intents(self) -> list[str]:
        """The orders that may be on their way, as JSON."""
        with store_errors():
            return self.redis.hvals(keys.ORDER_INTENTS)
