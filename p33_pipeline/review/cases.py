"""A case: what one verdict rested on, as one flat row, so that the rules can be applied to millions at once.

Read off the archive's columns; where those are not plain (an older archive, a text written in an unusual way), off the
archived record itself. Quantities are DECIMAL(38,18) and never a float; ages are milliseconds; null is "not known", as
None is in the core. What a judged threshold or a thinned poll can change is kept apart from what it cannot (`sound`).
A case is numbered by its entry of the stream: `entry_ms` and `seq`. A record that cannot be read is no case, nor is one
with a quantity that has more decimal places than the column: rounded, a tiny bound would be no bound at all.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from p33_pipeline.ahead import ahead
from p33_pipeline.audit.rules import CONDITIONS, prepare_steps, read_sql
from p33_pipeline.audit.scope import Scope, register
from p33_pipeline.history.tables import AMOUNT
from p33_sidecar.core.actions import FRACTIONS
from p33_sidecar.core.checks import CHECKS
from p33_sidecar.core.reasons import Reason

RECOMPUTED: Final = frozenset({
    "fresh_snapshot", "has_position", "same_side", "same_quantity", "nothing_settling", "closable_quantity",
    "action_matches_steps",
})
"""Checks that the vectorised rules take again; all others are what they were."""
FIXED: Final = tuple(check.__name__ for check in CHECKS if check.__name__ not in RECOMPUTED)

BATCH_ROWS: Final = 100_000
_SHAPE: Final = """{
    "plan_id": "VARCHAR", "symbol": "VARCHAR", "outcome": "VARCHAR", "reason": "VARCHAR", "policy_hash": "VARCHAR",
    "plan": {"action": "VARCHAR", "side": "VARCHAR", "close_qty": "VARCHAR"},
    "snapshot": {"position_amt": "VARCHAR", "ts_ms": "BIGINT", "mark_price": "VARCHAR"},
    "ledger": {"last_known_amt": "VARCHAR", "last_order_time_ms": "BIGINT"},
    "filters": {"step": "VARCHAR", "min_qty": "VARCHAR", "max_qty": "VARCHAR"},
    "context": {"tampered": "BOOLEAN", "gap": "BOOLEAN", "unsettled_orders": "BIGINT", "unbooked_results": "BOOLEAN",
                "released_ms": "BIGINT", "snapshot_age_ms": "BIGINT", "last_order_age_ms": "BIGINT"},
    "checks": [{"name": "VARCHAR", "pass": "BOOLEAN", "value": "VARCHAR"}],
    "times": {"decided_ms": "BIGINT"}}"""


_QUANTITIES: Final = ("r.snapshot.position_amt", "r.ledger.last_known_amt", "r.plan.close_qty", "r.filters.step",
                      "r.filters.min_qty", "r.filters.max_qty")


def read_cases(scope: Scope) -> Iterator[pa.RecordBatch]:
    """One row for each verdict of the range, nearly in the order of the archive; those of unusual records come last.

    The next batch is read while one is looked at; two are held at a time, however many there are.
    """
    prepare_steps(scope)
    unread = []
    reader = scope.db.sql(_columns_sql("decisions")).to_arrow_reader(BATCH_ROWS)
    yield pa.RecordBatch.from_pylist([], reader.schema).drop_columns(["plain"])
    with ahead(_read(reader)) as batches:
        for batch in batches:
            if not _all(batch["plain"]):
                plain = pc.fill_null(batch["plain"], False)
                unread.append(batch.filter(pc.invert(plain)).select(["entry_ms", "seq"]))
                batch = batch.filter(plain)
            yield _within(batch, scope).drop_columns(["plain"])
    if unread:
        register(scope, "unread", pa.Table.from_batches(unread))
        left = ('(SELECT epoch_ms(d."at") AS entry_ms, d.seq AS seq, raw FROM decisions d '
                'SEMI JOIN unread u ON u.entry_ms = epoch_ms(d."at") AND u.seq = d.seq)')
        for batch in scope.db.sql(recorded_cases_sql(left)).to_arrow_reader(BATCH_ROWS):
            yield _within(batch, scope)


def _read(reader: pa.RecordBatchReader) -> Generator[pa.RecordBatch, None, None]:
    yield from reader


def _within(batch: pa.RecordBatch, scope: Scope) -> pa.RecordBatch:
    inside = pc.and_(pc.greater_equal(batch["at_ms"], scope.from_ms), pc.less(batch["at_ms"], scope.to_ms))
    return batch if _all(inside) else batch.filter(inside)


def _all(mask: pa.Array) -> bool:
    return mask.null_count == 0 and mask.true_count == len(mask)


def _columns_sql(source: str) -> str:
    """SELECT: one case for each row of `source`, a relation with the archive's columns of decisions, and `plain`."""
    standing = {*FIXED, "action_matches_steps"}
    fails = " OR ".join(f"({condition})" for name, condition, _ in CONDITIONS if name in standing)
    return f"""
        SELECT at_ms AS entry_ms, seq, symbol, decided_ms AS at_ms,
            coalesce(NOT coalesce({fails}, false) AND reason IS DISTINCT FROM '{Reason.EVALUATION_ERROR}'
                     AND NOT tampered AND NOT gap AND NOT (unsettled_orders > 0 OR unbooked_results), false) AS sound,
            amt, snapshot_ms, CASE WHEN snapshot_ms IS NOT NULL THEN snapshot_age_ms END AS snapshot_age_ms, mark_price,
            book, released_ms, order_age_ms, quarters::TINYINT AS quarters, bound,
            CASE WHEN plan_side IN ('BUY', 'SELL') THEN plan_side = 'SELL' END AS sells, step, least_qty, most_qty,
            plain
        FROM ({read_sql(source)})"""  # noqa: S608 - names of ours only


def recorded_cases_sql(source: str) -> str:
    """SELECT: one case for each row of `source`: columns `entry_ms`, `seq` and `raw`, the record's JSON."""
    fixed = ", ".join(f"'{name}'" for name in FIXED)
    whole = " AND ".join(f"coalesce({_exact(name)}, true)" for name in _QUANTITIES)
    quarters = " ".join(f"WHEN '{action}' THEN {int(part * 4)}" for action, part in FRACTIONS.items())
    return f"""
        WITH read AS (SELECT entry_ms, seq, from_json(raw, '{_SHAPE}') AS r FROM {source} WHERE json_valid(raw))
        SELECT
            entry_ms, seq, r.symbol AS symbol, r.times.decided_ms AS at_ms,
            coalesce(len(r.checks) = {len(CHECKS)}
                AND len(list_filter(r.checks, lambda c: NOT c.pass AND c.name IN ({fixed}))) = 0
                AND len(list_filter(r.checks, lambda c: NOT c.pass AND c.name = 'action_matches_steps'
                                                        AND c.value NOT LIKE 'side %')) = 0
                AND NOT r.context.tampered AND NOT r.context.gap
                AND NOT (r.context.unsettled_orders > 0 OR r.context.unbooked_results), false) AS sound,
            {_qty("r.snapshot.position_amt")} AS amt, r.snapshot.ts_ms AS snapshot_ms,
            CASE WHEN r.snapshot.ts_ms IS NOT NULL THEN r.context.snapshot_age_ms END AS snapshot_age_ms,
            CASE WHEN {_exact("r.snapshot.mark_price")} THEN TRY_CAST(r.snapshot.mark_price AS DECIMAL(38,18)) END
                AS mark_price,
            {_qty("r.ledger.last_known_amt")} AS book, r.context.released_ms AS released_ms,
            coalesce(r.context.last_order_age_ms, CASE WHEN r.ledger.last_order_time_ms <> 0
                     THEN r.times.decided_ms - r.ledger.last_order_time_ms END) AS order_age_ms,
            CASE r.plan.action {quarters} END::TINYINT AS quarters,
            coalesce(TRY_CAST(r.plan.close_qty AS DECIMAL(38,18)), 0) AS bound,
            CASE WHEN upper(r.plan.side) IN ('BUY', 'SELL') THEN upper(r.plan.side) = 'SELL' END AS sells,
            {_qty("r.filters.step")} AS step, {_qty("r.filters.min_qty")} AS least_qty,
            {_qty("r.filters.max_qty")} AS most_qty
        FROM read
        WHERE r.plan_id IS NOT NULL AND r.times.decided_ms IS NOT NULL AND {whole}"""  # noqa: S608 - names of ours only


def _qty(text: str) -> str:
    """SQL: a recorded quantity. It raises rather than guesses: the record's writer wrote canonical text."""
    return f"CAST({text} AS DECIMAL(38,18))"


def _exact(text: str) -> str:
    """SQL: whether a decimal text has no more places than DECIMAL(38,18), which DuckDB would round off; null for null.

    Of `1.50e-3`, one place (trailing zeros are none) and three more by the exponent.
    """
    places = f"length(rtrim(regexp_extract({text}, '[.]([0-9]*)', 1), '0'))"
    exponent = f"coalesce(TRY_CAST(regexp_extract({text}, '[eE]([+-]?[0-9]+)$', 1) AS INTEGER), 0)"
    return f"({places} - {exponent} <= {AMOUNT.scale})"
