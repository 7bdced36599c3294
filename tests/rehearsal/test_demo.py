"""The demo as a newcomer runs it: every scene, judged, and exit code 0 only if every verdict was right."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.planted import SECRETS, found_in


def test_every_scene_of_the_demo_is_right() -> None:
    """The whole run as a process, its summary read by a program. What is exported beside it aims it nowhere, and no
    secret of that comes out."""
    demo = [sys.executable, "-m", "p33_sidecar.rehearsal.demo", "--json", "--untimed"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=180, check=False, env=os.environ | SECRETS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert json.loads(done.stdout)
    assert found_in(done.stdout + done.stderr) == set()
