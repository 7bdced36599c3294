"""The review itself: tables in, one value out. It reads what it is given and writes nothing.

Right and wrong, in hindsight: an ALLOW is wrong if its order would have closed more than the plan may close of the
position as it really was, or if the book was off the truth by more than `material_pct`; a DENY is wrong if the same
facts, allowed, would have made a harmless order. A denial that no threshold can change (a halt, an expired plan,
nothing to close) is right. A verdict whose truth is not known is not judged.
"""

from __future__ import annotations

from collections.abc import Set
from decimal import Decimal
from typing import Any, Final

import duckdb
import msgspec
import numpy as np

from p33_pipeline.audit.scope import scope_of
from p33_pipeline.review import choose
from p33_pipeline.review.cases import read_cases
from p33_pipeline.review.changes import Flip, Loss, Pair, Rule, flipped, flips_of, losses_of, rule_of
from p33_pipeline.review.choose import Interval
from p33_pipeline.review.court import Court
from p33_pipeline.review.grid import Counts, Grid, counts_of, grid_around
from p33_pipeline.review.judge import Facts
from p33_pipeline.review.verdicts import Verdicts, in_hindsight, verdicts_of
from p33_sidecar.core.model import Policy
from p33_sidecar.core.record import policy_of, read_record

MATERIAL_PCT: Final = Decimal(5)


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
    flips_in_all: int
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
        ((most,),) = db.execute("SELECT count(*) FROM decisions").fetchall()
        verdicts, replies = in_hindsight(db, verdicts_of(read_cases(scope), most))
        policy = _policy_in_force(db, verdicts) or fallback
        grid = grid_around(policy, stale_ms=parameters.stale_ms, cooldown_ms=parameters.cooldown_ms,
                           tolerance_pct=parameters.tolerance_pct, poll_ms=parameters.poll_ms)
        kept = {poll_ms: replies.last_kept(poll_ms) for poll_ms in grid.poll_ms if poll_ms != policy.poll_ms}
        facts = Facts(db, verdicts, tolerance_pct=grid.tolerance_pct, material_pct=parameters.material_pct)
        court = Court(db, replies, kept, grid, facts, policy.plan_max_age_ms)
        return _judge(court, verdicts, policy, parameters, from_ms=from_ms, to_ms=to_ms)


def _judge(court: Court, verdicts: Verdicts, policy: Policy, parameters: Parameters, *, from_ms: int,
           to_ms: int) -> Review:
    grid, own = court.grid, court.grid.place(policy)
    judged = int(np.count_nonzero(verdicts.known))
    cells, lots = court.heard(verdicts)
    counts = counts_of(cells)
    weight = parameters.weight or judged + 1
    at = choose.best(counts, grid, own=own, weight=weight)
    pair, rules = (lots[own[0]], lots[at[0]]), (rule_of(grid, own), rule_of(grid, at))
    changes = court.changes(verdicts, pair, rules, court.hours(verdicts))
    found = choose.interval(changes.hours, judged=judged, weight=weight) if judged else None
    flips, flips_in_all = _flips(court, verdicts, pair, rules, {grid.poll_ms[own[0]], grid.poll_ms[at[0]]})
    return Review(
        from_ms=from_ms, to_ms=to_ms, verdicts=len(verdicts.at_ms), judged=judged, weight=weight,
        material_pct=parameters.material_pct, grid=grid, current=_outcome(counts, grid, own, policy),
        best=_outcome(counts, grid, at, policy), interval=found,
        why_not=_why_not(judged, changes.hours, own, at, found, grid),
        frontier=tuple(_outcome(counts, grid, place, policy) for place in choose.frontier(counts)),
        cloud=_cloud(counts), flips=flips, flips_in_all=flips_in_all,
        losses=losses_of(changes, verdicts.symbols))


def _flips(court: Court, verdicts: Verdicts, lots: Pair, rules: tuple[Rule, Rule],
           poll_ms: Set[int]) -> tuple[tuple[Flip, ...], int]:
    """Verdicts the best policy would have given otherwise than the one in force, earliest first, and how many."""
    places, count = flipped(verdicts, lots, rules)
    told, own = verdicts.only(places), tuple(lot[places] for lot in lots)
    return flips_of(court.db, told, own, rules, court.cents(told, sorted(poll_ms))), count


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


def _policy_in_force(db: duckdb.DuckDBPyConnection, verdicts: Verdicts) -> Policy | None:
    """The policy of the range's last verdict."""
    if not len(verdicts.at_ms):
        return None
    latest = verdicts.only(np.flatnonzero(verdicts.at_ms == verdicts.at_ms.max()))
    last = latest.only(np.lexsort((latest.seq, latest.entry_ms))[-1:])
    ((raw,),) = db.execute("""SELECT raw FROM decisions WHERE "at" = epoch_ms($ms) AT TIME ZONE 'UTC' AND seq = $seq""",
                           {"ms": int(last.entry_ms[0]), "seq": int(last.seq[0])}).fetchall()
    return policy_of(read_record(raw))


def _outcome(counts: Counts, grid: Grid, place: choose.Place, like: Policy) -> Outcome:
    figures = (int(getattr(counts, name)[place]) for name in Outcome.__struct_fields__[1:])
    return Outcome(grid.policy(place, like), *figures)


def _cloud(counts: Counts) -> tuple[tuple[int, int], ...]:
    """Every different (wrong allows, wrong denials) on the grid, for the picture."""
    pairs = np.stack((counts.wrong_allows.reshape(-1), counts.wrong_denials.reshape(-1)), axis=1)
    return tuple((int(a), int(d)) for a, d in np.unique(pairs, axis=0))
