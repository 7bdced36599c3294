"""The tables of the archive: the columns of each, with their types. Nothing is read or written here.

Amounts and prices are DECIMAL(38, 18), times are UTC timestamps of milliseconds. Every row keeps the message as it was
received in `raw`, so that what a column cannot hold is not lost; `problem` says why typed columns are empty.
A change of columns is a new `version`; files of an older one are read with nulls in the columns they lack.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import pyarrow as pa

AMOUNT: Final = pa.decimal128(38, 18)
TIME: Final = pa.timestamp("ms", tz="UTC")
TEXT: Final = pa.string()
WHOLE: Final = pa.int64()
FLAG: Final = pa.bool_()

ONCE: Final = frozenset({"decision_id", "stream_id", "plan_id", "result_id", "poll_id", "entry_id", "order_id", "nonce",
                         "plan_timestamp"})
"""Names of things, of which each row has its own."""

_POSITION: Final = pa.struct([
    ("symbol", TEXT), ("position_amt", AMOUNT), ("side", TEXT), ("entry_price", AMOUNT), ("mark_price", AMOUNT),
    ("update_time", TIME)])
_ORDER: Final = pa.struct([
    ("key", TEXT), ("order_id", TEXT), ("side", TEXT), ("executed_qty", AMOUNT), ("settled", FLAG),
    ("reduce_only", FLAG)])


class Table(msgspec.Struct, frozen=True):
    """One dataset of the archive. `columns` stand between the entry's id and time, and what was received."""

    name: str
    columns: tuple[tuple[str, pa.DataType], ...]
    version: int = 1

    @property
    def readable(self) -> tuple[str, ...]:
        """The versions that can be read, as they stand in a file's footer. So far columns were only added."""
        return tuple(str(number) for number in range(1, self.version + 1))

    @property
    def schema(self) -> pa.Schema:
        """All columns. `id` is the stream entry's, split into the time `at` and the number `seq`."""
        return pa.schema([("id", TEXT), ("at", TIME), ("seq", WHOLE), *self.columns, ("problem", TEXT), ("raw", TEXT)])

    @property
    def repeating(self) -> list[str]:
        """Columns whose values come again, as Parquet calls them: a dictionary of times or ids would only be a copy."""
        leaves = [leaf for name, kind in self.columns for leaf in _leaves(name, kind)]
        return [path for path, kind in leaves if kind != TIME and path.rpartition(".")[2] not in ONCE]


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def _named(kind: pa.DataType, *names: str) -> tuple[tuple[str, pa.DataType], ...]:
    return tuple((name, kind) for name in names)


DECISIONS: Final = Table("decisions", (
    *_named(TEXT, "decision_id", "stream_id", "plan_id", "symbol", "action", "outcome", "reason", "nonce", "venue",
            "instance", "policy_hash"),
    *_named(AMOUNT, "requested_qty", "safe_close_qty", "exchange_amt", "ledger_amt", "mark_price"),
    *_named(WHOLE, "ledger_rev", "snapshot_age_ms", "last_order_age_ms"),
    *_named(TIME, "published_at", "read_at", "decided_at", "issued_at", "expires_at", "snapshot_at"),
    # Since version 2: everything else that the rules look at, so that all verdicts of a day can be taken again at once.
    *_named(TEXT, "plan_side", "plan_close_qty", "plan_timestamp", "plan_steps", "snapshot_side"),
    ("last_order_ms", WHOLE),
    ("plan_at", TIME),  # since version 3: from when on the plan's age counts; null where its timestamp is none
    ("symbol_status", TEXT), *_named(AMOUNT, "step", "min_qty", "max_qty"),
    *_named(FLAG, "in_scope", "halted", "held", "venue_ok", "store_restarted", "configured", "filters_read", "hedge",
            "tampered", "gap"),
    ("unsettled_orders", WHOLE), *_named(FLAG, "unbooked_results", "answered"), ("phase", TEXT),
    *_named(WHOLE, "released_ms", "stale_threshold_ms", "cooldown_ms"), ("qty_tolerance_pct", AMOUNT),
    *_named(WHOLE, "permit_ttl_ms", "plan_max_age_ms", "poll_ms", "skew_ms"),
), version=3)
TAKEN: Final = Table("taken", (
    *_named(TEXT, "plan_id", "symbol", "nonce", "by", "gate"), ("taken_at", TIME), ("safe_close_qty", AMOUNT)))
SNAPSHOTS: Final = Table("snapshots", (
    *_named(TEXT, "poll_id", "outcome", "detail"), *_named(TIME, "requested_at", "received_at"),
    ("positions", pa.list_(_POSITION)), *((name, pa.list_(TEXT)) for name in ("unknown_symbols", "scope"))))
LEDGER: Final = Table("ledger", (
    *_named(TEXT, "symbol", "cause", "order_id", "plan_id", "result_id", "by", "why", "anomaly"), ("rev", WHOLE),
    *_named(AMOUNT, "delta", "amt_before", "amt_after"), ("booked_at", TIME)))
EVENTS: Final = Table("events", (*_named(TEXT, "kind", "symbol", "by", "why"), ("happened_at", TIME)))
REJECTED: Final = Table("rejected", (*_named(TEXT, "stream", "entry_id", "reason"), ("rejected_at", TIME)))
PLANS: Final = Table("plans", (
    *_named(TEXT, "plan_id", "symbol", "action", "decision", "side"), ("close_qty", AMOUNT), ("decided_at", TIME)))
RESULTS: Final = Table("results", (
    *_named(TEXT, "plan_id", "symbol", "decision", "error", "refusal"), *_named(FLAG, "executed", "would_execute"),
    ("orders", pa.list_(_ORDER))))
MOVED: Final = "CASE side WHEN 'BUY' THEN qty ELSE -qty END"
"""SQL: what a trade adds to its position."""
TRADES: Final = Table("trades", (
    ("symbol", TEXT), ("trade_id", WHOLE), ("order_id", TEXT), ("client_order_id", TEXT), ("side", TEXT),
    *_named(AMOUNT, "price", "qty", "quote_qty", "realized_pnl", "commission"), ("commission_asset", TEXT),
    *_named(FLAG, "maker"), ("traded_at", TIME)))
GAPS: Final = Table("gaps", (
    *_named(TEXT, "table", "after_id", "before_id"), *_named(WHOLE, "missing", "adjust"), ("noticed_at", TIME)))

TABLES: Final = {table.name: table for table in (
    DECISIONS, TAKEN, SNAPSHOTS, LEDGER, EVENTS, REJECTED, PLANS, RESULTS, TRADES, GAPS)}
"""Every table by name. `gaps`: entries that were gone from a stream before they could be archived."""
