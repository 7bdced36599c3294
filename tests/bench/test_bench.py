"""The benchmark's short form: it runs, loses no plan and answers none twice. Its figures carry no weight here."""

from __future__ import annotations

import subprocess
import sys


def test_short_form_loses_nothing() -> None:
    """Exit code 1 is for a plan lost or answered twice."""
    done = subprocess.run([sys.executable, "-m", "tests.bench", "--quick"], capture_output=True, text=True,
                          timeout=900, check=False)
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr[-2000:]
