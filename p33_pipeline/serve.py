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

from p33_pipeline.archive.everything import first_ms
from p33_pipeline.generator.week import DAY_MS, DAYS, tell_week
from p33_pipeline.generator.writing import write
from p33_pipeline.history import History, place_at
from p33_pipeline.partitions import day_key

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "deployment" / "dagster" / "one-machine.yaml"
HOME = ".dagster"
DEMOS, WEEK = "demo-*", "week"


def prepared(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of every Dagster process, with a migrated instance at `home`."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copy(CONFIG, home / "dagster.yaml")
    path = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    prepared_env = {**env, "DAGSTER_HOME": str(home.absolute()), "PATH": path, "PYTHONWARNINGS": "ignore"}
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "dagster", "instance", "migrate"], env=prepared_env, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return prepared_env


def history_url(env: Mapping[str, str], here: Path) -> str:
    """The setting, else the newest demo's, else the default; as a whole path, since Dagster stands elsewhere."""
    demos = sorted((here / "history").glob(DEMOS))
    said = env.get("P33_HISTORY_URL") or str(demos[-1] if demos else here / "history" / WEEK)
    return said if "://" in said else str(here / said)


def report_days(url: str, days: list[str], *, home: Path, env: Mapping[str, str]) -> None:
    """Audit and report days of a standing archive on the instance that the UI will show. Raises RuntimeError."""
    command = [sys.executable, "-m", "p33_pipeline.closing", url, str(home), *days]
    done = subprocess.run(command,  # noqa: S603 - our own module, with words of ours
                          env=dict(env), check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])


def tell_of_a_week(week: Path, *, home: Path, env: Mapping[str, str], days: int = DAYS) -> None:
    """See that the week stands there whole and its days are reported, however often one was interrupted."""
    unfinished = week.with_name(f".{week.name}-unfinished")
    if not week.exists():
        print("writing a week of it, then auditing and reporting each day: half a minute", flush=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        begin_ms = (time.time_ns() // 1_000_000 // DAY_MS - days) * DAY_MS
        write(tell_week(begin_ms, days=days), History(place_at(str(unfinished))))
        unfinished.rename(week)
    if len(list(week.glob("reports/mismatch-*.html"))) < days:
        begin_ms = first_ms(History(place_at(str(week)))) or 0
        report_days(str(week), [day_key(begin_ms + n * DAY_MS) for n in range(days)], home=home, env=env)


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C. Returns the exit code."""
    here = Path.cwd()
    url = history_url(os.environ, here)
    print(f"history: {url}", flush=True)
    env = prepared(here / HOME, {**os.environ, "P33_HISTORY_URL": url})
    try:
        if url == str(here / "history" / WEEK):
            tell_of_a_week(Path(url), home=here / HOME, env=env)
        return subprocess.run(  # noqa: S603 - our own interpreter, with what was typed
            [sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml"), *arguments], env=env,
            check=False, cwd=ROOT).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
