"""The result stream as the bookkeeper reads it: in order, from a cursor, and noticing what it never got to see.

The server counts every entry it ever added, and the cursor counts those that were passed: what was added behind the
cursor and is not there is missing, exactly as many as the two counts differ (Redis 7: `entries-added`).
"""

from __future__ import annotations

import msgspec
import redis

from . import keys
from .changes import Cursor
from .connect import store_errors
from .state import entry_order

Entry = tuple[str, dict[str, str]]


class Missing(msgspec.Struct, frozen=True):
    """A gap behind the cursor: what happened, how many entries (None: cannot be counted), and where to go on."""

    what: str
    entries: int | None
    restart: Cursor


class ResultStream:
    """One stream and its cursor. Not for use by two threads."""

    def __init__(self, client: redis.Redis, stream: str) -> None:
        self.redis, self.name = client, stream

    def cursor(self) -> Cursor | None:
        """How far we are; None before the first start, or where it was lost."""
        with store_errors():
            stored = self.redis.hget(keys.CURSOR, self.name)
        last_id, _, added = (stored or "").partition(" ")
        return Cursor(last_id=last_id, added=int(added)) if added.isdigit() else None

    def begin(self) -> Cursor:
        """The very first cursor: everything still in the stream will be read."""
        with store_errors():
            info = _info(self.redis.pipeline(transaction=True).xinfo_stream(self.name).execute(False)[0])
            cursor = Cursor(added=info["entries-added"] - info["length"]) if info else Cursor()
            self.redis.hset(keys.CURSOR, self.name, cursor.text())
        return cursor

    def look(self, cursor: Cursor, *, count: int) -> tuple[list[Entry], Missing | None]:
        """(the next entries behind the cursor, what was added there and cannot be read any more), as one moment."""
        with store_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.xinfo_stream(self.name)
            pipe.xrange(self.name, f"({cursor.last_id}", "+", count=count)
            info, entries = pipe.execute(raise_on_error=False)
            info = _info(info)
            if isinstance(entries, Exception):
                raise entries
        readable = len(entries) if len(entries) < count else None
        return entries, missing_entries(cursor, info, readable=readable)

    def wait(self, cursor: Cursor, *, block_ms: int) -> bool:
        """Wait for an entry behind the cursor. False: there is none yet."""
        with store_errors():
            return bool(self.redis.xread({self.name: cursor.last_id}, count=1, block=block_ms))

    def declare_gap(self, missing: Missing, *, at_ms: int, event: bytes) -> None:
        """Every book is doubtful from now on, and the cursor stands where the stream can be read again."""
        with store_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.set(keys.GAP, at_ms)
            pipe.hset(keys.CURSOR, self.name, missing.restart.text())
            pipe.xadd(keys.EVENTS, {"kind": "gap", "json": event})
            pipe.execute()

    def gap_ms(self) -> int:
        """When results were last found missing; 0 for never."""
        with store_errors():
            stored = self.redis.get(keys.GAP) or ""
        return int(stored) if stored.isdigit() else 0


def missing_entries(cursor: Cursor, info: dict | None, *, readable: int | None) -> Missing | None:
    """From the cursor, what the server says of the stream, and how many entries can be read behind the cursor.

    A backlog that was not counted (None) is what the stream holds if it begins behind the cursor; else it is counted
    when it has become shorter: the two counts keep differing by what is missing until then.
    """
    if info is None:
        untouched = cursor.last_id == "0-0" and not cursor.added
        return None if untouched else Missing("deleted", None, Cursor())
    added, length, behind = info["entries-added"], info["length"], info["entries-added"] - cursor.added
    if entry_order(info["last-generated-id"]) < entry_order(cursor.last_id) or behind < (readable or 0):
        return Missing("recreated", None, Cursor(added=added - length))
    trimmed = _all_behind(cursor, info)
    if readable is None:
        readable = length if trimmed else behind
    if behind == readable:
        return None
    return Missing("trimmed" if trimmed else "entries deleted", behind - readable,
                   Cursor(last_id=cursor.last_id, added=added - readable))


def _all_behind(cursor: Cursor, info: dict) -> bool:
    """Whether the stream begins behind the cursor, so that its length is what can be read."""
    first = info.get("first-entry")
    return first is None or entry_order(first[0]) > entry_order(cursor.last_id)


def _info(reply: dict | Exception) -> dict | None:
    """What the server says of the stream; None where there is none."""
    if isinstance(reply, Exception):
        if "no such key" in str(reply):
            return None
        raise reply
    return reply
