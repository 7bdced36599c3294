"""The review itself: tables in, one value out. It reads what it is given and writes nothing.

Right and wrong, in hindsight: an ALLOW is wrong if its order would have closed more than the plan may close of the
position as it really was, or if the book was off the truth by more than `material_pct`; a DENY is wrong if the same
facts, allowed, would have made a harmless order. A denial that no threshold can change (a halt, an expired plan,
nothing to close) is right. A verdict whose truth is not known is not judged.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import duckdb
import msgspec
import numpy as np

from p33_pipeline.audit.scope import scope_of
from p33_pipeline.review import choose
from p33_pipeline.review.cases import make_cases
from p33_pipeline.review.choose import Interval
from p33_pipeline.review.grid import Counts, Grid, cases_with_harm_sql, count, grid_around, prepare_cases
from p33_pipeline.review.truth import keep_polls, prepare
from p33_sidecar.core.model import Policy
from p33_sidecar.core.reasons import Reason
from p33_sidecar.core.record import policy_of, read_record

MATERIAL_PCT: Final = Decimal(5)
FLIPS_KEPT: Final = 10_000
DENIED_BY: Final = (
    ("stale_denies", Reason.STALE_EXCHANGE_STATE), ("tolerance_denies", Reason.RECONCILE_REQUIRED_QTY_MISMATCH),
    ("cooldown_denies", Reason.COOLDOWN_IN_FLIGHT))
"""The judged thresholds in the order of the checks: the first that denies names the reason."""


class Parameters(msgspec.Struct, frozen=True):
    """What a person may turn. Empty axes: the usual ones.

    `weight` 0: a wrong allow weighs more than all verdicts together.
    """

    weight: int = 0
    material_pct: Decimal = MATERIAL_PCT
    stale_ms: tuple[int, ...] = ()
    cooldown_ms: tuple[int, ...] = ()
    tolerance_pct: tuple[Decimal, ...] = ()
    poll_ms: tuple[int, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What one policy would have done over the range."""

    policy: Policy
    wrong_allows: int
    wrong_denials: int
    right_allows: int
    right_denials: int
    wrong_cents: int
    lost_ms: int


class Loss(msgspec.Struct, frozen=True):
    """Wrong denials of one symbol for one reason, and the time they cost, now and under the best policy."""

    symbol: str
    reason: str
    denials: int
    lost_ms: int
    denials_then: int
    lost_ms_then: int


class Flip(msgspec.Struct, frozen=True):
    """A verdict that the best policy changes; `right` says whether what it becomes is right."""

    plan_id: str
    was: str
    becomes: str
    right: bool
    symbol: str
    at_ms: int
    wrong_cents: int


class Review(msgspec.Struct, frozen=True):
    """The result. `best` is the cheapest policy of the grid; it is recommended only where `why_not` is None."""

    from_ms: int
    to_ms: int
    verdicts: int
    judged: int
    weight: int
    material_pct: Decimal
    grid: Grid | None
    current: Outcome
    best: Outcome | None
    interval: Interval | None
    why_not: str | None
    frontier: tuple[Outcome, ...]
    cloud: tuple[tuple[int, int], ...]
    flips: tuple[Flip, ...]
    losses: tuple[Loss, ...]

    @property
    def recommended(self) -> Outcome | None:
        return None if self.why_not else self.best

    @property
    def env_diff(self) -> str:
        return choose.env_diff(self.current.policy, self.recommended.policy) if self.recommended else ""


def review(tables: dict[str, Any], *, from_ms: int, to_ms: int, fallback: Policy,
           parameters: Parameters | None = None) -> Review:
    """Judge the range `[from_ms, to_ms)`. `tables`: `decisions`, `snapshots` and `trades`, as `scope_of` takes them.

    Snapshots and trades may reach beyond the range on both sides and should: truth needs a snapshot after a verdict.
    `fallback` is the policy where no verdict names one. Raises ValueError for parameters that cannot be.
    """
    parameters = parameters or Parameters()
    scope = scope_of(tables, from_ms=from_ms, to_ms=to_ms, begin_ms=from_ms, until_ms=to_ms, reach={}, policy=fallback)
    with scope.db as db:
        make_cases(scope)
        policy = _policy_in_force(db) or fallback
        grid = grid_around(policy, stale_ms=parameters.stale_ms, cooldown_ms=parameters.cooldown_ms,
                           tolerance_pct=parameters.tolerance_pct, poll_ms=parameters.poll_ms)
        prepare(db, snapshots="snapshots", trades="trades", cases="cases")
        keep_polls(db, [poll_ms for poll_ms in grid.poll_ms if poll_ms != policy.poll_ms])
        prepare_cases(db, "cases")
        return _judge(db, grid, policy, parameters, from_ms=from_ms, to_ms=to_ms)


def _judge(db: duckdb.DuckDBPyConnection, grid: Grid, policy: Policy, parameters: Parameters, *, from_ms: int,
           to_ms: int) -> Review:
    verdicts, judged = db.execute("SELECT count(*), count(truth) FROM cases_in_truth").fetchone()
    how = {"own_poll_ms": policy.poll_ms, "material_pct": parameters.material_pct,
           "lost_cap_ms": policy.plan_max_age_ms}
    counts = count(db, grid, **how)
    own = grid.place(policy)
    weight = parameters.weight or judged + 1
    at = choose.best(counts, grid, own=own, weight=weight)
    for name, place in (("now", own), ("then_", at)):
        sql = cases_with_harm_sql(grid, poll_ms=grid.poll_ms[place[0]], **how)
        db.execute(f"""
            CREATE OR REPLACE TEMP TABLE {name} AS
            SELECT *, {_reason_sql(grid, place)} AS denied_by FROM ({sql})""")  # noqa: S608 - names of ours
    hours = _hours(db)
    found = choose.interval(hours, judged=judged, weight=weight) if judged else None
    return Review(
        from_ms=from_ms, to_ms=to_ms, verdicts=verdicts, judged=judged, weight=weight,
        material_pct=parameters.material_pct, grid=grid, current=_outcome(counts, grid, own, policy),
        best=_outcome(counts, grid, at, policy), interval=found,
        why_not=_why_not(judged, hours, own, at, found, grid),
        frontier=tuple(_outcome(counts, grid, place, policy) for place in choose.frontier(counts)),
        cloud=_cloud(counts), flips=_flips(db) if at != own else (), losses=_losses(db))


def _why_not(judged: int, hours: np.ndarray, own: choose.Place, at: choose.Place, found: Interval | None,
             grid: Grid) -> str | None:
    if too_little := choose.why_too_little(judged, len(hours)):
        return too_little
    if at == own:
        return f"none of the {grid.size} policies of the grid would have served better than the one in force"
    if found is not None and Decimal(found.saved_per_1000[0]) <= 0:
        return (f"the best of {grid.size} policies may owe it to chance: at {found.level} confidence it saves between "
                f"{found.saved_per_1000[0]} and {found.saved_per_1000[1]} per 1,000 verdicts")
    return None


def _policy_in_force(db: duckdb.DuckDBPyConnection) -> Policy | None:
    """The policy of the range's last verdict."""
    last = db.execute("SELECT id FROM cases ORDER BY at_ms DESC, id DESC LIMIT 1").fetchall()
    if not last:
        return None
    ((raw,),) = db.execute("SELECT raw FROM decisions WHERE id = $last", {"last": last[0][0]}).fetchall()
    return policy_of(read_record(raw))


def _reason_sql(grid: Grid, place: choose.Place) -> str:
    """SQL: which judged threshold denies the case under the policy at a place, `rules` for all else, null for ALLOW."""
    _, stale, cooldown, tolerance = place
    denies = {"stale_denies": f"stale_denies > {stale}", "tolerance_denies": f"tolerance_denies > {tolerance}",
              "cooldown_denies": f"cooldown_denies > {len(grid.cooldown_ms) - 1 - cooldown}"}
    cases = " ".join(f"WHEN {denies[column]} THEN '{reason}'" for column, reason in DENIED_BY)
    return f"CASE WHEN NOT closable THEN 'rules' {cases} END"


def _hours(db: duckdb.DuckDBPyConnection) -> np.ndarray:
    """For each hour with verdicts: (wrong allows, wrong denials) now, and then."""
    rows = db.execute("""
        SELECT count_if(n.harmful AND n.denied_by IS NULL),
               count_if(NOT n.harmful AND n.closable AND n.denied_by IS NOT NULL),
               count_if(t.harmful AND t.denied_by IS NULL),
               count_if(NOT t.harmful AND t.closable AND t.denied_by IS NOT NULL)
        FROM now n JOIN then_ t USING (id) GROUP BY n.at_ms // 3600000 ORDER BY n.at_ms // 3600000""").fetchall()
    return np.array(rows, np.int64).reshape(-1, 4)


def _losses(db: duckdb.DuckDBPyConnection) -> tuple[Loss, ...]:
    rows = db.execute("""
        SELECT symbol, denied_by, sum(a)::BIGINT, sum(b)::BIGINT, sum(c)::BIGINT, sum(d)::BIGINT FROM (
            SELECT symbol, denied_by, 1 AS a, lost_ms AS b, 0 AS c, 0 AS d FROM now
            WHERE closable AND NOT harmful AND denied_by IS NOT NULL
            UNION ALL SELECT symbol, denied_by, 0, 0, 1, lost_ms FROM then_
            WHERE closable AND NOT harmful AND denied_by IS NOT NULL)
        GROUP BY ALL ORDER BY 4 DESC, 6 DESC, symbol, denied_by""").fetchall()
    return tuple(Loss(*row) for row in rows)


def _flips(db: duckdb.DuckDBPyConnection) -> tuple[Flip, ...]:
    """Verdicts the best policy would have given otherwise than the policy in force, earliest first."""
    rows = db.execute(f"""
        SELECT n.plan_id, CASE WHEN n.denied_by IS NULL THEN 'ALLOW' ELSE 'DENY' END,
               CASE WHEN t.denied_by IS NULL THEN 'ALLOW' ELSE 'DENY' END,
               (t.denied_by IS NULL AND NOT t.harmful) OR (t.denied_by IS NOT NULL AND (n.harmful OR NOT n.closable)),
               n.symbol, n.at_ms, greatest(n.wrong_cents, t.wrong_cents)
        FROM now n JOIN then_ t USING (id) WHERE (n.denied_by IS NULL) <> (t.denied_by IS NULL)
        ORDER BY n.at_ms, n.id LIMIT {FLIPS_KEPT}""").fetchall()  # noqa: S608 - a number of ours
    return tuple(Flip(*row) for row in rows)


def _outcome(counts: Counts, grid: Grid, place: choose.Place, like: Policy) -> Outcome:
    figures = (int(getattr(counts, name)[place]) for name in Outcome.__struct_fields__[1:])
    return Outcome(grid.policy(place, like), *figures)


def _cloud(counts: Counts) -> tuple[tuple[int, int], ...]:
    """Every different (wrong allows, wrong denials) on the grid, for the picture."""
    pairs = np.stack((counts.wrong_allows.reshape(-1), counts.wrong_denials.reshape(-1)), axis=1)
    return tuple((int(a), int(d)) for a, d in np.unique(pairs, axis=0))
