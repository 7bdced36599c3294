"""One archive run: every stream, then the account's trades; what `p33-audit` and the Dagster job both call.

An exchange that cannot be asked does not keep the streams out of the archive: they are committed first.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from p33_pipeline.archive.streams import Archived, Source, StreamArchiver
from p33_pipeline.archive.trades import TradeArchiver
from p33_pipeline.errors import HistoryUnreadable
from p33_pipeline.history import TABLES, History

BEFORE_FIRST_POLL_MS = 10_000
NOTE = "archived.json"


class _Note(msgspec.Struct, frozen=True):
    v: int
    until_ms: int


class Run(msgspec.Struct, frozen=True):
    """What an archive run did. `trades` is None where there are no credentials to ask the exchange with."""

    streams: tuple[Archived, ...]
    trades: int | None

    @property
    def entries(self) -> int:
        return sum(done.entries for done in self.streams)


def archive(archiver: StreamArchiver, found: Iterable[Source], trades: TradeArchiver | None,
            symbols: Iterable[str]) -> Run:
    """Archive what is new. Raises SourceUnavailable, HistoryUnreadable, HistoryUnavailable; nothing is lost by any."""
    until_ms = archiver.now_ms()
    streams = tuple(archiver.run(source) for source in found)
    note_until(archiver.history, until_ms)
    if trades is None:
        return Run(streams, None)
    since_ms = first_ms(trades.history) or trades.now_ms()
    return Run(streams, trades.run(symbols, since_ms=since_ms - BEFORE_FIRST_POLL_MS))


def first_ms(history: History) -> int | None:
    """When the archive's account of the exchange begins; None before the first poll."""
    table = TABLES["snapshots"]
    firsts = [part.first[0] for day in history.days(table)[:1] for part in history.parts(table, day)]
    return min(firsts, default=None)


def archived_until_ms(history: History) -> int:
    """Up to when the archive holds everything that was written; 0 before the first run. Raises HistoryUnreadable."""
    raw = history.place.read(NOTE)
    if raw is None:
        return 0
    try:
        return msgspec.json.decode(raw, type=_Note).until_ms
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HistoryUnreadable(f"{NOTE} at {history.place} cannot be read: delete it and archive again") from error


def note_until(history: History, until_ms: int) -> None:
    """Everything written before `until_ms` is archived; the note never goes back."""
    if until_ms > archived_until_ms(history):
        history.place.write(NOTE, msgspec.json.encode(_Note(1, until_ms)))
