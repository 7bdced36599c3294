"""Two policies over the same verdicts: hour by hour, what each costs in wrong denials, and which verdicts flip.

A verdict's fate under a policy is a number: 0 an ALLOW, else its place among `FATES`, the reason of its denial.
"""

from __future__ import annotations

from typing import Final

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from p33_pipeline.review.grid import Grid
from p33_pipeline.review.judge import Judged, wrong_cents
from p33_pipeline.review.verdicts import Verdicts
from p33_sidecar.core.reasons import Reason

HOUR_MS: Final = 3_600_000
FLIPS_KEPT: Final = 10_000
FATES: Final = ("", "rules", str(Reason.STALE_EXCHANGE_STATE), str(Reason.RECONCILE_REQUIRED_QTY_MISMATCH),
                str(Reason.COOLDOWN_IN_FLIGHT))
"""Nothing, what no threshold changes, then the judged thresholds in the order of the checks: the first that denies
names the reason."""


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


class Side(msgspec.Struct, frozen=True):
    """Every verdict under one policy."""

    judged: Judged
    fate: np.ndarray

    @property
    def wrongly_allowed(self) -> np.ndarray:
        return (self.fate == 0) & self.judged.harmful

    @property
    def wrongly_denied(self) -> np.ndarray:
        return (self.fate != 0) & self.judged.closable & ~self.judged.harmful


def side_of(judged: Judged, grid: Grid, place: tuple[int, int, int, int]) -> Side:
    """The verdicts under the policy at a place of the grid; `judged` at its poll interval."""
    _, stale, cooldown, tolerance = place
    denies = (~judged.closable, judged.stale_denies > stale, judged.tolerance_denies > tolerance,
              judged.cooldown_denies > len(grid.cooldown_ms) - 1 - cooldown)
    return Side(judged, np.select(denies, range(1, len(FATES)), 0).astype(np.int8))


def hours(at_ms: np.ndarray, verdicts: Verdicts, now: Side, then: Side) -> np.ndarray:
    """For each hour of `at_ms` (all judged verdicts): (wrong allows, wrong denials) now, and then."""
    known = np.unique(at_ms // HOUR_MS)
    hour = np.searchsorted(known, verdicts.at_ms // HOUR_MS)
    wrong = (part for side in (now, then) for part in (side.wrongly_allowed, side.wrongly_denied))
    return np.stack([np.bincount(hour[which], minlength=len(known)) for which in wrong], axis=1).astype(np.int64)


def losses(verdicts: Verdicts, lost_ms: np.ndarray, now: Side, then: Side) -> tuple[Loss, ...]:
    """By symbol and reason, the dearest first."""
    table = np.zeros((len(verdicts.symbols), len(FATES), 4), np.int64)
    for column, side in ((0, now), (2, then)):
        wrong = np.flatnonzero(side.wrongly_denied)
        where = verdicts.symbol[wrong], side.fate[wrong]
        np.add.at(table[:, :, column], where, 1)
        np.add.at(table[:, :, column + 1], where, lost_ms[wrong])
    names = verdicts.symbols.to_pylist()
    found = [Loss(names[symbol], FATES[fate], *(int(figure) for figure in table[symbol, fate]))
             for symbol, fate in np.argwhere(table.any(axis=2))]
    return tuple(sorted(found, key=lambda loss: (-loss.lost_ms, -loss.lost_ms_then, loss.symbol, loss.reason)))


def flips(db: duckdb.DuckDBPyConnection, verdicts: Verdicts, now: Side, then: Side) -> tuple[Flip, ...]:
    """Verdicts the best policy would have given otherwise than the policy in force, earliest first."""
    places = np.flatnonzero((now.fate == 0) != (then.fate == 0))
    few = verdicts.only(places)
    places = places[np.lexsort((few.seq, few.entry_ms, few.at_ms))][:FLIPS_KEPT]
    few = verdicts.only(places)
    dear = np.maximum(*(wrong_cents(db, verdicts, side.judged, places) for side in (now, then)))
    allowed = then.fate[places] == 0
    right = np.where(allowed, ~then.judged.harmful[places],
                     now.judged.harmful[places] | ~now.judged.closable[places])
    said, names = ("DENY", "ALLOW"), verdicts.symbols.to_pylist()
    return tuple(
        Flip(plan_id, said[not becomes], said[becomes], fine, names[symbol], at_ms, cents)
        for plan_id, becomes, fine, symbol, at_ms, cents in zip(
            _plans(db, few), allowed.tolist(), right.tolist(), few.symbol.tolist(), few.at_ms.tolist(), dear.tolist(),
            strict=True))


def _plans(db: duckdb.DuckDBPyConnection, few: Verdicts) -> list[str]:
    """The plans' ids in order; where the archive could not put one in its column, the record's own."""
    db.register("flipped", pa.table({"n": range(len(few.seq)), "entry_ms": few.entry_ms, "seq": few.seq}))
    joined = 'FROM flipped f JOIN decisions d ON epoch_ms(d."at") = f.entry_ms AND d.seq = f.seq'
    found = dict(db.execute(f"SELECT f.n, d.plan_id {joined}").fetchall())
    if None in found.values():
        found |= dict(db.execute(f"SELECT f.n, json_extract_string(d.raw, '$.plan_id') {joined} "
                                 "WHERE d.plan_id IS NULL").fetchall())
    return [found[n] for n in range(len(few.seq))]
