"""Archiving against the least that could be done: the same entries read and written as Parquet with no checks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis

from p33_pipeline.archive.streams import FILE_ROWS, READ_AT_ONCE, StreamArchiver, sources
from p33_pipeline.history import TABLES, History, place_at
from p33_sidecar.rehearsal.server import EmbeddedServer

PLANS, RESULTS = "quantum:apply.plan", "quantum:apply.result"


class Rate(msgspec.Struct, frozen=True):
    """Entries/s, and the processor time of one entry on all cores, ours and the server's; the best of the rounds."""

    per_s: float
    processor_us: float


def archive_rates(history: History, folder: Path, *, entries: int, rounds: int = 2) -> dict[str, tuple[Rate, Rate]]:
    """By table: how fast it is archived, and how fast it is read and written bare, taken in turns."""
    rates = {}
    with EmbeddedServer(tcp=True) as server:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        for source in sources(plan_stream=PLANS, result_stream=RESULTS):
            if source.table.name not in ("decisions", "plans"):
                continue
            count = _fill(client, source.stream, history, source.table.name, entries)
            archived, bare = [], []
            for turn in range(rounds):
                begun = _now(client)
                _bare(client, source.stream, folder / f"bare-{source.table.name}-{turn}.parquet")
                bare.append(_now(client) - begun)
                target = History(place_at(str(folder / f"archive-{source.table.name}-{turn}")))
                begun = _now(client)
                done = StreamArchiver(client, target, now_ms=lambda: 0).run(source)
                archived.append(_now(client) - begun)
                if done.entries != count or done.missing:
                    raise ValueError(f"{done.entries} of {count} entries archived, {done.missing} missing")
            client.delete(source.stream)
            rates[source.table.name] = _rate(count, archived), _rate(count, bare)
    return rates


def _now(client: redis.Redis) -> np.ndarray:
    """Seconds: by the clock, and of processor time, this process' and the server's."""
    server = client.info("cpu")
    return np.array([time.perf_counter(), time.process_time() + server["used_cpu_user"] + server["used_cpu_sys"]])


def _rate(count: int, turns: list[np.ndarray]) -> Rate:
    wall, processor = np.min(turns, axis=0)
    return Rate(count / wall, processor / count * 1e6)


def _fill(client: redis.Redis, stream: str, history: History, table: str, entries: int) -> int:
    """The day's own entries, put back where they came from."""
    count = 0
    for rows in _tables(history, table, entries):
        pipe = client.pipeline(transaction=False)
        for entry_id, raw in zip(rows["id"].to_pylist(), rows["raw"].to_pylist(), strict=True):
            pipe.xadd(stream, _fields(table, raw), id=entry_id)
        pipe.execute()
        count += rows.num_rows
    return count


def _tables(history: History, table: str, entries: int) -> Iterator[pa.Table]:
    left = entries
    days = history.days(TABLES[table])
    for part in sorted(part for day in days for part in history.parts(TABLES[table], day)):
        if left <= 0:
            return
        rows = pq.read_table(history.place.full(f"{table}/{part.path}"), columns=["id", "raw"], partitioning=None)
        for batch in rows.slice(0, left).to_batches(max_chunksize=2_000):
            yield pa.Table.from_batches([batch])
        left -= rows.num_rows


def _fields(table: str, raw: str) -> dict[str, str]:
    return {"json": raw} if table == "decisions" else msgspec.json.decode(raw)


def _bare(client: redis.Redis, stream: str, path: Path) -> None:
    """Read the stream and write what was read."""
    after, writer = "-", None
    while read := client.xrange(stream, after, "+", count=READ_AT_ONCE):
        after = f"({read[-1][0]}"
        if writer is None:  # the first entry's fields, in its order: producers write theirs in any
            schema = pa.schema([(name, pa.string()) for name in ("id", *read[0][1])])
            writer = pq.ParquetWriter(path, schema, compression="zstd")
        table = pa.table([[entry_id for entry_id, _ in read],
                          *([fields.get(name) for _, fields in read] for name in schema.names[1:])], schema=schema)
        writer.write_table(table, row_group_size=FILE_ROWS)
    if writer:
        writer.close()
