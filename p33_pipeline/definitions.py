"""What Dagster loads. `workspace.yaml` points here."""

from __future__ import annotations

from p33_pipeline.build import build_defs

defs = build_defs()
