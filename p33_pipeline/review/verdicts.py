"""The cases as arrays, nearly in the order of the archive: what the review computes with.

Amounts are places in one list, so that no decimal is touched again until the few distinct combinations are judged.
Times and ages are milliseconds in int64; what is not known is `UNKNOWN`, which is below every age and time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from p33_pipeline.review.coded import coded, combined, filled, gathered, unified
from p33_pipeline.review.lines import at
from p33_pipeline.review.replies import UNKNOWN, Look, Replies, replies_of
from p33_pipeline.review.stretches import each, stretches
from p33_pipeline.review.truth import truth_of

NEVER: Final = 2**62
"""The age of the last order where there was none."""
TERMS: Final = ("book", "step", "least_qty", "most_qty", "bound", "quarters", "sells")
"""What a verdict rests on besides the position: the book, the exchange's grid, the plan."""
_CODED: Final = ("symbol", "amt", "mark_price")
_WHOLE: Final = {"at_ms": UNKNOWN, "entry_ms": UNKNOWN, "seq": UNKNOWN, "snapshot_ms": UNKNOWN,
                 "snapshot_age_ms": UNKNOWN, "order_age_ms": NEVER, "released_ms": NEVER}
"""The columns of integers, and what stands for null in them."""


class Verdicts(msgspec.Struct, frozen=True):
    """Cases as they come.

    `symbol` is a place in `symbols`, `price` in `prices`, `amt` in `amounts`, `terms` a row of `all_terms`; -1 is not
    known. Once they are seen in hindsight the terms have a column `truth`, `known` says where there is one, `reply` is
    the place of the poll that had arrived last, and `next_ms` is when the symbol was next judged.
    """

    symbols: pa.Array
    amounts: pa.Array
    prices: pa.Array
    all_terms: pa.Table
    symbol: np.ndarray
    at_ms: np.ndarray
    entry_ms: np.ndarray
    seq: np.ndarray
    sound: np.ndarray
    terms: np.ndarray
    price: np.ndarray
    amt: np.ndarray
    snapshot_ms: np.ndarray
    age_ms: np.ndarray
    order_age_ms: np.ndarray
    released_ms: np.ndarray
    next_ms: np.ndarray
    known: np.ndarray
    reply: np.ndarray

    def only(self, which: np.ndarray | slice) -> Verdicts:
        """The verdicts of a mask, of places or of a stretch."""
        return msgspec.structs.replace(self, **{
            name: column[which] for name in self.__struct_fields__
            if isinstance(column := getattr(self, name), np.ndarray)})

    def lost_ms(self, cap_ms: int) -> np.ndarray:
        """How long a denial of each would cost: until the symbol was judged again, at most the cap."""
        return np.minimum(self.next_ms - self.at_ms, cap_ms)

    @property
    def own(self) -> Look:
        """What they saw."""
        return Look(self.amt, self.snapshot_ms, self.age_ms)


def verdicts_of(batches: Iterable[pa.RecordBatch], most: int) -> Verdicts:
    """All cases of the batches, in their order; there are at most so many."""
    whole = {name: np.empty(most, np.int64) for name in _WHOLE} | {"sound": np.empty(most, bool)}
    parts, count = defaultdict(list), 0
    for batch in batches:
        rows = slice(count, count + len(batch))
        count = rows.stop
        for name, unknown in _WHOLE.items():
            whole[name][rows] = filled(batch[name], unknown)
        whole["sound"][rows] = batch["sound"].to_numpy(zero_copy_only=False)
        for name, part in _coded(batch):
            parts[name].append(part)
    whole = {name: column[:count] for name, column in whole.items()}
    codes, values = {}, {}
    for name in _CODED:
        own, values[name] = unified(*parts.pop(name))
        codes[name] = np.concatenate(own)
    terms, all_terms = _unified_terms(parts.pop("terms"))
    unknown = np.full(len(terms), -1, np.int32)
    return Verdicts(
        symbols=values["symbol"], amounts=values["amt"], prices=values["mark_price"], all_terms=all_terms,
        symbol=codes["symbol"], at_ms=whole["at_ms"], entry_ms=whole["entry_ms"], seq=whole["seq"],
        sound=whole["sound"], terms=terms, price=codes["mark_price"], amt=codes["amt"],
        snapshot_ms=whole["snapshot_ms"], age_ms=whole["snapshot_age_ms"], order_age_ms=whole["order_age_ms"],
        released_ms=whole["released_ms"], next_ms=unknown, known=unknown >= 0, reply=unknown)


def _coded(batch: pa.RecordBatch) -> Iterator[tuple[str, Any]]:
    """A batch's amounts, texts and terms, coded by the batch's own values."""
    for name in _CODED:
        yield name, coded(batch[name])
    given = [coded(batch[name]) for name in TERMS]
    place, first = combined(*(codes for codes, _ in given))
    yield "terms", (place, pa.table([gathered(values, codes[first]) for codes, values in given], names=TERMS))


def _unified_terms(parts: list[tuple[np.ndarray, pa.Table]]) -> tuple[np.ndarray, pa.Table]:
    """Terms that were coded batch by batch, coded by the terms of all."""
    every = pa.concat_tables([own for _, own in parts])
    place, first = combined(*(coded(every[name])[0] for name in TERMS))
    return _replaced([codes for codes, _ in parts], place, [len(own) for _, own in parts]), every.take(first)


def _replaced(parts: Sequence[np.ndarray], place: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Parts that were coded each by a list of its own (of these sizes), coded by `place`, which is over all lists."""
    own_places = np.split(place.astype(np.int32), np.cumsum(sizes)[:-1])
    return np.concatenate([own[codes] for own, codes in zip(own_places, parts, strict=True)])


def _next(verdicts: Verdicts) -> np.ndarray:
    """When each one's symbol was next judged: found within each stretch of time, then from stretch to stretch."""
    order = _order(verdicts.at_ms, verdicts.entry_ms, verdicts.seq)
    follows = np.empty(len(order), np.int64)

    def within(stretch: slice) -> tuple[np.ndarray, ...]:
        place, kind = order[stretch], np.min_scalar_type(len(verdicts.symbols))  # two bytes sort in linear time
        place = place[np.argsort(verdicts.symbol[place].astype(kind), kind="stable")]
        symbol, at_ms = verdicts.symbol[place], verdicts.at_ms[place]
        other = np.flatnonzero(symbol[1:] != symbol[:-1])
        first, last = np.append(0, other + 1)[:len(symbol)], np.append(other, len(symbol) - 1)[:len(symbol)]
        follows[place[:-1]] = at_ms[1:]
        return symbol[first], at_ms[first], place[last]

    then = np.full(len(verdicts.symbols), NEVER)
    for symbol, first_ms, last in reversed(each(within, stretches(len(order)))):
        follows[last] = then[symbol]
        then[symbol] = first_ms
    return follows


def in_hindsight(db: duckdb.DuckDBPyConnection, verdicts: Verdicts) -> tuple[Verdicts, Replies]:
    """The verdicts with what was true, and the replies about their symbols; all amounts as places in one list."""
    with ThreadPoolExecutor(1) as beside:
        next_ms = beside.submit(_next, verdicts)
        replies = replies_of(db, verdicts.symbols)
        truth = truth_of(db, replies, verdicts.symbols)
    (amt, replied, true), amounts = unified(
        (verdicts.amt, verdicts.amounts), (replies.amt, replies.amounts), (truth.amt, truth.amounts))

    def seen(stretch: slice) -> tuple[np.ndarray, ...]:
        symbol, at_ms, own = verdicts.symbol[stretch], verdicts.at_ms[stretch], verdicts.terms[stretch]
        truly = at(true, truth.line.places(symbol, at_ms), -1)
        place, first = combined(own, truly)
        return truly >= 0, replies.last_at(at_ms), place, own[first], truly[first]

    known, reply, places, owns, trulies = zip(*each(seen, stretches(len(verdicts.at_ms))), strict=True)
    own, truly = np.concatenate(owns), np.concatenate(trulies)
    place, first = combined(own, truly)
    all_terms = verdicts.all_terms.take(pa.array(own[first])).append_column("truth", gathered(amounts, truly[first]))
    return (msgspec.structs.replace(
        verdicts, amt=amt, amounts=amounts, terms=_replaced(places, place, [len(part) for part in owns]),
        all_terms=all_terms, next_ms=next_ms.result(), known=np.concatenate(known), reply=np.concatenate(reply),
    ), msgspec.structs.replace(replies, amt=replied, amounts=amounts))


def _order(at_ms: np.ndarray, entry_ms: np.ndarray, seq: np.ndarray) -> np.ndarray:
    """By time, then entry. The cases are nearly in both orders, which sorts fast."""
    if seq.max(initial=0) >= 2**20:
        return np.lexsort((seq, entry_ms, at_ms))
    order = np.argsort(entry_ms * 2**20 + seq, kind="stable")
    return order[np.argsort(at_ms[order], kind="stable")]
