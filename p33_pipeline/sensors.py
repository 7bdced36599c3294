"""What tells of runs that failed.

A message that was not taken is sent again at the next turn, so that it may come twice and never not at all.
"""

from typing import Final

import dagster as dg

from p33_pipeline.ended_runs import tell_each
from p33_pipeline.ranges import iso
from p33_pipeline.resources import P33
from p33_pipeline.webhook import Message, post, run_link

RUNNING: Final = dg.DefaultSensorStatus.RUNNING


@dg.sensor(name="tell_of_failed_runs", default_status=RUNNING,
           description="Sends every failed run to P33_WEBHOOK_URL.")
def tell_of_failed_runs(context: dg.SensorEvaluationContext, p33: P33) -> dg.SensorResult | dg.SkipReason:
    settings = p33.settings()
    url = settings["P33_WEBHOOK_URL"]

    def tell(run: dg.DagsterRun, failure: dg.DagsterEvent) -> None:
        if url:
            post(url, _message(context.instance, run, failure, run_link(settings["P33_DAGSTER_URL"], run.run_id)))

    return tell_each(context, dg.DagsterEventType.RUN_FAILURE, tell)


def _message(instance: dg.DagsterInstance, run: dg.DagsterRun, failure: dg.DagsterEvent, link: str) -> Message:
    record = instance.get_run_record_by_id(run.run_id)
    since = iso(int(record.create_timestamp.timestamp()) * 1000) if record else "now"
    steps = (entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE))
    step = next((event for event in steps if event is not None), None)
    why = (failure.message or "") if step is None else _why(step)
    part = f" of {run.tags['dagster/partition']}" if "dagster/partition" in run.tags else ""
    what = f"{run.job_name}{part} failed"
    return Message(f"p33: {what} since {since}: {why} · {link}", what, since, why, link)


def _why(step: dg.DagsterEvent) -> str:
    """The innermost sentence of what went wrong, bounded; a house error says there what to do."""
    failure = step.step_failure_data
    data = failure.user_failure_data
    if data is not None and data.description:
        return data.description[:500]
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return (error.message.strip() if error else step.message or "")[:500]


default_sensors: Final = [tell_of_failed_runs]
