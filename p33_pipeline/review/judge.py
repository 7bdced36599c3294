"""Each verdict at one poll interval: where it lies on the axes of the grid, and what an ALLOW would have done.

A judged threshold only moves a line through what was measured. So a verdict is told by where that line lies on each
axis: how many of the axis' values deny it. Everything else is one boolean, `closable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from threading import Lock
from typing import Final, Literal

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from p33_pipeline.review.coded import combined, gathered, paired
from p33_pipeline.review.replies import Look
from p33_pipeline.review.rules import cents, judged_facts
from p33_pipeline.review.verdicts import Verdicts
from p33_sidecar.core.model import Policy

SKEW_MS: Final = Policy().skew_ms
"""A snapshot may be so much younger than the verdict that rests on it."""


class Judged(msgspec.Struct, frozen=True):
    """For each verdict. `stale_denies` counts from the strict end of its axis (the first so many values deny),
    `cooldown_denies` from the long end (the last so many deny). `fact` is the place in `facts` of what it rests on;
    `timely` says whether all that is no fact lets an ALLOW be."""

    timely: np.ndarray
    stale_denies: np.ndarray
    cooldown_denies: np.ndarray
    fact: np.ndarray
    facts: pa.Table

    def told(self, name: str) -> np.ndarray:
        """A column of the facts, fact by fact."""
        return self.facts[name].to_numpy()


class Facts:
    """What was judged already: pairs of a row of `all_terms` and an amount, each judged once for all stretches.

    Stretches may ask side by side. A question to DuckDB costs milliseconds, however few facts it is about.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, verdicts: Verdicts, *, tolerance_pct: Sequence[Decimal],
                 material_pct: Decimal) -> None:
        self._db, self._terms, self._amounts = db, verdicts.all_terms, verdicts.amounts
        self._how = {"tolerance_pct": tolerance_pct, "material_pct": material_pct}
        self._lock, self._keys, self._places = Lock(), np.empty(0, np.int64), np.empty(0, np.int64)
        self._told: list[pa.Table] = []

    def of(self, terms: np.ndarray, amt: np.ndarray) -> pa.Table:
        """The facts of these pairs, row by row; the pairs differ. An amount of -1 is none."""
        keys = terms * np.int64(len(self._amounts) + 1) + (amt + 1)
        with self._lock:
            places = self._found(keys)
            new = places < 0
            if new.any() or not self._told:
                self._judge(keys[new], terms[new], amt[new])
                places = self._found(keys)
            return pa.concat_tables(self._told).take(pa.array(places))

    def _found(self, keys: np.ndarray) -> np.ndarray:
        """Each key's place among what was told, or -1."""
        near = np.searchsorted(self._keys, keys)
        return np.where(np.append(self._keys, -1)[near] == keys, np.append(self._places, -1)[near], -1)

    def _judge(self, keys: np.ndarray, terms: np.ndarray, amt: np.ndarray) -> None:
        facts = self._terms.take(pa.array(terms)).append_column("amt", gathered(self._amounts, amt))
        self._told.append(judged_facts(self._db, facts, **self._how))
        order = np.argsort(keys)
        near = np.searchsorted(self._keys, keys[order])
        self._places = np.insert(self._places, near, len(self._keys) + order)
        self._keys = np.insert(self._keys, near, keys[order])


def judge(facts: Facts, verdicts: Verdicts, looks: Sequence[Look], *, stale_ms: Sequence[int],
          cooldown_ms: Sequence[int]) -> list[Judged]:
    """Every verdict at every look; axes ascend."""
    fact, terms, amt = paired(verdicts.terms, [look.amt for look in looks])
    found = facts.of(terms, amt)
    cooldown_denies = len(cooldown_ms) - _passed(tuple(cooldown_ms), verdicts.order_age_ms, side="right")
    return [Judged(_timely(verdicts, look), _passed(tuple(stale_ms), look.age_ms, side="left"), cooldown_denies,
                   here, found)
            for look, here in zip(looks, fact, strict=True)]


def _passed(axis: tuple[int, ...], ms: np.ndarray, *, side: Literal["left", "right"]) -> np.ndarray:
    """How many values of an axis lie below each time; with `side` right, not above it."""
    table = _table(axis, side)
    return table[np.clip(ms, -1, len(table) - 2) + 1]


@lru_cache(8)
def _table(axis: tuple[int, ...], side: Literal["left", "right"]) -> np.ndarray:
    """The same for every time from -1 to just after the last value: looked up it is found faster than by search."""
    return np.searchsorted(np.array(axis), np.arange(-1, axis[-1] + 2), side=side).astype(np.int32)


def _timely(verdicts: Verdicts, look: Look) -> np.ndarray:
    """What the verdict's times, and the checks that stay what they were, leave of an ALLOW."""
    return (verdicts.sound & (look.age_ms >= -SKEW_MS) & (look.age_ms < verdicts.order_age_ms)
            & ((verdicts.released_ms == 0) | (look.snapshot_ms > verdicts.released_ms)))


def wrong_cents(db: duckdb.DuckDBPyConnection, verdicts: Verdicts, judged: Sequence[Judged],
                which: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What an ALLOW would have put at risk, in cents, of the places `which` at each look of one `judge`."""
    fact = np.concatenate([look.fact[places] for look, places in zip(judged, which, strict=True)])
    price = np.concatenate([verdicts.price[places] for places in which])
    place, first = combined(fact, price)
    found = cents(db, gathered(judged[0].facts["excess4"].combine_chunks(), fact[first]),
                  gathered(verdicts.prices, price[first])).to_numpy()[place]
    return np.split(found, np.cumsum([len(places) for places in which])[:-1])
