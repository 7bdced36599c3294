"""The Apply Layer's side of the store: plans in, results out, and the orders that may be on their way.

An entry is acknowledged only by a step that leaves its effect: its result, or a taking whose order is kept.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
import redis

from . import keys, scripts
from .connect import Link, is_wrong_type, server_ms, store_errors
from .groups import make_group

CLAIM_IDLE_MS = 30_000
SCRIPTS = ("pair", "take", "look", "take_governor", "result")

Delivered = tuple[str, dict[str, str]]
"""A stream entry: its id and its fields; none where it was deleted after delivery."""


class Kind(StrEnum):
    """What a result is about."""

    ORDER = "order"
    """A taken permit's order."""
    FOUND = "found"
    """An order at the exchange whose taking the store has lost."""
    OTHER = "other"
    """A plan of which nothing was taken."""


class Standing(msgspec.Struct, frozen=True):
    """How things stand as an entry is taken up. `now_ms` is the server's time.

    `answered`: it has its result; `taken`: its plan's permits were taken by somebody; `venue`: whose database this is,
    empty where nobody has claimed it; `steady`: the server is the one known to hold all that was written.
    """

    now_ms: int
    answered: bool
    taken: bool
    venue: str
    steady: bool


class ApplyStore:
    """Reads plans as one consumer of the Apply Layer's group and writes results. For one thread."""

    def __init__(self, link: Link, *, plan_stream: str, result_stream: str, consumer: str, max_age_ms: int) -> None:
        self.link, self.redis = link, link.redis
        self._plans, self._results = plan_stream, result_stream
        self._consumer, self._max_age_ms = consumer, max_age_ms

    def now_ms(self) -> int:
        """The server's time."""
        with store_errors():
            return server_ms(self.redis)

    def load_scripts(self) -> None:
        """So that the first taking does not pay for it."""
        with store_errors():
            for name in SCRIPTS:
                self.redis.script_load(scripts.source(name))

    # -- plans ------------------------------------------------------------------------------------------------

    def new_plans(self, *, count: int, block_ms: int) -> list[Delivered]:
        """Entries nobody has seen yet; the group is made where it is missing."""
        return self._read(">", count=count, block_ms=block_ms)

    def own_pending(self) -> list[Delivered]:
        """All that was handed to this consumer and not acknowledged. Reading it also says that we are alive."""
        found: list[Delivered] = []
        while page := self._read(found[-1][0] if found else "0", count=100, block_ms=None):
            found += page
        return found

    def claim(self, *, idle_ms: int = CLAIM_IDLE_MS) -> list[Delivered]:
        """What a dead consumer has left for so long becomes ours."""
        with store_errors():
            try:
                reply = self.redis.xautoclaim(self._plans, keys.APPLY_GROUP, self._consumer, idle_ms, "0-0")
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                return []
        return [(entry_id, fields or {}) for entry_id, fields in reply[1]]

    def _read(self, after: str, *, count: int, block_ms: int | None) -> list[Delivered]:
        with store_errors():
            try:
                reply = self.redis.xreadgroup(keys.APPLY_GROUP, self._consumer, {self._plans: after}, count=count,
                                              block=block_ms)
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error) and "UNBLOCKED" not in str(error):
                    raise
                self._make_group()
                return []
        return [(entry_id, fields or {}) for entry_id, fields in reply[0][1]] if reply else []

    def _make_group(self) -> None:
        """At the oldest entry that may still be answered; what was answered before is recognised by its mark."""
        make_group(self.redis, self._plans, keys.APPLY_GROUP, now_ms=server_ms(self.redis),
                   max_age_ms=self._max_age_ms)

    def standing(self, entry_id: str, plan_id: str) -> Standing:
        """What there is to know before a plan is handled, in one round trip."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.time()
        pipe.exists(self._entry_mark(entry_id))
        pipe.exists(keys.taken(plan_id))
        pipe.get(keys.VENUE)
        pipe.get(keys.RUN_ID)
        with store_errors():
            replies = [_text_or_none(reply) for reply in pipe.execute(raise_on_error=False)]
        (seconds, micros), answered, taken, venue, run_id = replies
        return Standing(seconds * 1000 + micros // 1000, answered > 0, taken > 0, venue or "",
                        run_id == self.link.run_id)

    def acknowledge(self, entry_id: str) -> None:
        """Nothing more is to be done about an entry."""
        with store_errors():
            self.redis.xack(self._plans, keys.APPLY_GROUP, entry_id)

    # -- results ----------------------------------------------------------------------------------------------

    def finish(self, kind: Kind, *, plan_id: str, entry_id: str, fields: dict[str, str], mark: str = "") -> bool:
        """Result, acknowledgement and the end of the intent in one step. False: it had been said already."""
        names = [self._plans, self._results, keys.ORDER_INTENTS, keys.taken(plan_id), self._entry_mark(entry_id)]
        flat = [part for pair in fields.items() for part in pair]
        with store_errors():
            return bool(scripts.run(self.redis, "result", names, [
                entry_id, keys.APPLY_GROUP, plan_id, str(kind), mark, keys.TAKEN_TTL_MS, keys.TAKEN_TTL_MS, *flat]))

    def _entry_mark(self, entry_id: str) -> str:
        return f"{keys.TAKEN_ENTRY}{self._plans}:{entry_id}"

    # -- orders on their way ----------------------------------------------------------------------------------

    def intents(self) -> dict[str, str]:
        """The orders that may be on their way: plan id -> JSON."""
        with store_errors():
            return self.redis.hgetall(keys.ORDER_INTENTS)

    def was_taken(self, plan_id: str) -> bool:
        """Whether the store knows that the plan's permits were taken."""
        with store_errors():
            return self.redis.exists(keys.taken(plan_id)) > 0


def _text_or_none(reply):
    """A pipeline's reply; a key of another type holds nothing we could go by."""
    if isinstance(reply, redis.ResponseError) and is_wrong_type(reply):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply
