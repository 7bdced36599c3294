"""Exactly once, whatever is killed; what is missing is written down."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from p33_pipeline.archive import streams
from p33_pipeline.archive.streams import sources
from p33_pipeline.errors import SourceUnavailable
from p33_pipeline.history import TABLES, History
from p33_pipeline.history.place import Folder
from p33_sidecar.store import keys

from .conftest import (
    EVENTS,
    MIDNIGHT_MS,
    Fuse,
    Killed,
    MortalFolder,
    MortalRedis,
    add_events,
    archiver,
    event,
    ids_of,
)

HERE = Path(__file__)


def gaps(history: History) -> list[dict]:
    return history.scan(TABLES["gaps"], columns=["table", "after_id", "before_id", "missing", "adjust"]).to_pylist()


def test_entries_arrive_once_and_in_order(redis_client, history):
    """Over midnight, in two runs, and a third that has nothing to do."""
    ids = add_events(redis_client, 6, start_ms=MIDNIGHT_MS - 2500, apart_ms=1000)
    assert archiver(redis_client, history).run(EVENTS).entries == 6
    ids += add_events(redis_client, 3, start_ms=MIDNIGHT_MS + 9000, apart_ms=10, first=6)
    assert archiver(redis_client, history).run(EVENTS).entries == 3
    assert archiver(redis_client, history).run(EVENTS).entries == 0
    assert ids_of(history) == ids and not gaps(history)
    assert [day.isoformat() for day in history.days(TABLES["events"])] == ["2026-01-24", "2026-01-25"]


def test_ids_are_compared_by_both_halves(redis_client, history):
    """`5-9` comes before `5-10`, though not as text; the next run goes on between them."""
    for seq in (2, 9):
        redis_client.xadd(keys.EVENTS, {"json": "{}"}, id=f"{MIDNIGHT_MS}-{seq}")
    archiver(redis_client, history).run(EVENTS)
    redis_client.xadd(keys.EVENTS, {"json": "{}"}, id=f"{MIDNIGHT_MS}-10")
    archiver(redis_client, history).run(EVENTS)
    assert ids_of(history) == [f"{MIDNIGHT_MS}-{seq}" for seq in (2, 9, 10)]


def killed(redis_client, root: str, fuse: Fuse, **more: int) -> bool:
    """Whether a pass that lasts as long as its fuse ended before its end."""
    try:
        archiver(MortalRedis(redis_client, fuse), History(MortalFolder(root, fuse)), **more).run(EVENTS)
    except Killed:
        return True
    return False


def test_killed_at_every_step_and_run_again(redis_client, tmp_path):
    """Before, within and after every command and every write: nothing is lost, nothing stands twice, no gap is seen."""
    for step in itertools.count(1):
        redis_client.flushall()
        ids = add_events(redis_client, 7, start_ms=MIDNIGHT_MS - 3000, apart_ms=1000)
        root, fuse = str(tmp_path / f"at-{step}"), Fuse(step)
        if not killed(redis_client, root, fuse, keep_ms=0):
            break
        ids += add_events(redis_client, 2, start_ms=MIDNIGHT_MS + 60_000, apart_ms=5, first=7)
        kept = History(Folder(root))
        archiver(redis_client, kept, keep_ms=0).run(EVENTS)
        assert ids_of(kept) == ids, f"killed at step {step}"
        assert gaps(kept) == [], f"killed at step {step}"
        assert not list(Path(root).rglob("events/**/.tmp-*"))
        assert archiver(redis_client, kept, keep_ms=0).run(EVENTS).entries == 0
    assert step > 12


def test_killed_while_one_file_is_written_and_the_next_is_read(redis_client, tmp_path, monkeypatch):
    """Files of two entries, read two at a time: wherever both stood, the next run goes on."""
    monkeypatch.setattr(streams, "READ_AT_ONCE", 2)
    monkeypatch.setattr(streams, "FILE_ROWS", 2)
    for step in itertools.count(1):
        redis_client.flushall()
        ids = add_events(redis_client, 9, start_ms=MIDNIGHT_MS - 3000, apart_ms=1000)
        root, fuse = str(tmp_path / f"at-{step}"), Fuse(step)
        if not killed(redis_client, root, fuse):
            break
        kept = History(Folder(root))
        archiver(redis_client, kept).run(EVENTS)
        assert ids_of(kept) == ids and not gaps(kept), f"killed at step {step}"
    assert step > 20


def test_a_pass_that_fails_leaves_no_answer_behind(redis_client, tmp_path, monkeypatch):
    """The next entries had been asked for: their answer belongs to nobody, least of all to the client's next question.
    """
    monkeypatch.setattr(streams, "READ_AT_ONCE", 2)
    monkeypatch.setattr(streams, "FILE_ROWS", 2)
    add_events(redis_client, 9, start_ms=MIDNIGHT_MS, apart_ms=1000)
    with pytest.raises(Killed):
        archiver(redis_client, History(MortalFolder(str(tmp_path), Fuse(1)))).run(EVENTS)
    assert redis_client.ping() is True and redis_client.xlen(keys.EVENTS) == 9
    assert archiver(redis_client, History(Folder(str(tmp_path)))).run(EVENTS).entries == 9


DYING = """
import os, signal, sys
import redis
from tests.pipeline import conftest as c
from p33_pipeline.history import History

class Fuse(c.Fuse):
    def burn(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

url, root, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
client, fuse = redis.Redis.from_url(url, decode_responses=True, protocol=2), Fuse(step)
c.archiver(c.MortalRedis(client, fuse), History(c.MortalFolder(root, fuse)), keep_ms=0).run(c.EVENTS)
"""


@pytest.mark.parametrize("step", [4, 5, 6, 9])
def test_a_process_killed_for_real_leaves_what_the_next_one_needs(redis_url, redis_client, tmp_path, step):
    """SIGKILL around the first file's commit and at the second's: the process is gone, its lock with it."""
    ids = add_events(redis_client, 7, start_ms=MIDNIGHT_MS - 3000, apart_ms=1000)
    root = str(tmp_path / "history")
    env = os.environ | {"PYTHONPATH": str(HERE.parents[2])}
    done = subprocess.run([sys.executable, "-c", DYING, redis_url, root, str(step)], env=env, check=False,
                          stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == -signal.SIGKILL
    kept = History(Folder(root))
    archiver(redis_client, kept, keep_ms=0).run(EVENTS)
    assert ids_of(kept) == ids and not gaps(kept)


# -- gaps -----------------------------------------------------------------------------------------------------------


def test_entries_trimmed_before_they_were_archived_are_a_gap(redis_client, history):
    """I50: counted, written down once, and never again."""
    add_events(redis_client, 3, start_ms=MIDNIGHT_MS, apart_ms=1000)
    archiver(redis_client, history).run(EVENTS)
    ids = add_events(redis_client, 5, start_ms=MIDNIGHT_MS + 10_000, apart_ms=1000, first=3)
    redis_client.xtrim(keys.EVENTS, maxlen=3, approximate=False)
    assert archiver(redis_client, history).run(EVENTS).missing == 2
    assert archiver(redis_client, history).run(EVENTS).missing == 0
    assert gaps(history) == [{"table": "events", "after_id": f"{MIDNIGHT_MS + 2000}-2", "before_id": ids[2],
                              "missing": 2, "adjust": 2}]


def test_an_entry_deleted_from_the_middle_is_a_gap(redis_client, history):
    ids = add_events(redis_client, 5, start_ms=MIDNIGHT_MS, apart_ms=1000)
    redis_client.xdel(keys.EVENTS, ids[2])
    assert archiver(redis_client, history).run(EVENTS).missing == 1
    assert ids_of(history) == ids[:2] + ids[3:]


def test_a_stream_deleted_and_begun_anew_is_a_gap_that_nobody_can_count(redis_client, history):
    add_events(redis_client, 5, start_ms=MIDNIGHT_MS, apart_ms=1000)
    archiver(redis_client, history).run(EVENTS)
    redis_client.delete(keys.EVENTS)
    add_events(redis_client, 2, start_ms=MIDNIGHT_MS + 60_000, apart_ms=1000, first=5)
    assert archiver(redis_client, history).run(EVENTS).missing is None
    add_events(redis_client, 1, start_ms=MIDNIGHT_MS + 90_000, apart_ms=1000, first=7)
    assert archiver(redis_client, history).run(EVENTS).missing == 0
    assert len(ids_of(history)) == 8 and [gap["missing"] for gap in gaps(history)] == [None]


def test_a_gap_found_by_a_run_that_died_is_noted_once(redis_client, tmp_path):
    """Killed at every step of the run that finds it."""
    for step in itertools.count(1):
        redis_client.flushall()
        root, fuse = str(tmp_path / f"at-{step}"), Fuse(step)
        add_events(redis_client, 2, start_ms=MIDNIGHT_MS, apart_ms=1000)
        kept = History(Folder(root))
        archiver(redis_client, kept).run(EVENTS)
        add_events(redis_client, 4, start_ms=MIDNIGHT_MS + 10_000, apart_ms=1000, first=2)
        redis_client.xtrim(keys.EVENTS, maxlen=1, approximate=False)
        if not killed(redis_client, root, fuse):
            break
        archiver(redis_client, kept).run(EVENTS)
        assert [gap["missing"] for gap in gaps(kept)] == [3], f"killed at step {step}"
    assert step > 8


@pytest.mark.parametrize("ident", [
    f"{MIDNIGHT_MS * 1000}-0", f"{MIDNIGHT_MS * 1_000_000}-5", "18446744073709551614-18446744073709551614"])
def test_an_id_beyond_the_calendar_stops_no_archive(redis_client, history, ident):
    """A producer that names its entries in microseconds: they and all behind them are archived, once."""
    ids = [*add_events(redis_client, 2, start_ms=MIDNIGHT_MS, apart_ms=1000),
           redis_client.xadd(keys.EVENTS, event(MIDNIGHT_MS, 2), id=ident)]
    assert archiver(redis_client, history).run(EVENTS).entries == 3
    ids.append(redis_client.xadd(keys.EVENTS, event(MIDNIGHT_MS, 3)))
    assert archiver(redis_client, history).run(EVENTS).entries == 1
    assert archiver(redis_client, history).run(EVENTS).entries == 0
    rows = history.scan(TABLES["events"], columns=["id", "at", "by"]).to_pylist()
    assert [row["id"] for row in rows] == ids and not gaps(history)
    assert [row["by"] for row in rows] == ["n0", "n1", "n2", "n3"] and rows[2]["at"].year == 9999


def test_a_stream_begun_anew_behind_the_archives_end_is_archived(redis_client, history):
    """A clock that was ahead, or ids that were no times, and a DEL to be rid of them: what comes then comes earlier."""
    ids = add_events(redis_client, 2, start_ms=MIDNIGHT_MS, apart_ms=1000)
    ids_ahead = [redis_client.xadd(keys.EVENTS, event(MIDNIGHT_MS, 2), id=f"{MIDNIGHT_MS * 1000}-0")]
    archiver(redis_client, history).run(EVENTS)
    redis_client.delete(keys.EVENTS)
    for n in range(2):
        ids += add_events(redis_client, 3, start_ms=MIDNIGHT_MS + 10_000 * (n + 1), apart_ms=1000)
        done = archiver(redis_client, history, keep_ms=0).run(EVENTS)
        assert (done.entries, done.missing) == (3, 0 if n else None)
    assert ids_of(history) == ids + ids_ahead
    assert [entry_id for entry_id, _ in redis_client.xrange(keys.EVENTS)] == ids[-1:]


def test_a_server_that_fell_back_to_an_older_state_is_archived_on(redis_client, history):
    """A replica that had not got the last entries was promoted: what it has again stands once, what comes is read."""
    ids = add_events(redis_client, 4, start_ms=MIDNIGHT_MS, apart_ms=1000)
    archiver(redis_client, history).run(EVENTS)
    ids += add_events(redis_client, 4, start_ms=MIDNIGHT_MS + 10_000, apart_ms=1000)
    archiver(redis_client, history).run(EVENTS)
    redis_client.delete(keys.EVENTS)
    add_events(redis_client, 4, start_ms=MIDNIGHT_MS, apart_ms=1000)
    add_events(redis_client, 2, start_ms=MIDNIGHT_MS + 10_000, apart_ms=1000)
    archiver(redis_client, history).run(EVENTS)
    assert ids_of(history) == ids
    ids += add_events(redis_client, 2, start_ms=MIDNIGHT_MS + 20_000, apart_ms=1000)
    archiver(redis_client, history).run(EVENTS)
    assert archiver(redis_client, history).run(EVENTS).entries == 0
    assert ids_of(history) == ids


# -- bad input ------------------------------------------------------------------------------------------------------


def test_a_message_that_cannot_be_read_is_kept_whole(redis_client, history):
    """Not JSON, of a version to come, with a quantity too long: its columns are empty, its text is there."""
    odd = ["{", '{"v":2,"kind":"halt"}', '{"v":1,"kind":"halt","at_ms":99999999999999999}']
    for number, text in enumerate(odd):
        redis_client.xadd(keys.EVENTS, {"json": text}, id=f"{MIDNIGHT_MS + number}-0")
    add_events(redis_client, 1, start_ms=MIDNIGHT_MS + 100, apart_ms=1)
    archiver(redis_client, history).run(EVENTS)
    rows = history.scan(TABLES["events"], columns=["kind", "problem", "raw"]).to_pylist()
    assert [row["raw"] for row in rows[:3]] == odd
    assert [bool(row["problem"]) for row in rows] == [True, True, True, False]
    assert "version 2" in rows[1]["problem"] and rows[3]["kind"] == "resume"


def test_large_messages_are_read_and_written_few_at_a_time(redis_client, history, monkeypatch):
    """300 of 800 kB took 1.8 GB of memory, the unit has 2: a run that is killed for it is killed for it again."""
    monkeypatch.setattr(streams, "READ_BYTES", 100_000)
    monkeypatch.setattr(streams, "FILE_BYTES", 300_000)
    asked: list[int] = []
    ask = streams._ask
    monkeypatch.setattr(streams, "_ask", lambda *given: asked.append(given[-1]) or ask(*given))
    ids = add_events(redis_client, 40, start_ms=MIDNIGHT_MS, apart_ms=3)
    for number in range(40):
        large = event(MIDNIGHT_MS, 40 + number) | {"odd": "x" * 20_000}
        ids.append(redis_client.xadd(keys.EVENTS, large, id=f"{MIDNIGHT_MS + 1000 + number}-0"))
    archiver(redis_client, history).run(EVENTS)
    assert ids_of(history) == ids
    assert asked[:2] == [16, 32] and set(asked[3:]) == {4}
    redis_client.flushall()
    ids += [redis_client.xadd(keys.EVENTS, {"odd": "x" * 200_000}, id=f"{MIDNIGHT_MS + 5000 + n}-0") for n in range(20)]
    archiver(redis_client, history).run(EVENTS)
    assert ids_of(history) == ids and asked[-1] == 1
    parts = history.parts(TABLES["events"], history.days(TABLES["events"])[0])
    assert len(parts) >= 4


def test_a_redis_that_does_not_answer_is_a_sentence(history):
    client = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=2)
    with pytest.raises(SourceUnavailable, match="nothing was lost or trimmed; see that REDIS_URL is right"):
        archiver(client, history).run(EVENTS)


def test_a_key_of_another_type_is_a_sentence(redis_client, history):
    redis_client.set(keys.EVENTS, "x")
    with pytest.raises(SourceUnavailable, match=keys.EVENTS):
        archiver(redis_client, history).run(EVENTS)


def test_every_record_stream_has_a_table():
    """And the stack's two; nothing is archived twice."""
    named = {source.stream for source in sources(plan_stream="p", result_stream="r")}
    assert named == {*keys.RECORD_STREAMS, "p", "r"}
