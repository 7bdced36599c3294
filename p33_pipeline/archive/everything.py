"""The two halves of an archive run: every stream, then the account's trades.

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


def archive_streams(archiver: StreamArchiver, found: Iterable[Source]) -> tuple[Archived, ...]:
    """Archive what is new in every stream. Raises SourceUnavailable, HistoryUnreadable, HistoryUnavailable.

    What is written from the beginning of this pass on is not counted as archived: streams that were read first may
    have got more while others were read.
    """
    until_ms = archiver.now_ms()
    streams = tuple(archiver.run(source) for source in found)
    note_until(archiver.history, until_ms)
    return streams


def archive_trades(archiver: TradeArchiver, symbols: Iterable[str]) -> int:
    """Archive what is new of the account's trades. Raises as `archive_streams` does; nothing is lost by any of them.

    `symbols` are those that the archive, as it stands, names and that were not asked for yet; more do no harm.
    """
    since_ms = first_ms(archiver.history) or archiver.now_ms()
    return archiver.run(symbols, since_ms=since_ms - BEFORE_FIRST_POLL_MS,
                        searched_ms=archived_until_ms(archiver.history))


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
