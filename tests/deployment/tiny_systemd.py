"""A systemctl for tests: start, stop and restart of what the installed units name, by process id files.

    python tiny_systemd.py FOLDER VERB UNIT...      FOLDER holds root/ (the installation), and gets pids and logs
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 60


def start(folder: Path, unit: str) -> None:
    """As the unit would, by hand."""
    unit_file = folder / "root/etc/systemd/system" / unit
    command = [sys.executable, "-m", "p33_sidecar.cli.by_hand", str(unit_file), "--root", str(folder / "root")]
    with (folder / f"{unit}.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (folder / f"{unit}.pid").write_text(str(process.pid))


def stop(folder: Path, unit: str, *, how: signal.Signals = signal.SIGTERM) -> None:
    """Ended when this returns; what does not run is no failure."""
    path = folder / f"{unit}.pid"
    if not path.exists():
        return
    pid = int(path.read_text())
    path.unlink()
    deadline_s = time.monotonic() + PATIENCE_S
    while _alive(pid):
        os.kill(pid, how if time.monotonic() < deadline_s else signal.SIGKILL)
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main(argv: list[str]) -> int:
    folder, verb = Path(argv[0]), argv[1]
    for unit in argv[2:]:
        if verb in ("stop", "restart"):
            stop(folder, unit)
        if verb in ("start", "restart"):
            start(folder, unit)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
