"""The demo's last act: a Dagster run over what just happened, and where its report lies.

    python -m p33_pipeline.closing HISTORY HOME [DAY ...]     (settings of the stack in the environment)

Without a day the present one is archived first. Days that are named are of an archive that stands, which the instance
is told of; of several the thresholds are judged too.

Exit codes: 0 the runs succeeded, 1 one failed (its sentence on stderr). Findings are no failure: the demo plants some.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from p33_pipeline.partitions import day_key
from p33_pipeline.resources import P33
from p33_pipeline.serve import prepared


def main(arguments: list[str]) -> int:
    """Archive, audit and report the present day, or the days that are named. Returns the exit code."""
    warnings.simplefilter("ignore")
    from p33_pipeline.assets.archive import standing
    from p33_pipeline.build import build_defs
    history, home, *days = arguments
    os.environ.update(prepared(Path(home), os.environ))
    p33 = P33(overrides={"P33_HISTORY_URL": history})
    defs = build_defs(p33=p33)
    with dg.DagsterInstance.get() as instance:
        if days:
            instance.report_runless_asset_event(standing(p33.history()))
        for job, options in _wanted(days):
            result = defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **options)
            if not result.success:
                print(f"{job} failed: {_why(result)}", file=sys.stderr)
                return 1
            _tell(result)
    return 0


def _wanted(days: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """(job, how it is executed), in their order."""
    if not days:
        return [("archive_now", {}), ("report_day", {"partition_key": day_key(time.time_ns() // 1_000_000)})]
    reports = [("report_day", {"partition_key": day}) for day in days]
    if len(days) == 1:
        return reports
    end = (date.fromisoformat(max(days)) + timedelta(days=1)).isoformat()
    config = {"from_time": min(days), "to_time": end}
    return [*reports, ("review_thresholds", {"run_config": {"ops": {"threshold_review": {"config": config}}}})]


def _tell(result: dg.ExecuteInProcessResult) -> None:
    """What a run says of itself and where its report lies, where it made one."""
    for event in result.get_asset_materialization_events():
        said = {name: value.value for name, value in event.materialization.metadata.items()}
        if "report" in said:
            print(f"Dagster run {result.run_id[:8]}: {said['summary']}")
            print(f"report: {said['report']}   the UI: make dagster", flush=True)


def _why(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            return (data.user_failure_data and data.user_failure_data.description) or str(data.error)[:300]
    return "see the run's log"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
