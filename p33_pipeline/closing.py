"""The demo's last act: a Dagster run over what just happened, and where its report lies.

    python -m p33_pipeline.closing HISTORY HOME [DAY]     (settings of the stack in the environment)

Without a day the present one is archived first; a day that is named is one of an archive that stands.

Exit codes: 0 the runs succeeded, 1 one failed (its sentence on stderr). Findings are no failure: the demo plants some.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

import dagster as dg

from p33_pipeline.partitions import day_key
from p33_pipeline.resources import P33
from p33_pipeline.serve import prepared


def main(arguments: list[str]) -> int:
    """Archive, audit and report the present day. Returns the exit code."""
    warnings.simplefilter("ignore")
    from p33_pipeline.build import build_defs
    history, home, *day = arguments
    os.environ.update(prepared(Path(home), os.environ))
    defs = build_defs(p33=P33(overrides={"P33_HISTORY_URL": history}))
    today = [("archive_now", None), ("report_day", day_key(time.time_ns() // 1_000_000))]
    with dg.DagsterInstance.get() as instance:
        for job, partition in [("report_day", day[0])] if day else today:
            result = defs.resolve_job_def(job).execute_in_process(
                partition_key=partition, instance=instance, raise_on_error=False)
            if not result.success:
                print(f"{job} failed: {_why(result)}", file=sys.stderr)
                return 1
    said = {name: value.value for event in result.get_asset_materialization_events()
            if event.asset_key == dg.AssetKey("mismatch_report")
            for name, value in event.materialization.metadata.items()}
    print(f"Dagster run {result.run_id[:8]}: {said['summary']}")
    print(f"report: {said['report']}   the UI: make dagster")
    return 0


def _why(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            return (data.user_failure_data and data.user_failure_data.description) or str(data.error)[:300]
    return "see the run's log"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
