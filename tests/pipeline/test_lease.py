"""One writer at an object store: two real processes on one bucket, one of them killed, or stopped and overtaken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from pyarrow import fs

from p33_pipeline.archive.gaps import GapBook
from p33_pipeline.errors import HistoryUnavailable
from p33_pipeline.history import TABLES, History, Mark, place_at
from p33_pipeline.history.lease import Lock
from p33_pipeline.history.place import Place
from tests.objects import BUCKET, CREDENTIALS, ObjectStore
from tests.pipeline.conftest import MIDNIGHT_MS
from tests.pipeline.lease_holder import TRADES, Exchange, archive

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120
SOON_S = 0.5
"""A lease that runs out soon: only ever that of a process that does not move."""


@pytest.fixture
def url(object_store, tmp_path) -> str:
    """A history of this test's own."""
    return object_store.url(tmp_path.name)


@pytest.fixture
def holder(url) -> Iterator[Callable[[], subprocess.Popen]]:
    """Starts processes that archive into the test's history."""
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        started.append(subprocess.Popen(
            [sys.executable, "-m", "tests.pipeline.lease_holder", url], cwd=ROOT, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=os.environ | CREDENTIALS | {"PYTHONPATH": str(ROOT)}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.02)


def lines(process: subprocess.Popen) -> list[str]:
    """What it said, after it was told to go on."""
    return process.communicate("\n", timeout=DEADLINE_S)[0].splitlines()


def trade_ids(url: str) -> list[int]:
    return sorted(History(place_at(url)).scan(TABLES["trades"], columns=["trade_id"])["trade_id"].to_pylist())


def test_two_archives_at_once_take_turns(object_store, url, holder):
    """The second looks at the lock while the first is at work, and finds nothing left to do."""
    first = holder()
    assert first.stdout.readline() == "inside\n"
    before = len(object_store.asked)
    second = holder()
    until(lambda: object_store.asked[before:].count(("GET", f"/{BUCKET}/{url_folder(url)}/.lock-trades")) >= 3)
    assert lines(first) == [f"new {TRADES}"]
    assert lines(second) == ["inside", "new 0"]
    assert trade_ids(url) == list(range(1, TRADES + 1))


def url_folder(url: str) -> str:
    return url.split("?")[0].rsplit("/", 1)[1]


def test_a_killed_archives_lock_runs_out(url, holder):
    """kill -9 in the middle: who comes next waits for the lease, then does the work."""
    killed = holder()
    assert killed.stdout.readline() == "inside\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert archive(url, Exchange(), lease_s=SOON_S) == TRADES
    assert trade_ids(url) == list(range(1, TRADES + 1))


def test_one_that_was_stopped_and_overtaken_writes_nothing(url, holder):
    """A machine that slept: it comes back with trades in its hands that stand in the archive by now."""
    stopped = holder()
    assert stopped.stdout.readline() == "inside\n"
    stopped.send_signal(signal.SIGSTOP)
    assert archive(url, Exchange(), lease_s=SOON_S) == TRADES
    stopped.send_signal(signal.SIGCONT)
    said, = lines(stopped)
    assert said.startswith("refused: trades at s3://") and "was taken over by another run" in said
    assert trade_ids(url) == list(range(1, TRADES + 1))


def test_a_lock_that_was_let_go_is_free_at_once(url):
    """Of each table its own, one inside the other, and again: nobody waits for a lease of an hour."""
    place = place_at(url)
    place.lease_s = 3600
    for _ in range(2):
        with place.alone("events"), place.alone("gaps"):
            place.write("events/x", b"1")
        assert GapBook(History(place)).note(TABLES["events"], before=Mark(), after=Mark(), added=0, first_id="",
                                            now_ms=MIDNIGHT_MS) == 0


def test_who_waits_too_long_is_told(object_store):
    """By whom it is held nobody knows; what to do, the sentence says."""
    client = object_store.client()
    with Lock(client, BUCKET, "long/.lock-x", shown="x").held(patience_s=60):
        other = Lock(client, BUCKET, "long/.lock-x", shown="x at here")
        with pytest.raises(HistoryUnavailable, match="x at here has been held by another run for 0 s: wait"), \
                other.held(patience_s=0):
            raise AssertionError("two at once")


def test_an_answer_that_was_lost_is_not_a_lock_that_was_lost(object_store):
    """The client sends a write twice where the first answer did not come, and the second is refused."""
    client = Stammering(object_store.client())
    lock = Lock(client, BUCKET, "twice/.lock-x", shown="x")
    with lock.held(patience_s=60):
        client.twice = 1
        lock.renew()
        lock.renew()
    assert client.twice == 0


class Stammering:
    """A client that loses the answer to as many writes as it is told."""

    def __init__(self, client) -> None:
        self.client, self.twice = client, 1

    def put_object(self, **said):
        reply = self.client.put_object(**said)
        if self.twice:
            self.twice -= 1
            with pytest.raises(ClientError, match="PreconditionFailed"):
                self.client.put_object(**said)
            self.client.put_object(**said)  # raises
        return reply

    def get_object(self, **said):
        return self.client.get_object(**said)


def test_a_store_that_ignores_conditions_is_refused(monkeypatch):
    """It would let two in: nothing is written there at all."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with ObjectStore(deaf=True) as deaf:
        with pytest.raises(HistoryUnavailable, match="ignores conditional writes"):
            archive(deaf.url("deaf"), Exchange())
        assert trade_ids(deaf.url("deaf")) == []


def test_a_place_without_a_lock_is_refused(tmp_path):
    """pyarrow reaches more stores than p33 can hold for one writer."""
    place = Place(fs.LocalFileSystem(), str(tmp_path), shown="gs://history")
    with pytest.raises(HistoryUnavailable, match="folders and to s3:// only"), place.alone("events"):
        raise AssertionError("alone where nobody is")


@pytest.mark.parametrize(("endpoint", "why"), [("127.0.0.1:1", "EndpointConnectionError"), ("", "NoSuchBucket")])
def test_a_store_that_cannot_be_locked_is_a_sentence(object_store, endpoint, why):
    """Nothing listens there; no such bucket."""
    place = place_at(object_store.url("x").replace(object_store.endpoint, endpoint or object_store.endpoint)
                     .replace(f"s3://{BUCKET}/", "s3://nobodys/"))
    with pytest.raises(HistoryUnavailable, match=rf"events at s3://nobodys/x cannot be locked \({why}\)"), \
            place.alone("events"):
        raise AssertionError("locked")


def test_without_boto3_the_sentence_names_the_extra(url, monkeypatch):
    """Reading needs no client; writing does."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert History(place_at(url)).mark(TABLES["events"]) == Mark()
    with pytest.raises(HistoryUnavailable, match=r"install p33\[s3\]"), place_at(url).alone("events"):
        raise AssertionError("locked")
