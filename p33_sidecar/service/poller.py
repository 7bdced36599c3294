"""The poller: one request a poll for all symbols, and what it says kept for everybody.

A failed query changes nothing: what it would have said is unknown and ages. A symbol that a good reply lacks is
unknown too, and so is a row older than one already seen. A poll is due every P33_POLL_SEC, sooner when a verdict
waits for it (at most one a second) or a second agreeing reply is needed, and never during a ban.
"""

from __future__ import annotations

import logging
import secrets

import msgspec

from ..core.model import HEDGE, Snapshot
from ..core.quantity import side_of, text
from ..errors import ExchangeBanned, ExchangeUnavailable
from ..exchange import Exchange, PositionsReply, SymbolPosition
from ..store.connect import ServerClock, server_ms
from ..store.positions import CHUNK, PositionStore
from .hooks import Hooks
from .incidents import Incidents
from .memory import Memory, Poll
from .opening import APART_MS

log = logging.getLogger("p33.poller")

REFRESH_APART_MS = 1000
SETTLING_WAIT_S = 0.1
SOURCE = "binance.positionRisk.v2"
_ENCODE = msgspec.json.Encoder().encode


class Poller:
    """Owns the exchange's account. `step()` waits until a poll is due, at most `wait_s`, and does it."""

    def __init__(self, exchange: Exchange, store: PositionStore, memory: Memory, clock: ServerClock, hooks: Hooks,
                 incidents: Incidents) -> None:
        self.exchange, self.store, self.memory, self.clock, self.hooks = exchange, store, memory, clock, hooks
        self.incidents = incidents
        self._versions: dict[str, int] | None = None
        self._started_mono_ms: int | None = None
        self._scope_recorded: frozenset[str] | None = None
        self._failing = ""

    # -- one turn ---------------------------------------------------------------------------------------------

    def step(self, *, wait_s: float = 1.0) -> bool:
        """Poll if it is due within `wait_s` or somebody wants it sooner. True if a poll was made."""
        due_s = self.due_in_ms() / 1000
        wait_s = wait_s if self.memory.compared else min(wait_s, SETTLING_WAIT_S)
        if due_s > 0:
            if self.memory.refresh_wanted.wait(min(due_s, wait_s)) and self.due_in_ms() > 0:
                self.memory.stopping.wait(min(self.due_in_ms() / 1000, wait_s))
            if self.due_in_ms() > 0:
                return False
        self.poll()
        return True

    def due_in_ms(self) -> int:
        """Milliseconds until the next poll may begin; 0 for now."""
        memory, now_ms = self.memory, self.clock.now_ms()
        if memory.ban_until_ms > now_ms:
            return memory.ban_until_ms - now_ms
        if self._started_mono_ms is None:
            return 0
        pause_ms = memory.policy.poll_ms
        if memory.refresh_wanted.is_set():
            pause_ms = min(pause_ms, REFRESH_APART_MS)
        settling_in = memory.opening_pending or not memory.compared
        if settling_in and memory.last_poll and memory.last_poll.outcome == "ok":
            pause_ms = min(pause_ms, APART_MS + 10)
        return max(self._started_mono_ms + pause_ms - self.clock.mono_ns() // 1_000_000, 0)

    def poll(self) -> None:
        """One request, and what it says kept."""
        if self._versions is None:
            self._versions = self.store.row_versions()
        self.clock.sync(server_ms(self.store.redis))
        mono_ns = self.clock.mono_ns()
        self._started_mono_ms, requested_ms = mono_ns // 1_000_000, self.clock.now_ms()
        self.memory.refresh_wanted.clear()
        if not self.exchange.configured:
            self.memory.last_poll = Poll("unconfigured", requested_ms, requested_ms, mono_ns)
            return
        try:
            reply = self.exchange.positions()
        except ExchangeBanned as banned:
            self.memory.ban_until_ms = banned.until_ms
            self._failed(banned, requested_ms, mono_ns)
        except ExchangeUnavailable as failure:
            self._failed(failure, requested_ms, mono_ns)
        else:
            self._keep(reply, requested_ms, mono_ns)

    def _failed(self, failure: ExchangeUnavailable, requested_ms: int, mono_ns: int) -> None:
        received_ms = self.clock.now_ms()
        self.memory.last_poll = Poll(failure.kind, requested_ms, received_ms, mono_ns, failure.detail[:300])
        self.hooks.poll(self.memory.scope, ok=False)
        if self._failing != failure.kind:
            log.warning("poll.failed", extra={"fields": {"kind": failure.kind, "detail": failure.detail[:200]}})
        self._failing = failure.kind
        record = {"v": 1, "requested_ms": requested_ms, "received_ms": received_ms, "outcome": failure.kind,
                  "detail": failure.detail[:300], "positions": []}
        self.store.record_failure(_poll_id(requested_ms), _ENCODE(record))

    # -- a good reply -----------------------------------------------------------------------------------------

    def _keep(self, reply: PositionsReply, requested_ms: int, mono_ns: int) -> None:
        memory = self.memory
        current, versions = self._newer_rows(reply)
        memory.positions = {symbol: position.amt for symbol, position in reply.positions.items()}
        leaving = memory.scope
        memory.scope = self._scope()
        leaving = [s for s in leaving - memory.scope if s in current]
        received_ms = self.clock.now_ms()
        snapshots = [_snapshot(current[s], requested_ms) for s in sorted(memory.scope) if s in current]
        snapshots += [_snapshot(current[s], requested_ms) for s in leaving]
        self._write(snapshots, versions, self._record(reply, requested_ms, received_ms), requested_ms, mono_ns)
        poll = Poll("ok", requested_ms, received_ms, mono_ns)
        memory.last_good_poll = memory.last_poll = poll
        self.hooks.poll(memory.scope, ok=True)
        if self._failing:
            log.info("poll.recovered", extra={"fields": {"after": self._failing}})
        self._failing = ""
        self.incidents.compare(poll)

    def _newer_rows(self, reply: PositionsReply) -> tuple[dict[str, SymbolPosition], dict[str, int]]:
        """(rows that are not older than one already seen, versions that moved on)."""
        current, versions = {}, {}
        for symbol, position in reply.positions.items():
            seen = self._versions.get(symbol, 0)
            if position.update_time_ms < seen:
                continue
            current[symbol] = position
            if position.update_time_ms > seen:
                versions[symbol] = self._versions[symbol] = position.update_time_ms
        return current, versions

    def _scope(self) -> frozenset[str]:
        """The list, what has a position on the exchange, and what has one in the book."""
        memory = self.memory
        listed = frozenset(memory.positions) if memory.allowlist is None else memory.allowlist
        held = {symbol for symbol, amt in memory.positions.items() if amt}
        booked = {s for s, kept in memory.books.items() if kept.line.book and kept.line.book.amt != 0}
        return listed | held | booked

    def _write(self, snapshots: list[Snapshot], versions: dict[str, int], record: bytes, requested_ms: int,
               mono_ns: int) -> None:
        """Chunk by chunk, each in memory as soon as it is in the store, so that no verdict waits for all."""
        poll_id, now_ms = _poll_id(requested_ms), self.clock.now_ms()
        for start in range(0, max(len(snapshots), 1), CHUNK):
            chunk = snapshots[start:start + CHUNK]
            last = start + CHUNK >= len(snapshots)
            newer = self.store.write(chunk, versions=versions if last else {}, poll_id=poll_id if last else "",
                                     record=record if last else b"", now_ms=now_ms)
            for snapshot in chunk:
                if snapshot.symbol not in newer:
                    self.memory.keep_snapshot(snapshot, mono_ns)

    def _record(self, reply: PositionsReply, requested_ms: int, received_ms: int) -> bytes:
        held = [_held(p) for p in reply.positions.values() if p.amt is None or p.amt != 0]
        record = {"v": 1, "requested_ms": requested_ms, "received_ms": received_ms, "outcome": "ok", "positions": held}
        if reply.bad_rows:
            record["bad_rows"] = dict(list(reply.bad_rows.items())[:50])
        if self._scope_recorded != self.memory.scope:
            record["scope"] = sorted(self.memory.scope)
            self._scope_recorded = self.memory.scope
        return _ENCODE(record)


def _held(position: SymbolPosition) -> dict:
    amt = None if position.amt is None else text(position.amt)
    return {"symbol": position.symbol, "position_amt": amt, "side": _side(position),
            "entry_price": position.entry_price, "mark_price": position.mark_price,
            "update_time_ms": position.update_time_ms}


def _snapshot(position: SymbolPosition, requested_ms: int) -> Snapshot:
    return Snapshot(
        symbol=position.symbol, amt=position.amt, ts_ms=requested_ms, side=_side(position),
        entry_price=position.entry_price, mark_price=position.mark_price, leverage=position.leverage,
        unrealized_pnl=position.unrealized_pnl, source=SOURCE)


def _side(position: SymbolPosition) -> str:
    return HEDGE if position.amt is None else side_of(position.amt)


def _poll_id(requested_ms: int) -> str:
    return f"{requested_ms}-{secrets.token_hex(4)}"
