"""Whether the account is in hedge mode: asked at the start, hourly, and when the rows of a poll say otherwise.

The rows are proof enough to deny (a symbol with legs has no single amount); the account's own word covers the symbols
whose rows do not show it. An account that does not say leaves it to the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal

from ..errors import ExchangeUnavailable
from ..exchange import Exchange
from ..store.connect import ServerClock
from .memory import Memory

log = logging.getLogger("p33.account")

EVERY_MS = 3_600_000
RETRY_MS = 60_000


class AccountMode:
    """For the clerk's thread: `step()` asks when it is due."""

    def __init__(self, exchange: Exchange, memory: Memory, clock: ServerClock) -> None:
        self._exchange, self._memory, self._clock = exchange, memory, clock
        self._asked_mono_ms: int | None = None
        self._known = False
        self._rows: Mapping[str, Decimal | None] = {}
        self._legs = False
        """Whether the rows last looked at have legs: they are replaced whole by each good reply."""

    def step(self) -> None:
        """Ask, at most once a minute, unless the answer is known and nothing contradicts it."""
        if not self._exchange.configured or not self._due(self._clock.mono_ns() // 1_000_000):
            return
        self._asked_mono_ms = self._clock.mono_ns() // 1_000_000
        try:
            hedge = not self._exchange.one_way_mode()
        except ExchangeUnavailable as failure:
            self._known = False
            log.info("mode.unknown", extra={"fields": {"kind": failure.kind}})
            return
        if hedge != self._memory.hedge_account:
            log.warning("mode.changed", extra={"fields": {"hedge": hedge}})
        self._memory.hedge_account, self._known = hedge, True

    def _due(self, mono_ms: int) -> bool:
        if self._asked_mono_ms is None:
            return True
        settled = self._known and not self._contradicted()
        return mono_ms - self._asked_mono_ms >= (EVERY_MS if settled else RETRY_MS)

    def _contradicted(self) -> bool:
        """The rows of the last good reply show the other mode."""
        if self._rows is not self._memory.positions:
            self._rows = self._memory.positions
            self._legs = any(amt is None for amt in self._rows.values())
        return bool(self._rows) and self._legs != self._memory.hedge_account
