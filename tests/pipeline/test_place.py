"""A folder and a registry that several use at once, and as several users."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest
import sqlalchemy as sa

from p33_pipeline.errors import HistoryUnavailable
from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.history.layout import Part, day_of
from p33_pipeline.history.place import Folder
from p33_pipeline.registry import Registry, registry_of
from p33_sidecar.settings import load

from .conftest import MIDNIGHT_MS

OWNER = 61_184
"""A user that this machine need not know, as DynamicUser makes them."""


def test_two_that_write_the_same_file_at_once_leave_one_of_them_whole(tmp_path, monkeypatch):
    """In pods that share a folder every run is process 1: one of them lost its file to the other."""
    place, synced = Folder(str(tmp_path)), os.fsync

    def meanwhile(number: int) -> None:
        monkeypatch.setattr(os, "fsync", synced)
        Folder(str(tmp_path)).write("audits/one.json", b"of the other")
        synced(number)

    monkeypatch.setattr(os, "fsync", meanwhile)
    place.write("audits/one.json", b"of this one")
    assert place.read("audits/one.json") == b"of this one"
    assert [path.name for path in (tmp_path / "audits").iterdir()] == ["one.json"]


def test_a_share_that_knows_no_locks_is_a_sentence(tmp_path, monkeypatch):
    """As one mounted without its lock service answers: no trace, and nothing is written."""
    def unlocked(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unlocked)
    with pytest.raises(HistoryUnavailable, match=r"No locks available.*Nothing was lost"), \
            Folder(str(tmp_path)).alone("events"):
        raise AssertionError("alone where nobody is")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files can belong to somebody else")
def test_what_root_makes_belongs_to_whom_the_history_belongs(tmp_path):
    """`p33 breaks` before the first report made a registry, as root, that the pipeline's unit could not write."""
    root, elsewhere = tmp_path / "history", tmp_path / "elsewhere"
    root.mkdir()
    os.chown(root, OWNER, OWNER)
    elsewhere.write_text("somebody else's")
    (root / ".lock-trades").symlink_to(elsewhere)
    history = History(place_at(str(root)))
    for table in ("events", "trades"):
        with history.place.alone(table):
            pass
    first = (MIDNIGHT_MS, 0)
    history.append(TABLES["events"], TABLES["events"].schema.empty_table(), count=0,
                   part=Part(day_of(MIDNIGHT_MS), first, first))
    registry_of(load({"P33_HISTORY_URL": str(root)})).close()
    made = list(root.rglob("*"))
    assert len(made) >= 5 and {path.lstat().st_uid for path in made} == {OWNER}
    assert elsewhere.stat().st_uid == 0


def test_a_registry_that_two_runs_make_at_once_is_made(tmp_path):
    """The first reports of a backfill, on several workers: one failed for what the other had just made."""
    url, begun = f"sqlite:///{tmp_path}/registry.sqlite", []

    def meanwhile(*_: object, **__: object) -> None:
        if not begun:
            begun.append(True)
            Registry(url).close()

    sa.event.listen(sa.Table, "before_create", meanwhile)
    try:
        registry = Registry(url)
    finally:
        sa.event.remove(sa.Table, "before_create", meanwhile)
    registry.annotate("ab12", by="ann", state="explained")
    assert begun and registry.notes()["ab12"].state == "explained"
    registry.close()
