"""An installation below a folder: deploy.sh as an operator runs it, and the programs that its units name."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from p33_sidecar.rehearsal.exchange.sim import REHEARSAL_KEY, REHEARSAL_SECRET
from p33_sidecar.rehearsal.processes import Process, free_port
from p33_sidecar.rehearsal.stack import Stack
from p33_sidecar.settings import SETTINGS

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "deployment"
_UNREACHABLE = re.compile("Name or service not known|Temporary failure in name resolution|Network is unreachable|"
                          "Failed to establish a new connection|Read timed out")
PATIENCE_S = 600
"""A download on a busy machine."""


def bare_environment(**more: str) -> dict[str, str]:
    """Ours, less everything that would aim or feed the programs: they have to live on what was installed."""
    ours = {name for setting in SETTINGS for name in (setting.name, f"{setting.name}_FILE")}
    ours |= {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CREDENTIALS_DIRECTORY"}
    return {name: value for name, value in os.environ.items() if name not in ours} | more


def deployed_or_skipped(said: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The deployment succeeded. Without a package index the test is skipped with that said; CI has one, and fails."""
    if said.returncode and not os.environ.get("CI") and (cause := _UNREACHABLE.search(said.stderr)):
        pytest.skip(f"deploy.sh needs the package index, which cannot be reached: {cause[0]}")
    assert said.returncode == 0, said.stdout + said.stderr
    return said


class Installation:
    """Everything is below `root`. `script` runs one of deployment/, for an operator whose
    files are for his eyes alone; `start` starts what a unit names."""

    def __init__(self, root: Path, *, source: Path = ROOT) -> None:
        self.root, self.source = root, source
        self.etc = root / "etc" / "quantum"
        self.settings, self.credentials = self.etc / "position-state-brain.env", self.etc / "credentials"
        self.base = root / "opt" / "quantum" / "p33"
        self.ports = {"P33_METRICS_PORT": free_port(), "APPLY_METRICS_PORT": free_port()}

    def script(self, name: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        given = bare_environment(DESTDIR=str(self.root), **env)
        return subprocess.run(["bash", str(self.source / "deployment" / name), *args], env=given, capture_output=True,
                              text=True, timeout=PATIENCE_S, check=False, stdin=subprocess.DEVNULL, umask=0o077)

    def p33(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The installed command."""
        command = [str(self.root / "usr/local/bin/p33"), *args]
        return subprocess.run(command, env=bare_environment(P33_ROOT=str(self.root)), capture_output=True, text=True,
                              timeout=PATIENCE_S, check=False, stdin=subprocess.DEVNULL)

    def release(self, link: str = "current") -> str:
        return os.readlink(self.base / link).removeprefix("releases/")

    def aim_at(self, stack: Stack) -> None:
        """As an operator edits the settings file: where Redis and the exchange are. Later lines win."""
        port = re.search(r":(\d+)/", stack.server.url)
        assert port
        values = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port[1], "P33_EXCHANGE_URL": stack.exchange_url,
                  "P33_ALLOWLIST": ",".join(stack.symbols), "APPLY_MODE": "testnet", "P33_POLL_SEC": "10",
                  "P33_STALE_THRESHOLD_SEC": "30", "P33_COOLDOWN_SEC": "1", **self.ports}
        with self.settings.open("a") as file:
            file.write("".join(f"{name}={value}\n" for name, value in values.items()))

    def process(self, unit: str, log: Path) -> Process:
        """What the unit would start, by hand, as the handbook says."""
        python = self.base / "current" / "venv" / "bin" / "python"
        unit_file = self.root / "etc/systemd/system" / f"{unit}.service"
        command = [str(python), "-m", "p33_sidecar.cli.by_hand", str(unit_file), "--root", str(self.root)]
        return Process(unit, command, env=bare_environment(), log=log)


def leave_testnet_env(folder: Path) -> Path:
    """As the predecessor left it."""
    path = folder / "testnet.env"
    path.write_text(f"# Binance testnet\nBINANCE_API_KEY={REHEARSAL_KEY}\nBINANCE_API_SECRET='{REHEARSAL_SECRET}'\n")
    return path
