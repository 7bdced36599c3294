"""The pieces of `make scale-test` that need neither Postgres nor workers: its day, and the comparison it ends with."""

from __future__ import annotations

from hashlib import sha256

import pytest

from p33_pipeline.auditing import audit_range
from p33_pipeline.history import History, place_at
from p33_pipeline.partitions import HOUR_MS
from p33_sidecar.core.model import Policy
from tests.objects import CREDENTIALS, ObjectStore
from tests.scale import postgres
from tests.scale.day import BEGIN_MS, DAY, differences, hours, left_behind, write_day


@pytest.fixture(scope="module")
def store():
    with ObjectStore() as running:
        yield running


@pytest.fixture(params=["folder", "s3"])
def history(request, store, tmp_path, monkeypatch) -> History:
    """An empty one, in a folder and in a bucket."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return History(place_at(str(tmp_path) if request.param == "folder" else store.url(tmp_path.name)))


def test_every_hour_of_the_day_has_something_to_find(history):
    """An audit that finds nothing would compare equal whatever went wrong."""
    write_day(history, hours=2, symbols=6)
    for hour in range(2):
        begin_ms = BEGIN_MS + hour * HOUR_MS
        found = audit_range(history, from_ms=begin_ms, to_ms=begin_ms + HOUR_MS, policy=Policy())
        assert found.breaks and found.flow and found.sources and found.counts["verdicts"]
    assert len(left_behind(history)) == 2
    assert hours(2) == [f"{DAY}-00:00", f"{DAY}-01:00"]


def test_a_difference_is_seen(history):
    """A byte, a file too few, a file too many; another day's file and the place's own name are none."""
    place = history.place
    stem = DAY.replace("-", "")
    place.write(f"audits/{stem}T000000Z.json", b'{"breaks":1}')
    place.write(f"reports/mismatch-{stem}.json", f'{{"report":"{place}/reports"}}'.encode())
    before = left_behind(history)
    place.write("audits/20300101T000000Z.json", b"{}")
    assert left_behind(history) == before and len(before) == 2
    assert before[f"reports/mismatch-{stem}.json"] == sha256(b'{"report":"/reports"}').hexdigest()
    place.write(f"audits/{stem}T000000Z.json", b'{"breaks":2}')
    place.write(f"audits/{stem}T010000Z.json", b"{}")
    after = left_behind(history)
    assert differences(before, after) == [f"audits/{stem}T000000Z.json", f"audits/{stem}T010000Z.json"]
    assert differences(after, {}) == sorted(after)


def test_a_machine_without_postgres_is_told_what_to_install(monkeypatch, tmp_path):
    """Not a skip: `make scale-test` ends with 2 and this sentence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    with pytest.raises(postgres.NotHere, match="install Postgres"):
        postgres.programs()
