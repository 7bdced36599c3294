"""`make dagster`: the UI, its daemon and the definitions on this machine, until Ctrl-C.

The instance is migrated before anything starts, since several processes on an empty DAGSTER_HOME corrupt it for good
(tried on Dagster 1.13). The history is P33_HISTORY_URL, else what the last demo left, else a generated week with
planted breaks, whose days are audited and reported before the UI opens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import tell
from p33_pipeline.generator.writing import write
from p33_pipeline.history import History, place_at
from p33_pipeline.partitions import day_key

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "deployment" / "dagster" / "one-machine.yaml"
HOME = ".dagster"
DEMOS, WEEK = "demo-*", "week"
DAYS, DAY_MS = 7, 86_400_000


def prepared(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of every Dagster process, with a migrated instance at `home`."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copy(CONFIG, home / "dagster.yaml")
    path = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    prepared_env = {**env, "DAGSTER_HOME": str(home.absolute()), "PATH": path, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-m", "dagster", "instance", "migrate"], env=prepared_env, check=True,  # noqa: S603
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return prepared_env


def history_url(env: Mapping[str, str], here: Path) -> str:
    """Where to look: the setting, else the newest demo's, else the default."""
    demos = sorted((here / "history").glob(DEMOS))
    return env.get("P33_HISTORY_URL") or str(demos[-1] if demos else here / "history" / WEEK)


def write_week(history: History, *, begin_ms: int) -> None:
    """Seven days, each with a stretch in which everything that can go wrong does, at places known to the generator."""
    for day in range(DAYS):
        write(tell(day + 1, deeds=DEEDS, start_ms=begin_ms + day * DAY_MS), history)


def report_week(url: str, *, begin_ms: int, home: Path, env: Mapping[str, str]) -> None:
    """Audit and report each day of the week on the instance that the UI will show. Raises RuntimeError."""
    for day in range(DAYS):
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", "p33_pipeline.closing", url, str(home), day_key(begin_ms + day * DAY_MS)],
            env=dict(env), check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        print(done.stdout.splitlines()[0], flush=True)


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C. Returns the exit code."""
    here = Path.cwd()
    url = history_url(os.environ, here)
    print(f"history: {url}", flush=True)
    env = prepared(here / HOME, {**os.environ, "P33_HISTORY_URL": url})
    if url.endswith(f"/{WEEK}") and not Path(url).exists():
        begin_ms = (time.time_ns() // 1_000_000 // DAY_MS - DAYS) * DAY_MS + DAY_MS // 24
        write_week(History(place_at(url)), begin_ms=begin_ms)
        report_week(url, begin_ms=begin_ms, home=here / HOME, env=env)
    try:
        return subprocess.run([sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml"),  # noqa: S603
                               *arguments], env=env, check=False, cwd=ROOT).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
