"""Forgets runs that nobody will ask for; what they found stands in the archive, not in Dagster.

A run of SQLite's instance costs about 200 KB, and the archive runs every five minutes: 20 GB a year. What may not
happen here: the loss of a partition. Dagster shows one as missing when its run is deleted (tried on 1.13), so runs of
audits and reports that succeeded stay.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage
from pydantic import Field

FORGETFUL: Final = "forget_runs"
REPEATED: Final = ("archive_now", FORGETFUL)
"""Jobs of which only the newest runs say anything."""
FAILED: Final = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
BATCH: Final = 500
"""Looked up at a time; a day has 288 archive runs."""


class Retention(dg.Config):
    """How long a run is kept."""

    days: int = Field(default=14, ge=1, description="Ended runs that changed last before so many days are forgotten")


def forget(instance: dg.DagsterInstance, *, before: datetime) -> int:
    """Deletes failures and cancellations of every job, and successes of the jobs that repeat themselves, that changed
    last before then; with their logs, one by one: who is interrupted goes on next time. Returns how many."""
    wanted = [dg.RunsFilter(statuses=list(FAILED), updated_before=before)]
    wanted += [dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS], updated_before=before)
               for job in REPEATED]
    count = 0
    for filters in wanted:
        while runs := instance.get_runs(filters, limit=BATCH):
            for run in runs:
                instance.compute_log_manager.delete_logs(prefix=[run.run_id])
                instance.delete_run(run.run_id)
                _delete_file(instance, run.run_id)
            count += len(runs)
    return count


def _delete_file(instance: dg.DagsterInstance, run_id: str) -> None:
    """In SQLite a run's events have a file of their own, which Dagster empties and leaves (seen with 1.13)."""
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        path = Path(storage.path_for_shard(run_id))
        for ending in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + ending).unlink(missing_ok=True)


@dg.op(description="Deletes ended runs and their logs from Dagster's own storage; the archive is not touched.")
def forget_old_runs(context: dg.OpExecutionContext, config: Retention) -> None:
    count = forget(context.instance, before=datetime.now(UTC) - timedelta(days=config.days))
    context.log.info("%d runs older than %d days were forgotten", count, config.days)


@dg.job(name=FORGETFUL, executor_def=dg.in_process_executor,
        description="Forgets old runs: failed ones, and those of jobs that repeat themselves. Partitions stay.")
def forget_runs() -> None:
    forget_old_runs()
