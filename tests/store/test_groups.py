"""Where a group begins: whatever the clock says when it is made, no plan that is still to come is skipped."""

from __future__ import annotations

import pytest
import redis

from p33_sidecar.store.connect import server_ms
from p33_sidecar.store.groups import make_group

STREAM, GROUP, MAX_AGE_MS, HOUR_MS = "plans", "p33", 60_000, 3_600_000


def _delivered(client: redis.Redis) -> list[str]:
    """The ids that the group gives out."""
    reply = client.xreadgroup(GROUP, "desk", {STREAM: ">"})
    return [entry_id for entry_id, _ in reply[0][1]] if reply else []


def _make(client: redis.Redis, *, ahead_ms: int = 0) -> bool:
    return make_group(client, STREAM, GROUP, now_ms=server_ms(client) + ahead_ms, max_age_ms=MAX_AGE_MS)


@pytest.mark.parametrize("ahead_ms", [0, HOUR_MS])
@pytest.mark.parametrize("before", [False, True])
def test_t13_plans_that_come_later_are_delivered(redis_client: redis.Redis, ahead_ms: int, before: bool) -> None:
    """The group was made by a clock an hour ahead, which was set right since, on a stream with entries or without."""
    if before:
        redis_client.xadd(STREAM, {"plan_id": "old"}, id="1-1")
    assert _make(redis_client, ahead_ms=ahead_ms)
    entry = redis_client.xadd(STREAM, {"plan_id": "new"})
    assert _delivered(redis_client) == [entry]


def test_entries_that_may_still_be_answered_are_delivered(redis_client: redis.Redis) -> None:
    """Older ones than P33_PLAN_MAX_AGE_SEC are not: nobody waits for their answer."""
    now_ms = server_ms(redis_client)
    redis_client.xadd(STREAM, {"plan_id": "old"}, id=f"{now_ms - 2 * HOUR_MS}-0")
    young = redis_client.xadd(STREAM, {"plan_id": "young"}, id=f"{now_ms - 1_000}-0")
    assert _make(redis_client) and _delivered(redis_client) == [young]


def test_group_that_is_there_is_left_alone(redis_client: redis.Redis) -> None:
    """It keeps its place."""
    assert _make(redis_client)
    entry = redis_client.xadd(STREAM, {"plan_id": "new"})
    assert not _make(redis_client, ahead_ms=HOUR_MS) and _delivered(redis_client) == [entry]


def test_bytes_are_read_as_well(redis_url: str) -> None:
    """A connection that decodes nothing makes the same group."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.xadd(STREAM, {"plan_id": "old"}, id="1-1")
        assert _make(client, ahead_ms=HOUR_MS)
        client.xadd(STREAM, {"plan_id": "new"}, id="1-2")
        assert _delivered(client) == [b"1-2"]
