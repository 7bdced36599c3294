"""A day of eventful hours, its audit in one process, and what audits leave behind."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from p33_pipeline.archive.everything import note_until
from p33_pipeline.archive.trades import reaches, write_reaches
from p33_pipeline.generator.deeds import DEEDS
from p33_pipeline.generator.story import tell
from p33_pipeline.generator.writing import write
from p33_pipeline.history import History
from p33_pipeline.partitions import HOUR_MS, day_key, hour_key

DAY_MS = 24 * HOUR_MS
BEGIN_MS = 1_769_299_200_000
"""2026-01-25 00:00 UTC."""
LEAD_MS = 300_000
LEFT = ("audits", "reports")
ROOT = Path(__file__).parents[2]


def hours(count: int) -> list[str]:
    """The first partitions of the day."""
    return [hour_key(BEGIN_MS + hour * HOUR_MS) for hour in range(count)]


DAY = day_key(BEGIN_MS)


def write_day(history: History, *, hours: int, symbols: int) -> None:
    """A story an hour with every break and flow finding planted, the trades' reach, and an archive past the day.

    The last, since a coordinator's own schedule archives meanwhile: how far the archive goes must not depend on it.
    """
    known = {}
    for hour in range(hours):
        write(tell(hour + 1, deeds=DEEDS, start_ms=BEGIN_MS + hour * HOUR_MS + LEAD_MS, symbols=symbols), history)
        known |= reaches(history)
    write_reaches(history, known)
    note_until(history, BEGIN_MS + DAY_MS)


def audit_in_one_process(url: str, *, hours: int, home: Path) -> None:
    """Every hour and the day, one after the other, on an instance in SQLite. Raises CalledProcessError."""
    with (home.parent / "one-process.log").open("wb") as log:
        subprocess.run([sys.executable, "-m", "tests.scale.one_process", url, str(home), str(hours)], cwd=ROOT,
                       check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=log,
                       stderr=log)


def left_behind(history: History) -> dict[str, str]:
    """Every file that audits and reports of the day left, by its path: a digest, the history's place taken out."""
    found = {}
    for folder in LEFT:
        for name in (name for name in history.place.names(folder)[0] if DAY.replace("-", "") in name):
            raw = history.place.read(f"{folder}/{name}") or b""
            found[f"{folder}/{name}"] = hashlib.sha256(raw.replace(str(history.place).encode(), b"")).hexdigest()
    return found


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """What stands in one only, or differs."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
