"""What a position really was at a moment, according to the exchange's own trades, pinned down by its snapshots.

Between two snapshots a position is an unknown constant plus the trades so far. Where two snapshots give the same
constant, the trades explain everything between them and the truth there is known; where they do not (a trade that was
not archived, an account changed without one), it is not known, and no verdict there is judged. A snapshot that
contradicts agreeing neighbours on both sides was itself late and bends no truth.

A trade while a snapshot was under way may or may not be in it: both are tried. Amounts are coded (see `coded`): sums
and differences are taken once for each pair of amounts that occurs.
"""

from __future__ import annotations

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from p33_pipeline.history.tables import AMOUNT, MOVED
from p33_pipeline.review.coded import coded, combined, gathered, places_in
from p33_pipeline.review.lines import Line, at
from p33_pipeline.review.replies import Replies


class Truth(msgspec.Struct, frozen=True):
    """The moments at which a symbol's true position changes, and to what: places in `amounts`, -1 is not known."""

    line: Line
    amt: np.ndarray
    amounts: pa.Array


def truth_of(db: duckdb.DuckDBPyConnection, replies: Replies, symbols: pa.Array) -> Truth:
    """From the replies about the symbols and from the trades of the relation `trades`."""
    moves, total, totals = _moves(db, symbols)
    constants, constant, known = _constants(db, replies, moves, total, totals)
    symbol = np.concatenate((constants.symbol, moves.symbol))
    at_ms = np.concatenate((constants.at_ms, moves.at_ms))
    order = np.lexsort((at_ms, symbol))
    line = Line(symbol[order], at_ms[order])
    amt, amounts = _put_together(
        db, "+", (at(constant, constants.places(line.symbol, line.at_ms), -1), known),
        (at(total, moves.places(line.symbol, line.at_ms), -1), totals))
    kept = _changes(line.symbol, amt)
    return Truth(Line(line.symbol[kept], line.at_ms[kept]), amt[kept], amounts)


def _moves(db: duckdb.DuckDBPyConnection, symbols: pa.Array) -> tuple[Line, np.ndarray, pa.Array]:
    """Each symbol's trades in time, and their running total."""
    moves = db.sql(f"""
        SELECT symbol, at_ms, sum(moved) OVER (PARTITION BY symbol ORDER BY at_ms)::DECIMAL(38,18) AS total FROM (
            SELECT symbol, epoch_ms(traded_at) AS at_ms, sum({MOVED}) AS moved
            FROM trades WHERE traded_at IS NOT NULL GROUP BY ALL)""").to_arrow_table()  # noqa: S608 - a constant of ours
    symbol, at_ms = places_in(symbols, moves["symbol"]), moves["at_ms"].to_numpy()
    order = np.lexsort((at_ms, symbol))
    order = order[symbol[order] >= 0]
    total, totals = coded(moves["total"])
    return Line(symbol[order], at_ms[order]), total[order], totals


def _constants(db: duckdb.DuckDBPyConnection, replies: Replies, moves: Line, total: np.ndarray,
               totals: pa.Array) -> tuple[Line, np.ndarray, pa.Array]:
    """Where a symbol's constant changes, and to what."""
    polls = np.argsort(replies.requested_ms, kind="stable")
    symbol, place = np.nonzero(replies.amt[:, polls] >= 0)
    poll = polls[place]
    begun = Line(symbol, replies.requested_ms[poll])
    ways = [moves.places(symbol, ms[poll]) for ms in (replies.requested_ms, replies.received_ms)]
    held = np.tile(replies.amt[symbol, poll], 2)
    both, known = _put_together(db, "-", (held, replies.amounts), (at(total, np.concatenate(ways), -1), totals))
    early, late = both[:len(poll)], both[len(poll):]
    alone = np.append(symbol[1:], -1) != symbol
    next_early, next_late = (np.where(alone, -1, np.roll(way, -1)) for way in (early, late))
    agreed = np.where((early == next_early) | (early == next_late), early,
                      np.where((late == next_early) | (late == next_late), late, -1))
    before = at(agreed, begun.last(agreed >= 0), -1)
    after = at(agreed, begun.next(agreed >= 0), -1)
    constant = np.where(agreed >= 0, agreed, np.where(before == after, before, -1))
    kept = _changes(symbol, constant)
    return Line(symbol[kept], begun.at_ms[kept]), constant[kept], known


def _put_together(db: duckdb.DuckDBPyConnection, sign: str, first: tuple[np.ndarray, pa.Array],
                  second: tuple[np.ndarray, pa.Array]) -> tuple[np.ndarray, pa.Array]:
    """Sums or differences of coded amounts, coded. An unknown first stays so; an unknown second is nothing."""
    (left, lefts), (right, rights) = first, second
    place, rows = combined(left, right)
    db.register("pairs_given", pa.table({
        "n": np.arange(len(rows)), "a": gathered(lefts, left[rows]),
        "b": pc.fill_null(gathered(rights, right[rows]), pa.scalar(0, AMOUNT))}))
    try:
        question = f"SELECT (a {sign} b)::DECIMAL(38,18) AS amt FROM pairs_given ORDER BY n"  # noqa: S608 - a sign of ours
        found = db.sql(question).to_arrow_table()
    finally:
        db.unregister("pairs_given")
    codes, amounts = coded(found["amt"])
    return codes[place], amounts


def _changes(symbol: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Which of a symbol's rows, in time, differ from the one before."""
    if not len(symbol):
        return np.zeros(0, bool)
    return np.append(True, (symbol[1:] != symbol[:-1]) | (code[1:] != code[:-1]))
