"""What tells of failures: messages and secrets, with a real instance and a real hook."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from p33_pipeline.resources import P33
from p33_pipeline.sensors import tell_of_failed_runs
from p33_pipeline.webhook import WebhookFailed
from tests.pipeline.engine.conftest import SECRET, Hook, build_defs


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


def test_no_secret_enters_dagsters_storage(p33, instance, messages):
    """Neither in events nor in the runs' configuration, though runs failed and messages were refused."""
    failed(p33, instance)
    for record in instance.get_run_records():
        logs = "".join(str(entry) for entry in instance.all_logs(record.dagster_run.run_id))
        assert SECRET not in logs and SECRET not in json.dumps(record.dagster_run.run_config)
