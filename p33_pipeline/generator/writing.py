"""A story written as a history: the same tables, files and notes that the archive leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import groupby

import msgspec
import numpy as np
import pyarrow as pa

from p33_pipeline.archive.everything import note_until
from p33_pipeline.archive.gaps import GapBook
from p33_pipeline.archive.rows import table_of
from p33_pipeline.archive.trades import Reach, trade_table, write_reaches
from p33_pipeline.generator.story import Story
from p33_pipeline.history import TABLES, History, Mark
from p33_pipeline.history.layout import Part, day_of, id_of
from p33_sidecar.exchange import Trade

DAY_MS = 86_400_000
LATER_MS = 600_000
"""The archive ran this long after the story's end: everything in it is judged."""


def write(story: Story, history: History, *, besides: Mapping[str, Iterable[pa.Table]] | None = None) -> None:
    """Append the whole story to an empty history; `besides`: rows of others by table, in the order of their ids."""
    for name, entries in story.world.streams.items():
        count = 0
        for rows in _by_day(_mixed(table_of(TABLES[name], entries), (besides or {}).get(name, ()))):
            count += rows.num_rows
            first, last = (id_of(rows["id"][index].as_py()) for index in (0, -1))
            history.append(TABLES[name], rows, count=count, part=Part(day_of(first[0]), first, last))
    _write_trades(story, history)
    for at_ms in story.world.gaps:
        GapBook(history).note(TABLES["events"], before=Mark(), after=Mark(), added=1, first_id="", now_ms=at_ms)
    note_until(history, story.to_ms + LATER_MS)


def _mixed(own: pa.Table, others: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of both in time, own ones first, a table of the others' at a time; nothing is copied."""
    own_ms = own["at"].cast(pa.int64()).to_numpy()
    taken = 0
    for rows in others:
        at_ms = rows["at"].cast(pa.int64()).to_numpy()
        upto = int(np.searchsorted(own_ms, at_ms[-1]))
        pieces, begin = [], 0
        for index, end in zip(range(taken, upto), np.searchsorted(at_ms, own_ms[taken:upto]), strict=True):
            pieces += [rows.slice(begin, end - begin), own.slice(index, 1)]
            begin = end
        yield pa.concat_tables([*pieces, rows.slice(begin)])
        taken = upto
    yield own.slice(taken)


def _by_day(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, cut at midnight."""
    for rows in tables:
        days = rows["at"].cast(pa.int64()).to_numpy() // DAY_MS
        for day in np.unique(days):
            first, behind = np.searchsorted(days, day), np.searchsorted(days, day, side="right")
            yield rows.slice(first, behind - first)


def _write_trades(story: Story, history: History) -> None:
    """The exchange's record, as if it had been asked for once, after the end."""
    trades = [(_trade(row), row["client_id"]) for row in story.world.trades]
    for day, group in groupby(trades, key=lambda pair: day_of(pair[0].time_ms)):
        found = list(group)
        first_ms = story.to_ms
        names = {trade.order_id: client_id for trade, client_id in found}
        table: pa.Table = trade_table(first_ms, [trade for trade, _ in found], names)
        history.append(TABLES["trades"], table, count=0, part=Part(day, (first_ms, 0), (first_ms, len(found) - 1)))
    reach = Reach(story.from_ms, story.to_ms + LATER_MS)
    write_reaches(history, dict.fromkeys(story.world.holdings, reach))


def _trade(row: dict) -> Trade:
    nothing, price = Decimal(0), row["price"]
    raw = msgspec.json.encode({"id": row["id"], "orderId": row["order_id"]}).decode()
    return Trade(row["symbol"], row["id"], row["order_id"], row["side"], price, row["qty"], price * row["qty"],
                 nothing, nothing, "USDT", False, row["time_ms"], raw)
