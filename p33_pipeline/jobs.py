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
review_thresholds = _job(
    "review_thresholds", "Judges the thresholds by the truth in hindsight. Recommends, never applies.",
    "threshold_review")
compact_history = _job("compact_history", "Merges a day's small files of the archive.",
                       "compacted_history")

default_jobs: Final = [archive_now, review_thresholds, compact_history]
