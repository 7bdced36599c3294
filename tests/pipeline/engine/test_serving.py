"""The demo's closing run, and what `make dagster` prepares: as processes, on a home of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from p33_pipeline.generator.week import tell_week
from p33_pipeline.generator.writing import write
from p33_pipeline.history import TABLES, History, place_at
from p33_pipeline.partitions import day_key
from p33_pipeline.serve import history_url, tell_of_a_week
from tests.pipeline.conftest import DAY_MS, MIDNIGHT_MS

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "deployment" / "dagster").glob("*.yaml"))


def test_the_closing_run_says_where_its_report_lies(p33, tmp_path):
    """Archive, audit and report of the present day, on an instance that the deployment's configuration made."""
    history, home = tmp_path / "history", tmp_path / "home"
    done = subprocess.run([sys.executable, "-m", "p33_pipeline.closing", str(history), str(home)], capture_output=True,
                          text=True, timeout=300, cwd=ROOT, stdin=subprocess.DEVNULL,
                          env=p33.overrides | {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"],
                                               "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    page = done.stdout.split("report: ")[1].split("   ")[0]
    assert Path(page).exists() and str(history) in page and "Dagster run" in done.stdout
    assert (home / "dagster.yaml").read_text() == (ROOT / "deployment/dagster/one-machine.yaml").read_text()


def test_the_newest_demo_is_shown_unless_a_history_is_named(tmp_path):
    """The setting wins; without any demo a week is generated."""
    assert history_url({}, tmp_path) == str(tmp_path / "history" / "week")
    for name in ("demo-20260125T000000Z", "demo-20260126T000000Z"):
        (tmp_path / "history" / name).mkdir(parents=True)
    assert history_url({}, tmp_path).endswith("demo-20260126T000000Z")
    assert history_url({"P33_HISTORY_URL": "/elsewhere"}, tmp_path) == "/elsewhere"
    assert history_url({"P33_HISTORY_URL": "./mine"}, tmp_path) == str(tmp_path / "mine")
    assert history_url({"P33_HISTORY_URL": "s3://bucket/mine"}, tmp_path) == "s3://bucket/mine"


def test_a_week_that_was_interrupted_is_told_again(tmp_path, monkeypatch):
    """While it was written, and while its days were reported: the next start goes on, and then leaves it alone."""
    week, env = tmp_path / "history" / "week", {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}

    def interrupted(story, history) -> None:
        history.place.write("decisions/date=2026-01-25/part-1-0_1-0.parquet", b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("p33_pipeline.serve.write", interrupted)
        tell_of_a_week(week, home=tmp_path / "home", env=env, days=1)
    assert not week.exists()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("p33_pipeline.serve.report_days", interrupted_report)
        tell_of_a_week(week, home=tmp_path / "home", env=env, days=1)
    before = sorted(week.rglob("part-*.parquet"))
    tell_of_a_week(week, home=tmp_path / "home", env=env, days=1)
    assert len(list(week.glob("reports/mismatch-*.html"))) == 1 and sorted(week.rglob("part-*.parquet")) == before
    with monkeypatch.context() as patched:
        patched.setattr("p33_pipeline.serve.report_days", interrupted_report)
        tell_of_a_week(week, home=tmp_path / "home", env=env, days=1)


def interrupted_report(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_named_days_are_reported_and_the_thresholds_judged_over_them(tmp_path):
    """What `make dagster` does with the generated week; here with two of its days."""
    history, home = tmp_path / "history", tmp_path / "home"
    write(tell_week(MIDNIGHT_MS, days=2), History(place_at(str(history))))
    days = [day_key(MIDNIGHT_MS), day_key(MIDNIGHT_MS + DAY_MS)]
    done = subprocess.run([sys.executable, "-m", "p33_pipeline.closing", str(history), str(home), *days],
                          capture_output=True, text=True, timeout=600, cwd=ROOT, stdin=subprocess.DEVNULL,
                          env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stdout.splitlines() if line.startswith("Dagster run")]
    assert "1 break in the accounts, all of them closed again" in said[0]
    assert "2 breaks in the accounts, 1 still open, the dearest ETHUSDT" in said[1]
    assert len(said) == 3 and "change is recommended" in said[2]
    assert archived_there(home) == sum(
        History(place_at(str(history))).scan(TABLES[name], columns=["id"]).num_rows for name in TABLES
        if name != "trades")


def archived_there(home: Path) -> int:
    """How many entries the asset of the archive is said to hold, by the instance that the UI shows."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("stream_archive"))
        said = event.asset_materialization.metadata
        assert "no stream was read" in said["summary"].value and "decisions" in said["streams"].value
        return said["dagster/row_count"].value


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_the_configurations_hold_no_secret(path):
    """Passwords and brokers come from the environment."""
    text = path.read_text(encoding="utf-8")
    assert len(CONFIGS) >= 5 and yaml.safe_load(text)
    for line in text.splitlines():
        if any(word in line for word in ("password:", "broker:", "backend:")):
            assert "{env:" in line, line
