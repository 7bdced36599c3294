"""What the pipeline's tests stand on: streams with known entries, a folder, and a way to die at a chosen step."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.connection import AbstractConnection

from p33_pipeline.archive.streams import Source, StreamArchiver
from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.history.place import Folder
from p33_sidecar.store import keys
from tests.objects import CREDENTIALS, ObjectStore

DAY_MS = 86_400_000
MIDNIGHT_MS = 1_769_299_200_000
"""2026-01-25 00:00 UTC."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code may catch it."""


class Fuse:
    """Burns one length with every step, whichever thread takes it, and kills at the last."""

    def __init__(self, length: int) -> None:
        self.left, self._one = length, threading.Lock()

    def burn(self) -> None:
        with self._one:
            self.left -= 1
            last = self.left == 0
        if last:
            raise Killed


class MortalFolder(Folder):
    """A folder whose writer dies before a write, with half a file written, or just after it."""

    def __init__(self, root: str, fuse: Fuse) -> None:
        super().__init__(root)
        self.fuse = fuse

    def write(self, path: str, data: bytes) -> None:
        self.fuse.burn()
        hidden = Path(self.full(path)).parent / f".tmp-1-{Path(path).name}"
        hidden.parent.mkdir(parents=True, exist_ok=True)
        hidden.write_bytes(bytes(memoryview(data)[:len(data) // 2]))
        self.fuse.burn()
        hidden.unlink()
        super().write(path, data)
        self.fuse.burn()

    def delete(self, path: str) -> None:
        self.fuse.burn()
        super().delete(path)
        self.fuse.burn()


class MortalRedis:
    """A client, or a connection of it, whose user dies before or after any command."""

    def __init__(self, client: redis.Redis | redis.ConnectionPool | AbstractConnection, fuse: Fuse) -> None:
        self.client, self.fuse = client, fuse

    @property
    def connection_pool(self) -> MortalRedis:
        return MortalRedis(self.client.connection_pool, self.fuse)

    def get_connection(self) -> MortalRedis:
        return MortalRedis(self.client.get_connection(), self.fuse)

    def disconnect(self) -> None:
        """What the system does for the dead."""
        self.client.disconnect()

    def release(self, connection: MortalRedis) -> None:
        """The same."""
        self.client.release(connection.client)

    def __getattr__(self, name: str):
        command = getattr(self.client, name)

        def mortal(*args, **options):
            self.fuse.burn()
            reply = command(*args, **options)
            self.fuse.burn()
            return reply

        return mortal


@pytest.fixture
def object_store(object_server, monkeypatch) -> ObjectStore:
    """The server, with its credentials in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return object_server


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectStore]:
    """One S3-compatible server for the whole run; each test takes a folder of its own."""
    with ObjectStore() as running:
        yield running


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(place_at(str(tmp_path / "history")))


def event(at_ms: int, number: int) -> dict[str, str]:
    """The fields of an event that names its number."""
    body = {"v": 1, "kind": "resume", "at_ms": at_ms, "by": f"n{number}"}
    return {"kind": "resume", "json": json.dumps(body)}


def add_events(client: redis.Redis, count: int, *, start_ms: int, apart_ms: int, first: int = 0) -> list[str]:
    """Add numbered events at given times; their ids."""
    ids = []
    for number in range(first, first + count):
        at_ms = start_ms + (number - first) * apart_ms
        ids.append(client.xadd(keys.EVENTS, event(at_ms, number), id=f"{at_ms}-{number % 3}"))
    return ids


EVENTS = Source(TABLES["events"], keys.EVENTS)


def archiver(client, history: History, *, now_ms: int = MIDNIGHT_MS + DAY_MS, keep_ms: int = DAY_MS) -> StreamArchiver:
    """An archiver by a clock that stands."""
    return StreamArchiver(client, history, now_ms=lambda: now_ms, keep_ms=keep_ms)


def ids_of(history: History, table: str = "events") -> list[str]:
    """Every id that a reader sees."""
    return history.scan(TABLES[table], columns=["id"])["id"].to_pylist()
