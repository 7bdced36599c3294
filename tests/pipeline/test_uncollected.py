"""While a pass runs, Python looks for no cycles: and afterwards it looks again (no cycles: test_rows.py)."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from p33_pipeline.history import History
from p33_pipeline.history.place import Folder

from .conftest import EVENTS, MIDNIGHT_MS, Fuse, Killed, MortalFolder, add_events, archiver


@pytest.fixture
def collector() -> Iterator[None]:
    """On, as everywhere, whatever the test leaves."""
    gc.enable()
    yield
    gc.enable()


class Watching(Folder):
    """A folder that notes whether the collector was on when a file was written."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.seen: list[bool] = []

    def write(self, path: str, data: bytes) -> None:
        self.seen.append(gc.isenabled())
        super().write(path, data)


def test_the_collector_rests_during_a_pass_only(redis_client, tmp_path, collector):
    folder = Watching(str(tmp_path))
    add_events(redis_client, 3, start_ms=MIDNIGHT_MS, apart_ms=1000)
    assert archiver(redis_client, History(folder)).run(EVENTS).entries == 3
    assert folder.seen == [False] and gc.isenabled()


def test_a_pass_that_fails_turns_it_on_again(redis_client, tmp_path, collector):
    add_events(redis_client, 3, start_ms=MIDNIGHT_MS, apart_ms=1000)
    with pytest.raises(Killed):
        archiver(redis_client, History(MortalFolder(str(tmp_path), Fuse(1)))).run(EVENTS)
    assert gc.isenabled()


def test_who_had_it_off_keeps_it_off(redis_client, history, collector):
    add_events(redis_client, 3, start_ms=MIDNIGHT_MS, apart_ms=1000)
    gc.disable()
    archiver(redis_client, history).run(EVENTS)
    assert not gc.isenabled()
