"""The budgets: request weight per address and clock minute, orders per account, and the bans that follow.

No reply may be decided here beyond 429 and 418. Facts: the weight counter runs over the clock minute and is told in
`x-mbx-used-weight-1m`; who goes on after a 429 is banned (418) for 2 minutes up to 3 days.
"""

from __future__ import annotations

import msgspec

from p33_sidecar.rehearsal.exchange.errors import BANNED, ApiError, refusal

MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000
LONGEST_BAN_MS = 3 * 24 * 3600 * 1000


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The budgets of one exchange. Defaults are the main exchange's; the demo host allows a weight of 6000."""

    weight_per_minute: int = 2400
    orders_per_10s: int = 300
    orders_per_minute: int = 1200
    warnings_before_ban: int = 5
    ban_ms: int = 120_000


class Counter:
    """Counts within the current window of a fixed length; starts at zero in each new one."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._window = 0
        self._used = 0

    def add(self, amount: int, *, now_ms: int) -> int:
        window = now_ms // self._window_ms
        if window != self._window:
            self._window, self._used = window, 0
        self._used += amount
        return self._used


class Address:
    """What the exchange remembers about one IP address."""

    def __init__(self) -> None:
        self.weight = Counter(MINUTE_MS)
        self.warnings = Counter(MINUTE_MS)
        self.banned_until_ms = 0
        self.bans = 0


class Ledger:
    """Charges requests and orders; raises ApiError 429/418 when a budget is overdrawn."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._addresses: dict[str, Address] = {}
        self._orders_10s = Counter(TEN_SECONDS_MS)
        self._orders_1m = Counter(MINUTE_MS)

    def address(self, ip: str) -> Address:
        return self._addresses.setdefault(ip, Address())

    def charge(self, ip: str, weight: int, *, now_ms: int) -> int:
        """Charge one request; returns the weight used in this minute."""
        address = self.address(ip)
        if now_ms < address.banned_until_ms:
            raise self._banned(address, now_ms)
        used = address.weight.add(weight, now_ms=now_ms)
        if used <= self.limits.weight_per_minute:
            return used
        if address.warnings.add(1, now_ms=now_ms) > self.limits.warnings_before_ban:
            self.ban(ip, now_ms=now_ms)
            raise self._banned(address, now_ms)
        retry_sec = -(-(MINUTE_MS - now_ms % MINUTE_MS) // 1000)
        raise refusal(
            -1003, self.limits.weight_per_minute, status=429,
            headers={"Retry-After": str(retry_sec), "x-mbx-used-weight-1m": str(used)},
        )  # fmt: skip

    def charge_order(self, *, now_ms: int) -> dict[str, str]:
        """Charge one order to the account; returns the counter headers."""
        in_10s = self._orders_10s.add(1, now_ms=now_ms)
        in_1m = self._orders_1m.add(1, now_ms=now_ms)
        if in_10s > self.limits.orders_per_10s:
            raise refusal(-1015, self.limits.orders_per_10s, "TEN_SECONDS", status=429)
        if in_1m > self.limits.orders_per_minute:
            raise refusal(-1015, self.limits.orders_per_minute, "MINUTE", status=429)
        return {"x-mbx-order-count-10s": str(in_10s), "x-mbx-order-count-1m": str(in_1m)}

    def ban(self, ip: str, *, now_ms: int, ban_ms: int | None = None) -> int:
        """Ban an address, each time twice as long as before; returns the end of the ban."""
        address = self.address(ip)
        length_ms = ban_ms if ban_ms is not None else min(self.limits.ban_ms << address.bans, LONGEST_BAN_MS)
        address.bans += 1
        address.banned_until_ms = now_ms + length_ms
        return address.banned_until_ms

    def forgive(self) -> None:
        """Lift every ban and forget all warnings and weights."""
        self._addresses.clear()

    def bans(self) -> dict[str, int]:
        """The end of the ban of every address that has one, past ones too."""
        return {ip: a.banned_until_ms for ip, a in self._addresses.items() if a.banned_until_ms}

    @staticmethod
    def _banned(address: Address, now_ms: int) -> ApiError:
        retry_sec = -(-(address.banned_until_ms - now_ms) // 1000)
        return ApiError(-1003, BANNED % address.banned_until_ms, status=418, headers={"Retry-After": str(retry_sec)})
