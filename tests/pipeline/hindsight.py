"""A made history for the review: polls, trades and verdicts whose truth is planted, so that the best policy is known.

One symbol, one position. A verdict is harmful only where half the position was sold by hand just before it and bought
back after; its snapshot, taken before, does not show it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import msgspec
import pyarrow as pa

from p33_pipeline.archive.rows import table_of
from p33_pipeline.history import TABLES
from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import Facts, Policy
from p33_sidecar.core.permit import Stamp
from p33_sidecar.core.plan import plan_of
from p33_sidecar.core.record import Origin, record_bytes
from tests.core.made import facts

BEGIN_MS = 1_769_299_200_000
HELD = Decimal("0.4")
AMOUNT = pa.decimal128(38, 18)
TIME = pa.timestamp("ms", tz="UTC")


class Trade(msgspec.Struct, frozen=True):
    """One fill at the exchange, signed."""

    at_ms: int
    moved: Decimal


class History:
    """Grows by `verdict`; `tables()` is what the archive would hold of it."""

    def __init__(self, *, policy: Policy, hours: int, symbol: str = "BTCUSDT") -> None:
        self.policy, self.symbol, self.end_ms = policy, symbol, BEGIN_MS + hours * 3_600_000
        self.trades: list[Trade] = []
        self.records: list[bytes] = []

    def verdict(self, at_ms: int, *, age_ms: int = 1_000, order_age_ms: int | None = None,
                book: Decimal = HELD, sold_by_hand: bool = False) -> None:
        """A verdict on PARTIAL_75 of the position, as the sidecar would have given and recorded it."""
        if sold_by_hand:
            self.trades += [Trade(at_ms - 50, -HELD / 2), Trade(at_ms + 20_000, HELD / 2)]
        number = len(self.records)
        given = _moved(facts(amt=str(HELD), ledger=str(book), snapshot_age_ms=age_ms, symbol=self.symbol,
                             last_order_age_ms=order_age_ms), at_ms, f"plan{number}")
        stamp = Stamp("demo-fapi.binance.com", at_ms, at_ms + 60_000, f"n{number}")
        origin = Origin(f"{at_ms - 5}-0", at_ms - 5, at_ms - 1, "host-a", "0.1.0")
        self.records.append(record_bytes(decide(given, self.policy), given, self.policy, stamp=stamp, origin=origin))

    def position(self, at_ms: int) -> Decimal:
        """The truth."""
        return HELD + sum((trade.moved for trade in self.trades if trade.at_ms <= at_ms), Decimal(0))

    def tables(self) -> dict[str, pa.Table]:
        decisions = [(f"{BEGIN_MS + n:015}-0", {"json": raw.decode()}) for n, raw in enumerate(self.records)]
        trades = [{"symbol": self.symbol, "side": "BUY" if t.moved > 0 else "SELL", "qty": abs(t.moved),
                   "traded_at": _time(t.at_ms)} for t in self.trades]
        return {
            "decisions": table_of(TABLES["decisions"], decisions),
            "snapshots": self._polls(),
            "trades": pa.Table.from_pylist(trades, schema=pa.schema([
                ("symbol", pa.string()), ("side", pa.string()), ("qty", AMOUNT), ("traded_at", TIME)])),
        }

    def _polls(self) -> pa.Table:
        """Every poll's reply, told by a running sum rather than by `position`, which looks through all trades."""
        moves, held, rows = sorted(self.trades, key=lambda t: t.at_ms), HELD, []
        for at_ms in range(BEGIN_MS, self.end_ms, self.policy.poll_ms):
            while moves and moves[0].at_ms <= at_ms:
                held += moves.pop(0).moved
            position = {"symbol": self.symbol, "position_amt": held}
            rows.append({"requested_at": _time(at_ms), "received_at": _time(at_ms + 80), "outcome": "ok",
                         "positions": [position] if held else [], "unknown_symbols": None})
        return pa.Table.from_pylist(rows, schema=pa.schema([
            ("requested_at", TIME), ("received_at", TIME), ("outcome", pa.string()),
            ("positions", pa.list_(pa.struct([("symbol", pa.string()), ("position_amt", AMOUNT)]))),
            ("unknown_symbols", pa.list_(pa.string()))]))


def planted(seed: int, *, policy: Policy, stale_ms: int, cooldown_ms: int, tolerance_pct: Decimal,
            hours: int = 8, verdicts: int = 480) -> History:
    """A history in which exactly these thresholds part the harmless from the harmful."""
    random, history = Random(seed), History(policy=policy, hours=hours)
    apart_ms = (hours * 3_600_000 - 120_000) // verdicts
    for number in range(verdicts):
        at_ms = BEGIN_MS + 60_000 + number * apart_ms
        kind = number % 3
        if kind == 0:
            age_ms = random.randrange(0, 2 * policy.stale_threshold_ms)
            history.verdict(at_ms, age_ms=age_ms, sold_by_hand=age_ms > stale_ms)
        elif kind == 1:
            order_age_ms = random.randrange(1_001, 2 * policy.cooldown_ms)
            history.verdict(at_ms, order_age_ms=order_age_ms, sold_by_hand=order_age_ms < cooldown_ms)
        else:
            off_pct = Decimal(random.randrange(0, 40_000)) / 10_000
            history.verdict(at_ms, book=HELD * (1 + off_pct / 100), sold_by_hand=off_pct > tolerance_pct)
    return history


def _moved(given: Facts, at_ms: int, plan_id: str) -> Facts:
    """The same facts at another time, of another plan."""
    shift_ms = at_ms - given.now_ms
    fields = given.plan.fields | {"plan_id": plan_id, "timestamp": str(at_ms // 1000)}
    return msgspec.structs.replace(
        given, now_ms=at_ms, plan=plan_of(fields, entry_ms=at_ms - 5),
        snapshot=msgspec.structs.replace(given.snapshot, ts_ms=given.snapshot.ts_ms + shift_ms, mark_price="100000"))


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).replace(microsecond=ms % 1000 * 1000)
