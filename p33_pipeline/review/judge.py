"""Each verdict at one poll interval: where it lies on the axes of the grid, and what an ALLOW would have done.

A judged threshold only moves a line through what was measured. So a verdict is told by where that line lies on each
axis: how many of the axis' values deny it. Everything else is one boolean, `closable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from p33_pipeline.review.coded import combined, gathered
from p33_pipeline.review.replies import Look
from p33_pipeline.review.rules import cents, judged_facts
from p33_pipeline.review.verdicts import TERMS, Verdicts

SKEW_MS = 1_000
"""A snapshot may be so much younger than the verdict that rests on it."""


class Judged(msgspec.Struct, frozen=True):
    """For each verdict. `stale_denies` and `tolerance_denies` count from the strict end of their axis (the first so
    many values deny), `cooldown_denies` from the long end (the last so many deny). `facts` says what it rests on."""

    closable: np.ndarray
    harmful: np.ndarray
    stale_denies: np.ndarray
    cooldown_denies: np.ndarray
    tolerance_denies: np.ndarray
    fact: np.ndarray
    facts: pa.Table


def judge(db: duckdb.DuckDBPyConnection, verdicts: Verdicts, look: Look, *, stale_ms: Sequence[int],
          cooldown_ms: Sequence[int], tolerance_pct: Sequence[Decimal], material_pct: Decimal) -> Judged:
    """Every verdict; axes ascend."""
    fact, first = combined(verdicts.terms, look.amt, verdicts.truth)
    facts = judged_facts(db, _facts(verdicts, look, first), tolerance_pct=tolerance_pct, material_pct=material_pct)
    closable, harmful, tolerance_denies = (
        facts[name].to_numpy()[fact] for name in ("closable", "harmful", "tolerance_denies"))
    closable &= verdicts.sound & (look.age_ms >= -SKEW_MS) & (look.age_ms < verdicts.order_age_ms)
    closable &= (verdicts.released_ms == 0) | (look.snapshot_ms > verdicts.released_ms)
    rest = np.searchsorted(np.array(cooldown_ms), verdicts.order_age_ms, side="right")
    return Judged(
        closable, harmful, np.searchsorted(np.array(stale_ms), look.age_ms, side="left"), len(cooldown_ms) - rest,
        tolerance_denies, fact, facts)


def _facts(verdicts: Verdicts, look: Look, rows: np.ndarray) -> pa.Table:
    """What the verdicts of these rows rest on."""
    terms = verdicts.all_terms.take(pa.array(verdicts.terms[rows]))
    known = {name: gathered(verdicts.amounts, places[rows]) for name, places in (("amt", look.amt),
                                                                                ("truth", verdicts.truth))}
    return pa.table({**{name: terms[name] for name in TERMS}, **known})


def wrong_cents(db: duckdb.DuckDBPyConnection, verdicts: Verdicts, judged: Judged, which: np.ndarray) -> np.ndarray:
    """What an ALLOW of these verdicts (their places) would have put at risk, in cents."""
    return cents(db, gathered(judged.facts["excess4"].combine_chunks(), judged.fact[which]),
                 gathered(verdicts.prices, verdicts.price[which])).to_numpy()
