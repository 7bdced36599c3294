"""The grid of policies and what each of its points would have done.

A verdict falls into one cell by how many values of each axis deny it; running sums over the cells then give every
policy's counts. The work grows with the verdicts and with the poll intervals, never with the number of policies.
Counts, milliseconds and money (in cents) are integers throughout.

A verdict's lot at a poll interval is its kind and its cell as one small number, a place in an array of `Grid.lots`: all
that any policy of that interval needs to know of it. Where no threshold can allow it, the cell says nothing.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Final

import msgspec
import numpy as np

from p33_pipeline.review.judge import Judged
from p33_pipeline.review.rules import TOLERANCE_STEP, tolerance_units
from p33_sidecar.core.model import Policy
from p33_sidecar.core.quantity import product

STALE_FACTORS: Final = ["0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "1.2", "1.5", "2", "3"]
COOLDOWN_FACTORS: Final = ["0", "0.2", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1", "1.2", "1.5", "2"]
TOLERANCE_FACTORS: Final = ["0", "0.1", "0.25", "0.5", "0.75", "1", "1.5", "2", "3", "5"]
POLL_FACTORS: Final = ["1", "1.5", "2", "3", "4"]

DENIED, HARMLESS, HARMFUL = range(3)
"""The kinds: what no threshold can allow, and what an ALLOW would have done."""


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

    @property
    def lots(self) -> tuple[int, int, int, int]:
        """Kinds, and for each axis but the poll intervals' how many of its values may deny."""
        return HARMFUL + 1, *(length + 1 for length in self.shape[1:])

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
    """The values, or the multiples of `own`, cut to as many places as can be compared exactly."""
    chosen = values or tuple(product(own, Decimal(factor)).quantize(TOLERANCE_STEP, ROUND_DOWN)
                             for factor in TOLERANCE_FACTORS)
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


class Cells(msgspec.Struct, frozen=True):
    """Verdicts at one interval by their lot: how many, what an ALLOW would put at risk, what a denial would cost.

    Cells of stretches add up.
    """

    count: np.ndarray
    cents: np.ndarray
    lost_ms: np.ndarray

    def __add__(self, other: Cells) -> Cells:
        return Cells(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


def lots_of(grid: Grid, judged: Judged) -> np.ndarray:
    """Every verdict's lot."""
    _, stales, cooldowns, tolerances = grid.lots
    closable, harmful, tolerance_denies = (judged.told(name) for name in ("closable", "harmful", "tolerance_denies"))
    kind = np.where(closable, np.where(harmful, HARMFUL, HARMLESS), DENIED)
    by_fact = (kind * stales * cooldowns * tolerances + tolerance_denies).astype(np.int32)
    lot = by_fact[judged.fact] + (judged.stale_denies * cooldowns + judged.cooldown_denies) * tolerances
    return np.where(judged.timely, lot, 0).astype(np.min_scalar_type(int(np.prod(grid.lots))))


def risky(grid: Grid, lot: np.ndarray) -> np.ndarray:
    """The places of those of which an ALLOW can be had and is wrong."""
    return np.flatnonzero(lot >= HARMFUL * int(np.prod(grid.lots[1:])))


def cells_of(grid: Grid, lot: np.ndarray, places: np.ndarray, cents: np.ndarray, lost_ms: np.ndarray) -> Cells:
    """The cells of a stretch. `cents` belongs to its `places` at risk, the rest to all of it."""
    return Cells(_sums(grid, lot, 1), _sums(grid, lot[places], cents), _sums(grid, lot, lost_ms))


def counts_of(cells: list[Cells]) -> Counts:
    """What every policy would have done, by the cells of each interval."""
    planes = []
    for plane in cells:
        denied, harmless, harmful = plane.count
        wrong, right, lost_ms = _allowed(harmful), _allowed(harmless), plane.lost_ms[HARMLESS]
        planes.append((wrong, right, harmless.sum() - right, harmful.sum() - wrong + denied.sum(),
                       _allowed(plane.cents[HARMFUL]), lost_ms.sum() - _allowed(lost_ms)))
    return Counts(*(np.stack(part) for part in zip(*planes, strict=True)))


def _sums(grid: Grid, lot: np.ndarray, values: np.ndarray | int) -> np.ndarray:
    """The values by lot, added up in integers."""
    sums = np.zeros(int(np.prod(grid.lots)), np.int64)
    np.add.at(sums, lot, values)
    return sums.reshape(grid.lots)


def _allowed(cells: np.ndarray) -> np.ndarray:
    """What the policy at each place allows: the sum of the cells whose cases none of its three values denies.

    Stale threshold and tolerance allow a case from the place on that its count names; of C cooldowns the one at place
    c allows what at most C - 1 - c of them deny.
    """
    upto = cells[:-1, :, :-1].cumsum(axis=0).cumsum(axis=1).cumsum(axis=2)
    return upto[:, -2::-1]
