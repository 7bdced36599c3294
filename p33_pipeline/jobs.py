"""The jobs, named after what an operator wants. One process a run: the work takes less than a step's own start."""

from __future__ import annotations

from typing import Any, Final

import dagster as dg

ONE_PROCESS: Final[dict[str, Any]] = {"executor_def": dg.in_process_executor, "tags": {"dagster/max_runtime": "3600"}}


def _job(name: str, says: str, *assets: str, **more: Any) -> Any:
    chosen = dg.AssetSelection.assets(*assets)
    return dg.define_asset_job(name, selection=chosen, description=says, **ONE_PROCESS, **more)


archive_now = _job("archive_now", "Brings everything new from Redis and the exchange into the archive.",
                   "stream_archive")
audit_hour = _job("audit_hour", "Holds the three accounts against each other over one hour.",
                  "hour_audit")
audit_now = _job("audit_now", "Archives what is new, then audits the hour: for a mismatch that just opened.",
                 "stream_archive", "hour_audit")
report_day = _job("report_day", "Audits a day and writes its mismatch report.",
                  "day_audit", "mismatch_report")
review_thresholds = _job(
    "review_thresholds", "Judges the thresholds by the truth in hindsight. Recommends, never applies.",
    "threshold_review")
compact_history = _job("compact_history", "Merges a day's small files of the archive.",
                       "compacted_history")

default_jobs: Final = [archive_now, audit_hour, audit_now, report_day, review_thresholds, compact_history]
