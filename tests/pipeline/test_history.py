"""The archive read whole, once, in order, whatever lies beside it; and the same on an object store."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p33_pipeline.archive.rows import table_of
from p33_pipeline.audit.scope import open_scope
from p33_pipeline.audit.scope import rows as rows_of
from p33_pipeline.errors import HistoryUnavailable, HistoryUnreadable
from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.history.history import SWEEP_AFTER_MS
from p33_pipeline.history.layout import Part, covered, day_of, id_of, shares
from p33_pipeline.history.place import Folder
from p33_sidecar.core.model import Policy

from .conftest import EVENTS, MIDNIGHT_MS, Fuse, Killed, MortalFolder, archiver, event, ids_of

EVENT_TABLE = TABLES["events"]
DAY = day_of(MIDNIGHT_MS)


def put(history: History, first: int, last: int, *, count: int | None = None) -> None:
    """Commit events `first` to `last` of the day as one file."""
    entries = [(f"{MIDNIGHT_MS + n}-0", event(MIDNIGHT_MS + n, n)) for n in range(first, last + 1)]
    part = Part(DAY, id_of(entries[0][0]), id_of(entries[-1][0]))
    history.append(EVENT_TABLE, table_of(EVENT_TABLE, entries), part=part, count=count or last + 1)


def numbers(history: History) -> list[int]:
    return [id_of(text)[0] - MIDNIGHT_MS for text in ids_of(history)]


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=8)


@given(spans)
def test_every_row_is_taken_once_however_files_overlap(found):
    """Law: the shares of any set of files hold each id once, in order, and together all of them."""
    parts = [Part(DAY, (first, 0), (first + length, 0)) for first, length in found]
    held = [n for share in shares(parts) for n in range(share.part.first[0], share.part.last[0] + 1)
            if (n, 0) > share.after]
    assert held == sorted({n for first, length in found for n in range(first, first + length + 1)})
    assert set(covered(parts)) | {share.part for share in shares(parts)} == set(parts)


def test_overlapping_files_are_read_once(history):
    """Two writers on an object store may commit spans that overlap."""
    put(history, 0, 4)
    put(history, 0, 6)
    put(history, 5, 9)
    assert numbers(history) == list(range(10))
    assert history.dataset(EVENT_TABLE).to_table().num_rows == 10
    assert history.mark(EVENT_TABLE).count == 10


def test_amounts_are_decimals_and_times_are_utc(history):
    """To the last digit, through the file and back."""
    fields = {"plan_id": "p", "symbol": "BTCUSDT", "close_qty": "12345678901234567890.123456789012345678"}
    table = TABLES["plans"]
    history.append(table, table_of(table, [(f"{MIDNIGHT_MS}-0", fields)]), count=1,
                   part=Part(DAY, (MIDNIGHT_MS, 0), (MIDNIGHT_MS, 0)))
    row = history.scan(table).to_pylist()[0]
    assert row["close_qty"] == Decimal(fields["close_qty"])
    assert row["at"].isoformat() == "2026-01-25T00:00:00+00:00"
    assert table.schema.field("close_qty").type == pa.decimal128(38, 18)


def test_a_range_is_read_to_the_millisecond(history):
    put(history, 0, 9)
    rows = history.scan(EVENT_TABLE, from_ms=MIDNIGHT_MS + 3, to_ms=MIDNIGHT_MS + 6)
    assert [id_of(text)[0] - MIDNIGHT_MS for text in rows["id"].to_pylist()] == [3, 4, 5]


# -- compaction -----------------------------------------------------------------------------------------------------


def test_compaction_changes_nothing_that_a_reader_sees(history):
    for first in range(0, 12, 3):
        put(history, first, first + 2)
    before, mark = history.scan(EVENT_TABLE), history.mark(EVENT_TABLE)
    assert history.compact(EVENT_TABLE, DAY) == 4
    assert len(history.parts(EVENT_TABLE, DAY)) == 5
    assert history.scan(EVENT_TABLE).equals(before) and history.mark(EVENT_TABLE) == mark
    young = history.sweep(EVENT_TABLE, DAY, now_ms=0)
    later = max(path.stat().st_mtime_ns for path in files(history)) // 1_000_000 + SWEEP_AFTER_MS
    assert (young, history.sweep(EVENT_TABLE, DAY, now_ms=later)) == (0, 4)
    assert history.scan(EVENT_TABLE).equals(before) and history.mark(EVENT_TABLE) == mark
    assert history.compact(EVENT_TABLE, DAY) == 0
    put(history, 12, 13)
    assert numbers(history) == list(range(14))


def files(history: History) -> list[Path]:
    return list(Path(history.place.root).rglob("part-*.parquet"))


def test_compaction_killed_at_every_step(tmp_path):
    """Whatever stands after the kill, a reader sees the same rows; the next compaction ends what was begun."""
    step = 0
    while True:
        step += 1
        root = str(tmp_path / f"at-{step}")
        kept = History(Folder(root))
        for first in range(0, 9, 3):
            put(kept, first, first + 2)
        fuse = Fuse(step)
        mortal = History(MortalFolder(root, fuse))
        try:
            mortal.compact(EVENT_TABLE, DAY)
            mortal.sweep(EVENT_TABLE, DAY, now_ms=1 << 60)
        except Killed:
            assert numbers(kept) == list(range(9)), f"killed at step {step}"
            kept.compact(EVENT_TABLE, DAY)
            kept.sweep(EVENT_TABLE, DAY, now_ms=1 << 60)
            assert numbers(kept) == list(range(9)) and len(kept.parts(EVENT_TABLE, DAY)) == 1
        else:
            break
    assert step == 10


def test_readers_see_whole_files_while_a_writer_works(history):
    """A reader beside a writer and a compactor: every look is a beginning of the stream, without holes or doubles."""
    done, looked, seen, failures = threading.Event(), threading.Event(), [], []

    def read() -> None:
        other = History(place_at(history.place.root))
        while not done.is_set():
            try:
                seen.append(numbers(other))
                looked.set()
            except Exception as error:  # noqa: BLE001 - handed to the test
                failures.append(error)
                return

    put(history, 0, 0)
    reader = threading.Thread(target=read)
    reader.start()
    assert looked.wait(60)
    for first in range(1, 60):
        put(history, first, first)
        if first % 10 == 0:
            history.compact(EVENT_TABLE, DAY)
    done.set()
    reader.join(60)
    assert not failures and not reader.is_alive()
    assert all(look == list(range(len(look))) for look in seen)
    assert numbers(history) == list(range(60))


# -- bad input ------------------------------------------------------------------------------------------------------


def path_in(history: History, name: str) -> Path:
    return Path(history.place.full(f"events/date={DAY}/{name}"))


def test_a_damaged_file_is_named_and_nothing_is_trimmed(redis_client, history):
    """The next archive run fails with what to do; the stream keeps what it has."""
    put(history, 0, 3)
    found = path_in(history, history.parts(EVENT_TABLE, DAY)[0].path.split("/")[1])
    found.write_bytes(found.read_bytes()[:100])
    redis_client.xadd(EVENTS.stream, event(MIDNIGHT_MS + 9, 9), id=f"{MIDNIGHT_MS + 9}-0")
    for act in (lambda: history.scan(EVENT_TABLE), lambda: archiver(redis_client, history, keep_ms=0).run(EVENTS)):
        with pytest.raises(HistoryUnreadable, match=f"{found.name} at .* is damaged.*restore it from a backup"):
            act()
    assert redis_client.xlen(EVENTS.stream) == 1


def test_a_foreign_file_is_refused(history):
    """By its footer, or by its name."""
    put(history, 0, 3)
    foreign = path_in(history, f"part-{MIDNIGHT_MS + 5}-0_{MIDNIGHT_MS + 6}-0.parquet")
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(HistoryUnreadable, match="was not written by p33: move it away"):
        history.scan(EVENT_TABLE)
    foreign.rename(foreign.with_name("export.parquet"))
    with pytest.raises(HistoryUnreadable, match="export.parquet at .* is not a file of this archive"):
        history.scan(EVENT_TABLE)


@pytest.mark.parametrize("name", ["date=2026-01-25.bad", "date=20260125", "date=2026-02-30"])
def test_a_folder_put_aside_in_the_archive_is_named(tmp_path, name):
    """What is damaged is to be moved away; whoever renames its folder learns that this is not far enough."""
    (tmp_path / "events" / name).mkdir(parents=True)
    with pytest.raises(HistoryUnreadable, match="events at .* names no day .*: move it out"):
        History(place_at(str(tmp_path))).mark(EVENT_TABLE)


def test_a_version_to_come_is_refused(history):
    schema = EVENT_TABLE.schema.with_metadata({"p33.table": "events", "p33.version": "2", "p33.count": "1"})
    put(history, 0, 0)
    pq.write_table(schema.empty_table(), path_in(history, f"part-{MIDNIGHT_MS + 5}-0_{MIDNIGHT_MS + 6}-0.parquet"))
    with pytest.raises(HistoryUnreadable, match="has version '2' .* upgrade p33"):
        history.scan(EVENT_TABLE)


def test_a_missing_day_is_no_rows(history):
    put(history, 0, 3)
    assert history.scan(EVENT_TABLE, from_ms=MIDNIGHT_MS + 10 * 86_400_000).num_rows == 0
    assert history.parts(EVENT_TABLE, date(2020, 1, 1)) == []


@pytest.mark.parametrize("url", ["ftp://somewhere/history", "s3://"])
def test_a_place_that_cannot_be_is_a_sentence(url):
    with pytest.raises(HistoryUnavailable, match="P33_HISTORY_URL"):
        place_at(url)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryUnavailable, match="cannot be used"):
        put(History(place_at(str(tmp_path / "file"))), 0, 0)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    """On a disk that is full half a file would take what is left."""
    code = ("import resource; from p33_pipeline.history import place_at; "
            "from p33_pipeline.errors import HistoryUnavailable\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            f"try: place_at({str(tmp_path)!r}).write('reports/big', bytes(5000))\n"
            "except HistoryUnavailable as error: print(error)")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120,
                          cwd=Path(__file__).parents[2]).stdout
    assert "Nothing was lost" in said and list((tmp_path / "reports").iterdir()) == []


def test_a_file_of_an_older_version_is_read_with_nulls(history):
    """By every way of reading: as rows, through pyarrow, and by DuckDB beside a file of today."""
    table = TABLES["decisions"]
    old = pa.schema([field for field in table.schema if field.name != "in_scope"])
    first, day = (MIDNIGHT_MS, 0), day_of(MIDNIGHT_MS)
    rows = pa.Table.from_pylist([{"id": f"{MIDNIGHT_MS}-0", "at": MIDNIGHT_MS, "seq": 0, "raw": "{}"}], schema=old)
    said = {"p33.table": "decisions", "p33.version": "1", "p33.count": "1"}
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata(said), sink)
    history.place.write(f"decisions/{Part(day, first, first).path}", sink.getvalue())
    looks = [history.scan(table).to_pylist(), history.dataset(table).to_table().to_pylist(),
             rows_of(open_scope(history, from_ms=0, to_ms=MIDNIGHT_MS + 1, policy=Policy()), "SELECT * FROM decisions")]
    assert [(len(look), look[0]["in_scope"], look[0]["raw"]) for look in looks] == [(1, None, "{}")] * 3
    later = (MIDNIGHT_MS + 5, 0)
    new = pa.Table.from_pylist([{"id": f"{later[0]}-0", "at": later[0], "seq": 0, "in_scope": True, "raw": "{}"}],
                               schema=table.schema)
    history.append(table, new, part=Part(day, later, later), count=2)
    scope = open_scope(history, from_ms=0, to_ms=MIDNIGHT_MS + 1, policy=Policy())
    assert [row["in_scope"] for row in rows_of(scope, "SELECT in_scope FROM decisions ORDER BY \"at\"")] == [None, True]
