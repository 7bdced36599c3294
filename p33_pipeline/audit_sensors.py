"""What starts an audit because something happened, and what tells of the errors that audits found.

A cursor moves only past what was answered: a Redis that cannot be asked is a failed tick and the cursor stays.
"""

import re
import time
from typing import Final

import dagster as dg
import msgspec

from p33_pipeline import jobs
from p33_pipeline.audit.findings import Audit
from p33_pipeline.auditing import is_outdated, kept_audit
from p33_pipeline.ended_runs import tell_each
from p33_pipeline.history import History
from p33_pipeline.news import errors_of, remember, untold
from p33_pipeline.partitions import DAY_MS, HOUR_MS, closed_before, day_key, hour_key, window_of
from p33_pipeline.resources import P33
from p33_pipeline.webhook import post, run_link
from p33_sidecar.store import keys
from p33_sidecar.store.connect import Link, store_errors

READ_AT_ONCE: Final = 50
ENTRY_ID: Final = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)
AUDITED_MS: Final = 1_800_000
"""So long after its end an hour or a day has had the audit that its schedule asks for."""
LATE_HOURS, LATE_DAYS = 24, 7
"""So many of them are looked at; an hour that came later than that is told by its day."""
RUNNING: Final = dg.DefaultSensorStatus.RUNNING


@dg.sensor(job=jobs.audit_now, minimum_interval_seconds=30, default_status=RUNNING,
           description="Audits the hour as soon as the sidecar reports a mismatch.")
def audit_on_mismatch(context: dg.SensorEvaluationContext, p33: P33) -> dg.SensorResult | dg.SkipReason:
    link = Link(p33.settings().redis_url, name="pipeline-sensor")
    try:
        with store_errors():
            if not ENTRY_ID.fullmatch(context.cursor or ""):  # none yet, or one that somebody set
                return dg.SensorResult(cursor=_newest(link), skip_reason="listening from now on")
            entries = link.redis.xrange(keys.EVENTS, f"({context.cursor}", "+", count=READ_AT_ONCE)
    finally:
        link.close()
    if not entries:
        return dg.SkipReason("no event since the last look")
    now_ms = _now_ms()  # a server's clock that was ahead leaves ids of hours that no audit can be asked for
    hours = {hour_key(min(int(entry_id.split("-")[0]), now_ms)): entry_id
             for entry_id, fields in entries if _opened(fields)}
    requests = [dg.RunRequest(run_key=entry_id, partition_key=hour, tags={"requested_by": "mismatch"})
                for hour, entry_id in hours.items()]
    return dg.SensorResult(run_requests=requests, cursor=entries[-1][0])


def _newest(link: Link) -> str:
    newest = link.redis.xrevrange(keys.EVENTS, count=1)
    return newest[0][0] if newest else "0-0"


def _opened(fields: dict[str, str]) -> bool:
    if fields.get("kind") != "mismatch":
        return False
    try:
        return msgspec.json.decode(fields.get("json", "{}")).get("state") == "opened"
    except (msgspec.DecodeError, AttributeError):
        return False


@dg.sensor(name="tell_of_errors", default_status=RUNNING,
           description="Sends new findings of error severity to P33_WEBHOOK_URL, each once.")
def tell_of_errors(context: dg.SensorEvaluationContext, p33: P33) -> dg.SensorResult | dg.SkipReason:
    settings = p33.settings()
    url = settings["P33_WEBHOOK_URL"]

    def tell(run: dg.DagsterRun, _: dg.DagsterEvent) -> None:
        if not url:
            return
        history = p33.history()
        found = _audit_of(run, history)
        if found is None:
            return
        link = run_link(settings["P33_DAGSTER_URL"], run.run_id)
        for name, message in untold(history, errors_of(found, link=link)).items():
            post(url, message)
            remember(history, [name])

    return tell_each(context, dg.DagsterEventType.RUN_SUCCESS, tell)


def _audit_of(run: dg.DagsterRun, history: History) -> Audit | None:
    """What the audit of the run's partition found, as it is kept; whichever job made it, or the UI without one."""
    key = run.tags.get("dagster/partition")
    if not key:
        return None
    from_ms, to_ms = window_of(key)
    return kept_audit(history, from_ms=from_ms, to_ms=to_ms)


@dg.sensor(jobs=[jobs.audit_hour, jobs.report_day], minimum_interval_seconds=300, default_status=RUNNING,
           description="Audits an hour or a day once more if a part of it was archived only after its audit.")
def audit_what_came_late(p33: P33) -> dg.SensorResult | dg.SkipReason:
    history, before_ms = p33.history(), _now_ms() - AUDITED_MS
    wanted = [*((jobs.audit_hour.name, hour_key(from_ms), from_ms, to_ms)
                for from_ms, to_ms in closed_before(before_ms, length_ms=HOUR_MS, count=LATE_HOURS)),
              *((jobs.report_day.name, day_key(from_ms), from_ms, to_ms)
                for from_ms, to_ms in closed_before(before_ms, length_ms=DAY_MS, count=LATE_DAYS))]
    requests = [dg.RunRequest(run_key=f"{job} {key}", job_name=job, partition_key=key,
                              tags={"requested_by": "late archive"})
                for job, key, from_ms, to_ms in wanted if is_outdated(history, from_ms=from_ms, to_ms=to_ms)]
    return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("no audit came too early")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


audit_sensors: Final = [audit_on_mismatch, audit_what_came_late, tell_of_errors]
