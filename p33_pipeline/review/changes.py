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


class Changes(msgspec.Struct, frozen=True):
    """What two policies make of a stretch of verdicts; stretches add up.

    `hours`: for each hour (wrong allows, wrong denials) now, and then. `lost`: for each symbol and fate (denials, ms)
    now, and then, of wrong denials. `flips`: a row for each verdict that changes, at least the earliest `FLIPS_KEPT`.
    """

    hours: np.ndarray
    lost: np.ndarray
    flips: np.ndarray

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.hours + other.hours, self.lost + other.lost, np.concatenate((self.flips, other.flips)))


FLIP: Final = np.dtype([(name, np.int64) for name in ("at_ms", "entry_ms", "seq", "symbol", "allowed", "right",
                                                      "cents")])


def changes_of(db: duckdb.DuckDBPyConnection, verdicts: Verdicts, now: Side, then: Side, *, hours: np.ndarray,
               lost_ms: np.ndarray) -> Changes:
    """The changes of a stretch. `hours`: those of all judged verdicts, ascending, in hours since 1970."""
    hour = np.searchsorted(hours, verdicts.at_ms // HOUR_MS)
    wrong = [part for side in (now, then) for part in (side.wrongly_allowed, side.wrongly_denied)]
    counted = np.stack([np.bincount(hour[which], minlength=len(hours)) for which in wrong], axis=1).astype(np.int64)
    lost = np.zeros((len(verdicts.symbols), len(FATES), 4), np.int64)
    for column, side in ((0, now), (2, then)):
        denied = np.flatnonzero(side.wrongly_denied)
        where = verdicts.symbol[denied], side.fate[denied]
        np.add.at(lost[:, :, column], where, 1)
        np.add.at(lost[:, :, column + 1], where, lost_ms[denied])
    return Changes(counted, lost, _flips(db, verdicts, now, then))


def _flips(db: duckdb.DuckDBPyConnection, verdicts: Verdicts, now: Side, then: Side) -> np.ndarray:
    """The earliest that change, in no order."""
    places = np.flatnonzero((now.fate == 0) != (then.fate == 0))
    if len(places) > FLIPS_KEPT:
        latest = np.partition(verdicts.at_ms[places], FLIPS_KEPT - 1)[FLIPS_KEPT - 1]
        places = places[verdicts.at_ms[places] <= latest]
    flips = np.empty(len(places), FLIP)
    for name in ("at_ms", "entry_ms", "seq", "symbol"):
        flips[name] = getattr(verdicts, name)[places]
    flips["allowed"] = then.fate[places] == 0
    flips["right"] = np.where(flips["allowed"], ~then.judged.harmful[places],
                              now.judged.harmful[places] | ~now.judged.closable[places])
    flips["cents"] = np.maximum(*(wrong_cents(db, verdicts, side.judged, places) for side in (now, then)))
    return flips


def _earliest(flips: np.ndarray) -> np.ndarray:
    return flips[np.lexsort((flips["seq"], flips["entry_ms"], flips["at_ms"]))[:FLIPS_KEPT]]


def losses_of(changes: Changes, symbols: pa.Array) -> tuple[Loss, ...]:
    """By symbol and reason, the dearest first."""
    found = [Loss(symbols[int(symbol)].as_py(), FATES[fate], *changes.lost[symbol, fate].tolist())
             for symbol, fate in np.argwhere(changes.lost.any(axis=2))]
    return tuple(sorted(found, key=lambda loss: (-loss.lost_ms, -loss.lost_ms_then, loss.symbol, loss.reason)))


def flips_of(db: duckdb.DuckDBPyConnection, changes: Changes, symbols: pa.Array) -> tuple[Flip, ...]:
    """Verdicts the best policy would have given otherwise than the policy in force, earliest first."""
    flips = _earliest(changes.flips)
    said, names, plans = ("DENY", "ALLOW"), symbols.to_pylist(), _plans(db, flips)
    return tuple(Flip(plan_id, said[not allowed], said[allowed], bool(right), names[symbol], at_ms, cents)
                 for plan_id, (at_ms, _, _, symbol, allowed, right, cents) in zip(
                     plans, flips.tolist(), strict=True))


def _plans(db: duckdb.DuckDBPyConnection, flips: np.ndarray) -> list[str]:
    """The plans' ids in order; where the archive could not put one in its column, the record's own."""
    if not len(flips):
        return []
    db.register("flipped", pa.table({"n": np.arange(len(flips)), "entry_ms": flips["entry_ms"].copy(),
                                     "seq": flips["seq"].copy()}))
    first, last = (f"epoch_ms({int(ms)}) AT TIME ZONE 'UTC'" for ms in (flips["entry_ms"].min(),
                                                                        flips["entry_ms"].max()))
    joined = ('FROM flipped f JOIN decisions d ON epoch_ms(d."at") = f.entry_ms AND d.seq = f.seq '
              f'WHERE d."at" >= {first} AND d."at" <= {last}')
    found = dict(db.execute(f"SELECT f.n, d.plan_id {joined}").fetchall())
    if None in found.values():
        found |= dict(db.execute(f"SELECT f.n, json_extract_string(d.raw, '$.plan_id') {joined} "
                                 "AND d.plan_id IS NULL").fetchall())
    return [found[n] for n in range(len(flips))]
