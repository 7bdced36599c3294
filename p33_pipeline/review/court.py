"""All verdicts before all policies: stretch by stretch, several at a time, and what they come to added up.

A stretch is short enough for its arrays to stay beside the processor, and what it leaves is small: counts by cell,
sums by hour and by symbol, the earliest flips. So the time of a policy does not grow with the verdicts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import reduce
from operator import add
from typing import TypeVar

import duckdb
import msgspec
import numpy as np

from p33_pipeline.review.changes import Changes, changes_of, side_of
from p33_pipeline.review.grid import Cells, Counts, Grid, cells_of, counts_of
from p33_pipeline.review.judge import Judged, judge, wrong_cents
from p33_pipeline.review.replies import Replies, thinned
from p33_pipeline.review.verdicts import Verdicts

Place = tuple[int, int, int, int]
Some = TypeVar("Some")


class Court(msgspec.Struct, frozen=True):
    """What the verdicts are judged by. `kept`: for each longer interval the polls it keeps (`Replies.last_kept`)."""

    db: duckdb.DuckDBPyConnection
    replies: Replies
    kept: dict[int, np.ndarray]
    grid: Grid
    material_pct: Decimal
    lost_cap_ms: int

    def counts(self, verdicts: Verdicts, *, unsound: int) -> Counts:
        """What every policy of the grid would have done; `unsound` more verdicts are denied by all, rightly."""
        polls = range(len(self.grid.poll_ms))

        def cells(part: Verdicts) -> list[Cells]:
            return [cells_of(self.grid, judged, wrong_cents=wrong_cents(self.db, part, judged, judged.risky),
                             lost_ms=part.lost_ms(self.lost_cap_ms)) for judged in self._judged(part, polls)]

        planes = zip(*_each(cells, verdicts.parts()), strict=True)
        return counts_of([reduce(add, plane) for plane in planes], unsound=unsound)

    def changes(self, verdicts: Verdicts, hours: np.ndarray, own: Place, at: Place) -> Changes:
        """What becomes of the verdicts when the policy at a place takes the place of the one in force."""
        def changes(part: Verdicts) -> Changes:
            polls = sorted({own[0], at[0]})
            judged = dict(zip(polls, self._judged(part, polls), strict=True))
            now, then = (side_of(judged[place[0]], self.grid, place) for place in (own, at))
            return changes_of(self.db, part, now, then, hours=hours, lost_ms=part.lost_ms(self.lost_cap_ms))

        return reduce(add, _each(changes, verdicts.parts()))

    def _judged(self, part: Verdicts, polls: Sequence[int]) -> list[Judged]:
        """The stretch at these places of the poll axis."""
        intervals = [self.grid.poll_ms[place] for place in polls]
        looks = [thinned(self.replies, self.kept[poll_ms], part) if poll_ms in self.kept else part.own
                 for poll_ms in intervals]
        return judge(self.db, part, looks, stale_ms=self.grid.stale_ms, cooldown_ms=self.grid.cooldown_ms,
                     tolerance_pct=self.grid.tolerance_pct, material_pct=self.material_pct)


def _each(work: Callable[[Verdicts], Some], parts: Sequence[Verdicts]) -> list[Some]:
    """The work done on every stretch, in order; most of it runs outside of the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, parts))
