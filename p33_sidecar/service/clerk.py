"""The clerk: everything that may be slow and must not stand in anybody's way.

Symbol filters (hourly, and when a plan names a symbol that is not in them), orders whose fate is open, the
switches for the page, a log line for each verdict, old records and old orders. A failure here is tried again at the
next turn; verdicts go on meanwhile. What was last done in the future, by a clock that was wrong, is due (T13).
"""

from __future__ import annotations

import logging

from ..errors import ExchangeUnavailable
from ..exchange import Exchange
from ..store import canary, keys, progress, switch_journal, switches
from ..store.books import BookStore, Wrecked
from ..store.connect import ServerClock, is_durable, may_evict
from ..store.positions import PositionStore
from .fates import Fates
from .hooks import Hooks
from .memory import Memory

log = logging.getLogger("p33.clerk")

FILTERS_EVERY_MS = 3_600_000
FILTERS_RETRY_MS = 5_000
UNKNOWN_SYMBOL_APART_MS = 60_000
KEEP_RECORDS_MS = 14 * 86_400_000
TRIM_EVERY_MS = 600_000
HALTS_EVERY_MS = 2_000
DURABLE_EVERY_MS = 60_000
KEEP_ORDERS_MS = 14 * 86_400_000
FORGET_EVERY_MS = 3_600_000
CLOCKS_APART_MS = 3_600_000
"""Orders are forgotten this much behind the horizon: a producer's clock may run ahead of the entry it wrote."""


class Clerk:
    """`step()` does what is due and returns; the lifecycle waits in between."""

    def __init__(self, exchange: Exchange, positions: PositionStore, books: BookStore, memory: Memory,
                 clock: ServerClock, hooks: Hooks) -> None:
        self.exchange, self.positions, self.books = exchange, positions, books
        self.memory, self.clock, self.hooks = memory, clock, hooks
        self._filters_tried_ms = self._trimmed_ms = self._halts_read_ms = 0
        self.fates = Fates(exchange, books, memory, clock, hooks)
        self._durable_checked_ms = 0
        self._forget_ms = 0
        self._to_forget: list[str] = []

    def step(self) -> None:
        """One turn over everything that is due."""
        now_ms = self.clock.now_ms()
        self._halts(now_ms)
        if self.memory.durable is None or not 0 <= now_ms - self._durable_checked_ms < DURABLE_EVERY_MS:
            self.memory.durable, self._durable_checked_ms = is_durable(self.positions.redis), now_ms
            self.memory.evicts = may_evict(self.positions.redis)
        self._filters(now_ms)
        self.fates.step()
        self._tell_verdicts()
        if sure_ms := self.memory.confirmed_ms(now_ms=now_ms, mono_ns=self.clock.mono_ns()):
            self._trim(sure_ms)
            self._forget(sure_ms)

    def _halts(self, now_ms: int) -> None:
        """For the page: the global switch at every turn; those of hundreds of symbols, and what the pipeline and the
        canary noted, now and then."""
        memory, store = self.memory, self.positions.redis
        due = not 0 <= now_ms - self._halts_read_ms < HALTS_EVERY_MS
        if due or memory.halted != ("" in memory.halts):
            before = memory.halts
            memory.halts, self._halts_read_ms = switches.halts_of(store, memory.scope), now_ms
            switch_journal.catch_up(store, memory.halts, at_ms=now_ms, by=memory.instance)
            _say_switched(before, memory.halts)
            memory.progress, memory.canary_ok_ms = progress.read(store), canary.last_ok_ms(store)

    # -- filters ----------------------------------------------------------------------------------------------

    def _filters(self, now_ms: int) -> None:
        memory = self.memory
        if memory.filters is None and (stored := self.positions.filters()):
            memory.filters_read_ms, memory.filters = stored
        if 0 <= now_ms - self._filters_tried_ms < FILTERS_RETRY_MS or not self._filters_due(now_ms):
            return
        self._filters_tried_ms = now_ms
        try:
            reply = self.exchange.filters()
        except ExchangeUnavailable as failure:
            log.warning("filters.failed", extra={"fields": {"kind": failure.kind}})
            return
        self.positions.put_filters(reply.filters, read_ms=now_ms)
        memory.filters, memory.filters_read_ms = reply.filters, now_ms

    def _filters_due(self, now_ms: int) -> bool:
        memory = self.memory
        if memory.filters is None or memory.filters_read_ms > now_ms:
            return True
        age_ms, listed = now_ms - memory.filters_read_ms, memory.filters.keys()
        if age_ms < UNKNOWN_SYMBOL_APART_MS:
            return False
        return age_ms >= FILTERS_EVERY_MS or not (listed >= memory.unknown_symbols and listed >= memory.scope)

    # -- records ----------------------------------------------------------------------------------------------

    def _tell_verdicts(self) -> None:
        """A line for each, so that a plan can be followed by its id to its order; no verdict waits for it."""
        untold = self.memory.untold
        while untold:
            verdict = untold.popleft()
            said = {"reason": verdict.reason} if verdict.reason else {"quantity": verdict.safe_close_qty}
            log.info("verdict.issued", extra={"fields": {
                "plan_id": verdict.plan_id, "symbol": verdict.symbol, "outcome": "ALLOW" if verdict.allow else "DENY",
                "nonce": verdict.nonce, "entry": verdict.entry, **said}})

    def _trim(self, now_ms: int) -> None:
        """Records older than a fortnight go, an approximate cut at a time, so that memory stays bounded."""
        if 0 <= now_ms - self._trimmed_ms < TRIM_EVERY_MS:
            return
        self._trimmed_ms = now_ms
        for stream in keys.RECORD_STREAMS:
            self.positions.redis.xtrim(stream, minid=f"{now_ms - KEEP_RECORDS_MS}-0", approximate=True)

    def _forget(self, now_ms: int) -> None:
        """Orders settled and not told of for a fortnight go, a symbol a turn; what is told of them later is late."""
        if not self._to_forget:
            if 0 <= now_ms - self._forget_ms < FORGET_EVERY_MS:
                return
            self._forget_ms, self._to_forget = now_ms, list(self.memory.books)
        if self._to_forget:
            symbol, horizon_ms = self._to_forget.pop(), now_ms - KEEP_ORDERS_MS
            try:
                self.books.forget(symbol, horizon_ms=horizon_ms, seen_before_ms=horizon_ms - CLOCKS_APART_MS)
            except Wrecked as wrecked:
                log.error("orders.unreadable", extra={"fields": {"symbol": symbol, "key": wrecked.key}})


def _say_switched(before: dict[str, dict], now: dict[str, dict]) -> None:
    """A line for each kill switch that came or went."""
    for symbol in sorted(now.keys() - before.keys()):
        log.warning("halt.began", extra={"fields": {"symbol": symbol or "*", **_in_words(now[symbol])}})
    for symbol in sorted(before.keys() - now.keys()):
        log.warning("halt.ended", extra={"fields": {"symbol": symbol or "*", **_in_words(before[symbol])}})


def _in_words(said: dict) -> dict[str, object]:
    return {name: said[name] for name in ("by", "reason", "since_ms", "until_ms") if said.get(name)}
