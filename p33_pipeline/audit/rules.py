"""The checks of `core.decide` as SQL over the archive's columns: outcome, reason, quantities of all verdicts at once.

A test holds these rules to `core.decide` on random facts; change them together or not at all. They judge only what they
can read exactly (`plain`): what is written in an unusual way, is larger than any position, or comes from a file that
lacks the columns is left to the rule engine itself. So nothing is decided here that `core` would decide otherwise.

Quantities are compared in quarters and tolerances in ten-thousandths of a percent, since DuckDB divides in floating
point; amounts are bounded by `_LARGEST`, so that no product leaves DECIMAL(38,18).
"""

from __future__ import annotations

from typing import Final

import msgspec
import pyarrow as pa

from p33_pipeline.audit.scope import Scope, register, rows
from p33_pipeline.history.tables import AMOUNT
from p33_pipeline.review.rules import quarters_closed
from p33_sidecar.core.actions import FRACTIONS
from p33_sidecar.core.model import HEDGE, Phase, Policy
from p33_sidecar.core.plan import plan_of
from p33_sidecar.core.quantity import scaled
from p33_sidecar.core.reasons import Reason as R
from p33_sidecar.core.record import policy_hash

_LARGEST: Final = "1000000000000"
_MOST_KINDS: Final = 10_000
"""So many different texts of steps, or policies, are read at most; verdicts on others are not plain."""
_QUARTERS: Final = " ".join(f"WHEN '{action}' THEN {int(part * 4)}" for action, part in FRACTIONS.items())
_AMOUNTS: Final = {"exchange_amt": "amt", "ledger_amt": "book", "step": "step", "min_qty": "least_qty",
                   "max_qty": "most_qty", "requested_qty": "requested", "safe_close_qty": "safe"}
"""The amounts' columns and what they are called here."""

CONDITIONS: Final = (
    ("symbol_in_scope", "NOT in_scope", R.SYMBOL_NOT_ALLOWED),
    ("plan_fresh", "decided_ms - plan_ms < -skew_ms", R.CLOCK_SKEW),
    ("plan_fresh", "answered OR decided_ms - plan_ms > plan_max_age_ms", R.PLAN_EXPIRED),
    ("plan_after_last_order", "plan_ms - order_ms + skew_ms <= 0", R.PLAN_SUPERSEDED),
    ("action_closes", "quarters IS NULL", R.UNSUPPORTED_ACTION),
    ("action_matches_steps", "NOT steps_readable OR step_fraction * 4 <> quarters", R.ACTION_STEP_MISMATCH),
    ("side_closes", "amt <> 0 AND plan_side IN ('BUY', 'SELL') AND (plan_side = 'SELL') <> (amt > 0)",
     R.ACTION_STEP_MISMATCH),
    ("not_halted", "halted", R.HALTED), ("not_held", "held", R.RECONCILE_HOLD_ACTIVE),
    ("venue_matches", "NOT venue_ok", R.VENUE_MISMATCH), ("store_steady", "store_restarted", R.STORE_RESTARTED),
    ("exchange_configured", "NOT configured", R.EXCHANGE_UNCONFIGURED),
    ("one_way_mode", f"hedge OR (snapshot_ms IS NOT NULL AND (amt IS NULL OR snapshot_side = '{HEDGE}'))",
     R.HEDGE_MODE_UNSUPPORTED),
    ("filters_known", "NOT filters_read", R.NO_EXCHANGE_SNAPSHOT),
    ("filters_known", "symbol_status IS NULL", R.NO_SYMBOL_FILTERS),
    ("symbol_trading", "symbol_status <> 'TRADING'", R.SYMBOL_NOT_TRADING),
    ("fresh_snapshot", "snapshot_ms IS NULL OR snapshot_age_ms IS NULL", R.NO_EXCHANGE_SNAPSHOT),
    ("fresh_snapshot", "snapshot_age_ms < -skew_ms", R.CLOCK_SKEW),
    ("fresh_snapshot", "snapshot_age_ms > stale_threshold_ms", R.STALE_EXCHANGE_STATE),
    ("has_position", "abs(amt) < step", R.NO_POSITION),
    ("same_side", "tampered", R.LEDGER_TAMPERED), ("same_side", "gap", R.LEDGER_GAP),
    ("same_side", "book IS NULL", R.LEDGER_MISSING),
    ("same_side", "(amt < 0 AND book > 0) OR (amt > 0 AND book < 0)", R.RECONCILE_REQUIRED_SIDE_MISMATCH),
    ("same_quantity", "abs(amt - book) * 1000000 > abs(amt) * tolerance_units", R.RECONCILE_REQUIRED_QTY_MISMATCH),
    ("nothing_settling", "unsettled_orders > 0 OR unbooked_results OR snapshot_age_ms >= order_age_ms OR "
     "(released_ms <> 0 AND snapshot_ms <= released_ms) OR order_age_ms < cooldown_ms", R.COOLDOWN_IN_FLIGHT),
    ("no_permit_outstanding", f"phase <> '{Phase.FREE}'", R.PERMIT_OUTSTANDING),
    ("closable_quantity", "closed4 < greatest(least_qty, step) * 4", R.QTY_BELOW_MIN),
)
"""When each check denies, in the order of the checks; a condition that is not known does not."""


def prepare(scope: Scope) -> None:
    """Make what `unlike_sql` looks up: `steps_said` and `policies_said`."""
    prepare_steps(scope)
    _prepare_policies(scope)


def prepare_steps(scope: Scope) -> None:
    """Make what `read_sql` looks up: `steps_said`, each text of steps and what it closes."""
    found = rows(scope, "SELECT DISTINCT plan_steps AS said FROM decisions WHERE plan_steps IS NOT NULL LIMIT $most",
                 most=_MOST_KINDS)
    texts = [row["said"] for row in found]
    plans = [plan_of({"plan_id": "x", "symbol": "x", "steps": said}, entry_ms=0) for said in texts]
    parts = [plan.step_fraction for plan in plans]
    known = [part is None or -part.as_tuple().exponent <= AMOUNT.scale for part in parts]
    register(scope, "steps_said", pa.table({
        "plan_steps": pa.array(texts, pa.string()), "steps_readable": pa.array([not p.unreadable for p in plans]),
        "step_fraction": pa.array(parts, AMOUNT)}).filter(pa.array(known, pa.bool_())))


def _prepare_policies(scope: Scope) -> None:
    """Each policy that verdicts name by its own hash, by that hash, and its tolerance in whole units."""
    names = Policy.__struct_fields__
    found = rows(scope, f"SELECT DISTINCT {', '.join(names)}, policy_hash FROM decisions "  # noqa: S608 - names of ours
                        f"WHERE {' AND '.join(f'{name} IS NOT NULL' for name in names)} LIMIT $most", most=_MOST_KINDS)
    given = [(row.pop("policy_hash"), msgspec.convert(row, Policy)) for row in found]
    named = {said: policy for said, policy in given if policy_hash(policy) == said}
    own = [(said, policy, scaled(policy.qty_tolerance_pct, 4)) for said, policy in named.items()]
    kept = [(said, policy, int(units)) for said, policy, units in own if units == int(units) and 0 <= units < 10**9]
    columns = {name: [getattr(policy, name) for _, policy, _ in kept] for name in names}
    types = {name: AMOUNT if name == "qty_tolerance_pct" else pa.int64() for name in names}
    register(scope, "policies_said", pa.table({
        **{name: pa.array(columns[name], types[name]) for name in names},
        "policy_hash": pa.array([said for said, _, _ in kept], pa.string()),
        "units_said": pa.array([units for _, _, units in kept], pa.int64())}))


def unlike_sql(source: str) -> str:
    """SELECT `at_ms`, `seq` of the rows of `source` that do not come out again, or that only the engine can judge."""
    reasons = " ".join(f"WHEN {condition} THEN '{reason}'" for _, condition, reason in CONDITIONS)
    wanted = "quarters * abs(amt)"
    return f"""
        WITH read AS (
            SELECT d.*, CASE WHEN {" AND ".join(f"p.{name} = d.{name}" for name in Policy.__struct_fields__)}
                             THEN units_said END AS tolerance_units
            FROM ({read_sql(source)}) d LEFT JOIN policies_said p USING (policy_hash)),
        judged AS (SELECT *, {quarters_closed("abs(amt)")} AS closed4, CASE {reasons} END AS again FROM read)
        SELECT at_ms, seq FROM judged
        WHERE plain IS DISTINCT FROM true OR tolerance_units IS NULL OR decision_id <> nonce
           OR reason IS DISTINCT FROM again OR outcome <> CASE WHEN again IS NULL THEN 'ALLOW' ELSE 'DENY' END
           OR requested * 4 IS DISTINCT FROM CASE WHEN bound > 0 AND {wanted} > bound * 4 THEN bound * 4
                                                  ELSE {wanted} END
           OR safe * 4 IS DISTINCT FROM CASE WHEN again IS NULL THEN closed4 END"""  # noqa: S608 - names of ours


def read_sql(source: str) -> str:
    """SELECT: what the rules look at, of each row of `source`, and `plain` where they can be applied.

    After `prepare_steps`. Whether the policy is the one that the verdict names is left to those whom its judged
    thresholds concern.
    """
    return _READ.format(source=source)


def _bounded(name: str) -> str:
    return f"CASE WHEN abs({name}) < {_LARGEST} THEN {name} END"


_ORDER_AGE_MS: Final = """
    coalesce(last_order_age_ms, CASE WHEN last_order_ms <> 0 THEN epoch_ms(decided_at) - last_order_ms END)"""
_READ: Final = f"""
    SELECT epoch_ms("at") AS at_ms, seq, id, plan_id, symbol, outcome, reason, decision_id, nonce, policy_hash,
        mark_price, in_scope, halted, held, venue_ok, store_restarted, configured, filters_read, hedge, tampered, gap,
        unsettled_orders, unbooked_results, answered, phase, released_ms, symbol_status, snapshot_side, snapshot_age_ms,
        plan_side, {", ".join(Policy.__struct_fields__)}, steps_readable, step_fraction, order_age_ms,
        {", ".join(f"{_bounded(name)} AS {called}" for name, called in _AMOUNTS.items())},
        epoch_ms(snapshot_at) AS snapshot_ms, epoch_ms(decided_at) AS decided_ms,
        epoch_ms(plan_at) AS plan_ms,
        CASE action {_QUARTERS} END AS quarters,
        CASE WHEN plan_close_qty = '' THEN 0 ELSE TRY_CAST(plan_close_qty AS DECIMAL(38,18)) END AS bound,
        CASE WHEN last_order_ms > 0 AND last_order_ms <= epoch_ms(decided_at) THEN last_order_ms
             ELSE epoch_ms(decided_at) - order_age_ms END AS order_ms,
        problem IS NULL AND in_scope IS NOT NULL AND plan_at IS NOT NULL
            AND CASE WHEN plan_close_qty IN ('', '0', '0.0') THEN true  -- nearly all: an expression costs its time
                     ELSE regexp_full_match(plan_close_qty, '[0-9]{{{{1,12}}}}([.][0-9]{{{{1,18}}}})?') END
            AND {" AND ".join(f"({name} IS NULL OR abs({name}) < {_LARGEST})" for name in _AMOUNTS)}
            AND (symbol_status IS NULL OR (step > 0 AND min_qty >= 0 AND max_qty IS NOT NULL))
            AND phase IN ({", ".join(f"'{phase}'" for phase in Phase)})
            AND steps_readable IS NOT NULL AND plan_max_age_ms IS NOT NULL AND skew_ms IS NOT NULL AS plain
    FROM (SELECT *, {_ORDER_AGE_MS} AS order_age_ms FROM {{source}})
    LEFT JOIN steps_said USING (plan_steps)"""  # noqa: S608 - names and constants of ours
