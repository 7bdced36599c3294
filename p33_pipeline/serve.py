"""`make dagster`: the UI, its daemon and the definitions on this machine, until Ctrl-C.

The instance is migrated before anything starts, since several processes on an empty DAGSTER_HOME corrupt it for good
(tried on Dagster 1.13). The history is P33_HISTORY_URL, else what the last demo left, else ./history.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "deployment" / "dagster" / "one-machine.yaml"
HOME = ".dagster"
DEMOS = "demo-*"


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
    return env.get("P33_HISTORY_URL") or str(demos[-1] if demos else here / "history")


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C. Returns the exit code."""
    here = Path.cwd()
    url = history_url(os.environ, here)
    print(f"history: {url}", flush=True)
    env = prepared(here / HOME, {**os.environ, "P33_HISTORY_URL": url})
    try:
        return subprocess.run([sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml"),  # noqa: S603
                               *arguments], env=env, check=False, cwd=ROOT).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
