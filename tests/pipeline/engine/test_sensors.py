"""What starts an audit and what tells of failures: cursors, messages and secrets, on a real server and a real hook."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread

import dagster as dg
import pytest
import redis

from p33_pipeline.audit_sensors import audit_on_mismatch, tell_of_errors
from p33_pipeline.news import NOTE
from p33_pipeline.partitions import hour_key
from p33_pipeline.resources import P33
from p33_pipeline.sensors import tell_of_failed_runs
from p33_pipeline.webhook import Message, WebhookFailed, post
from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys
from tests.core.made import NOW_MS
from tests.pipeline.engine.conftest import DAY, HOUR, SECRET, UI, Hook, build_defs


def event(client: redis.Redis, kind: str, state: str) -> str:
    return client.xadd(keys.EVENTS, {"kind": kind, "json": json.dumps({"v": 1, "kind": kind, "state": state})}).decode()


def look(p33: P33, cursor: str | None):
    """One turn of the sensor."""
    return audit_on_mismatch(dg.build_sensor_context(cursor=cursor, resources={"p33": p33}))


def test_an_opened_mismatch_starts_an_audit_of_its_hour(store, p33):
    """Once: events before the first look, closings and other kinds start nothing."""
    with redis.Redis.from_url(store.url) as client:
        event(client, "mismatch", "opened")
        begun = look(p33, None)
        assert begun.run_requests is None or not begun.run_requests
        assert isinstance(look(p33, begun.cursor), dg.SkipReason)
        opened = event(client, "mismatch", "opened")
        event(client, "mismatch", "closed")
        last = event(client, "halt", "on")
        found = look(p33, begun.cursor)
    request, = found.run_requests
    assert (request.run_key, found.cursor) == (opened, last)
    assert request.partition_key.endswith(":00") and request.tags["requested_by"] == "mismatch"
    assert isinstance(look(p33, found.cursor), dg.SkipReason)


def test_a_redis_that_is_away_fails_the_tick_and_keeps_the_cursor(p33):
    """The next turn begins where this one did."""
    away = P33(overrides=p33.overrides | {"REDIS_URL": "redis://127.0.0.1:1/0"})
    with pytest.raises(StoreUnavailable):
        look(away, "5-0")


@pytest.mark.parametrize("cursor", ["", "yesterday", "5", "5-0 "])
def test_a_cursor_that_is_none_listens_from_now_on(store, p33, cursor):
    """As the first turn does: the UI lets anybody set one, and every turn failed after that."""
    with redis.Redis.from_url(store.url) as client:
        last = event(client, "mismatch", "opened")
    found = look(p33, cursor)
    assert (found.cursor, found.run_requests or []) == (last, [])


def test_a_mismatch_from_a_clock_that_was_ahead_starts_the_audit_of_now(p33, instance):
    """Its own hour has not come: no run can be asked for it, and every turn failed, until it had."""
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as client:
        body = json.dumps({"v": 1, "kind": "mismatch", "state": "opened"})
        client.xadd(keys.EVENTS, {"kind": "mismatch", "json": body}, id=f"{NOW_MS * 1000}-0")
        there = P33(overrides=p33.overrides | {"REDIS_URL": server.url})
        before = hour_key(time.time_ns() // 1_000_000)
        tick = audit_on_mismatch.evaluate_tick(dg.build_sensor_context(
            instance=instance, cursor="0-0", resources={"p33": there}, definitions=build_defs(p33=there)))
    request, = tick.run_requests
    assert before <= request.partition_key <= hour_key(time.time_ns() // 1_000_000)
    assert tick.cursor == f"{NOW_MS * 1000}-0"


class Endless(BaseHTTPRequestHandler):
    """Takes a message, and begins an answer that it never ends."""

    over = Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.over.wait(120)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_a_hook_that_never_ends_its_answer_has_taken_the_message(p33):
    """It was waited for in vain, and the same message was sent again at every turn."""
    with HTTPServer(("127.0.0.1", 0), Endless) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            post(f"http://127.0.0.1:{server.server_port}/", Message("a", "b", "c", "d", "e"))
        finally:
            Endless.over.set()
            server.shutdown()


def turn(sensor: dg.SensorDefinition, p33: P33, instance: dg.DagsterInstance, cursor: str | None):
    """One turn of a sensor that tells of runs."""
    return sensor(dg.build_sensor_context(instance=instance, cursor=cursor, resources={"p33": p33}))


@pytest.fixture
def cursors(p33, instance) -> dict[str, str]:
    """Where both begin: what ended before is not told."""
    return {sensor.name: turn(sensor, p33, instance, None).cursor for sensor in (tell_of_failed_runs, tell_of_errors)}


def failed(p33: P33, instance: dg.DagsterInstance) -> str:
    """A run with a setting that cannot be used; its id."""
    defs = build_defs(p33=P33(overrides=p33.overrides | {"P33_POLL_SEC": "soon"}))
    return defs.resolve_job_def("archive_now").execute_in_process(instance=instance, raise_on_error=False).run_id


def test_a_failed_run_is_told_with_its_sentence(p33, instance, messages, cursors):
    """What, since when, how much, and where to look; once."""
    run_id = failed(p33, instance)
    told = turn(tell_of_failed_runs, p33, instance, cursors["tell_of_failed_runs"])
    message, = messages
    assert message["what"] == "archive_now failed" and "allowed is" in message["how_much"]
    assert message["since"].startswith("20") and message["link"] == f"{UI}/runs/{run_id}"
    assert all(message[part] in message["text"] for part in ("what", "since", "how_much", "link"))
    assert isinstance(turn(tell_of_failed_runs, p33, instance, told.cursor), dg.SkipReason) and len(messages) == 1


def test_a_fault_of_ours_is_told_by_what_it_was(p33, instance, messages, cursors, monkeypatch):
    """After the last try Dagster says only that there were too many."""
    def break_down(_: object) -> None:
        raise RuntimeError("the roof came down")

    monkeypatch.setattr("p33_pipeline.assets.archive.archive_now", break_down)
    build_defs(p33=p33).resolve_job_def("archive_now").execute_in_process(instance=instance, raise_on_error=False)
    turn(tell_of_failed_runs, p33, instance, cursors["tell_of_failed_runs"])
    assert "the roof came down" in messages[0]["how_much"]


def test_a_message_that_is_not_taken_fails_the_tick_without_the_url(p33, instance, messages, cursors):
    """The next turn sends it, however long the hook was away; the URL is a secret."""
    runs = [failed(p33, instance) for _ in range(2)]
    Hook.status = 503
    for _ in range(2):
        with pytest.raises(WebhookFailed) as refused:
            turn(tell_of_failed_runs, p33, instance, cursors["tell_of_failed_runs"])
        assert "503" in str(refused.value) and SECRET not in str(refused.value)
    Hook.status = 200
    turn(tell_of_failed_runs, p33, instance, cursors["tell_of_failed_runs"])
    assert [run_id in message["link"] for run_id, message in zip(runs, messages, strict=True)] == [True, True]


def test_the_daemons_own_turn_keeps_a_message_that_is_not_taken(p33, instance, messages, cursors):
    """Through Dagster's machinery: a tick that fails leaves the cursor, whose run is told by the next."""
    run_id = failed(p33, instance)
    Hook.status = 503
    before = dg.build_sensor_context(instance=instance, cursor=cursors["tell_of_failed_runs"], resources={"p33": p33})
    with pytest.raises(WebhookFailed):
        tell_of_failed_runs.evaluate_tick(before)
    Hook.status = 200
    tick = tell_of_failed_runs.evaluate_tick(dg.build_sensor_context(
        instance=instance, cursor=before.cursor, resources={"p33": p33}))
    assert int(tick.cursor) > int(cursors["tell_of_failed_runs"]) and run_id in messages[0]["link"]


def test_an_error_is_told_once_however_often_it_is_audited(p33, instance, run, messages, cursors):
    """Two audits of the same hour, the second in another run; a hook that was away in between loses nothing."""
    cursor = cursors["tell_of_errors"]
    assert run("audit_now", HOUR).success
    Hook.status = 500
    with pytest.raises(WebhookFailed):
        turn(tell_of_errors, p33, instance, cursor)
    Hook.status = 200
    cursor = turn(tell_of_errors, p33, instance, cursor).cursor
    assert run("audit_now", HOUR).success
    turn(tell_of_errors, p33, instance, cursor)
    told = [message["what"] for message in messages]
    assert told.count("bypass on BTCUSDT") == 1 and len(set(told)) == len(told)


@pytest.mark.parametrize(("asset", "partition"), [("hour_audit", HOUR), ("day_audit", DAY)])
def test_an_error_is_told_by_whatever_run_it_was_found(p33, instance, defs, run, messages, cursors, asset, partition):
    """A backfill in the UI is of no job of ours; nor does the nightly merging of a day's files stop the telling, which
    on SQLite it did: from the first night on nobody was told of anything.
    """
    assert run("archive_now").success and run("compact_history", DAY).success
    p33.history().place.delete(NOTE)
    done = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        partition_key=partition, instance=instance, asset_selection=[dg.AssetKey(asset)])
    assert done.success
    turn(tell_of_errors, p33, instance, cursors["tell_of_errors"])
    assert "bypass on BTCUSDT" in [message["what"] for message in messages]


def test_no_secret_enters_dagsters_storage(p33, instance, messages):
    """Neither in events nor in the runs' configuration, though runs failed and messages were refused."""
    failed(p33, instance)
    for record in instance.get_run_records():
        logs = "".join(str(entry) for entry in instance.all_logs(record.dagster_run.run_id))
        assert SECRET not in logs and SECRET not in json.dumps(record.dagster_run.run_config)
