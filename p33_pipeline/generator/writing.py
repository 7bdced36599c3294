"""A story written as a history: the same tables, files and notes that the archive leaves."""

from __future__ import annotations

from itertools import groupby

import msgspec
import pyarrow as pa

from p33_pipeline.archive.everything import note_until
from p33_pipeline.archive.gaps import GapBook
from p33_pipeline.archive.rows import table_of
from p33_pipeline.archive.trades import Reach, trade_table, write_reaches
from p33_pipeline.generator.story import Story
from p33_pipeline.generator.world import PRICE
from p33_pipeline.history import TABLES, History, Mark
from p33_pipeline.history.layout import Part, day_of, id_of
from p33_sidecar.exchange import Trade

LATER_MS = 600_000
"""The archive ran this long after the story's end: everything in it is judged."""


def write(story: Story, history: History) -> None:
    """Append the whole story to an empty history."""
    for name, entries in story.world.streams.items():
        count = 0
        for day, group in groupby(entries, key=lambda entry: day_of(id_of(entry[0])[0])):
            rows = list(group)
            count += len(rows)
            history.append(TABLES[name], table_of(TABLES[name], rows), count=count,
                           part=Part(day, id_of(rows[0][0]), id_of(rows[-1][0])))
    _write_trades(story, history)
    for at_ms in story.world.gaps:
        GapBook(history).note(TABLES["events"], before=Mark(), after=Mark(), added=1, first_id="", now_ms=at_ms)
    note_until(history, story.to_ms + LATER_MS)


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
    nothing, raw = PRICE * 0, msgspec.json.encode({"id": row["id"], "orderId": row["order_id"]}).decode()
    return Trade(row["symbol"], row["id"], row["order_id"], row["side"], PRICE, row["qty"], PRICE * row["qty"], nothing,
                 nothing, "USDT", False, row["time_ms"], raw)
