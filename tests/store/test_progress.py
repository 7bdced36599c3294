"""The pipeline's notes of how far it is, from its side and from the sidecar's."""

from __future__ import annotations

import pytest
import redis

from p33_pipeline import running
from p33_sidecar.service.metrics import Metrics
from p33_sidecar.settings import load
from p33_sidecar.store import keys, progress
from tests.service.pictured import StoppedClock
from tests.service.world import World


def test_each_goes_forward_by_itself_and_never_back(redis_client: redis.Redis) -> None:
    """A day audited again is no news."""
    progress.note(redis_client, archived_ms=20)
    progress.note(redis_client, audited_ms=10)
    progress.note(redis_client, audited_ms=5)
    assert progress.read(redis_client) == progress.Progress(archived_ms=20, audited_ms=10)


@pytest.mark.parametrize("spoil", [
    lambda client: client.set(keys.PIPELINE, "x"), lambda client: client.hset(keys.PIPELINE, "audited_ms", "-1x"),
    lambda client: None])
def test_what_cannot_be_read_is_nothing(redis_client: redis.Redis, spoil) -> None:
    """The sidecar goes on, whatever stands there."""
    spoil(redis_client)
    assert progress.read(redis_client) == progress.Progress()


def test_an_audit_without_redis_is_an_audit_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """The note is for the gate; a gate that cannot be told is no reason to fail."""
    running.note_audited(load({"REDIS_URL": "redis://127.0.0.1:1/0"}), 5)
    assert [record.message for record in caplog.records] == ["progress.unnoted"]


def test_the_sidecar_shows_what_was_noted(redis_url: str) -> None:
    """From the note to /metrics."""
    world = World(redis_url)
    running.note_audited(load({"REDIS_URL": redis_url}), 7_200_000)
    world.clerk.step()
    text = Metrics(world.memory, StoppedClock(), version="1", policy_hash="a", loosened=False).render().decode()
    world.close()
    assert "p33_audit_until_timestamp_seconds 7200.0" in text and "p33_archive_until_timestamp_seconds 0.0" in text
