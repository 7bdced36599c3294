"""What starts an audit and what tells of failures: cursors, messages and secrets, on a real server and a real hook."""

from __future__ import annotations

import json

import dagster as dg
import pytest
import redis

from p33_pipeline.audit_sensors import audit_on_mismatch, tell_of_errors
from p33_pipeline.resources import P33
from p33_pipeline.sensors import tell_of_failed_runs
from p33_pipeline.webhook import WebhookFailed
from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.store import keys
from tests.pipeline.engine.conftest import HOUR, SECRET, Hook, build_defs


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


def failed(p33: P33, instance: dg.DagsterInstance) -> dg.RunFailureSensorContext:
    """A run that could not reach Redis, as the sensor is told of it."""
    defs = build_defs(p33=P33(overrides=p33.overrides | {"P33_POLL_SEC": "soon"}))
    result = defs.resolve_job_def("archive_now").execute_in_process(instance=instance, raise_on_error=False)
    return dg.build_run_status_sensor_context(
        sensor_name="tell_of_failed_runs", dagster_instance=instance, dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(), resources={"p33": p33}).for_run_failure()


def test_a_failed_run_is_told_with_its_sentence(p33, instance, messages):
    """What, since when, how much, and where to look."""
    context = failed(p33, instance)
    tell_of_failed_runs(context)
    message, = messages
    assert message["what"] == "archive_now failed" and "allowed is" in message["how_much"]
    assert message["since"].startswith("20") and context.dagster_run.run_id in message["link"]
    assert all(message[part] in message["text"] for part in ("what", "since", "how_much", "link"))


def test_a_message_that_is_not_taken_fails_the_tick_without_the_url(p33, instance, messages):
    """Dagster tries again; the URL is a secret."""
    context = failed(p33, instance)
    Hook.status = 503
    with pytest.raises(WebhookFailed) as refused:
        tell_of_failed_runs(context)
    assert "503" in str(refused.value) and SECRET not in str(refused.value)


def test_an_error_is_told_once_however_often_it_is_audited(p33, instance, run, messages):
    """Two audits of the same hour, the second in another run."""
    for _ in range(2):
        result = run("audit_now", HOUR)
        context = dg.build_run_status_sensor_context(
            sensor_name="tell_of_errors", dagster_instance=instance, dagster_run=result.dagster_run,
            dagster_event=result.get_run_success_event(), resources={"p33": p33})
        tell_of_errors(context)
    told = [message["what"] for message in messages]
    assert told.count("bypass on BTCUSDT") == 1 and len(set(told)) == len(told)


def test_no_secret_enters_dagsters_storage(p33, instance, messages):
    """Neither in events nor in the runs' configuration, though runs failed and messages were refused."""
    failed(p33, instance)
    for record in instance.get_run_records():
        logs = "".join(str(entry) for entry in instance.all_logs(record.dagster_run.run_id))
        assert SECRET not in logs and SECRET not in json.dumps(record.dagster_run.run_config)
