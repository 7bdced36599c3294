"""Facts for the tests of the rules: one story that is allowed, and ways to bend it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import Book, Context, Decision, Facts, Filters, Policy, Snapshot
from p33_sidecar.core.permit import Stamp
from p33_sidecar.core.plan import plan_of
from p33_sidecar.core.record import Origin

NOW_MS = 1_769_301_010_000
KEY = b"k" * 32
POLICY = Policy()
STAMP = Stamp("demo-fapi.binance.com", NOW_MS, NOW_MS + 60_000, "n0nce")
ORIGIN = Origin(f"{NOW_MS - 900}-0", NOW_MS - 900, NOW_MS - 1, "host-a", "0.1.0")


def facts(*, amt: Any = "0.038", ledger: Any = ..., step: str = "0.001", min_qty: str | None = None,
          max_qty: str = "120", snapshot_age_ms: int = 3_200, plan: dict[str, str] | None = None,
          symbol: str = "BTCUSDT", last_order_ms: int = 0, **context: Any) -> Facts:
    """An allowed PARTIAL_75 of 0.038 BTC, changed as asked. `ledger` follows `amt` unless given; None: unknown."""
    fields = {"plan_id": "f1a8d7f48713d5cf", "symbol": symbol, "action": "PARTIAL_75", "decision": "EXECUTE",
              "timestamp": str((NOW_MS - 2_000) // 1000), "close_qty": "0.0"} | (plan or {})
    book_amt = amt if ledger is ... else ledger
    return Facts(
        now_ms=NOW_MS,
        plan=plan_of(fields, entry_ms=ORIGIN.published_ms),
        snapshot=None if amt is None else Snapshot(
            symbol=symbol, amt=Decimal(amt), ts_ms=NOW_MS - snapshot_age_ms),
        book=None if book_amt is None else Book(
            symbol=symbol, amt=Decimal(book_amt), rev=7, last_order_ms=last_order_ms),
        filters=Filters(symbol, "TRADING", Decimal(step), Decimal(min_qty or step), Decimal(max_qty)),
        context=Context(**{"snapshot_age_ms": None if amt is None else snapshot_age_ms} | context),
    )


def bent(base: Facts, **parts: dict[str, Any]) -> Facts:
    """`base` with fields of its parts replaced: `bent(f, context={"halted": True})`."""
    return replace(base, **{name: replace(getattr(base, name), **changes) for name, changes in parts.items()})


def verdict(given: Facts, policy: Policy = POLICY) -> str:
    """`ALLOW 0.028 SELL` or `DENY reason`."""
    decision = decide(given, policy)
    if decision.allow:
        return f"ALLOW {decision.safe_close_qty:f} {decision.close_side}"
    return f"DENY {decision.reason}"


def finding(decision: Decision, name: str):
    """The named check's finding."""
    return next(f for f in decision.findings if f.name == name)
