"""The services' own logs: lines that say ERROR or CRITICAL, from the journal or from files.

What may not happen here: `no errors` said of a log that could not be read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from ..units import plain
from .points import Point

UNITS: Final = ("quantum-position-state-brain.service", "quantum-apply-layer.service")
SINCE: Final = "-1h"
PATIENCE_S: Final = 30
LAST_BYTES: Final = 4_000_000
"""Of a file only its end is read."""
_BAD: Final = re.compile(r'^\S+ (?:ERROR|CRITICAL) |"level": ?"(?:ERROR|CRITICAL)"|^Traceback \(most recent')
SHOWN: Final = 3


def logs(files: list[Path]) -> Point:
    """The last hour of the units' journal; where files are given, those instead."""
    if files:
        return _of_files(files)
    program = shutil.which("journalctl")
    if program is None or not Path("/run/systemd/system").exists():
        return Point("logs", False, "no systemd here: name the log files with --log")
    asked = [program, "--quiet", "--no-pager", "--output=cat", f"--since={SINCE}", *(f"--unit={u}" for u in UNITS)]
    try:
        said = subprocess.run(  # noqa: S603 - journalctl, with words of ours
            asked, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False,
            env={**os.environ, "LC_ALL": "C"})
    except subprocess.TimeoutExpired:
        return Point("logs", False, f"journalctl did not answer within {PATIENCE_S} s")
    if said.returncode or not said.stdout:
        why = plain(said.stderr.strip()[:200]) or "it holds nothing of these units: may you read it?"
        return Point("logs", False, f"journal: {why}")
    return _judged(said.stdout.splitlines(), f"the journal of the last hour ({', '.join(UNITS)})")


def _of_files(files: list[Path]) -> Point:
    lines: list[str] = []
    for path in files:
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - LAST_BYTES))
                lines += file.read().decode(errors="replace").splitlines()
        except OSError as error:
            return Point("logs", False, f"{path}: {error.strerror}")
    return _judged(lines, ", ".join(str(path) for path in files))


def _judged(lines: list[str], where: str) -> Point:
    bad = [line for line in lines if _BAD.search(line)]
    if not bad:
        return Point("logs", True, f"{len(lines)} lines without an error in {where}")
    newest = " | ".join(plain(line[:160]) for line in bad[-SHOWN:])
    return Point("logs", False, f"{len(bad)} of {len(lines)} lines are errors in {where}: {newest}")
