"""The demo as a newcomer runs it: every scene, judged, and exit code 0 only if every verdict was right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p33_sidecar.rehearsal.demo.command import main as demo
from p33_sidecar.rehearsal.exchange.sim import REHEARSAL_SECRET
from tests.planted import SECRETS, found_in, read_all


def test_every_scene_of_the_demo_is_right(tmp_path: Path) -> None:
    """The whole run as a process, with the audit at its end, its summary read by a program. What is exported beside it
    aims it nowhere, and no secret of that comes out: not in what it says, not in what it leaves."""
    demo = [sys.executable, "-m", "p33_sidecar.rehearsal.demo", "--json", "--untimed", "--audit"]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=400, check=False, env=os.environ | SECRETS,
                          cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert json.loads(done.stdout)
    left = read_all(tmp_path)
    assert any(name.endswith(".html") for name in left) and any(name.endswith(".db") for name in left)
    texts = {"said": done.stdout + done.stderr} | left
    assert {name for name, text in texts.items() if found_in(text) or REHEARSAL_SECRET in text} == set()


def test_a_port_that_is_none_is_wrong_usage(capsys) -> None:
    """Exit code 2 and a sentence: 1 would say that a verdict was wrong."""
    with pytest.raises(SystemExit) as ended:
        demo(["--port", "99999"])
    assert ended.value.code == 2 and "no port" in capsys.readouterr().err
