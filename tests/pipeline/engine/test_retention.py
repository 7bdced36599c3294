"""What is forgotten, and what is not: Dagster calls a partition missing when its run is deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from p33_pipeline.retention import Retention, forget, forget_runs

LATER = datetime.now(UTC) + timedelta(days=1)


def played(name: str, instance: dg.DagsterInstance, *, fails: bool = False) -> str:
    """A run of a job of this name; its id."""
    @dg.op
    def deed() -> None:
        print("said by the run")
        if fails:
            raise ValueError("as asked")

    @dg.job(name=name, executor_def=dg.in_process_executor)
    def job() -> None:
        deed()

    return job.execute_in_process(instance=instance, raise_on_error=False).run_id


@pytest.fixture
def instance(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as instance:
        yield instance


def kept(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_repeated_and_failed_runs_go_and_partitions_stay(instance, tmp_path):
    """With everything that they left on disk."""
    gone = {played("archive_now", instance), played("archive_now", instance),
            played("report_day", instance, fails=True)}
    stays = {played("report_day", instance), played("audit_hour", instance)}
    assert forget(instance, before=LATER) == len(gone)
    assert kept(instance) == stays
    left = {path for path in tmp_path.rglob("*") for run_id in gone if run_id in str(path)}
    assert not left


def test_young_runs_stay(instance):
    """Whatever they were."""
    runs = {played("archive_now", instance), played("report_day", instance, fails=True)}
    assert forget(instance, before=datetime.now(UTC) - timedelta(hours=1)) == 0
    assert kept(instance) == runs


def test_a_run_under_way_is_not_touched(instance):
    """It has not ended."""
    run = instance.create_run_for_job(forget_runs)
    instance.report_run_canceling(run)
    assert forget(instance, before=LATER) == 0 and kept(instance) == {run.run_id}


def test_the_job_says_how_many(instance):
    """As the schedule starts it; a day is the least."""
    played("archive_now", instance)
    done = forget_runs.execute_in_process(instance=instance)
    assert done.success and len(kept(instance)) == 2
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Retention(days=0)
