"""The same day audited by one process: the answer that the engines of several hosts must come to.

    python -m tests.scale.one_process HISTORY HOME HOURS
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import dagster as dg

from p33_pipeline.resources import P33
from p33_pipeline.serve import prepared
from tests.scale.day import DAY, hours


def main(url: str, home: str, count: str) -> int:
    warnings.simplefilter("ignore")
    from p33_pipeline.build import build_defs
    os.environ.update(prepared(Path(home), os.environ))
    defs = build_defs(p33=P33(overrides={"P33_HISTORY_URL": url}))
    with dg.DagsterInstance.get() as instance:
        for hour in hours(int(count)):
            defs.resolve_job_def("audit_hour").execute_in_process(partition_key=hour, instance=instance)
        defs.resolve_job_def("report_day").execute_in_process(partition_key=DAY, instance=instance)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
