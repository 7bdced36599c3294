"""Runs that ended, told one by one until each was taken.

Dagster's own run sensors go past a run whatever became of its message (read and tried on 1.13): a webhook that is down
for an hour would lose all of that hour. Here the cursor moves only past what was told. What comes twice is harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import dagster as dg
from dagster._core.event_api import RunStatusChangeEventType

from p33_sidecar.errors import P33Error

AT_ONCE: Final = 5
"""A turn has 60 s, and a message up to ten."""

Tell = Callable[[dg.DagsterRun, dg.DagsterEvent], None]


def tell_each(context: dg.SensorEvaluationContext, event: RunStatusChangeEventType,
              tell: Tell) -> dg.SensorResult | dg.SkipReason:
    """Tell of all runs that ended so since the last turn; SQLite's instance passes over a filter by jobs (1.13).

    Raises what `tell` raises at the first of them; where a later one fails, it is the first of the next turn.
    """
    cursor = context.cursor or ""
    if not cursor.isdigit():
        newest = context.instance.fetch_run_status_changes(_after(event, 0), limit=1).records
        return dg.SensorResult(cursor=str(newest[0].storage_id if newest else 0), skip_reason="listening from now on")
    records = context.instance.fetch_run_status_changes(_after(event, int(cursor)), limit=AT_ONCE,
                                                        ascending=True).records
    told = 0
    for record in records:
        run, what = context.instance.get_run_by_id(record.run_id), record.event_log_entry.dagster_event
        try:
            if run is not None and what is not None and _ours(context, run):
                tell(run, what)
        except P33Error:
            if not told:
                raise
            break
        cursor, told = str(record.storage_id), told + 1
    return dg.SensorResult(cursor=cursor, skip_reason=f"{told} told") if told else dg.SkipReason("no run has ended so")


def _after(event: RunStatusChangeEventType, storage_id: int) -> dg.RunStatusChangeRecordsFilter:
    return dg.RunStatusChangeRecordsFilter(event, after_storage_id=storage_id)


def _ours(context: dg.SensorEvaluationContext, run: dg.DagsterRun) -> bool:
    """Of this code location; what runs in a process of its own has none, and neither does who looks from there."""
    here, there = context.code_location_origin, run.remote_job_origin
    return here is None or there is None or (
        there.repository_origin.code_location_origin.location_name == here.location_name)
