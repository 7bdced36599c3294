"""A line of the log for each verdict of ours, so that a plan can be followed by its id from here to its order.

Told by the clerk, from the records, a moment after the fact: a verdict itself never waits for a log. What is told is
what was recorded; the record has the rest. At rest this asks nothing of the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import redis

from ..store import keys
from ..store.connect import store_errors
from .memory import Memory

log = logging.getLogger("p33.verdicts")

PAGE = 500


class _Permit(msgspec.Struct):
    nonce: str


class _Record(msgspec.Struct):
    """Of a record what the line says."""

    plan_id: str
    symbol: str
    outcome: str
    permit: _Permit
    instance: str
    stream_id: str
    reason: str | None = None
    safe_close_qty: str | None = None


_DECODE = msgspec.json.Decoder(_Record).decode


class VerdictLog:
    """`step()` tells what was decided since the last time. For one thread."""

    def __init__(self, client: redis.Redis, memory: Memory) -> None:
        self._redis, self._memory = client, memory
        self._last, self._told = "", None

    def step(self) -> None:
        """Look at the records, if the desk has issued anything since."""
        self._last = self._last or self._end()
        newest = self._memory.verdicts[0] if self._memory.verdicts else None
        if newest is self._told:
            return
        while page := self._page():
            for _, fields in page:
                self._tell(fields.get("json", ""))
            self._last = page[-1][0]
        self._told = newest

    def _end(self) -> str:
        """Where the records ended when this process began: what is before that was told by another."""
        entries = self._read(self._redis.xrevrange, count=1)
        return entries[0][0] if entries else "0-0"

    def _page(self) -> list:
        return self._read(self._redis.xrange, min=f"({self._last}", count=PAGE)

    def _read(self, command: Callable, **args: object) -> list:
        """Nothing where the records' key holds another type of value: others say that."""
        with store_errors():
            try:
                return command(keys.DECISIONS, **args)
            except redis.ResponseError:
                return []

    def _tell(self, record: str) -> None:
        try:
            said = _DECODE(record)
        except msgspec.MsgspecError:
            return
        if said.instance == self._memory.instance:
            log.info("verdict.issued", extra={"fields": {
                "plan_id": said.plan_id, "symbol": said.symbol, "outcome": said.outcome, "nonce": said.permit.nonce,
                "entry": said.stream_id, **({"reason": said.reason} if said.reason else {}),
                **({"quantity": said.safe_close_qty} if said.safe_close_qty else {})}})
