"""Clocks that jump or disagree: noticed, journalled once, and never the reason for a younger snapshot.

The server's time is renewed at every poll. Between two of them it goes with our monotonic clock, so that a
difference of more than the tolerated skew means that the server's clock was set. The exchange's clock is known as an
offset once it refused a timestamp (-1021).
"""

from __future__ import annotations

import logging

import redis

from ..store.connect import ServerClock, server_ms
from ..store.switches import add_event, outliving, withdraw, withdraw_all
from .memory import Memory

log = logging.getLogger("p33.clocks")


def end_outliving(client: redis.Redis, memory: Memory, clock: ServerClock) -> None:
    """At the start: what is open for longer than a permit may live was issued before the server's clock was set back
    (or under a longer P33_PERMIT_TTL). Nobody was there to see the jump; such a permit ends now."""
    longest_ms = memory.policy.permit_ttl_ms + memory.policy.skew_ms
    ended = withdraw(client, outliving(client, longest_ms=longest_ms), at_ms=clock.now_ms(), by=memory.instance,
                     why="outlives P33_PERMIT_TTL")
    if ended:
        log.warning("permits.outliving", extra={"fields": {"symbols": ended, "longest_ms": longest_ms}})


class ClockWatch:
    """Renews the server's time, and says what is wrong with a clock. For the poller's thread."""

    def __init__(self, client: redis.Redis, memory: Memory, clock: ServerClock) -> None:
        self._redis, self._memory, self._clock = client, memory, clock
        self._exchange_skewed = False
        self._offset_ms: int | None = None
        """The server's time minus ours when last asked: the clock itself may have been renewed by other loops since."""

    def sync(self) -> None:
        """Take the server's time. The new time holds whatever the old one was; a jump is an event."""
        now_ms, mono_ms = server_ms(self._redis), self._clock.mono_ns() // 1_000_000
        before_ms = self._clock.now_ms() - mono_ms if self._offset_ms is None else self._offset_ms
        self._offset_ms = now_ms - mono_ms
        self._clock.sync(now_ms)
        if abs(self._offset_ms - before_ms) > self._memory.policy.skew_ms:
            self._doubt(self._offset_ms - before_ms)

    def _doubt(self, jump_ms: int) -> None:
        """What was stamped before the jump ends at another time than was meant: a permit may live for hours now, a
        book's last order lie in the future. Open permits end, and books are read again."""
        self._skewed("store", jump_ms)
        self._memory.reread_books.set()
        self._end_open("server clock set")

    def compare(self, offset_ms: int) -> None:
        """The exchange's clock minus ours: an event when it begins to differ by more than the tolerated skew.

        Ours may be the one that was set back while no sidecar ran: what is open then would live too long, and ends.
        """
        skewed = abs(offset_ms) > self._memory.policy.skew_ms
        if skewed and not self._exchange_skewed:
            self._skewed("exchange", offset_ms)
            if offset_ms > 0:
                self._end_open("server clock behind the exchange's")
        self._exchange_skewed = skewed

    def _end_open(self, why: str) -> None:
        withdraw_all(self._redis, at_ms=self._clock.now_ms(), by=self._memory.instance, why=why)

    def _skewed(self, whose: str, by_ms: int) -> None:
        add_event(self._redis, "clock_skew", at_ms=self._clock.now_ms(), by=self._memory.instance, clock=whose,
                  by_ms=by_ms)
        log.warning("clock.skew", extra={"fields": {"clock": whose, "by_ms": by_ms}})
