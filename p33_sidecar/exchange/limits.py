"""Keeps us welcome at the exchange: bans are obeyed, the used weight is watched.

What may not happen here: a request during a ban, by whichever process earned it (limits count per IP address), or a
ban forgotten because a clock jumped or the store did not answer when it was to be written.

Facts (official docs, "Limits"): 429 asks to back off, going on earns 418, a ban of 2 minutes to 3 days; `Retry-After`
is in seconds and may be missing; the text names the end as epoch milliseconds. REQUEST_WEIGHT is 2400 a minute on the
main exchange, 6000 on demo, counted by the clock minute and sent back as `x-mbx-used-weight-1m`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, Protocol

from p33_sidecar.errors import ExchangeBanned, ExchangeUnavailable, StoreUnavailable

BACKOFF_MS: Final[dict[int, int]] = {403: 60_000, 418: 120_000, 429: 5_000, 451: 300_000}
"""The least time to stay away after a status (-1003 under any other: as after 429); the reply may ask for more."""

LONGEST_BAN_MS: Final = 3 * 24 * 3_600_000
"""Longest ban the exchange gives. A larger number in a reply is garbage, and must not lock us out for ever."""

DEFAULT_WEIGHT_LIMIT: Final = 2_400
_BANNED_UNTIL = re.compile(rb"banned until (\d{13})(?!\d)")
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


class BanStore(Protocol):
    """Where the end of a ban outlives this process; shared by all processes of the address."""

    def ban_until_ms(self) -> int:
        """Unix ms before which nothing may be sent; 0 for no ban. May raise StoreUnavailable."""

    def set_ban(self, until_ms: int, why: str) -> None:
        """Record a ban; a later one already recorded stands. May raise StoreUnavailable."""


class BanGuard:
    """Answers one question before every request: may anything be sent?

    A ban learnt here holds until both clocks agree that it is over: a wall clock that jumps ahead does not end it.
    """

    def __init__(self, store: BanStore, *, now_ms: Callable[[], int], mono_ns: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._mono_ns = mono_ns
        self._until_ms = 0
        self._until_mono_ns = 0
        self._unsaved: tuple[int, str] | None = None

    def check(self) -> None:
        """Raises ExchangeBanned during a ban, ExchangeUnavailable(`ban_unknown`) where the store cannot say."""
        try:
            self._save()
            stored_ms = self._store.ban_until_ms()
        except StoreUnavailable:
            stored_ms = None
        until_ms = max(self._until_ms, stored_ms or 0)
        if self._now_ms() < until_ms or self._mono_ns() < self._until_mono_ns:
            raise ExchangeBanned(until_ms)
        if stored_ms is None:
            raise ExchangeUnavailable("ban_unknown", "the store does not say whether a ban is in force")

    def impose(self, until_ms: int, *, why: str) -> None:
        """Obey a ban from now on. A store that does not answer is told before the next request."""
        until_ms = max(until_ms, self._until_ms)
        self._until_ms = until_ms
        self._until_mono_ns = self._mono_ns() + (until_ms - self._now_ms()) * 1_000_000
        self._unsaved = (until_ms, why)
        try:
            self._save()
        except StoreUnavailable:
            return

    def _save(self) -> None:
        if self._unsaved is not None:
            self._store.set_ban(*self._unsaved)
            self._unsaved = None


def ban_until_ms(status: int, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> int:
    """The end of the ban that an answer asks for: the latest of default, `Retry-After` and text."""
    asked = [now_ms + BACKOFF_MS.get(status, BACKOFF_MS[429])]
    retry_after = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(retry_after):
        asked.append(now_ms + int(retry_after) * 1_000)
    if named := _BANNED_UNTIL.search(body):
        asked.append(int(named.group(1)))
    return min(max(asked), now_ms + LONGEST_BAN_MS)


class Priority(Enum):
    """How much of the minute's weight may be used up before a request of this kind stays at home."""

    ESSENTIAL = None
    """Positions and closes: sent whatever the count says; 429 is the exchange's own brake."""
    LOOKUP = 90
    LOW = 70


class WeightGauge:
    """The weight our address has used in the running minute, as the exchange counts it."""

    def __init__(self, *, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._minute = 0
        self._used = 0
        self.limit = DEFAULT_WEIGHT_LIMIT

    @property
    def used(self) -> int:
        """Weight used in the running clock minute; 0 where no reply of this minute has said."""
        return self._used if self._minute == self._now_ms() // 60_000 else 0

    def note(self, header: str | None) -> int | None:
        """Take the count from a reply's header; None where there is none that can be read."""
        if header is None or not _SECONDS.fullmatch(header.strip()):
            return None
        self._minute, self._used = self._now_ms() // 60_000, int(header)
        return self._used

    def check(self, priority: Priority) -> None:
        """Raises ExchangeUnavailable(`weight_margin`) where the rest of the minute belongs to more urgent requests."""
        if priority.value is not None and self.used * 100 >= self.limit * priority.value:
            raise ExchangeUnavailable("weight_margin", f"{self.used} of {self.limit} used this minute")
