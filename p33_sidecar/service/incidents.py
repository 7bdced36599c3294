"""Mismatches as incidents: one opening, one closing, an age in between; never a line a second (I44, I46).

Counted only with nothing in flight and two snapshots agreeing, so that an order whose result is a moment late is
no incident. An incident survives a restart, and closes when the accounts agree in two polls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..core.agreement import disagreement
from ..core.model import Phase
from ..core.quantity import text
from ..store.connect import ServerClock
from ..store.positions import PositionStore
from ..store.state import BookLine, State, phase_of
from ..store.switches import event_json
from .hooks import Hooks
from .memory import NO_LINE, Memory

log = logging.getLogger("p33.incidents")

Seen = tuple[str | None, str, int]
"""(how they disagree or None, exchange amount, book version) of one comparison."""


class Incidents:
    """Compares the accounts after each good poll. `read_state` asks the store for a symbol's state."""

    def __init__(self, store: PositionStore, memory: Memory, clock: ServerClock, hooks: Hooks, *,
                 read_state: Callable[[str], State]) -> None:
        self.store, self.memory, self.clock, self.hooks = store, memory, clock, hooks
        self.read_state = read_state
        self._before: dict[str, Seen] = {}
        self._epoch = -1

    def compare(self) -> None:
        """Compare every book with the last good reply; once all of them were, the sidecar may become ready."""
        memory = self.memory
        if not memory.books_read:
            return
        if self._epoch != memory.store_epoch:
            memory.mismatches, self._epoch = self.store.mismatches(), memory.store_epoch
        now: dict[str, Seen] = {}
        for symbol, kept in list(memory.books.items()):
            seen = self._comparison(symbol, kept.line)
            if seen is not None:
                now[symbol] = seen
                self._judge(symbol, seen, self._before.get(symbol))
        self._before = now
        memory.compared = memory.compared or (memory.openings_considered and not memory.opening_pending)

    def _comparison(self, symbol: str, line: BookLine) -> Seen | None:
        """Of what the reply says, not of its snapshots: a symbol that has become flat everywhere has none any more."""
        amt = self.memory.positions.get(symbol)
        if amt is None or line.book is None:
            return None
        how = disagreement(amt, line.book.amt, tolerance_pct=self.memory.policy.qty_tolerance_pct)
        return how, text(amt), line.ver

    def _judge(self, symbol: str, seen: Seen, before: Seen | None) -> None:
        how, is_open = seen[0], symbol in self.memory.mismatches
        if seen != before:
            return
        if how and not is_open and self._nothing_in_flight(symbol):
            self._open(symbol, how, seen[1])
        if not how and is_open:
            self._close(symbol)

    def _nothing_in_flight(self, symbol: str) -> bool:
        memory, now_ms = self.memory, self.clock.now_ms()
        kept = memory.books.get(symbol, NO_LINE)
        line, state = kept.line, self.read_state(symbol)
        age_ms = now_ms - line.book.last_order_ms
        amt = memory.positions[symbol]
        phase, _, _ = phase_of(state, policy=memory.policy, now_ms=now_ms, amt=amt, rev=line.book.rev)
        settled = not line.unsettled and state.unbooked == "0" and state.book == kept.text
        return settled and phase == Phase.FREE and not 0 <= age_ms < memory.policy.cooldown_ms

    def _open(self, symbol: str, how: str, amt: str) -> None:
        now_ms, book = self.clock.now_ms(), self.memory.books[symbol].line.book
        incident = {"kind": how, "opened_ms": now_ms, "exchange": amt, "ledger": text(book.amt)}
        event = event_json("mismatch", at_ms=now_ms, by=self.memory.instance, state="opened", symbol=symbol,
                           **{k: v for k, v in incident.items() if k != "kind"}, what=how)
        self.store.open_mismatch(symbol, incident, event)
        self.memory.mismatches = self.memory.mismatches | {symbol: incident}
        self.hooks.mismatch_opened(symbol)
        log.error("mismatch.opened", extra={"fields": {"symbol": symbol} | incident})

    def _close(self, symbol: str) -> None:
        incident, now_ms = self.memory.mismatches[symbol], self.clock.now_ms()
        duration_ms = now_ms - int(incident.get("opened_ms", now_ms))
        self.store.close_mismatch(symbol, event_json(
            "mismatch", at_ms=now_ms, by=self.memory.instance, state="closed", symbol=symbol, duration_ms=duration_ms))
        self.memory.mismatches = {s: i for s, i in self.memory.mismatches.items() if s != symbol}
        log.info("mismatch.closed", extra={"fields": {"symbol": symbol, "duration_ms": duration_ms}})
