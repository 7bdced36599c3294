"""The poller: one request a poll for all symbols, and what it says kept for everybody.

A failed query changes nothing: what it would have said is unknown and ages (`accounts` tells what a good one means).
A poll is due every P33_POLL_SEC, sooner when a verdict waits for it (at most one a second) or a second agreeing reply
is needed, and never during a ban.
"""

from __future__ import annotations

import logging
import secrets

from ..core.model import Snapshot
from ..core.record import write_beforehand
from ..errors import ExchangeBanned, ExchangeUnavailable
from ..exchange import Exchange, PositionsReply
from ..store.connect import ServerClock
from ..store.positions import CHUNK, PositionStore
from .accounts import Sifted, failed_record, good_record, sift, snapshots_of, still_held
from .clocks import ClockWatch
from .hooks import Hooks
from .incidents import Incidents
from .memory import NO_LINE, Memory, Poll
from .opening import APART_MS

log = logging.getLogger("p33.poller")

REFRESH_APART_MS = 1000
SETTLING_WAIT_S = 0.1
_MOST_SAID = 10


class Poller:
    """Owns the exchange's account. `step()` waits until a poll is due, at most `wait_s`, and does it."""

    def __init__(self, exchange: Exchange, store: PositionStore, memory: Memory, clock: ServerClock, hooks: Hooks,
                 incidents: Incidents) -> None:
        self.exchange, self.store, self.memory, self.clock, self.hooks = exchange, store, memory, clock, hooks
        self.incidents, self.clocks = incidents, ClockWatch(store.redis, memory, clock)
        self._epoch = -1
        self._versions: dict[str, int] = {}
        self._unsaved: dict[str, int] = {}
        self._scope_recorded: frozenset[str] | None = None
        self._started_mono_ms: int | None = None
        self._failing = ""
        self._behind: frozenset[str] = frozenset()

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
        self._recall()
        self.clocks.sync()
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
            self._keep(reply)
        self.clocks.compare(self.exchange.server_offset_ms())

    def _recall(self) -> None:
        """At the start, and after the store lost what it held: what must be known and written anew."""
        if self._epoch == self.memory.store_epoch:
            return
        stored = self.store.row_versions()
        self._unsaved = {s: ms for s, ms in self._versions.items() if ms > stored.get(s, 0)}
        self._versions = stored | self._unsaved
        self._scope_recorded, self._epoch = None, self.memory.store_epoch

    def _failed(self, failure: ExchangeUnavailable, requested_ms: int, mono_ns: int) -> None:
        received_ms, detail = self.clock.now_ms(), failure.detail[:300]
        self.memory.last_poll = Poll(failure.kind, requested_ms, received_ms, mono_ns, detail)
        self.hooks.poll(self.memory.scope, ok=False)
        if self._failing != failure.kind:
            log.warning("poll.failed", extra={"fields": {"kind": failure.kind, "detail": failure.detail[:200]}})
        self._failing = failure.kind
        self.store.record_failure(_poll_id(requested_ms), failed_record(
            failure.kind, detail, requested_ms=requested_ms, received_ms=received_ms))

    # -- a good reply -----------------------------------------------------------------------------------------

    def _keep(self, reply: PositionsReply) -> None:
        """As old as the start of the very request that brought it: a refused first try does not count."""
        memory, received_ms = self.memory, self.clock.now_ms()
        sifted = sift(reply.positions, self._versions)
        poll = Poll("ok", reply.requested_ms, received_ms, reply.requested_mono_ns,
                    offset_ms=self.exchange.server_offset_ms(),
                    positions={symbol: position.amt for symbol, position in sifted.current.items()})
        self._say_behind(sifted.behind)
        memory.held = still_held(memory.held, sifted.current)
        left, memory.scope = memory.scope, self._scope(frozenset(poll.positions))
        symbols = [*sorted(memory.scope), *sorted(left - memory.scope)]
        snapshots = snapshots_of(sifted.current, symbols, requested_ms=poll.requested_ms)
        self._write(snapshots, sifted, reply, poll)
        memory.last_good_poll = memory.last_poll = poll
        self.hooks.poll(memory.scope, ok=True)
        if self._failing:
            log.info("poll.recovered", extra={"fields": {"after": self._failing}})
        self._failing = ""
        self.incidents.compare()

    def _scope(self, known: frozenset[str]) -> frozenset[str]:
        """The list (`*`: all that is known), what has a position on the exchange, and what has one in the book."""
        memory = self.memory
        listed = known if memory.allowlist is None else memory.allowlist
        booked = {s for s, kept in memory.books.items() if kept.line.book and kept.line.book.amt != 0}
        return listed | memory.held | booked

    def _write(self, snapshots: list[Snapshot], sifted: Sifted, reply: PositionsReply, poll: Poll) -> None:
        """Chunk by chunk, each in memory as soon as it is in the store, so that no verdict waits for all.

        The last chunk carries the record and the versions: one that fails is told, and written, again next time.
        """
        scope = self.memory.scope
        record = good_record(reply, sifted, received_ms=poll.received_ms,
                             scope=scope, tell_scope=scope != self._scope_recorded)
        self._versions |= sifted.versions
        self._unsaved |= sifted.versions
        poll_id, now_ms = _poll_id(poll.requested_ms), self.clock.now_ms()
        for start in range(0, max(len(snapshots), 1), CHUNK):
            chunk = snapshots[start:start + CHUNK]
            last = start + CHUNK >= len(snapshots)
            newer = self.store.write(chunk, versions=self._unsaved if last else {}, poll_id=poll_id if last else "",
                                     record=record if last else b"", now_ms=now_ms)
            for snapshot in chunk:
                if snapshot.symbol not in newer:
                    self._remember(snapshot, poll.requested_mono_ns)
        self._unsaved, self._scope_recorded = {}, scope

    def _remember(self, snapshot: Snapshot, mono_ns: int) -> None:
        """In memory, and where there is a position, which plans are about, as it will stand in their records."""
        memory, symbol = self.memory, snapshot.symbol
        memory.keep_snapshot(snapshot, mono_ns)
        if symbol in memory.held:
            book = memory.books.get(symbol, NO_LINE).line.book
            write_beforehand(snapshot, book, (memory.filters or {}).get(symbol), memory.policy)

    def _say_behind(self, behind: tuple[str, ...]) -> None:
        """Rows older than those seen: said once, and once more when the exchange has caught up."""
        now = frozenset(behind)
        if fresh := sorted(now - self._behind):
            log.warning("rows.older", extra={"fields": {"count": len(fresh), "symbols": fresh[:_MOST_SAID]}})
        elif self._behind and not now:
            log.info("rows.caught_up", extra={"fields": {}})
        self._behind = now


def _poll_id(requested_ms: int) -> str:
    return f"{requested_ms}-{secrets.token_hex(4)}"
