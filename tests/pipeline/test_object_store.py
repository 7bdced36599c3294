"""The same archive behind an object store's URL, on an S3-compatible server on loopback."""

from __future__ import annotations

import pytest

from p33_pipeline.errors import HistoryUnavailable
from p33_pipeline.history import TABLES, History, place_at

from .conftest import EVENTS, MIDNIGHT_MS, add_events, archiver, ids_of


@pytest.fixture
def url(object_store, tmp_path) -> str:
    """A history of this test's own."""
    return object_store.url(tmp_path.name)


def test_the_archive_is_the_same_behind_an_object_stores_url(url, redis_client):
    """Archived in three runs, compacted, read by another reader: each entry once."""
    history = History(place_at(url))
    ids = []
    for run in range(3):
        ids += add_events(redis_client, 4, start_ms=MIDNIGHT_MS + run * 10_000, apart_ms=7, first=4 * run)
        assert archiver(redis_client, history).run(EVENTS).entries == 4
    day = history.days(TABLES["events"])[0]
    assert history.compact(TABLES["events"], day) == 3
    other = History(place_at(url))
    assert ids_of(other) == ids
    assert other.sweep(TABLES["events"], day, now_ms=1 << 60) == 3
    assert ids_of(other) == ids and other.mark(TABLES["events"]).count == 12
    assert other.dataset(TABLES["events"]).to_table().num_rows == 12


def test_a_store_that_does_not_answer_is_a_sentence_without_its_login(monkeypatch):
    """Nothing listens there."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place = place_at("s3://who:secret-word@history/p33?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1")
    with pytest.raises(HistoryUnavailable, match="s3://history/p33 cannot be used") as raised:
        place.names("events")
    assert "secret-word" not in str(raised.value)
