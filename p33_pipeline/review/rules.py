"""The checks of `core.decide` as SQL, on distinct facts: what a verdict rested on, without its times.

Thousands of verdicts rest on the same amounts; each combination is judged once, exactly. What a verdict's times say is
added in `judge`. A test holds both to `core.decide` on random facts; change them together or not at all.

Facts: DuckDB multiplies DECIMAL(38,18) by an integer and takes `%` exactly, or raises; it divides in floating point,
so nothing here divides: quantities are compared in quarters, tolerances in ten-thousandths of a percent. What messages
may put at any size, books and upper bounds, counts as `LARGEST` at most: far above every position, so no verdict is
changed by it, and no product leaves its type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from p33_sidecar.core.quantity import scaled

TOLERANCE_PLACES: Final = 4
"""Places of a tolerance in percent that the comparison keeps exactly."""
LARGEST: Final = 100_000_000_000
CENTS_MOST: Final = 10**15
TOLERANCE_STEP: Final = Decimal(1).scaleb(-TOLERANCE_PLACES)


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


_CLOSABLE: Final = """
    amt IS NOT NULL AND book IS NOT NULL AND step IS NOT NULL AND quarters IS NOT NULL
    AND abs(amt) >= step
    AND NOT (amt < 0 AND book > 0) AND NOT (amt > 0 AND book < 0)
    AND (sells IS NULL OR amt = 0 OR sells = (amt > 0))
    AND closed4 >= greatest(least_qty, step) * 4
"""
"""Everything about amounts but the tolerance."""


def judged_facts(db: duckdb.DuckDBPyConnection, facts: pa.Table, *, tolerance_pct: Sequence[Decimal],
                 material_pct: Decimal) -> pa.Table:
    """Row by row of `facts` (the columns of `verdicts.TERMS`, `truth`, `amt`), in order.

    `closable`: no check of amounts but the tolerance denies. `tolerance_denies`: so many of the tolerances, from the
    strict end, deny. `harmful`: an ALLOW would have closed more than the plan may close of the true position, or the
    other side, or the book was off the truth by more than `material_pct`; `excess4`: four times by how much.
    """
    with db.cursor() as own:  # a connection of the caller's thread alone
        own.register("facts_given", facts.append_column("n", pa.array(np.arange(facts.num_rows))))
        return own.sql(f"""
            WITH sized AS (
                SELECT * REPLACE (greatest(least(book, {LARGEST}), -{LARGEST})::DECIMAL(38,18) AS book,
                                  least(bound, {LARGEST})::DECIMAL(38,18) AS bound),
                       abs(amt) AS held, abs(truth) AS truly
                FROM facts_given
            ), measured AS (
                SELECT *, {quarters_closed("held")} AS closed4, abs(amt - book) AS apart,
                       (amt > 0) = (truth > 0) AND truth <> 0 AS same
                FROM sized
            ), compared AS (
                SELECT *, abs(book - truth) * 1000000 > abs(truth) * {tolerance_units(material_pct)} AS book_off,
                       greatest(closed4 - CASE WHEN same THEN {quarters_closed("truly")} ELSE 0 END, 0) AS excess4
                FROM measured
            )
            SELECT closed4, coalesce({_CLOSABLE}, false) AS closable,
                ({_count(f"apart * 1000000 > abs(amt) * {tolerance_units(pct)}" for pct in tolerance_pct)})::UTINYINT
                    AS tolerance_denies,
                coalesce(excess4 > 0 OR book_off, false) AS harmful,
                CAST(CASE WHEN excess4 > 0 THEN excess4 WHEN book_off THEN abs(book - truth) * 4 ELSE 0 END
                     AS DECIMAL(20,6)) AS excess4
            FROM compared ORDER BY n""").to_arrow_table()  # noqa: S608 - only column names and integers of ours


def cents(db: duckdb.DuckDBPyConnection, excess4: pa.Array, price: pa.Array) -> pa.Array:
    """What a quarter's excess is worth at the mark price, in whole cents; an unknown price counts as 0."""
    with db.cursor() as own:
        own.register("excess_given", pa.table({"n": np.arange(len(excess4)), "excess4": excess4, "price": price}))
        return own.sql(f"""
            SELECT CAST(least(trunc(excess4 * coalesce(CAST(price AS DECIMAL(17,8)), 0) * 25), {CENTS_MOST}) AS BIGINT)
                AS cents
            FROM excess_given ORDER BY n""").to_arrow_table()["cents"].combine_chunks()  # noqa: S608 - an integer of ours


def _count(conditions: Iterable[str]) -> str:
    """SQL: how many of the conditions hold; one that is not known does not."""
    return " + ".join(f"coalesce(({condition})::INTEGER, 0)" for condition in conditions)
