"""The handbook's command lines: run as written on a running gate, or held against the scripts and units they name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p33_sidecar.rehearsal.plan_source import plan_of
from p33_sidecar.rehearsal.stack import Stack

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "docs" / "P3_3_POSITION_STATE_BRAIN.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh ?(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
UNITS = {path.stem for path in (TOP / "deployment" / "systemd").iterdir()}
PATIENCE_S = 120


def lines(*kinds: str) -> list[str]:
    """The command lines of the blocks of these kinds, in order."""
    return [line for kind, block in BLOCKS if kind in kinds for line in block.splitlines() if line.strip()]


class Site:
    """A running gate, and a shell whose `p33`, `redis-cli`, `systemctl` and `journalctl` reach it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        plans = [stack.source.publish(plan_of("BTCUSDT", action)) for action in ("PARTIAL_75", "FOO")]
        for plan in plans:
            stack.until("its result", lambda plan=plan: self._answered(plan.plan_id), patience_s=PATIENCE_S)
        self.plan_id = plans[0].plan_id
        self._shim("p33", f'exec "{sys.executable}" -m p33_sidecar.cli "$@"')
        (folder / "say.py").write_text(
            "import os, sys, redis\n"
            "said = redis.Redis.from_url(os.environ['REDIS_URL'], protocol=2).execute_command(*sys.argv[1:])\n"
            "print(said if isinstance(said, bytes) else '\\n'.join(map(str, [said])))\n")
        self._shim("redis-cli", f'exec "{sys.executable}" "{folder}/say.py" "$@"')
        self._shim("systemctl", "echo active")
        self._shim("journalctl", "\n".join([
            'case "$2" in', f'quantum-position-state-brain) cat "{stack.sidecars[0].log}" ;;',
            f'quantum-apply-layer) cat "{stack.applies[0].log}" ;;', "*) exit 1 ;;", "esac"]))

    def _answered(self, plan_id: str) -> bool:
        return any(f["plan_id"] == plan_id for _, f in self.stack.redis.xrange(self.stack.result_stream))

    def _shim(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        port = self.stack.page_url.rpartition(":")[2]
        told = command.replace("PLAN_ID", self.plan_id).replace(":8045", f":{port}")
        told = told.replace(":8043", f":{self.stack.apply_ports[0]}")
        env = {"PATH": f"{self.folder}:{os.environ['PATH']}", "PYTHONPATH": str(TOP), "NO_PROXY": "*",
               **self.stack.environment(P33_METRICS_PORT=port, APPLY_METRICS_PORT=str(self.stack.apply_ports[0]))}
        return subprocess.run(["sh", "-c", told], env=env, capture_output=True, text=True, timeout=PATIENCE_S,
                              check=False, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Stack(positions={"BTCUSDT": "0.038"}) as stack:
        yield Site(stack, tmp_path_factory.mktemp("bin"))


@pytest.mark.parametrize("command", lines("checklist"))
def test_every_line_of_the_checklist_finds_what_it_looks_for(site: Site, command: str) -> None:
    """Exit code 0, and something to read: a grep that finds nothing would say so."""
    done = site.run(command)
    assert (done.returncode, bool(done.stdout.strip())) == (0, True), done


@pytest.mark.parametrize("command", lines(""))
def test_every_other_command_works_as_written(site: Site, command: str) -> None:
    """0, or 1 where it is a question and the answer is no (there is no journal to read where tests run)."""
    if command.startswith("deployment/"):
        known(command)
        return
    done = site.run(command)
    assert done.returncode in (0, 1) and done.stdout.strip(), done
    assert not re.search(r"Traceback|No such|not found|Usage:", done.stderr), done.stderr


@pytest.mark.parametrize("command", lines("text"))
def test_what_is_not_run_here_names_what_exists(command: str) -> None:
    """Scripts, their options, modules and units. test_deploy.py and make boot run the same steps."""
    known(command)


def known(command: str) -> None:
    """Everything that the line names is there."""
    for unit in re.findall(r"quantum-[a-z0-9-]+", command):
        assert unit in UNITS, unit
    for script, rest in re.findall(r"(deployment/\w+\.sh)([^&|>]*)", command):
        source = (TOP / script).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in source or script == "deployment/proof.sh", option
    for module in re.findall(r"-m (p33_sidecar[\w.]+)", command):
        place = TOP / module.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").is_file(), module
    if command.startswith("p33 "):
        said = subprocess.run([sys.executable, "-m", "p33_sidecar.cli", command.split()[1], "--help"], text=True,
                              env=os.environ | {"PYTHONPATH": str(TOP), "COLUMNS": "200"}, capture_output=True,
                              check=True, timeout=PATIENCE_S)
        assert all(option in said.stdout for option in re.findall(r"--[a-z-]+", command)), said.stdout


def test_what_the_page_names_exists() -> None:
    """Links lead somewhere; commands in running text are commands; reasons are reasons."""
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
    anchors = {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-")
               for head in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
    for unit in re.findall(r"quantum-[a-z0-9]+(?:-[a-z0-9]+)*", TEXT):
        assert unit in UNITS, unit
