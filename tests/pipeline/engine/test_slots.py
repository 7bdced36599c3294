"""A run of the archive that is killed for real does not keep the others out for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import yaml
from dagster._daemon.monitoring import concurrency
from dagster._time import get_current_datetime

from p33_pipeline.assets.archive import WRITER

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "deployment" / "dagster"
AT_WORK = """
import time
import dagster as dg
import p33_pipeline.assets.archive as assets
from p33_pipeline.build import build_defs

def for_ever(_):
    print("at work", flush=True)
    time.sleep(3600)

assets.archive_now = for_ever
with dg.DagsterInstance.get() as instance:
    build_defs().resolve_job_def("archive_now").execute_in_process(instance=instance)
"""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """One machine, as it ships."""
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "one-machine.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def kill_one_at_work() -> None:
    """A process that archives, killed in the middle."""
    with subprocess.Popen([sys.executable, "-c", AT_WORK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        assert process.stdout is not None
        assert any(line.startswith("at work") for line in process.stdout)
        process.send_signal(signal.SIGKILL)


def held(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_concurrency_info(WRITER).active_slot_count


def test_a_killed_archive_run_gives_the_pool_back(home, monkeypatch):
    """By the daemon's own turn, a few minutes after the run was found dead."""
    with dg.DagsterInstance.get() as instance:
        kill_one_at_work()
        run, = instance.get_runs()
        assert held(instance) == 1
        instance.report_run_failed(run)
        monkeypatch.setattr(concurrency, "get_current_datetime", lambda: get_current_datetime() + timedelta(minutes=5))
        daemon = SimpleNamespace(instance=instance)
        list(concurrency.execute_concurrency_slots_iteration(daemon, dg.get_dagster_logger()))
        assert held(instance) == 0


def test_every_engine_monitors_its_runs_the_same_way():
    """What is right on one machine is right in Postgres."""
    said = [yaml.safe_load((SHIPPED / name).read_text())["run_monitoring"] for name in ("one-machine.yaml",
                                                                                       "postgres.yaml")]
    assert said[0] == said[1]
