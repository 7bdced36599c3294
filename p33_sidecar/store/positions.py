"""The poller's side of the store: snapshots, the polls' records, symbol filters, incidents and the ban.

A snapshot is never overwritten by an older one, and one that contradicts an open permit ends it in the same step.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import msgspec
import redis

from ..core.model import HEDGE, LATEST_MS, Filters, Snapshot
from ..core.quantity import text
from ..core.record import value_json
from ..errors import StoreUnavailable
from . import keys, scripts
from .connect import is_wrong_type, server_ms, store_errors
from .state import SEP, SNAPSHOT_FIELDS, read_snapshot
from .switches import event_json

CHUNK = 100
"""Snapshots a script writes at once: a verdict never waits longer than for one chunk."""
_ENCODE = msgspec.json.Encoder().encode


class PositionStore:
    """Writes what polls brought. Not for use by two threads."""

    def __init__(self, client: redis.Redis) -> None:
        self.redis = client

    def write(self, snapshots: list[Snapshot], *, versions: dict[str, int], poll_id: str, record: bytes,
              now_ms: int) -> list[str]:
        """Write a poll's snapshots and its record. Returns symbols that hold a newer snapshot already."""
        chunks = [snapshots[i:i + CHUNK] for i in range(0, len(snapshots), CHUNK)] or [[]]
        newer: list[str] = []
        flat_versions = [part for symbol, ms in versions.items() for part in (symbol, str(ms))]
        with store_errors():
            for index, chunk in enumerate(chunks):
                last = index == len(chunks) - 1
                newer += scripts.run(self.redis, "snapshot", [keys.SNAPSHOTS, keys.ROW_VERSIONS], [
                    _ENCODE([snapshot_row(s) for s in chunk]), keys.SNAPSHOT_TTL_MS, poll_id if last else "",
                    record if last else b"", _ENCODE(flat_versions if last else []), now_ms,
                ])
        return newer

    def record_failure(self, poll_id: str, record: bytes) -> None:
        """A poll that brought nothing is recorded too."""
        with store_errors():
            self.redis.xadd(keys.SNAPSHOTS, {"poll_id": poll_id, "json": record})

    def row_versions(self) -> dict[str, int]:
        """symbol -> newest updateTime seen, from before a restart. One that cannot be read is not known any more."""
        with store_errors():
            stored = self.redis.hgetall(keys.ROW_VERSIONS)
        return {symbol: int(ms) for symbol, ms in stored.items() if ms.isdigit()}

    def snapshots(self) -> list[Snapshot]:
        """Every snapshot there is that can be read, from before a restart."""
        with store_errors():
            names = list(self.redis.scan_iter(match=keys.SNAPSHOT + "*", count=1000, _type="HASH"))
            pipe = self.redis.pipeline(transaction=False)
            for name in names:
                pipe.hmget(name, SNAPSHOT_FIELDS)
            rows = pipe.execute()
        found = [read_snapshot(name[len(keys.SNAPSHOT):], SEP.join(value or "" for value in row))
                 for name, row in zip(names, rows, strict=True)]
        return [snapshot for snapshot in found if snapshot is not None]

    # -- filters ----------------------------------------------------------------------------------------------

    def put_filters(self, filters: dict[str, Filters], *, read_ms: int) -> None:
        """Replace the symbol filters in one step."""
        fresh = keys.FILTERS + ":new"
        with store_errors():
            pipe = self.redis.pipeline(transaction=True)
            pipe.delete(fresh)
            pipe.hset(fresh, mapping={"read_ms": str(read_ms)} | {s: value_json(f) for s, f in filters.items()})
            pipe.rename(fresh, keys.FILTERS)
            pipe.execute()

    def filters(self) -> tuple[int, dict[str, Filters]] | None:
        """(when read, symbol -> filters) of the last good list; None if there never was one, or it cannot be read: then
        the exchange is asked, and its list takes the place of whatever is there."""
        with store_errors():
            try:
                stored = self.redis.hgetall(keys.FILTERS)
            except redis.ResponseError as error:
                if not is_wrong_type(error):
                    raise
                return None
        try:
            read_ms = int(stored.pop("read_ms", 0))
            found = {s: msgspec.json.decode(raw, type=Filters) for s, raw in stored.items()}
        except ValueError:
            return None
        return (read_ms, found) if found else None

    # -- incidents --------------------------------------------------------------------------------------------

    def mismatches(self) -> dict[str, dict]:
        """symbol -> the open incident; one that cannot be read is open all the same, and nothing is known of it."""
        with store_errors():
            return {symbol: _incident(raw) for symbol, raw in self.redis.hgetall(keys.MISMATCHES).items()}

    def open_mismatch(self, symbol: str, incident: dict, event: bytes) -> None:
        self._incident(lambda pipe: pipe.hset(keys.MISMATCHES, symbol, _ENCODE(incident)), event)

    def close_mismatch(self, symbol: str, event: bytes) -> None:
        self._incident(lambda pipe: pipe.hdel(keys.MISMATCHES, symbol), event)

    def _incident(self, act, event: bytes) -> None:
        with store_errors():
            pipe = self.redis.pipeline(transaction=True)
            act(pipe)
            pipe.xadd(keys.EVENTS, {"kind": "mismatch", "json": event})
            pipe.execute()


def _incident(raw: str) -> dict:
    """What is noted of it, less what is no time where one belongs."""
    try:
        told = msgspec.json.decode(raw, type=dict)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return {what: said for what, said in told.items()
            if not what.endswith("_ms") or (type(said) is int and 0 < said <= LATEST_MS)}


class BanUnreadable(StoreUnavailable):
    """The ban's key holds no time: whether one is in force cannot be known."""


class RedisBans:
    """The exchange's ban, kept where every process and every restart finds it. `by`: who tells of it."""

    def __init__(self, client: redis.Redis, *, by: str = "") -> None:
        self.redis, self.by = client, by

    def ban_until_ms(self) -> int:
        """Unix ms before which nothing may be sent. What cannot be read is no time, and raises BanUnreadable."""
        with store_errors():
            try:
                until = self.redis.get(keys.BAN) or "0"
            except redis.ResponseError as error:
                if not is_wrong_type(error):
                    raise
                until = ""
        if not until.isdigit():
            raise BanUnreadable(f"{keys.BAN} holds no time")
        return int(until)

    def set_ban(self, until_ms: int, why: str) -> None:
        """The later time wins; the ban ends by itself."""
        with store_errors():
            stored = self.redis.get(keys.BAN) or "0"
            if stored.isdigit() and int(stored) >= until_ms:
                return
            event = event_json("ban", at_ms=server_ms(self.redis), by=self.by, until_ms=until_ms, why=why[:300])
            pipe = self.redis.pipeline(transaction=True)
            pipe.set(keys.BAN, until_ms, pxat=until_ms + 1000)
            pipe.xadd(keys.EVENTS, {"kind": "ban", "json": event})
            pipe.execute()


def snapshot_row(snapshot: Snapshot) -> list:
    """[symbol, ts_ms, amount, [field, value, ...]] as lua/snapshot.lua takes it (contract, chapter 2)."""
    amt = "" if snapshot.side == HEDGE or snapshot.amt is None else text(snapshot.amt)
    ts_ms = snapshot.ts_ms
    values = ["side", snapshot.side, "entry_price", snapshot.entry_price, "mark_price", snapshot.mark_price,
              "leverage", snapshot.leverage, "unrealized_pnl", snapshot.unrealized_pnl,
              "ts_epoch", str(ts_ms // 1000), "ts_iso", iso(ts_ms), "ts_ms", str(ts_ms), "source", snapshot.source]
    if amt:
        values += ["position_amt", amt]
    return [snapshot.symbol, str(ts_ms), amt, values]


@lru_cache(maxsize=8)
def iso(ms: int) -> str:
    """UTC, ISO 8601, with milliseconds. All snapshots of a poll have the same time."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"
