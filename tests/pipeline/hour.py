"""One hour of streams in which everything is well, to be bent in one place at a time."""

from __future__ import annotations

import json
from decimal import Decimal

import pyarrow as pa

from p33_pipeline.archive.rows import table_of
from p33_pipeline.archive.trades import Reach
from p33_pipeline.audit.accounts import accounts_of
from p33_pipeline.audit.audit import findings_of
from p33_pipeline.audit.breaks import breaks_of
from p33_pipeline.audit.findings import Audit
from p33_pipeline.audit.moments import moments
from p33_pipeline.audit.scope import scope_of
from p33_pipeline.history import TABLES
from p33_sidecar.core.checks import decide
from p33_sidecar.core.record import record_bytes
from tests.core.made import NOW_MS, ORIGIN, POLICY, STAMP, facts

BEGIN_MS = NOW_MS // 3_600_000 * 3_600_000
END_MS = BEGIN_MS + 3_600_000
ORDER_MS = NOW_MS + 1_500
"""When the planned order fills; its result stands in the stream 500 ms later."""


class Hour:
    """0.038 BTC held; at NOW_MS a plan, its ALLOW of 0.028, taken, filled, told, booked. `entries` may be bent."""

    def __init__(self) -> None:
        given = facts()
        record = record_bytes(decide(given, POLICY), given, POLICY, stamp=STAMP, origin=ORIGIN).decode()
        plan_id = given.plan.plan_id
        self.sold: list[tuple[int, str]] = [(ORDER_MS, "-0.028")]
        self.entries: dict[str, list[tuple[str, dict[str, str]]]] = {
            "plans": [(ORIGIN.stream_id, given.plan.fields)],
            "decisions": [(f"{NOW_MS + 1}-0", {"plan_id": plan_id, "symbol": "BTCUSDT", "outcome": "ALLOW",
                                               "json": record})],
            "taken": [(f"{NOW_MS + 900}-0", as_entry(plan_id=plan_id, symbol="BTCUSDT", nonce=STAMP.nonce, by="apply",
                                                  at_ms=NOW_MS + 900, gate="both", safe_close_qty="0.028"))],
            "results": [(f"{ORDER_MS + 500}-0", self.result(plan_id, "8389765", "0.028"))],
            "ledger": [(f"{BEGIN_MS + 600}-0", self.booking("opening", BEGIN_MS + 600, "0.038", "0.038", rev=1)),
                       (f"{ORDER_MS + 510}-0", self.booking("fill", ORDER_MS + 510, "-0.028", "0.010", rev=2,
                                                            plan_id=plan_id, order_id="8389765",
                                                            result_id=f"{ORDER_MS + 500}-0"))],
            "events": [], "rejected": [], "gaps": [],
        }
        self.trades = [self.trade(1, ORDER_MS, "SELL", "0.028", "8389765", f"p33-{plan_id}")]
        self.lost_polls = range(0)
        self.plan_id = plan_id

    @staticmethod
    def booking(cause: str, at_ms: int, delta: str, after: str, **more) -> dict[str, str]:
        before = str(Decimal(after) - Decimal(delta))
        return as_entry(symbol="BTCUSDT", cause=cause, at_ms=at_ms, delta=delta, amt_before=before, amt_after=after,
                     **more)

    @staticmethod
    def result(plan_id: str, order_id: str, qty: str, side: str = "SELL") -> dict[str, str]:
        step = {"step": "CLOSE_PARTIAL_75", "status": "FILLED", "order_id": order_id, "side": side, "executed_qty": qty,
                "reduce_only": True}
        return {"plan_id": plan_id, "symbol": "BTCUSDT", "decision": "EXECUTE", "executed": "True",
                "would_execute": "False", "steps_results": json.dumps([step]), "error": "",
                "timestamp": str(NOW_MS // 1000)}

    @staticmethod
    def trade(number: int, at_ms: int, side: str, qty: str, order_id: str, client_id: str) -> dict:
        return {"id": f"{at_ms}-{number}", "at": at_ms, "seq": number, "symbol": "BTCUSDT", "trade_id": number,
                "order_id": order_id, "client_order_id": client_id, "side": side, "price": Decimal("98250.4"),
                "qty": Decimal(qty), "traded_at": at_ms}

    def polls(self) -> list[tuple[str, dict[str, str]]]:
        """A poll every 5 s, telling what the exchange held then."""
        return [(f"{at_ms + 90}-0", self.poll(at_ms)) for at_ms in range(BEGIN_MS, END_MS, 5_000)
                if at_ms not in self.lost_polls]

    def poll(self, at_ms: int) -> dict[str, str]:
        held = Decimal("0.038") + sum((Decimal(moved) for when, moved in self.sold if when <= at_ms), Decimal(0))
        position = {"symbol": "BTCUSDT", "position_amt": f"{held:f}", "side": "LONG", "entry_price": "98000.1",
                    "mark_price": "98250.4", "update_time_ms": BEGIN_MS - 1}
        return as_entry(poll_id=f"{at_ms}", requested_ms=at_ms, received_ms=at_ms + 80, outcome="ok",
                     positions=[position] if held else [])

    def audit(self) -> Audit:
        tables = {name: table_of(TABLES[name], entries) for name, entries in self.entries.items() if entries}
        tables |= {"snapshots": table_of(TABLES["snapshots"], self.polls()),
                   "trades": pa.Table.from_pylist(self.trades, schema=TABLES["trades"].schema)}
        scope = scope_of(tables, from_ms=BEGIN_MS, to_ms=END_MS, begin_ms=BEGIN_MS, until_ms=END_MS,
                         reach={"BTCUSDT": Reach(BEGIN_MS, END_MS, 9)}, policy=POLICY)
        accounts = accounts_of(scope)
        return findings_of(scope, breaks_of(scope, accounts, moments(scope, accounts, since_ms=BEGIN_MS)))


def as_entry(**body) -> dict[str, str]:
    named = {name: str(body[name]) for name in ("plan_id", "symbol", "poll_id") if name in body}
    return named | {"json": json.dumps({"v": 1} | body)}
