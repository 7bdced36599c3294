"""The values the rules work on. Frozen, exact, and honest about what is not known: None is never zero.

Text from outside does not come this far: it is decoded at the edge into one of these, or refused there.
Times are Unix milliseconds by the server's clock; ages are milliseconds and already the larger of the
clock's and the monotonic difference (contract, introduction).
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, where calendars end: what lies beyond is no time that anybody can be told."""
HEDGE = "HEDGE"


class Value(msgspec.Struct, frozen=True, gc=False, cache_hash=True, forbid_unknown_fields=False):
    """Base of all values."""


class Policy(Value):
    """All thresholds of a verdict. Changing one changes `policy_hash` in every record."""

    stale_threshold_ms: int = 10_000
    cooldown_ms: int = 15_000
    qty_tolerance_pct: Decimal = Decimal("1")
    permit_ttl_ms: int = 60_000
    plan_max_age_ms: int = 60_000
    poll_ms: int = 5_000
    skew_ms: int = 1_000

    @property
    def loosened(self) -> bool:
        """Whether the stale threshold exceeds max(3 polls, 10 s) or 30 s (incident I24)."""
        return self.stale_threshold_ms > min(max(3 * self.poll_ms, 10_000), 30_000)


class Snapshot(Value):
    """What the exchange said, under the names of its hash.

    `amt` is None in hedge mode; `ts_ms` is the start of the request that brought it.
    """

    symbol: str
    amt: Decimal | None = msgspec.field(name="position_amt")
    ts_ms: int
    side: str = "NONE"
    entry_price: str = "0"
    mark_price: str = "0"
    leverage: str = ""
    unrealized_pnl: str = "0"
    update_time_ms: int = 0
    source: str = ""


class Book(Value):
    """What our own executed orders add up to: the durable account behind the ledger's hash."""

    symbol: str
    amt: Decimal = msgspec.field(name="last_known_amt")
    rev: int
    source: str = "opening"
    last_order_id: str = ""
    last_order_ms: int = msgspec.field(default=0, name="last_order_time_ms")
    updated_epoch: int = msgspec.field(default=0, name="last_update_ts")
    opened_ms: int = 0


class Filters(Value):
    """The lot rules of a symbol: of LOT_SIZE and MARKET_LOT_SIZE the larger step and minimum, the smaller maximum."""

    symbol: str
    status: str
    step: Decimal
    min_qty: Decimal
    max_qty: Decimal


class Plan(Value):
    """A plan as understood. `fields` is the message as received; unreadable parts are named in `unreadable`."""

    plan_id: str
    symbol: str
    action: str
    entry_ms: int
    fields: dict[str, str]
    side: str = ""
    close_qty: Decimal = Decimal(0)
    step_fraction: Decimal | None = None
    timestamp_ms: int | None = None
    bad_timestamp: bool = False
    unreadable: str = ""


class Phase(StrEnum):
    """Where a symbol stands between two ALLOWs (contract, chapter 2)."""

    FREE = "free"
    OPEN = "open"
    TAKEN = "taken"


class Context(Value):
    """Everything else a verdict rests on: switches, the symbol's phase, what is still on its way."""

    in_scope: bool = True
    halted: bool = False
    held: bool = False
    venue_ok: bool = True
    store_restarted: bool = False
    configured: bool = True
    filters_read: bool = True
    hedge: bool = False
    tampered: bool = False
    gap: bool = False
    unsettled_orders: int = 0
    unbooked_results: bool = False
    answered: bool = False
    """A result for this plan, younger than its entry, is in the stream."""
    phase: Phase = Phase.FREE
    phase_ends_ms: int = 0
    """When an open or taken permit ends by itself."""
    released_ms: int = 0
    """When a taken permit without a result was let go: only a snapshot requested later counts. 0: never."""
    snapshot_age_ms: int | None = None
    last_order_age_ms: int | None = None


class Facts(Value):
    """One moment, frozen: all that `decide` may look at."""

    now_ms: int
    plan: Plan
    snapshot: Snapshot | None
    book: Book | None
    filters: Filters | None
    context: Context


Scalar = str | int | bool | None


class Finding(Value):
    """One check's outcome: what was seen, what is allowed, and how far apart they are. None: could not be known."""

    name: str
    ok: bool = msgspec.field(name="pass")
    value: Scalar = None
    threshold: Scalar = None
    margin: Scalar = None
    reason: str | None = None


class Decision(Value):
    """The verdict, with every finding that led to it. `retry_after_ms` is None where a retry is pointless."""

    allow: bool
    reason: str | None
    findings: tuple[Finding, ...]
    close_side: str
    requested_qty: Decimal | None
    safe_close_qty: Decimal | None
    retry_after_ms: int | None = None
    failed: Finding | None = None
    """The finding that named the reason; None for an ALLOW, and where there are no findings."""
