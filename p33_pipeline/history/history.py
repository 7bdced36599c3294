"""The archive's four questions: append, how far, scan, compact.

What may not happen here: a file changed in place, a row read twice or not at all whatever was killed, a file of unknown
origin read as data. Each file says in its footer which table and version it holds and how many entries of the stream
the archive holds up to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import date

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from p33_pipeline.errors import HistoryUnreadable
from p33_pipeline.history.layout import BEGIN, Id, Part, Share, covered, day_in, day_of, id_text, part_of, shares
from p33_pipeline.history.place import Place
from p33_pipeline.history.tables import Table

log = logging.getLogger("p33.history")

SWEEP_AFTER_MS = 900_000
"""A covered file stays this long for readers that listed it before it was covered."""
FILE_ROWS = 1_000_000
"""A compacted file holds at most about so many rows."""
ATTEMPTS = 5
TABLE_KEY, VERSION_KEY, COUNT_KEY = b"p33.table", b"p33.version", b"p33.count"


class Mark(msgspec.Struct, frozen=True):
    """How far a table goes: its last id, and how many entries of its stream were archived up to it."""

    last: Id = BEGIN
    count: int = 0


class Files(msgspec.Struct, frozen=True):
    """Files to be read whole, by their full paths, and the rows of those of which a part is taken."""

    paths: tuple[str, ...]
    rest: pa.Table


class History:
    """The tables at one place. Reading needs no lock; one writer a table, held by `Place.alone`."""

    def __init__(self, place: Place) -> None:
        self.place = place

    # -- what there is ----------------------------------------------------------------------------------------

    def days(self, table: Table) -> list[date]:
        """The days the table has a folder of, oldest first; one that names no day is refused, as a foreign file is."""
        _, folders = self.place.names(table.name)
        try:
            return sorted(day_in(name) for name in folders if name.startswith("date="))
        except ValueError as error:
            raise HistoryUnreadable(f"{table.name} at {self.place} has a folder that names no day ({error}): move it "
                                    "out of the archive and run again") from error

    def parts(self, table: Table, day: date) -> list[Part]:
        """The day's files. A Parquet file whose name is none of ours is refused rather than passed over."""
        folder = f"date={day.isoformat()}"
        files, _ = self.place.names(f"{table.name}/{folder}")
        found = [(name, part_of(folder, name)) for name in files]
        for name, part in found:
            if part is None and name.endswith(".parquet"):
                raise HistoryUnreadable(f"{table.name}/{folder}/{name} at {self.place} is not a file of this archive: "
                                        "move it away and run again")
        return [part for _, part in found if part is not None]

    def mark(self, table: Table, *, until: Id | None = None) -> Mark:
        """How far the table is archived, by files that end at or before `until`; at the beginning where none does."""
        for day in reversed(self.days(table)):
            parts = [part for part in self.parts(table, day) if until is None or part.last <= until]
            if parts:
                newest = max(parts, key=lambda part: (part.last, part.first))
                return Mark(newest.last, int(self._footer(table, newest).get(COUNT_KEY, b"0")))
        return Mark()

    # -- writing ----------------------------------------------------------------------------------------------

    def append(self, table: Table, rows: pa.Table, *, part: Part, count: int) -> None:
        """Commit rows, sorted by id and all of the part's day, as one file: visible whole from one moment on."""
        sink = pa.BufferOutputStream()
        with self._writer(table, sink, count) as writer:
            writer.write_table(rows.cast(table.schema))
        self.place.write(f"{table.name}/{part.path}", sink.getvalue())

    def compact(self, table: Table, day: date) -> int:
        """Merge the day's files into few; returns how many were merged. The parts stay until `sweep`."""
        merged = 0
        for group in self._groups(table, shares(self.parts(table, day))):
            if len(group) < 2:
                continue
            last = group[-1].part
            sink = pa.BufferOutputStream()
            with self._writer(table, sink, int(self._footer(table, last).get(COUNT_KEY, b"0"))) as writer:
                for share in group:
                    writer.write_table(self._rows(table, share))
            whole = Part(day, group[0].part.first, last.last)
            self.place.write(f"{table.name}/{whole.path}", sink.getvalue())
            merged += len(group)
        return merged

    def sweep(self, table: Table, day: date, *, now_ms: int) -> int:
        """Remove files that others have covered for long enough; returns how many."""
        parts = self.parts(table, day)
        gone = covered(parts)
        if not gone or now_ms - self._youngest_ms(table, parts) < SWEEP_AFTER_MS:
            return 0
        for part in gone:
            self.place.delete(f"{table.name}/{part.path}")
        return len(gone)

    # -- reading ----------------------------------------------------------------------------------------------

    def scan(self, table: Table, *, from_ms: int = 0, to_ms: int | None = None,
             columns: list[str] | None = None) -> pa.Table:
        """The rows with from <= at < to, in the order of their ids. A file compacted away meanwhile is no failure."""
        for _ in range(ATTEMPTS):
            try:
                return self._read(table, from_ms, to_ms, columns)
            except FileNotFoundError:
                log.info("history.changed", extra={"fields": {"table": table.name}})
        raise HistoryUnreadable(f"{table.name} at {self.place} changes faster than it can be read: "
                                "see that only one compaction runs, and run again")

    def files(self, table: Table, *, from_ms: int = 0, to_ms: int | None = None) -> Files:
        """The same rows unread, for a reader that opens files itself; by whole days, so the caller filters `at`."""
        whole, cut = [], [table.schema.empty_table()]
        for share in self._shares(table, from_ms, to_ms):
            self._footer(table, share.part)
            if share.whole:
                whole.append(self.place.full(f"{table.name}/{share.part.path}"))
            else:
                cut.append(self._rows(table, share))
        return Files(tuple(whole), pa.concat_tables(cut))

    def dataset(self, table: Table, *, from_ms: int = 0, to_ms: int | None = None) -> ds.Dataset:
        """The same by way of pyarrow, wherever the files lie."""
        found = self.files(table, from_ms=from_ms, to_ms=to_ms)
        if not found.paths:
            return ds.dataset(found.rest)
        read = ds.dataset(list(found.paths), schema=table.schema, format="parquet", filesystem=self.place.filesystem)
        return ds.dataset([ds.dataset(found.rest), read])

    def verify(self, table: Table) -> None:
        """Read every file that counts, the newest first, and let go of what was read. Raises HistoryUnreadable."""
        for share in reversed(list(self._shares(table, 0, None))):
            with suppress(FileNotFoundError):
                self._rows(table, share)

    def _read(self, table: Table, from_ms: int, to_ms: int | None, columns: list[str] | None) -> pa.Table:
        wanted = columns or table.schema.names
        pieces = [_within(self._rows(table, share), from_ms, to_ms).select(wanted)
                  for share in self._shares(table, from_ms, to_ms)]
        return pa.concat_tables(pieces) if pieces else table.schema.empty_table().select(wanted)

    def _shares(self, table: Table, from_ms: int, to_ms: int | None) -> Iterator[Share]:
        first, last = day_of(from_ms), day_of(to_ms) if to_ms is not None else None
        for day in self.days(table):
            if day >= first and (last is None or day <= last):
                yield from shares(self.parts(table, day))

    def _rows(self, table: Table, share: Share) -> pa.Table:
        path = f"{table.name}/{share.part.path}"
        self._footer(table, share.part)
        try:
            rows = pq.read_table(self.place.full(path), filesystem=self.place.filesystem, partitioning=None)
            rows = _whole(rows.replace_schema_metadata(None), table.schema)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(path, error) from error
        return rows if share.whole else rows.filter(_behind(rows, share.after))

    def _footer(self, table: Table, part: Part) -> dict[bytes, bytes]:
        """The file's own words, after a look that it is one of ours."""
        path = f"{table.name}/{part.path}"
        try:
            found = pq.read_schema(self.place.full(path), filesystem=self.place.filesystem)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(path, error) from error
        said = found.metadata or {}
        if said.get(TABLE_KEY, b"").decode("utf-8", "replace") != table.name:
            raise HistoryUnreadable(f"{path} at {self.place} was not written by p33: move it away and run again")
        version = said.get(VERSION_KEY, b"").decode("utf-8", "replace")
        if version not in table.readable:
            raise HistoryUnreadable(f"{path} at {self.place} has version {version[:20]!r} of its columns, this p33 "
                                    f"reads {table.version}: upgrade p33 before it touches this history")
        whole = version == str(table.version)
        for field in table.schema:
            at = found.get_field_index(field.name)
            if (at >= 0 or whole) and (at < 0 or found.field(at).type != field.type):
                raise HistoryUnreadable(f"{path} at {self.place} has no column {field.name} of type {field.type}, as "
                                        "p33 writes it: somebody rewrote the file; restore it from a backup, or move "
                                        "it away and accept the gap")
        return said

    def _damaged(self, path: str, error: Exception) -> HistoryUnreadable:
        said = " ".join(str(error).split())[:120]
        return HistoryUnreadable(f"{path} at {self.place} is damaged ({said}): restore it from a backup, or move it "
                                 "away and accept the gap; nothing was trimmed or written")

    # -- the parts of compaction ------------------------------------------------------------------------------

    def _groups(self, table: Table, found: list[Share]) -> Iterator[list[Share]]:
        group: list[Share] = []
        rows = 0
        for share in found:
            here = pq.read_metadata(self.place.full(f"{table.name}/{share.part.path}"),
                                    filesystem=self.place.filesystem).num_rows
            if group and rows + here > FILE_ROWS:
                yield group
                group, rows = [], 0
            group.append(share)
            rows += here
        yield group

    def _youngest_ms(self, table: Table, parts: list[Part]) -> int:
        paths = [self.place.full(f"{table.name}/{part.path}") for part in parts]
        return max((info.mtime_ns or 0) // 1_000_000 for info in self.place.filesystem.get_file_info(paths))

    def _writer(self, table: Table, sink: pa.NativeFile, count: int) -> pq.ParquetWriter:
        said = {TABLE_KEY: table.name, VERSION_KEY: str(table.version), COUNT_KEY: str(count)}
        return pq.ParquetWriter(sink, table.schema.with_metadata(said), compression="zstd",
                                use_dictionary=table.repeating, store_decimal_as_integer=False)


def _whole(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with the schema's columns; what a file of an older version lacks is null. Raises ValueError."""
    lacking = [field for field in schema if field.name not in rows.column_names]
    for field in lacking:
        rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(schema.names).cast(schema)


def _within(rows: pa.Table, from_ms: int, to_ms: int | None) -> pa.Table:
    if rows.num_rows == 0:
        return rows
    at = pc.cast(rows["at"], pa.int64())
    inside = pc.greater_equal(at, from_ms)
    if to_ms is not None:
        inside = pc.and_(inside, pc.less(at, to_ms))
    return rows.filter(inside)


def _behind(rows: pa.Table, after: Id) -> pa.ChunkedArray:
    """Rows whose id comes later, judged by the id itself (`at` may be another time, as in trades)."""
    text = id_text(after)
    ms = pc.cast(pc.list_element(pc.split_pattern(rows["id"], "-"), 0), pa.uint64())
    behind = pa.scalar(after[0], pa.uint64())
    later = pc.greater(ms, behind)
    same = pc.and_(pc.equal(ms, behind), pc.greater(rows["seq"], after[1]))
    return pc.and_(pc.not_equal(rows["id"], text), pc.or_(later, same))
