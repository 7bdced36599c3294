"""The exchange's replies as a matrix of symbols and polls, and what a verdict would have seen at a longer interval.

Of the polls the first is kept, then each that began at least the interval after the last one kept. A snapshot that was
older than that already stays what it was. A refresh on demand is not played: a longer interval is judged without.
A verdict's place among all polls is looked up once; each interval then costs a gather.
"""

from __future__ import annotations

from typing import Final, Protocol

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from p33_pipeline.review.coded import coded, places_in

UNKNOWN: Final = -(2**62)
"""A time or an age that is not known: below every one that is."""


class Replies(msgspec.Struct, frozen=True):
    """Every good poll in the order of arrival, and what it said of each symbol; before them, at place 0, no poll.

    `amt`, by symbol and poll, is a place in `amounts`; -1 where the reply could not tell: a symbol it did not know,
    or listed twice, as in hedge mode. No poll has the time `UNKNOWN`, and tells nothing.
    """

    requested_ms: np.ndarray
    received_ms: np.ndarray
    amt: np.ndarray
    amounts: pa.Array

    def last_at(self, at_ms: np.ndarray) -> np.ndarray:
        """The place of the poll that had arrived last."""
        return (np.searchsorted(self.received_ms, at_ms, side="right") - 1).astype(np.int32)

    def last_kept(self, poll_ms: int) -> np.ndarray:
        """For each symbol and poll the last poll up to it that an interval keeps and that could tell."""
        kept = np.isin(self.requested_ms, _every(np.unique(self.requested_ms[1:]), poll_ms))
        places = np.where(kept & (self.amt >= 0), np.arange(len(kept), dtype=np.int32), np.int32(0))
        return np.maximum.accumulate(places, axis=1)


class Look(msgspec.Struct, frozen=True):
    """What each verdict saw: the amount (-1: none), when it was taken, how old it was."""

    amt: np.ndarray
    snapshot_ms: np.ndarray
    age_ms: np.ndarray


class Seeing(Protocol):
    """What `thinned` needs of the verdicts. `reply`: the place of the poll that had arrived last."""

    symbol: np.ndarray
    at_ms: np.ndarray
    reply: np.ndarray
    own: Look


def replies_of(db: duckdb.DuckDBPyConnection, symbols: pa.Array) -> Replies:
    """The replies in the relation `snapshots` about these symbols."""
    polls = db.sql("""
        SELECT epoch_ms(requested_at) AS requested_ms, epoch_ms(received_at) AS received_ms,
               [p.symbol FOR p IN positions] AS symbols, [p.position_amt FOR p IN positions] AS amounts,
               unknown_symbols
        FROM snapshots WHERE outcome = 'ok' AND requested_at IS NOT NULL AND received_at IS NOT NULL
        """).to_arrow_table().combine_chunks()
    poll, symbol = _listed(polls["symbols"], symbols)
    held, amounts = coded(pc.list_flatten(polls["amounts"]))
    amounts = pa.concat_arrays([amounts, pa.array([0], amounts.type)])  # what is not listed is not held
    amt = np.full((len(symbols), polls.num_rows), len(amounts) - 1, np.int32)
    ours = symbol >= 0
    amt[symbol[ours], poll[ours]] = held[ours]
    told = np.bincount(symbol[ours] * np.int64(polls.num_rows) + poll[ours], minlength=amt.size).reshape(amt.shape)
    amt[told > 1] = -1
    poll, symbol = _listed(polls["unknown_symbols"], symbols)
    amt[symbol[symbol >= 0], poll[symbol >= 0]] = -1
    requested_ms, received_ms = (polls[name].to_numpy() for name in ("requested_ms", "received_ms"))
    order = np.lexsort((requested_ms, received_ms))
    no_poll = np.full((len(symbols), 1), -1, np.int32)
    return Replies(np.append(UNKNOWN, requested_ms[order]), np.append(UNKNOWN, received_ms[order]),
                   np.concatenate((no_poll, amt[:, order]), axis=1), amounts)


def _listed(texts: pa.ChunkedArray, symbols: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The poll and the symbol of each entry of a column of lists; -1 for a symbol that is none of ours."""
    return (pc.list_parent_indices(texts).to_numpy().astype(np.int64), places_in(symbols, pc.list_flatten(texts)))


def thinned(replies: Replies, kept: np.ndarray, verdicts: Seeing) -> Look:
    """What the verdicts would have seen at an interval; `kept` is its `Replies.last_kept`."""
    own, row = verdicts.own, verdicts.symbol * np.int64(kept.shape[1])
    place = kept.reshape(-1)[row + verdicts.reply]  # flat places: found faster than those of a row and a column
    requested_ms = replies.requested_ms[place]
    stays = (own.snapshot_ms != UNKNOWN) & (own.snapshot_ms <= requested_ms)
    return Look(np.where(stays, own.amt, replies.amt.reshape(-1)[row + place]),
                np.where(stays, own.snapshot_ms, requested_ms),
                np.where(stays, own.age_ms, np.where(place > 0, verdicts.at_ms - requested_ms, UNKNOWN)))


def _every(polls: np.ndarray, poll_ms: int) -> np.ndarray:
    """The polls that stay at an interval."""
    kept, place = [], 0
    while place < len(polls):
        kept.append(polls[place])
        place = int(np.searchsorted(polls, polls[place] + poll_ms))
    return np.array(kept, np.int64)
