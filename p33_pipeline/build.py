"""The only place that puts the definitions together."""

from __future__ import annotations

import warnings
from typing import Any

import dagster as dg

from p33_pipeline.annotating import annotate_break
from p33_pipeline.assets.archive import compacted_history, stream_archive
from p33_pipeline.assets.audit import day_audit, hour_audit
from p33_pipeline.assets.reports import mismatch_report
from p33_pipeline.assets.tuning import threshold_review
from p33_pipeline.audit_sensors import audit_sensors
from p33_pipeline.jobs import default_jobs
from p33_pipeline.resources import P33, RESOURCE
from p33_pipeline.retention import forget_runs
from p33_pipeline.schedules import default_schedules
from p33_pipeline.sensors import default_sensors

ASSETS = [stream_archive, compacted_history, hour_audit, day_audit, mismatch_report, threshold_review]


def build_defs(**resources: Any) -> dg.Definitions:
    """All definitions; `resources` replace the default ones by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.Definitions(
            assets=ASSETS, jobs=[*default_jobs, annotate_break, forget_runs], schedules=default_schedules,
            sensors=[*default_sensors, *audit_sensors], executor=dg.in_process_executor,
            resources={RESOURCE: P33(), **resources})
