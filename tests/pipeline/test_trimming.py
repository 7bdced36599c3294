"""Streams are trimmed only behind what is archived, and behind everybody who reads them."""

from __future__ import annotations

from p33_pipeline.archive.streams import Source
from p33_pipeline.history import TABLES
from p33_sidecar.store import keys

from .conftest import EVENTS, MIDNIGHT_MS, add_events, archiver


def test_a_stream_is_trimmed_only_behind_what_is_archived_and_old(redis_client, history):
    """What is younger than `keep_ms` stays for the live tools; so does the newest archived entry."""
    ids = add_events(redis_client, 6, start_ms=MIDNIGHT_MS, apart_ms=1000)
    run = archiver(redis_client, history, now_ms=MIDNIGHT_MS + 5000, keep_ms=3000).run(EVENTS)
    assert run.trimmed == 2
    assert [entry_id for entry_id, _ in redis_client.xrange(keys.EVENTS)] == ids[2:]
    assert archiver(redis_client, history, keep_ms=0).run(EVENTS).trimmed == 3
    assert [entry_id for entry_id, _ in redis_client.xrange(keys.EVENTS)] == ids[-1:]
    assert archiver(redis_client, history, keep_ms=0).run(EVENTS).missing == 0


def test_plans_are_never_trimmed_past_a_consumer(redis_client, history):
    """Neither past what a group has not read, nor past what it has not acknowledged, nor while there is no group."""
    plans = Source(TABLES["plans"], "quantum:apply.plan")
    ids = [redis_client.xadd(plans.stream, {"plan_id": f"p{n}", "symbol": "BTCUSDT"}, id=f"{MIDNIGHT_MS + n}-0")
           for n in range(5)]
    go = archiver(redis_client, history, keep_ms=0)
    assert go.run(plans).trimmed == 0
    redis_client.xgroup_create(plans.stream, keys.GROUP, id="0")
    redis_client.xgroup_create(plans.stream, keys.APPLY_GROUP, id=ids[3])
    assert go.run(plans).trimmed == 0
    redis_client.xreadgroup(keys.GROUP, "a", {plans.stream: ">"})
    redis_client.xack(plans.stream, keys.GROUP, ids[0])
    assert go.run(plans).trimmed == 1
    redis_client.xack(plans.stream, keys.GROUP, *ids)
    assert go.run(plans).trimmed == 2
    assert [entry_id for entry_id, _ in redis_client.xrange(plans.stream)] == ids[3:]


def test_results_are_never_trimmed_past_the_bookkeepers_cursor(redis_client, history):
    results = Source(TABLES["results"], "quantum:apply.result")
    ids = [redis_client.xadd(results.stream, {"plan_id": f"p{n}", "symbol": "X"}, id=f"{MIDNIGHT_MS + n}-0")
           for n in range(4)]
    go = archiver(redis_client, history, keep_ms=0)
    assert go.run(results).trimmed == 0
    redis_client.hset(keys.CURSOR, results.stream, "wrecked 3")
    assert go.run(results).trimmed == 0
    redis_client.hset(keys.CURSOR, results.stream, f"{ids[2]} 3")
    assert go.run(results).trimmed == 2
