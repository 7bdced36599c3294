"""Two policies over the same verdicts: hour by hour, what each costs in wrong denials, and which verdicts flip.

A verdict's fate under a policy is a number: 0 an ALLOW, else its place among `FATES`, the reason of its denial.
"""

from __future__ import annotations

from typing import Final

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from p33_pipeline.review.grid import DENIED, HARMFUL, HARMLESS, Grid
from p33_pipeline.review.verdicts import Verdicts
from p33_sidecar.core.reasons import Reason

HOUR_MS: Final = 3_600_000
FLIPS_KEPT: Final = 10_000
FATES: Final = ("", "rules", str(Reason.STALE_EXCHANGE_STATE), str(Reason.RECONCILE_REQUIRED_QTY_MISMATCH),
                str(Reason.COOLDOWN_IN_FLIGHT))
"""Nothing, what no threshold changes, then the judged thresholds in the order of the checks: the first that denies
names the reason."""

Pair = tuple[np.ndarray, np.ndarray]
"""The verdicts' lots at the interval now and at the one then."""


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


class Rule(msgspec.Struct, frozen=True):
    """What one policy does, by lot: the fate, and whether it is a wrong allow or a wrong denial."""

    fate: np.ndarray
    wrong_allow: np.ndarray
    wrong_denial: np.ndarray


def rule_of(grid: Grid, place: tuple[int, int, int, int]) -> Rule:
    """The policy at a place of the grid."""
    _, stale, cooldown, tolerance = place
    kind, stale_denies, cooldown_denies, tolerance_denies = np.indices(grid.lots).reshape(4, -1)
    denies = (kind == DENIED, stale_denies > stale, tolerance_denies > tolerance,
              cooldown_denies > len(grid.cooldown_ms) - 1 - cooldown)
    fate = np.select(denies, range(1, len(FATES)), 0)
    return Rule(fate, (fate == 0) & (kind == HARMFUL), (fate != 0) & (kind == HARMLESS))


class Changes(msgspec.Struct, frozen=True):
    """What two policies make of a stretch of verdicts; stretches add up.

    `hours`: for each hour (wrong allows, wrong denials) now, and then. `lost`: for each symbol and fate (denials, ms)
    now, and then, of wrong denials.
    """

    hours: np.ndarray
    lost: np.ndarray

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.hours + other.hours, self.lost + other.lost)


def changes_of(verdicts: Verdicts, lots: Pair, rules: tuple[Rule, Rule], *, hours: np.ndarray,
               lost_ms: np.ndarray) -> Changes:
    """The changes of a stretch, by its lots and the rules, now and then.

    `hours`: those of all judged verdicts, ascending, in hours since 1970.
    """
    hour = np.searchsorted(hours, verdicts.at_ms // HOUR_MS)
    size, counted, lost = len(verdicts.symbols) * len(FATES), [], []
    for lot, rule in zip(lots, rules, strict=True):
        denied = np.flatnonzero(rule.wrong_denial[lot])
        counted += [np.bincount(hour[which], minlength=len(hours)) for which in (rule.wrong_allow[lot], denied)]
        where = verdicts.symbol[denied] * len(FATES) + rule.fate[lot[denied]]
        spent = np.zeros(size, np.int64)
        np.add.at(spent, where, lost_ms[denied])
        lost += [np.bincount(where, minlength=size), spent]
    return Changes(np.stack(counted, axis=1), np.stack(lost, axis=1).reshape(-1, len(FATES), 4))


def flipped(verdicts: Verdicts, lots: Pair, rules: tuple[Rule, Rule]) -> tuple[np.ndarray, int]:
    """The places of the earliest verdicts that change, in time, and how many change in all."""
    now, then = ((rule.fate == 0)[lot] for rule, lot in zip(rules, lots, strict=True))
    places = np.flatnonzero(now != then)
    count = len(places)
    if len(places) > FLIPS_KEPT:
        latest = np.partition(verdicts.at_ms[places], FLIPS_KEPT - 1)[FLIPS_KEPT - 1]
        places = places[verdicts.at_ms[places] <= latest]
    order = np.lexsort(tuple(part[places] for part in (verdicts.seq, verdicts.entry_ms, verdicts.at_ms)))
    return places[order[:FLIPS_KEPT]], count


def flips_of(db: duckdb.DuckDBPyConnection, verdicts: Verdicts, lots: Pair, rules: tuple[Rule, Rule],
             cents: np.ndarray) -> tuple[Flip, ...]:
    """These verdicts, all of which change, as they are told. `cents`: what the one that is an ALLOW puts at risk."""
    (lot, lot_then), (rule, rule_then) = lots, rules
    allowed = rule_then.fate[lot_then] == 0
    right = np.where(allowed, ~rule_then.wrong_allow[lot_then], rule.wrong_allow[lot])
    said, names = ("DENY", "ALLOW"), verdicts.symbols.to_pylist()
    columns = (part.tolist() for part in (allowed, right, verdicts.symbol, verdicts.at_ms, cents))
    return tuple(Flip(plan_id, said[not allowed], said[allowed], right, names[symbol], at_ms, cents)
                 for plan_id, allowed, right, symbol, at_ms, cents in zip(_plans(db, verdicts), *columns, strict=True))


def _plans(db: duckdb.DuckDBPyConnection, verdicts: Verdicts) -> list[str]:
    """The plans' ids in order; where the archive could not put one in its column, the record's own."""
    count = len(verdicts.at_ms)
    if not count:
        return []
    db.register("flipped", pa.table({"n": np.arange(count), "entry_ms": verdicts.entry_ms, "seq": verdicts.seq}))
    first, last = (f"epoch_ms({int(ms)}) AT TIME ZONE 'UTC'" for ms in (verdicts.entry_ms.min(),
                                                                        verdicts.entry_ms.max()))
    joined = ('FROM flipped f JOIN decisions d ON epoch_ms(d."at") = f.entry_ms AND d.seq = f.seq '
              f'WHERE d."at" >= {first} AND d."at" <= {last}')
    found = dict(db.execute(f"SELECT f.n, d.plan_id {joined}").fetchall())
    if None in found.values():
        found |= dict(db.execute(f"SELECT f.n, json_extract_string(d.raw, '$.plan_id') {joined} "
                                 "AND d.plan_id IS NULL").fetchall())
    return [found[n] for n in range(count)]


def losses_of(changes: Changes, symbols: pa.Array) -> tuple[Loss, ...]:
    """By symbol and reason, the dearest first."""
    found = [Loss(symbols[int(symbol)].as_py(), FATES[fate], *changes.lost[symbol, fate].tolist())
             for symbol, fate in np.argwhere(changes.lost.any(axis=2))]
    return tuple(sorted(found, key=lambda loss: (-loss.lost_ms, -loss.lost_ms_then, loss.symbol, loss.reason)))
