"""What an audit finds, as values. Names of classes and findings are the contract's (chapter 8)."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Final

import msgspec

CLASSES: Final = ("timing", "quantity", "side", "missing_ledger", "ghost_ledger", "external_trade", "venue_initiated",
                  "unbooked_fill", "stale_source")
FLOW: Final = ("plan_without_verdict", "verdict_without_plan", "bypass", "over_execution", "late_execution",
               "permit_reuse", "result_without_trade", "trade_without_result", "irreproducible_verdict")
SOURCES: Final = ("snapshot_gap", "clock_skew", "rejected_message", "archive_gap", "ledger_tampered", "forged_permit")
ERRORS: Final = frozenset({"bypass", "over_execution", "irreproducible_verdict"})
"""Findings that are errors whatever they amount to; the rest weighs by its notional."""
AGES_MS: Final = (15_000, 60_000, 300_000, 3_600_000, 21_600_000, 86_400_000)
"""Upper ends of the age buckets; the last bucket is what is older than a day."""


class Evidence(msgspec.Struct, frozen=True):
    """The ids that a break rests on."""

    trade_ids: tuple[str, ...] = ()
    order_ids: tuple[str, ...] = ()
    plan_ids: tuple[str, ...] = ()
    decision_ids: tuple[str, ...] = ()


class Break(msgspec.Struct, frozen=True):
    """An interval in which the three accounts of a position did not agree.

    `opened_ms` is the first poll that saw it, `closed_ms` the first of the two polls that agreed again, None while
    they have not. `last_seen_ms` is the last poll that saw it, `confirmed_ms` the second that agreed: from then on its
    end is known. The amounts are those at the largest difference.
    """

    break_id: str
    kind: str
    symbol: str
    opened_ms: int
    closed_ms: int | None
    last_seen_ms: int
    max_difference: Decimal
    notional: Decimal
    exchange_amt: Decimal
    ledger_amt: Decimal | None
    redis_amt: Decimal | None
    evidence: Evidence
    confirmed_ms: int | None = None

    def age_ms(self, now_ms: int) -> int:
        return (self.closed_ms if self.closed_ms is not None else now_ms) - self.opened_ms


class FlowFinding(msgspec.Struct, frozen=True):
    """One deed that left the path plan, verdict, permit, result, trade."""

    finding: str
    symbol: str
    plan_id: str | None
    order_id: str | None
    at_ms: int
    detail: str


class SourceFinding(msgspec.Struct, frozen=True):
    """Something that the audit's own sources were not told, or were told wrong."""

    finding: str
    at_ms: int
    detail: str


class Audit(msgspec.Struct, frozen=True):
    """All that was found in a range. `until_ms` is how far the archive goes; later is not judged. `whole`: the archive
    went so far beyond the range that nothing of it was left for later."""

    from_ms: int
    to_ms: int
    until_ms: int
    breaks: tuple[Break, ...]
    flow: tuple[FlowFinding, ...]
    sources: tuple[SourceFinding, ...]
    counts: dict[str, int]
    whole: bool = True

    @property
    def clean(self) -> bool:
        return not (self.breaks or self.flow or self.sources)

    @property
    def judged(self) -> bool:
        """Whether there was anything to judge. A range without a poll is one that the archive does not reach into, or
        one from before its first; where polls are missing that is a finding."""
        return self.until_ms > self.from_ms and bool(not self.clean or self.counts.get("polls"))


def break_id(symbol: str, opened_ms: int) -> str:
    """The same break has the same id in every audit that sees it: where and when it was seen first."""
    return hashlib.sha256(f"{symbol} {opened_ms}".encode()).hexdigest()[:16]


def age_bucket(age_ms: int) -> int:
    """Index into AGES_MS, or its length for older ones."""
    return next((i for i, end in enumerate(AGES_MS) if age_ms <= end), len(AGES_MS))
