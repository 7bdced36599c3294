"""The cases as arrays, sorted by symbol and time: what the review computes with.

Amounts are places in one list, so that no decimal is touched again until the few distinct combinations are judged.
Times and ages are milliseconds in int64; what is not known is `UNKNOWN`, which is below every age and time.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from p33_pipeline.review.coded import coded, combined, unified
from p33_pipeline.review.lines import Line, at

UNKNOWN: Final = -(2**62)
NEVER: Final = 2**62
"""The age of the last order where there was none."""
TERMS: Final = ("book", "step", "least_qty", "most_qty", "bound", "quarters", "sells")
"""What a verdict rests on besides the position: the book, the exchange's grid, the plan."""


class Verdicts(msgspec.Struct, frozen=True):
    """Cases by symbol, time and entry.

    `symbol` is a place in `symbols`, `amt` and `truth` are places in `amounts`, `price` in `prices`, `terms` a row of
    `all_terms`; -1 is not known. `next_ms`: when the symbol was next judged. `reply`: the place of the last reply.
    """

    symbols: list[str]
    amounts: pa.Array
    prices: pa.Array
    all_terms: pa.Table
    symbol: np.ndarray
    at_ms: np.ndarray
    entry_ms: np.ndarray
    seq: np.ndarray
    sound: np.ndarray
    amt: np.ndarray
    truth: np.ndarray
    terms: np.ndarray
    price: np.ndarray
    snapshot_ms: np.ndarray
    age_ms: np.ndarray
    order_age_ms: np.ndarray
    released_ms: np.ndarray
    next_ms: np.ndarray
    reply: np.ndarray

    def only(self, which: np.ndarray) -> Verdicts:
        """The verdicts of a mask or of places."""
        return msgspec.structs.replace(self, **{
            name: column[which] for name in self.__struct_fields__
            if isinstance(column := getattr(self, name), np.ndarray)})


class Replies(msgspec.Struct, frozen=True):
    """Every reply about a symbol, by symbol and arrival; `polls`: when each poll began, ascending."""

    line: Line
    requested_ms: np.ndarray
    amt: np.ndarray
    polls: np.ndarray


def verdicts_of(cases: pa.Table, seen: pa.Table, truths: pa.Table) -> tuple[Verdicts, Replies]:
    """The arrays. `seen`: each reply (`symbol`, `requested_ms`, `received_ms`, `amt`) in the order of the last two;
    `truths`: where a symbol's truth changes (`symbol`, `at_ms`, `truth`), in order."""
    symbol, symbols = coded(cases["symbol"])
    order = _order(symbol, *(cases[name].to_numpy() for name in ("at_ms", "entry_ms", "seq")))
    symbol = symbol[order]
    column = {name: cases[name].combine_chunks().take(pa.array(order)) for name in cases.column_names}
    at_ms = _ms(column["at_ms"], UNKNOWN)
    line, replied = _line(seen, "received_ms", symbols)
    changes, changed = _line(truths, "at_ms", symbols)
    (amt, known, truth), amounts = unified(coded(column["amt"]), coded(replied["amt"]), coded(changed["truth"]))
    terms, first = combined(*(coded(column[name])[0] for name in TERMS))
    price, prices = coded(column["mark_price"])
    verdicts = Verdicts(
        symbols=symbols.to_pylist(), amounts=amounts, prices=prices, terms=terms,
        all_terms=pa.table({name: column[name].take(pa.array(first)) for name in TERMS}),
        symbol=symbol, at_ms=at_ms, entry_ms=_ms(column["entry_ms"], UNKNOWN), seq=_ms(column["seq"], UNKNOWN),
        sound=column["sound"].to_numpy(zero_copy_only=False), amt=amt, price=price,
        truth=at(truth, changes.places(symbol, at_ms), -1), reply=line.places(symbol, at_ms),
        snapshot_ms=_ms(column["snapshot_ms"], UNKNOWN), age_ms=_ms(column["snapshot_age_ms"], UNKNOWN),
        order_age_ms=_ms(column["order_age_ms"], NEVER), released_ms=_ms(column["released_ms"], NEVER),
        next_ms=np.where(np.append(symbol[1:], -1) == symbol, np.append(at_ms[1:], 0), NEVER))
    requested_ms = replied["requested_ms"].to_numpy()
    return verdicts, Replies(line, requested_ms, known, np.unique(seen["requested_ms"].to_numpy()))


def _order(symbol: np.ndarray, at_ms: np.ndarray, entry_ms: np.ndarray, seq: np.ndarray) -> np.ndarray:
    """By symbol, time, entry. The archive is in the order of entries: most often only symbols are to be parted."""
    later = np.zeros(max(len(symbol) - 1, 0), bool)
    same = ~later
    for values in (at_ms, entry_ms, seq):
        later |= same & (values[1:] > values[:-1])
        same &= values[1:] == values[:-1]
    few = symbol.astype(np.int16) if symbol.max(initial=0) < 2**15 else symbol  # two bytes sort in linear time
    if (later | same).all():
        return np.argsort(few, kind="stable")
    order = np.lexsort((seq, entry_ms, at_ms))
    return order[np.argsort(few[order], kind="stable")]


def _line(events: pa.Table, time: str, symbols: pa.Array) -> tuple[Line, dict[str, pa.Array]]:
    """The events of known symbols by symbol and time, and their columns in that order."""
    symbol = pc.fill_null(pc.index_in(events["symbol"], symbols), -1).to_numpy()
    at_ms = events[time].to_numpy()
    order = np.argsort(symbol, kind="stable")
    order = order[symbol[order] >= 0]
    places = pa.array(order)
    return Line(symbol[order], at_ms[order]), {name: events[name].combine_chunks().take(places)
                                               for name in events.column_names}


def _ms(column: pa.Array, unknown: int) -> np.ndarray:
    return pc.fill_null(column, unknown).to_numpy()
