"""All verdicts before all policies: stretch by stretch, several at a time, and what they come to added up.

What a stretch leaves is small: sums by cell, by hour and by symbol, and of every verdict its lot. So the time of a
policy does not grow with the verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import duckdb
import msgspec
import numpy as np

from p33_pipeline.review.changes import HOUR_MS, Changes, Pair, Rule, changes_of
from p33_pipeline.review.grid import Cells, Grid, cells_of, lots_of, risky
from p33_pipeline.review.judge import Facts, Judged, judge, wrong_cents
from p33_pipeline.review.replies import Replies, thinned
from p33_pipeline.review.stretches import each, stretches
from p33_pipeline.review.verdicts import Verdicts


class Court(msgspec.Struct, frozen=True):
    """What the verdicts are judged by. `kept`: for each longer interval the polls it keeps (`Replies.last_kept`)."""

    db: duckdb.DuckDBPyConnection
    replies: Replies
    kept: dict[int, np.ndarray]
    grid: Grid
    facts: Facts
    lost_cap_ms: int

    def heard(self, verdicts: Verdicts) -> tuple[list[Cells], np.ndarray]:
        """What every policy of the grid needs: for each interval the cells, and a row with the verdicts' lots.

        Verdicts whose truth is not known are in no cell, and their lot is 0: no policy allows or wrongs them.
        """
        def heard(stretch: slice) -> tuple[list[Cells], np.ndarray]:
            part = verdicts.only(stretch)
            known = part.known
            if not known.all():
                part = part.only(known)
            judged = self._judged(part, self.grid.poll_ms)
            lots = np.stack([lots_of(self.grid, look) for look in judged])
            places = [risky(self.grid, lot) for lot in lots]
            cents, lost_ms = wrong_cents(self.db, part, judged, places), part.lost_ms(self.lost_cap_ms)
            told = np.zeros((len(lots), len(known)), lots.dtype)
            told[:, known] = lots
            return [cells_of(self.grid, *look, lost_ms) for look in zip(lots, places, cents, strict=True)], told

        planes, lots = zip(*each(heard, stretches(len(verdicts.at_ms))), strict=True)
        return [reduce(add, plane) for plane in zip(*planes, strict=True)], np.concatenate(lots, axis=1)

    def hours(self, verdicts: Verdicts) -> np.ndarray:
        """Those in which something was judged, ascending, in hours since 1970."""
        def hours(stretch: slice) -> np.ndarray:
            hour = verdicts.at_ms[stretch][verdicts.known[stretch]] // HOUR_MS
            return np.unique(hour[np.append(True, hour[1:] != hour[:-1])[:len(hour)]])  # few are left of those in a row

        return np.unique(np.concatenate(each(hours, stretches(len(verdicts.at_ms)))))

    def changes(self, verdicts: Verdicts, lots: Pair, rules: tuple[Rule, Rule], hours: np.ndarray) -> Changes:
        """What becomes of the verdicts when one rule takes the place of the other."""
        def changes(stretch: slice) -> Changes:
            part, own = verdicts.only(stretch), tuple(lot[stretch] for lot in lots)
            return changes_of(part, own, rules, hours=hours, lost_ms=part.lost_ms(self.lost_cap_ms))

        return reduce(add, each(changes, stretches(len(verdicts.at_ms))))

    def cents(self, verdicts: Verdicts, poll_ms: Sequence[int]) -> np.ndarray:
        """What an ALLOW of each would put at risk at the worst of these intervals."""
        judged = self._judged(verdicts, poll_ms)
        return np.maximum.reduce(wrong_cents(self.db, verdicts, judged, [np.arange(len(verdicts.at_ms))] * len(judged)))

    def _judged(self, part: Verdicts, poll_ms: Sequence[int]) -> list[Judged]:
        """The stretch at these intervals."""
        looks = [thinned(self.replies, self.kept[ms], part) if ms in self.kept else part.own for ms in poll_ms]
        return judge(self.facts, part, looks, stale_ms=self.grid.stale_ms, cooldown_ms=self.grid.cooldown_ms)
