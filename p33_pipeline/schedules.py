"""When things happen by themselves, in UTC. What only reads and writes the archive runs from the start; the review is
started by a person once there is something to review."""

import time
from typing import Final

import dagster as dg

from p33_pipeline import jobs
from p33_pipeline.partitions import DAY_MS, HOUR_MS, day_key, hour_key
from p33_pipeline.retention import forget_runs

RUNNING, STOPPED = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED

EVERY_MS: Final = 300_000


def _tick_ms(context: dg.ScheduleEvaluationContext) -> int:
    return int(context.scheduled_execution_time.timestamp()) * 1000


@dg.schedule(job=jobs.archive_now, cron_schedule="*/5 * * * *", execution_timezone="UTC", default_status=RUNNING,
             description="Archives what is new every five minutes.")
def archive_every_five_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    if time.time_ns() // 1_000_000 - _tick_ms(context) > EVERY_MS:
        return dg.SkipReason("missed, and the next run archives all that this one would have")
    return dg.RunRequest()


@dg.schedule(job=jobs.audit_hour, cron_schedule="7 * * * *", execution_timezone="UTC", default_status=RUNNING,
             description="Audits the hour that just closed, seven minutes after it, when it is archived.")
def audit_every_hour(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return _for(hour_key(_tick_ms(context) - HOUR_MS))


@dg.schedule(job=jobs.report_day, cron_schedule="15 0 * * *", execution_timezone="UTC", default_status=RUNNING,
             description="At 00:15 audits the closed day and writes its mismatch report.")
def report_every_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return _for(day_key(_tick_ms(context) - DAY_MS))


@dg.schedule(job=jobs.compact_history, cron_schedule="45 0 * * *", execution_timezone="UTC", default_status=RUNNING,
             description="At 00:45 merges the closed day's files.")
def compact_every_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return _for(day_key(_tick_ms(context) - DAY_MS))


forget_every_day = dg.ScheduleDefinition(
    name="forget_every_day", job=forget_runs, cron_schedule="15 1 * * *", execution_timezone="UTC",
    default_status=RUNNING, description="At 01:15 forgets runs that are two weeks old and say nothing.")
review_every_week = dg.ScheduleDefinition(
    name="review_every_week", job=jobs.review_thresholds, cron_schedule="0 6 * * 1", execution_timezone="UTC",
    default_status=STOPPED, description="On Monday at 06:00 judges the thresholds over the last week.")

default_schedules: Final = [archive_every_five_minutes, audit_every_hour, report_every_day, compact_every_day,
                            forget_every_day, review_every_week]


def _for(key: str) -> dg.RunRequest:
    return dg.RunRequest(run_key=key, partition_key=key, tags={"requested_by": "schedule"})
