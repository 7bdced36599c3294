"""The checks of `core.decide` as SQL over cases, arranged so that a whole grid of policies follows from one pass.

A judged threshold only moves a line through what was measured. So a case is told by where that line lies on each
axis: how many of the axis' values deny it. Everything else is one boolean, `closable`. A test holds these rules
to `core.decide` on random facts; change them together or not at all.

Facts: DuckDB multiplies DECIMAL(38,18) by an integer and takes `%` exactly, or raises; it divides in floating point,
so nothing here divides: quantities are compared in quarters, tolerances in ten-thousandths of a percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from p33_sidecar.core.quantity import scaled

TOLERANCE_PLACES: Final = 4
"""Places of a tolerance in percent that the comparison keeps exactly."""


def tolerance_units(pct: Decimal) -> int:
    """A tolerance in ten-thousandths of a percent. Raises ValueError for one that has more places than that."""
    units = scaled(pct, TOLERANCE_PLACES)
    if units != int(units):
        raise ValueError(f"a tolerance has at most {TOLERANCE_PLACES} decimal places: {pct}")
    return int(units)


def quarters_closed(held: str) -> str:
    """SQL: four times the largest legal close of a position of size `held` (not negative), on the exchange's grid."""
    most = f"least(quarters * {held}, CASE WHEN bound > 0 THEN bound * 4 ELSE quarters * {held} END, most_qty * 4)"
    anchor = "(least_qty % step) * 4"
    return (f"CASE WHEN {most} < {anchor} THEN 0::DECIMAL(38,18) "
            f"ELSE {most} - ({most} - {anchor}) % (step * 4) END")


CLOSABLE: Final = """
    sound AND trusted AND NOT waiting
    AND amt IS NOT NULL AND book IS NOT NULL AND step IS NOT NULL AND quarters IS NOT NULL
    AND snapshot_age_ms IS NOT NULL AND snapshot_age_ms >= -{skew_ms}
    AND abs(amt) >= step
    AND NOT (amt < 0 AND book > 0) AND NOT (amt > 0 AND book < 0)
    AND (closing_side IS NULL OR amt = 0 OR (closing_side = 'SELL') = (amt > 0))
    AND (order_age_ms IS NULL OR snapshot_age_ms < order_age_ms)
    AND (released_ms = 0 OR snapshot_ms > released_ms)
    AND closed4 >= greatest(least_qty, step) * 4
"""
"""Everything but the three judged thresholds."""


def judged_sql(*, source: str, stale_ms: Sequence[int], cooldown_ms: Sequence[int], tolerance_pct: Sequence[Decimal],
               skew_ms: int = 1_000) -> str:
    """SELECT: each row of `source` with `closable`, `closed4` and, for each axis, how many of its values deny it.

    `stale_denies` counts from the strict end (the first so many values deny), `cooldown_denies` from the long end
    (the last so many deny), `tolerance_denies` from the strict end. Axes ascend.
    """
    return f"""
        WITH measured AS (
            SELECT *, {quarters_closed("abs(amt)")} AS closed4, abs(amt - book) AS apart FROM {source}
        )
        SELECT * EXCLUDE (apart), coalesce({CLOSABLE.format(skew_ms=skew_ms)}, false) AS closable,
            {_count(f"snapshot_age_ms > {limit}" for limit in stale_ms)} AS stale_denies,
            {_count(f"order_age_ms < {limit}" for limit in cooldown_ms)} AS cooldown_denies,
            {_count(f"apart * 1000000 > abs(amt) * {tolerance_units(pct)}" for pct in tolerance_pct)}
                AS tolerance_denies
        FROM measured"""  # noqa: S608 - only column names and integers of ours are put in


def _count(conditions) -> str:
    """SQL: how many of the conditions hold; one that is not known does not."""
    return " + ".join(f"coalesce(({condition})::INTEGER, 0)" for condition in conditions)
