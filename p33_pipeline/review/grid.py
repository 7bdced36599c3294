"""The grid of policies and what each of its points would have done, counted in one pass per poll interval.

A case falls into one cell by how many values of each axis deny it; running sums over the cells then give every policy's
counts. The work grows with the verdicts and with the length of the axes, never with the number of policies.
Counts, milliseconds and money (in cents) are integers throughout.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import duckdb
import msgspec
import numpy as np

from p33_pipeline.review.rules import judged_sql, quarters_closed, tolerance_units
from p33_pipeline.review.truth import thinned_sql, with_truth_sql
from p33_sidecar.core.model import Policy
from p33_sidecar.core.quantity import product

STALE_FACTORS: Final = ["0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "1.2", "1.5", "2", "3"]
COOLDOWN_FACTORS: Final = ["0", "0.2", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "1.2", "1.5", "2"]
TOLERANCE_FACTORS: Final = ["0", "0.1", "0.25", "0.5", "0.75", "1", "1.5", "2", "3", "5"]
POLL_FACTORS: Final = ["1", "1.5", "2", "3", "4"]


class Grid(msgspec.Struct, frozen=True):
    """Four ascending axes. The poll axis begins with the interval in force: what was not polled cannot be added."""

    stale_ms: tuple[int, ...]
    cooldown_ms: tuple[int, ...]
    tolerance_pct: tuple[Decimal, ...]
    poll_ms: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.poll_ms), len(self.stale_ms), len(self.cooldown_ms), len(self.tolerance_pct)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def policy(self, place: tuple[int, ...], like: Policy) -> Policy:
        """The policy at a place of the grid, in all else like `like`."""
        poll, stale, cooldown, tolerance = place
        return msgspec.structs.replace(
            like, poll_ms=self.poll_ms[poll], stale_threshold_ms=self.stale_ms[stale],
            cooldown_ms=self.cooldown_ms[cooldown], qty_tolerance_pct=self.tolerance_pct[tolerance])

    def place(self, policy: Policy) -> tuple[int, int, int, int]:
        """Where a policy lies. Raises ValueError for one that is not on the grid."""
        return (self.poll_ms.index(policy.poll_ms), self.stale_ms.index(policy.stale_threshold_ms),
                self.cooldown_ms.index(policy.cooldown_ms), self.tolerance_pct.index(policy.qty_tolerance_pct))


def grid_around(policy: Policy, *, stale_ms: tuple[int, ...] = (), cooldown_ms: tuple[int, ...] = (),
                tolerance_pct: tuple[Decimal, ...] = (), poll_ms: tuple[int, ...] = ()) -> Grid:
    """The axes given, else the usual multiples of the policy's own values; the policy itself is always on the grid.

    Raises ValueError for an axis that holds what no policy can be.
    """
    if any(value < policy.poll_ms for value in poll_ms):
        raise ValueError(f"a poll interval below the present {policy.poll_ms} ms cannot be judged: "
                         "those polls were not made")
    return Grid(
        stale_ms=_axis(stale_ms, STALE_FACTORS, own=policy.stale_threshold_ms, least=100),
        cooldown_ms=_axis(cooldown_ms, COOLDOWN_FACTORS, own=policy.cooldown_ms, least=0),
        tolerance_pct=_tolerances(tolerance_pct, policy.qty_tolerance_pct),
        poll_ms=_axis(poll_ms, POLL_FACTORS, own=policy.poll_ms, least=500))


def _axis(values: tuple[int, ...], factors: list[str], *, own: int, least: int) -> tuple[int, ...]:
    """The values, or the multiples of `own`, within what the setting allows."""
    chosen = values or [int(product(Decimal(own), Decimal(factor))) for factor in factors]
    return tuple(sorted({own, *(value for value in chosen if least <= value <= 3_600_000)}))


def _tolerances(values: tuple[Decimal, ...], own: Decimal) -> tuple[Decimal, ...]:
    chosen = values or tuple(product(own, Decimal(factor)) for factor in TOLERANCE_FACTORS)
    kept = {tolerance_units(value): value for value in (*chosen, own)}
    return tuple(kept[units] for units in sorted(kept) if units <= 1_000_000)


class Counts(msgspec.Struct, frozen=True):
    """For every place of the grid: counts, the money wrong allows put at risk, the time wrong denials cost."""

    wrong_allows: np.ndarray
    right_allows: np.ndarray
    wrong_denials: np.ndarray
    right_denials: np.ndarray
    wrong_cents: np.ndarray
    lost_ms: np.ndarray


def cases_with_harm_sql(grid: Grid, *, poll_ms: int, own_poll_ms: int, material_pct: Decimal, lost_cap_ms: int) -> str:
    """SELECT: the judged cases at one poll interval: where each lies on the axes, and what an ALLOW would have done.

    An ALLOW is wrong (`harmful`) if its order closes more than the plan may close of the true position, or the
    other side, or if the book was off the truth by more than `material_pct`. `wrong_cents` says by how much.
    """
    thinned = thinned_sql("cases_in_truth", poll_ms=None if poll_ms == own_poll_ms else poll_ms)
    judged = judged_sql(source=f"({thinned})", stale_ms=grid.stale_ms, cooldown_ms=grid.cooldown_ms,
                        tolerance_pct=grid.tolerance_pct)
    return f"""
        WITH judged AS (
            SELECT *, (amt > 0) = (truth > 0) AND truth <> 0 AS same FROM ({judged}) WHERE truth IS NOT NULL
        ), compared AS (
            SELECT *, greatest(closed4 - CASE WHEN same THEN {quarters_closed("abs(truth)")} ELSE 0 END, 0) AS excess4,
                   abs(book - truth) * 1000000 > abs(truth) * {tolerance_units(material_pct)} AS book_off
            FROM judged)
        SELECT id, plan_id, symbol, at_ms, was, was_reason, closable, stale_denies, cooldown_denies, tolerance_denies,
               coalesce(excess4 > 0 OR book_off, false) AS harmful,
               CAST(trunc(CAST(CASE WHEN excess4 > 0 THEN excess4 WHEN book_off THEN abs(book - truth) * 4 ELSE 0 END
                               AS DECIMAL(20,6)) * coalesce(CAST(mark_price AS DECIMAL(17,8)), 0) * 25) AS BIGINT)
                   AS wrong_cents,
               coalesce(least(next_ms - at_ms, {lost_cap_ms}), {lost_cap_ms}) AS lost_ms
        FROM compared"""  # noqa: S608 - names and integers of ours


def prepare_cases(db: duckdb.DuckDBPyConnection, cases: str) -> None:
    """Make the table `cases_in_truth`: every case with its truth and the moment the symbol was next looked at."""
    db.execute(f"""
        CREATE OR REPLACE TEMP TABLE cases_in_truth AS
        SELECT *, lead(at_ms) OVER (PARTITION BY symbol ORDER BY at_ms, id) AS next_ms
        FROM ({with_truth_sql(cases)})""")  # noqa: S608 - a name of ours


def count(db: duckdb.DuckDBPyConnection, grid: Grid, *, own_poll_ms: int, material_pct: Decimal,
          lost_cap_ms: int) -> Counts:
    """What every policy of the grid would have done."""
    planes = [_plane(db, grid, cases_with_harm_sql(grid, poll_ms=poll_ms, own_poll_ms=own_poll_ms,
                                                   material_pct=material_pct, lost_cap_ms=lost_cap_ms))
              for poll_ms in grid.poll_ms]
    return Counts(*(np.stack(part) for part in zip(*planes, strict=True)))


def _plane(db: duckdb.DuckDBPyConnection, grid: Grid, sql: str) -> tuple[np.ndarray, ...]:
    """The counts at one poll interval, in the order of `Counts`."""
    cells = db.execute(f"""
        SELECT closable, harmful, stale_denies, cooldown_denies, tolerance_denies, count(*)::BIGINT,
               sum(wrong_cents)::BIGINT, sum(lost_ms)::BIGINT
        FROM ({sql}) GROUP BY ALL""").fetchall()  # noqa: S608 - our own statement
    shape = tuple(length + 1 for length in grid.shape[1:])
    n, cents, lost = (np.zeros((2, *shape), np.int64) for _ in range(3))
    unclosable = 0
    for closable, harmful, stale, cooldown, tolerance, rows, wrong_cents, lost_ms in cells:
        if not closable:
            unclosable += rows
            continue
        cell = (int(harmful), stale, cooldown, tolerance)
        n[cell], cents[cell], lost[cell] = rows, wrong_cents, lost_ms
    allows = [_allowed(n[harmful]) for harmful in (0, 1)]
    return (allows[1], allows[0], n[0].sum() - allows[0], n[1].sum() - allows[1] + unclosable,
            _allowed(cents[1]), lost[0].sum() - _allowed(lost[0]))


def _allowed(cells: np.ndarray) -> np.ndarray:
    """What the policy at each place allows: the sum of the cells whose cases none of its three values denies.

    Stale threshold and tolerance allow a case from the place on that its count names; of C cooldowns the one at place
    c allows what at most C - 1 - c of them deny.
    """
    upto = cells[:-1, :, :-1].cumsum(axis=0).cumsum(axis=1).cumsum(axis=2)
    return upto[:, -2::-1]
