"""Streams into the archive: what is behind the archive's own mark is read, committed by day, and only then trimmed.

The mark is the name of the newest file, so that commit and progress are one act: killed at any moment, the next run
goes on where the last whole file ends. A gap is found by counting: the server says how many entries a stream ever had
(`entries-added`), the archive how many it holds; what neither the archive nor the stream has is missing, and is
written down. Nothing is trimmed past a file that stands, past a consumer, or past what the live tools still look at.
Files are written one after the other; while one is, the entries of the next are read, and while some are decoded, the
server answers with the next.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import groupby

import msgspec
import pyarrow as pa
import redis
from redis.connection import AbstractConnection as Connection

from p33_pipeline.ahead import ahead
from p33_pipeline.archive.gaps import GapBook
from p33_pipeline.archive.rows import table_of
from p33_pipeline.archive.values import Fields
from p33_pipeline.errors import SourceUnavailable
from p33_pipeline.history import TABLES, History, Mark, Table
from p33_pipeline.history.layout import BEGIN, Id, Part, day_of, id_of, id_text
from p33_sidecar.store import keys

log = logging.getLogger("p33.archive")

READ_AT_ONCE = 1_000
"""Small replies stay near the processor: 1,000 at once are read in two thirds of the time that 5,000 take."""
FILE_ROWS = 10_000
"""What a backlog is cut into. Twice as many cost a pass a tenth more: nothing is read while the last are written."""
FIRST_READ, LOOKED_AT = 16, 8
READ_BYTES, FILE_BYTES = 8 << 20, 64 << 20
"""Fewer are read at once, and stand in a file, where messages are large: they take several times as much memory."""
KEEP_MS = 86_400_000
"""What the live tools (`p33 explain`, the gate) may still want stays in Redis for a day."""
RECORDS = {"decisions": keys.DECISIONS, "taken": keys.TAKINGS, "snapshots": keys.SNAPSHOTS, "ledger": keys.JOURNAL,
           "events": keys.EVENTS, "rejected": keys.REJECTED}

Entry = tuple[str, Fields]


class Source(msgspec.Struct, frozen=True):
    """A stream and the table it goes to."""

    table: Table
    stream: str


class Archived(msgspec.Struct, frozen=True):
    """What one pass over one stream did. `missing` is None where entries are gone and nobody can count them."""

    table: str
    entries: int
    missing: int | None
    trimmed: int
    until: str


class _End(msgspec.Struct, frozen=True):
    """How a stream stood when the pass began."""

    added: int
    last: Id


def sources(*, plan_stream: str, result_stream: str) -> list[Source]:
    """Every stream that is archived; results before plans, so that a plan is there when its result is looked at."""
    named = RECORDS | {"results": result_stream, "plans": plan_stream}
    return [Source(TABLES[table], stream) for table, stream in named.items()]


class StreamArchiver:
    """Archives streams of one server into one history. `now_ms` is the server's time."""

    def __init__(self, client: redis.Redis, history: History, *, now_ms: Callable[[], int],
                 keep_ms: int = KEEP_MS) -> None:
        self.redis, self.history, self.now_ms, self.keep_ms = client, history, now_ms, keep_ms
        self.gaps = GapBook(history)

    def run(self, source: Source) -> Archived:
        """One pass. Raises SourceUnavailable, HistoryUnreadable, HistoryUnavailable; nothing is lost by any of them."""
        with self.history.place.alone(source.table.name):
            with _redis_errors(source.stream):
                end = self._end(source.stream)
            # A stream begun anew may have gone back (a clock or an id that was wrong before): where it now stands
            # counts, or all it gets would be taken for archived, and trimmed.
            mark = self.history.mark(source.table, until=end.last if end and end.last > BEGIN else None)
            if end is None:
                return Archived(source.table.name, 0, 0, 0, id_text(mark.last))
            before, first_id = mark, ""
            with _uncollected(), ahead(self._files(source, mark.last, end.last)) as files:
                for rows in files:
                    first_id = first_id or rows["id"][0].as_py()
                    mark = self._commit(source.table, mark, rows)
            missing = self.gaps.note(source.table, before=before, after=mark, added=end.added, first_id=first_id,
                                     now_ms=self.now_ms())
            with _redis_errors(source.stream):
                trimmed = self._trim(source, mark)
        return Archived(source.table.name, mark.count - before.count, missing, trimmed, id_text(mark.last))

    # -- reading ----------------------------------------------------------------------------------------------

    def _end(self, stream: str) -> _End | None:
        try:
            info = self.redis.xinfo_stream(stream)
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return None
            raise
        return _End(int(info["entries-added"]), id_of(info["last-generated-id"]))

    def _files(self, source: Source, after: Id, until: Id) -> Generator[pa.Table, None, None]:
        """The entries behind `after` as rows, in tables that stay within one day and are one file each."""
        held: list[pa.Table] = []
        rows, size, day = 0, 0, None
        for entries in self._batches(source.stream, after, until):
            here = day_of(id_of(entries[0][0])[0])
            if held and (here != day or rows >= FILE_ROWS or size >= FILE_BYTES):
                yield pa.concat_tables(held)
                held, rows, size = [], 0, 0
            held.append(table_of(source.table, entries))
            rows, size, day = rows + len(entries), size + held[-1].nbytes, here
        if held:
            yield pa.concat_tables(held)

    def _batches(self, stream: str, after: Id, until: Id) -> Iterator[list[Entry]]:
        """The entries behind `after`, as they are read, each list of one day.

        The next are asked for before these are handed on, so that the server need not be waited for: on a connection
        that goes back to the pool closed, since whoever leaves early leaves an answer in it.
        """
        if after >= until:
            return
        pool = self.redis.connection_pool
        with _redis_errors(stream):
            connection = pool.get_connection()
        try:
            count = min(FIRST_READ, READ_AT_ONCE)
            with _redis_errors(stream):
                _ask(connection, stream, after, until, count)
            while read := self._answer(connection, stream):
                count = _fitting(read, count)
                with _redis_errors(stream):
                    _ask(connection, stream, id_of(read[-1][0]), until, count)
                yield from _by_day(read)
        finally:
            connection.disconnect()
            pool.release(connection)

    @staticmethod
    def _answer(connection: Connection, stream: str) -> list[Entry]:
        """What was asked for; nothing at the end."""
        with _redis_errors(stream):
            return [(entry_id, dict(zip(said[::2], said[1::2], strict=True)))
                    for entry_id, said in connection.read_response()]

    def _commit(self, table: Table, mark: Mark, rows: pa.Table) -> Mark:
        first, last = (id_of(rows["id"][place].as_py()) for place in (0, -1))
        after = Mark(last, mark.count + rows.num_rows)
        self.history.append(table, rows, part=Part(day_of(first[0]), first, last), count=after.count)
        return after

    # -- trimming ---------------------------------------------------------------------------------------------

    def _trim(self, source: Source, mark: Mark) -> int:
        """Let go of what is archived, old, and behind every consumer; the newest archived entry itself stays."""
        limits = [mark.last, (self.now_ms() - self.keep_ms, 0)]
        if source.table.name in ("plans", "results"):
            consumed = self._consumed(source)
            if consumed is None:
                return 0
            limits.append(consumed)
        least = min(limits)
        return self.redis.xtrim(source.stream, minid=id_text(least), approximate=False) if least > BEGIN else 0

    def _consumed(self, source: Source) -> Id | None:
        """Up to where everybody who consumes the stream is done; None while nobody has begun, or nobody can say."""
        if source.table.name == "results":
            try:
                return id_of((self.redis.hget(keys.CURSOR, source.stream) or "").split(" ")[0])
            except ValueError:
                return None
        groups = self.redis.xinfo_groups(source.stream)
        if not any(group["name"] == keys.GROUP for group in groups):
            return None
        return min(self._done(source.stream, group) for group in groups)

    def _done(self, stream: str, group: dict) -> Id:
        if group["pending"]:
            waiting = self.redis.xpending(stream, group["name"])["min"]
            if waiting:
                return min(id_of(waiting), id_of(group["last-delivered-id"]))
        return id_of(group["last-delivered-id"])


def _ask(connection: Connection, stream: str, after: Id, until: Id, count: int) -> None:
    connection.send_command("XRANGE", stream, f"({id_text(after)}", id_text(until), "COUNT", count)


def _fitting(read: list[Entry], count: int) -> int:
    """How many to ask for after these: up to twice as many as before, as far as they are small enough.

    Some of them are looked at: to look at all costs more than it tells.
    """
    some = read[::LOOKED_AT]
    size = sum(len(value) for _, fields in some for value in fields.values())
    return max(min(READ_AT_ONCE, 2 * count, READ_BYTES * len(some) // max(size, 1)), 1)


def _by_day(entries: list[Entry]) -> Iterator[list[Entry]]:
    first, last = (day_of(id_of(entries[place][0])[0]) for place in (0, -1))
    if first == last:
        yield entries
        return
    for _, group in groupby(entries, key=lambda entry: day_of(id_of(entry[0])[0])):
        yield list(group)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's cycle collector: a pass makes no cycle, and the collector would look for one all the time, in
    every entry and now and then in everything that the process holds.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@contextmanager
def _redis_errors(stream: str) -> Iterator[None]:
    """Whatever Redis says instead of an answer becomes a sentence."""
    try:
        yield
    except redis.RedisError as error:
        raise SourceUnavailable(
            f"Redis gave no answer on {stream} ({type(error).__name__}: {str(error)[:160]}): nothing was lost or "
            "trimmed; see that REDIS_URL is right, the server runs and the user may read it, and run again") from error
