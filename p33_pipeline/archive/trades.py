"""The exchange's own record into the archive: every trade of the account, with the client id of its order.

A trade is known by symbol and trade id. Each run reads from a little before where the last one ended, since rows can
come late, and commits what the archive does not hold yet; the note of how far a symbol is read is only a hint written
afterwards. Trades of many symbols weigh more than the pipeline's share of a minute: it waits for the next, and what one
run does not get to is the first of the next one. Ids of this table number the archiving, not the trade: a late row is a
new file, never hidden by an old one.
Facts: userTrades answers at most 7 days and 1,000 rows; its history reaches back 3 months (documentation, 2026-08).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from datetime import date
from functools import partial
from itertools import groupby
from typing import TypeVar

import msgspec
import pyarrow as pa

from p33_pipeline.archive.values import fits
from p33_pipeline.errors import HistoryUnreadable, SourceUnavailable
from p33_pipeline.history import TABLES, History
from p33_pipeline.history.layout import Part, day_of
from p33_sidecar.core.quantity import text
from p33_sidecar.errors import ExchangeBanned, ExchangeUnavailable
from p33_sidecar.exchange import Exchange, Trade
from p33_sidecar.exchange.client import PAGE

WEEK_MS = 7 * 86_400_000
REACH_MS = 89 * 86_400_000
OVERLAP_MS = 600_000
NOTE = "trades/high-water.json"
NO_SUCH_SYMBOL = re.compile(r" -1121 | -1100 .*parameter 'symbol'")
"""How the exchange refuses a symbol that it does not list, or that can be none (documentation, error codes): it has no
trades, and no say."""
PAUSES = 4
"""So many minutes of a run may be waited for: others wait for its lock, and no longer than five (`place.py`)."""
MINUTE_MS = 60_000
log = logging.getLogger("p33.archive")

T = TypeVar("T")


class Reach(msgspec.Struct, frozen=True):
    """How far a symbol's trades are archived: everything with from <= time < until, the newest being `last_id`."""

    from_ms: int
    until_ms: int
    last_id: int = 0


class _Note(msgspec.Struct, frozen=True):
    """`searched_ms`: all symbols that the archive knew of by then have been asked for."""

    v: int
    symbols: dict[str, Reach]
    searched_ms: int = 0


class TradeArchiver:
    """Archives the trades of one account. `now_ms` is the time as the exchange client was given it, `sleep` waits for
    seconds."""

    def __init__(self, exchange: Exchange, history: History, *, now_ms: Callable[[], int],
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self.exchange, self.history, self.now_ms, self.sleep = exchange, history, now_ms, sleep
        self.table = TABLES["trades"]
        self._pauses = PAUSES

    def run(self, symbols: Iterable[str], *, since_ms: int, searched_ms: int = 0) -> int:
        """Archive what is new of each symbol, those never asked for from `since_ms` on; returns how many trades.

        `searched_ms`: these, and those that were asked for before, are all that the archive knew of by then.
        Raises SourceUnavailable at the first symbol that cannot be read: what was committed before it stays. Those
        that were read the longest ago come first, so that each has its turn.
        """
        new, self._pauses = 0, PAUSES
        with self.history.place.alone(self.table.name):
            note = _note(self.history)
            reached = dict(note.symbols)
            wanted = sorted({*symbols, *reached},
                            key=lambda name: (reached[name].until_ms if name in reached else 0, name))
            try:
                for number, symbol in enumerate(wanted):
                    read = self._read(symbol, reached.get(symbol), since_ms, first=not number)
                    if read is None:
                        continue
                    count, reached[symbol] = read
                    new += count
                    if count:  # of the many that have none the note is written once, in a bucket it costs two requests
                        write_reaches(self.history, reached, searched_ms=note.searched_ms)
            except SourceUnavailable:
                write_reaches(self.history, reached, searched_ms=note.searched_ms)
                raise
            if wanted:
                write_reaches(self.history, reached, searched_ms=searched_ms or note.searched_ms)
        return new

    def _read(self, symbol: str, reach: Reach | None, since_ms: int, *, first: bool) -> tuple[int, Reach] | None:
        """How many trades were new and how far the symbol goes now; None for one that the exchange does not know."""
        try:
            if first:
                self.exchange.sync_time()
            return self._symbol(symbol, reach, since_ms)
        except ExchangeBanned as error:
            raise SourceUnavailable(
                f"the exchange told this address to stay away until {error.until_ms} (Unix ms), and every "
                "program of the house does: nothing was lost; run again after it") from error
        except ExchangeUnavailable as error:
            if NO_SUCH_SYMBOL.search(error.detail):
                log.info("trades.unknown_symbol", extra={"fields": {"symbol": symbol}})
                return None
            raise SourceUnavailable(
                f"the exchange gave no trades of {symbol} ({error}): nothing was lost; see that the key may "
                "read and the exchange answers, and run again") from error

    def _symbol(self, symbol: str, reach: Reach | None, since_ms: int) -> tuple[int, Reach]:
        # By the exchange's clock: where ours is ahead, what it has yet to write would count as read.
        now_ms = self.now_ms() + self.exchange.server_offset_ms()
        begin = max(min(reach.until_ms, now_ms) - OVERLAP_MS if reach else min(since_ms, now_ms), now_ms - REACH_MS)
        trades = self._fetch(symbol, begin, now_ms)
        fresh = self._unknown(symbol, trades, begin)
        names = self._order_names(symbol, fresh)
        for day, group in groupby(sorted(fresh, key=lambda t: (t.time_ms, t.trade_id)), lambda t: day_of(t.time_ms)):
            self._commit(day, list(group), names)
        newest = max((trade.trade_id for trade in trades), default=0)
        # A span that could no longer be asked for is not covered: the reach begins anew behind it.
        joined = reach is not None and begin <= reach.until_ms
        return len(fresh), Reach(reach.from_ms if joined else begin, now_ms, max(newest, reach.last_id if reach else 0))

    # -- asking -----------------------------------------------------------------------------------------------

    def _fetch(self, symbol: str, begin_ms: int, end_ms: int) -> list[Trade]:
        """All trades from `begin_ms` on, week by week; a full page is followed by ids."""
        found: dict[int, Trade] = {}
        start_ms = begin_ms
        while start_ms < end_ms:
            stop_ms = min(start_ms + WEEK_MS - 1, end_ms - 1)
            page = self._asked(partial(self.exchange.trades, symbol, start_ms=start_ms, end_ms=stop_ms))
            found |= {trade.trade_id: trade for trade in page}
            while len(page) == PAGE and page[-1].time_ms <= stop_ms:
                page = self._asked(partial(self.exchange.trades_from, symbol, page[-1].trade_id + 1))
                found |= {trade.trade_id: trade for trade in page if trade.time_ms < end_ms}
            start_ms = stop_ms + 1
        return list(found.values())

    def _asked(self, question: Callable[[], T]) -> T:
        """The answer, in the next minute where this one's weight belongs to more urgent requests."""
        while True:
            try:
                return question()
            except ExchangeUnavailable as error:
                if error.kind != "weight_margin" or not self._pauses:
                    raise
            self._pauses -= 1
            self.sleep((MINUTE_MS - self.now_ms() % MINUTE_MS) / 1000)

    def _unknown(self, symbol: str, trades: list[Trade], begin_ms: int) -> list[Trade]:
        if not trades:
            return []
        first_ms = min(begin_ms, min(trade.time_ms for trade in trades))
        rows = self.history.scan(self.table, from_ms=first_ms, columns=["symbol", "trade_id"])
        known = {row["trade_id"] for row in rows.to_pylist() if row["symbol"] == symbol}
        return [trade for trade in trades if trade.trade_id not in known]

    def _order_names(self, symbol: str, trades: list[Trade]) -> dict[str, str]:
        """Client ids of the trades' orders, page by page from the oldest."""
        wanted = {int(trade.order_id) for trade in trades}
        names: dict[str, str] = {}
        while wanted:
            page = self._asked(partial(self.exchange.order_names, symbol, from_order_id=str(min(wanted))))
            names |= page
            newest = max(map(int, page), default=0)
            wanted = {order for order in wanted if order > newest} if len(page) == PAGE else set()
        return names

    # -- keeping ----------------------------------------------------------------------------------------------

    def _commit(self, day: date, trades: list[Trade], names: dict[str, str]) -> None:
        parts = self.history.parts(self.table, day)
        first_ms = max([self.now_ms(), *(part.last[0] + 1 for part in parts)])
        self.history.append(self.table, trade_table(first_ms, trades, names), count=0,
                            part=Part(day, (first_ms, 0), (first_ms, len(trades) - 1)))


def reaches(history: History) -> dict[str, Reach]:
    """How far each symbol's trades are archived. Raises HistoryUnreadable."""
    return _note(history).symbols


def searched_ms(history: History) -> int:
    """Until when all symbols that the archive knew of have been asked for; 0 for never. Raises HistoryUnreadable."""
    return _note(history).searched_ms


def write_reaches(history: History, reached: dict[str, Reach], *, searched_ms: int = 0) -> None:
    """Note how far each symbol's trades are archived, and until when symbols were looked for."""
    history.place.write(NOTE, msgspec.json.encode(_Note(1, reached, searched_ms)))


def _note(history: History) -> _Note:
    raw = history.place.read(NOTE)
    if raw is None:
        return _Note(1, {})
    try:
        return msgspec.json.decode(raw, type=_Note)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HistoryUnreadable(f"{NOTE} at {history.place} cannot be read: delete it; trades are asked for again, and "
                                "those that are archived are recognised") from error


def trade_table(first_ms: int, trades: list[Trade], names: dict[str, str]) -> pa.Table:
    """Trades as rows of the table, numbered from `first_ms`-0 on; `names` are their orders' client ids."""
    schema = TABLES["trades"].schema
    rows = [_row(first_ms, seq, trade, names.get(trade.order_id)) for seq, trade in enumerate(trades)]
    arrays = [_array(list(values), field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _row(first_ms: int, seq: int, trade: Trade, client_id: str | None) -> tuple:
    numbers = (trade.price, trade.qty, trade.quote_qty, trade.realized_pnl, trade.commission)
    whole = all(fits(number) for number in numbers)
    written = [text(number) if whole else None for number in numbers]
    return (f"{first_ms}-{seq}", trade.time_ms, seq, trade.symbol, trade.trade_id, trade.order_id, client_id,
            trade.side, *written, trade.commission_asset, trade.maker, trade.time_ms,
            None if whole else "more digits than the archive's columns have", trade.raw)


def _array(values: list, kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.string()).cast(kind) if pa.types.is_decimal(kind) else pa.array(values, kind)
