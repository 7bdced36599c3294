"""What tells of what happened.

A message that was not taken is sent again at the next turn, so that it may come twice and never not at all.
"""

from typing import Final

import dagster as dg

from p33_pipeline.ranges import iso
from p33_pipeline.resources import P33
from p33_pipeline.webhook import Message, post

RUNNING: Final = dg.DefaultSensorStatus.RUNNING


@dg.run_failure_sensor(name="tell_of_failed_runs", default_status=RUNNING,
                       description="Sends every failed run to P33_WEBHOOK_URL.")
def tell_of_failed_runs(context: dg.RunFailureSensorContext, p33: P33) -> None:
    url = p33.settings()["P33_WEBHOOK_URL"]
    if not url:
        return
    run, record = context.dagster_run, context.instance.get_run_record_by_id(context.dagster_run.run_id)
    since = iso(int(record.create_timestamp.timestamp()) * 1000) if record else "now"
    step = next(iter(context.get_step_failure_events()), None)
    why = context.failure_event.message if step is None else _why(step)
    part = f" of {run.tags['dagster/partition']}" if "dagster/partition" in run.tags else ""
    what, link = f"{run.job_name}{part} failed", f"run {run.run_id}"
    post(url, Message(f"p33: {what} since {since}: {why} · {link}", what, since, why, link))


def _why(step: dg.DagsterEvent) -> str:
    """The innermost sentence of what went wrong, bounded; a house error says there what to do."""
    failure = step.step_failure_data
    data = failure.user_failure_data
    if data is not None and data.description:
        return data.description[:500]
    error = failure.error
    return (error.message.strip() if error else step.message or "")[:500]


default_sensors: Final = [tell_of_failed_runs]
