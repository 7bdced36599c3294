"""A reader who has only the handbook: its chapter `Into a folder, to try it`, executed as it is written.

What is changed are the four port numbers, since the machine's own may be taken, and HOME. Redis is the one that the
chapter starts, with the shipped configuration and users; the exchange is the simulated one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from p33_sidecar.rehearsal.processes import free_port
from tests.deployment.installation import ROOT, bare_environment, deployed_or_skipped
from tests.tools import needed

PORTS = ("6379", "8045", "8043", "18080")
PATIENCE_S = 900
"""A download on a busy machine, and the start of everything."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a fresh clone holds: every file that is tracked, as it is here."""
    place = tmp_path / "p33"
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    return place


def chapter(page: Path) -> str:
    """The commands of the chapter, with ports of this test."""
    text = page.read_text(encoding="utf-8")
    blocks = [re.search(rf"^```sh {kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for kind in ("try", "tried")]
    assert all(blocks)
    script = "".join(block[1] for block in blocks if block)
    for shipped in PORTS:
        assert shipped in script, shipped
        script = re.sub(rf"\b{shipped}\b", str(free_port()), script)
    return script


def test_who_follows_the_handbook_gets_a_proof(checkout: Path, tmp_path: Path) -> None:
    """From the checkout to eight points that hold, a look around, and everything ended."""
    needed("curl")
    needed("redis-server")
    home = tmp_path / "home"
    home.mkdir()
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    env = bare_environment(HOME=str(home), XDG_CACHE_HOME=cache, NO_PROXY="*")
    env.pop("DESTDIR", None)
    script = chapter(checkout / "docs/P3_3_POSITION_STATE_BRAIN.md")
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as told, err.open("wb") as complained:
        shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", script], cwd=checkout, env=env, stdout=told,
                                 stderr=complained, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        code = shell.wait(PATIENCE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    said = deployed_or_skipped(subprocess.CompletedProcess(script, code, out.read_text(), err.read_text() + logs(home)))
    assert "all 8 points hold" in said.stdout
    after = said.stdout.partition("all 8 points hold")[2]
    assert "BTCUSDT" in after and "P33CANARY" in after, after


def logs(home: Path) -> str:
    """The ends of what the programs said."""
    return "".join(f"\n== {path.name}\n{path.read_text(errors='replace')[-1500:]}"
                   for path in sorted(home.glob("p33-try/*.log")))
