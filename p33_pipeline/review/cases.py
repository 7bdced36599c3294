"""A case: what one verdict rested on, as one flat row, so that the rules can be applied to millions at once.

Read off the archived record, the very text it was taken from, in one pass. Quantities are DECIMAL(38,18) and never a
float; ages are milliseconds; null is "not known", as None is in the core. What a judged threshold or a thinned poll can
change is kept apart from what it cannot (`sound`, `trusted`, `waiting`). A record that cannot be read is no case.
"""

from __future__ import annotations

from typing import Final

from p33_sidecar.core.actions import FRACTIONS
from p33_sidecar.core.checks import CHECKS

RECOMPUTED: Final = frozenset({
    "fresh_snapshot", "has_position", "same_side", "same_quantity", "nothing_settling", "closable_quantity",
    "action_matches_steps",
})
"""Checks that the vectorised rules take again; all others are what they were."""
FIXED: Final = tuple(check.__name__ for check in CHECKS if check.__name__ not in RECOMPUTED)

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


def cases_sql(source: str) -> str:
    """SELECT: one case for each row of `source` (columns `id` and `raw`, the record's JSON), numbered by `id`."""
    fixed = ", ".join(f"'{name}'" for name in FIXED)
    quarters = " ".join(f"WHEN '{action}' THEN {int(part * 4)}" for action, part in FRACTIONS.items())
    return f"""
        WITH read AS (SELECT id, from_json(raw, '{_SHAPE}') AS r FROM {source} WHERE json_valid(raw))
        SELECT
            id, r.plan_id AS plan_id, r.symbol AS symbol, r.times.decided_ms AS at_ms,
            r.outcome AS was, r.reason AS was_reason, r.policy_hash AS policy_hash,
            len(r.checks) = {len(CHECKS)}
                AND len(list_filter(r.checks, lambda c: NOT c.pass AND c.name IN ({fixed}))) = 0
                AND len(list_filter(r.checks, lambda c: NOT c.pass AND c.name = 'action_matches_steps'
                                                        AND c.value NOT LIKE 'side %')) = 0 AS sound,
            {_qty("r.snapshot.position_amt")} AS amt, r.snapshot.ts_ms AS snapshot_ms,
            CASE WHEN r.snapshot.ts_ms IS NOT NULL THEN r.context.snapshot_age_ms END AS snapshot_age_ms,
            TRY_CAST(r.snapshot.mark_price AS DECIMAL(38,18)) AS mark_price,
            NOT r.context.tampered AND NOT r.context.gap AS trusted, {_qty("r.ledger.last_known_amt")} AS book,
            r.context.unsettled_orders > 0 OR r.context.unbooked_results AS waiting,
            r.context.released_ms AS released_ms,
            coalesce(r.context.last_order_age_ms, CASE WHEN r.ledger.last_order_time_ms > 0
                     THEN r.times.decided_ms - r.ledger.last_order_time_ms END) AS order_age_ms,
            CASE r.plan.action {quarters} END AS quarters,
            coalesce(TRY_CAST(r.plan.close_qty AS DECIMAL(38,18)), 0) AS bound,
            CASE WHEN upper(r.plan.side) IN ('BUY', 'SELL') THEN upper(r.plan.side) END AS closing_side,
            {_qty("r.filters.step")} AS step, {_qty("r.filters.min_qty")} AS least_qty,
            {_qty("r.filters.max_qty")} AS most_qty
        FROM read WHERE r.plan_id IS NOT NULL AND r.times.decided_ms IS NOT NULL"""  # noqa: S608 - names of ours only


def _qty(text: str) -> str:
    """SQL: a recorded quantity. It raises rather than guesses: the record's writer wrote canonical text."""
    return f"CAST({text} AS DECIMAL(38,18))"
