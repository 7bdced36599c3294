"""deploy.sh, proof.sh and rollback.sh on real files below a folder, and what the units name, started by hand."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from p33_sidecar.rehearsal.exchange.sim import REHEARSAL_SECRET
from p33_sidecar.rehearsal.plan_source import plan_of
from p33_sidecar.rehearsal.processes import Process
from p33_sidecar.rehearsal.stack import Stack
from tests.deployment.installation import ROOT, SCRIPTS, Installation, deployed_or_skipped, leave_testnet_env

SIDECAR, APPLY = "quantum-position-state-brain", "quantum-apply-layer"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Deployed once: a real environment with the constraints' versions."""
    folder = tmp_path_factory.mktemp("installed")
    made = Installation(folder / "root")
    said = deployed_or_skipped(made.script("deploy.sh", "--testnet-env", str(leave_testnet_env(folder))))
    assert "taken over from" in said.stdout and REHEARSAL_SECRET not in said.stdout + said.stderr
    return made


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """What stands beside an installation: Redis, an exchange, a Governor."""
    with Stack(positions={"BTCUSDT": "0.040", "ETHUSDT": "-1.2"}, sidecars=0, applies=0) as running:
        yield running


@pytest.fixture(scope="module")
def running(installed: Installation, stack: Stack,
            tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    """Both programs, started by hand from the installed unit files."""
    logs = tmp_path_factory.mktemp("logs")
    installed.aim_at(stack)
    processes = {unit: installed.process(unit, logs / f"{unit}.log").start() for unit in (SIDECAR, APPLY)}
    try:
        stack.until("ready", lambda: _ready(installed, processes[SIDECAR]), patience_s=PATIENCE_S)
        yield processes
    finally:
        for process in processes.values():
            process.stop(patience_s=30)


def _ready(installed: Installation, process: Process) -> bool:
    process.check()
    try:
        return httpx.get(f"http://127.0.0.1:{installed.ports['P33_METRICS_PORT']}/readyz", trust_env=False,
                         timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def test_what_is_installed_is_where_the_units_look(installed: Installation) -> None:
    """Programs, units, settings and credentials; secrets can be read by their owner alone."""
    assert (installed.base / "current/venv/bin/p33-sidecar").exists()
    assert (installed.base / "current/venv/bin/p33-apply").exists()
    assert (installed.base / "current/docs/settings.md").exists()
    assert {p.name for p in (installed.root / "etc/systemd/system").iterdir()} == {
        p.name for p in (SCRIPTS / "systemd").iterdir() if "dagster" not in p.name}
    for holder in ("position-state-brain", "apply-layer", "operator", "pipeline"):
        folder = installed.credentials / holder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    keys = {path.read_text() for path in installed.credentials.glob("*/P33_PERMIT_KEY")}
    assert len(keys) == 1 and len(keys.pop().strip()) == 64
    assert not (installed.credentials / "operator" / "BINANCE_API_SECRET").exists()
    assert not (installed.credentials / "pipeline" / "P33_PERMIT_KEY").exists()


def test_the_programs_users_can_read_the_release_whoever_installed_it(installed: Installation) -> None:
    """Folders can be passed and files be read, where the operator's own umask is 077."""
    release = installed.base / "releases" / installed.release()
    found = [path for path in (installed.base, *release.rglob("*")) if not path.is_symlink()]
    shut = [path for path in found if path.stat().st_mode & 0o005 < (0o005 if path.is_dir() else 0o004)]
    assert not shut, shut[:5]


def test_a_second_deployment_changes_nothing(installed: Installation) -> None:
    """Idempotent: same release, settings that an operator edited, the same key."""
    with installed.settings.open("a") as file:
        file.write("# edited by hand\n")
    before = _everything(installed.root)
    said = installed.script("deploy.sh")
    assert said.returncode == 0, said.stderr
    assert "installed already" in said.stdout and "stays as it is" in said.stdout
    assert _everything(installed.root) == before


def test_a_dry_run_says_every_step_and_does_none(tmp_path: Path) -> None:
    """Also where nothing is installed yet."""
    fresh = Installation(tmp_path / "root")
    said = fresh.script("deploy.sh", "--dry-run", "--redis-users")
    assert said.returncode == 0, said.stderr
    for step in ("venv", "pip install", "position-state-brain.env", "cli.credentials", "cli.redis_users",
                 "quantum-apply-layer.service", "ln -sfn"):
        assert step in said.stdout, step
    assert not fresh.root.exists()


def test_a_release_has_one_name_whatever_language_the_deployer_speaks(tmp_path: Path) -> None:
    """Names are sorted differently in en_US: the same content was installed twice, as its own previous release."""
    other = tmp_path / "sort"
    other.write_text(f'#!/bin/sh\n[ "$LC_ALL" = C ] || set -- -r "$@"\nexec {shutil.which("sort")} "$@"\n')
    other.chmod(0o755)
    fresh = Installation(tmp_path / "root")
    said = [fresh.script("deploy.sh", "--dry-run", **env).stdout.splitlines()[0]
            for env in ({}, {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LC_ALL": "en_US.UTF-8"})]
    assert said[0] == said[1] and said[0].startswith("release ")


def test_the_pipeline_is_installed_where_it_is_asked_for_and_stays(installed: Installation) -> None:
    """Its packages go into the release that is there; the units' being there is what a later deployment goes by."""
    asked = installed.script("deploy.sh", "--dry-run", "--pipeline").stdout
    for step in ("adding the pipeline", "[pipeline]", "dagster.yaml", "quantum-p33-dagster-webserver.service"):
        assert step in asked.replace("\\", ""), asked
    assert "dagster" not in installed.script("deploy.sh", "--dry-run").stdout
    unit = installed.root / "etc/systemd/system/quantum-p33-dagster-daemon.service"
    unit.touch()
    again = installed.script("deploy.sh", "--dry-run").stdout
    unit.unlink()
    assert "adding the pipeline" in again and "quantum-p33-dagster-webserver.service" in again


def test_new_settings_are_named_and_the_file_is_left_alone(tmp_path: Path) -> None:
    """An older settings file is the operator's: what it lacks is said, not written."""
    older = Installation(tmp_path / "root")
    older.etc.mkdir(parents=True)
    older.settings.write_text("P33_ALLOWLIST=BTCUSDT\n# P33_POLL_SEC=5\n")
    said = older.script("deploy.sh", "--dry-run")
    (line,) = [line for line in said.stdout.splitlines() if line.startswith("settings: new")]
    assert "P33_COOLDOWN_SEC" in line
    assert "P33_ALLOWLIST" not in line and "P33_POLL_SEC" not in line


@pytest.mark.parametrize("args", [("deploy.sh", "--nonsense"), ("rollback.sh", "--nonsense")])
def test_wrong_usage_is_exit_code_2(installed: Installation, args: tuple[str, str]) -> None:
    """And says how it is used."""
    said = installed.script(*args)
    assert said.returncode == 2 and "usage:" in said.stderr


def test_a_testnet_env_that_is_not_there_is_said(installed: Installation) -> None:
    """A file that was named and cannot be read is a mistake, not `no credentials`."""
    said = installed.script("deploy.sh", "--testnet-env", "missing.env")
    assert said.returncode == 1 and "missing.env cannot be read" in said.stderr


def test_keys_that_differ_are_not_mended(installed: Installation) -> None:
    """Which one is right cannot be known: nothing is written, and a person is asked."""
    path = installed.credentials / "apply-layer" / "P33_PERMIT_KEY"
    right = path.read_text()
    path.write_text("n" * 64 + "\n")
    said = installed.script("deploy.sh")
    path.write_text(right)
    assert said.returncode == 1 and "P33_PERMIT_KEY differs" in said.stderr
    assert "n" * 64 not in said.stdout + said.stderr


def test_over_ssh_it_is_the_same(installed: Installation, tmp_path: Path) -> None:
    """--host sends the parts and runs the same script there; ssh and rsync are played by cp and bash."""
    far, tools = tmp_path / "far", tmp_path / "bin"
    far.mkdir(), tools.mkdir()
    _program(tools / "ssh", 'cd "$FAR" && shift && exec bash -c "$*"')
    _program(tools / "rsync", 'while [ "$1" != __pycache__ ]; do shift; done; shift\n'
                              'for last; do :; done; while [ $# -gt 1 ]; do cp -a "$1" "$FAR/${last#*:}"; shift; done')
    path = f"{tools}:{os.environ['PATH']}"
    said = installed.script("deploy.sh", "--host", "ops@far", PATH=path, FAR=str(far))
    assert said.returncode == 0, said.stdout + said.stderr
    assert (far / ".cache/p33-deploy/deployment/deploy.sh").exists()
    assert "installed already" in said.stdout


def test_what_was_installed_proves_itself(installed: Installation, stack: Stack, running: dict[str, Process]) -> None:
    """Started by hand from the unit files, the eight points hold; the proof is kept without secrets."""
    logs = [f"--log={process.log}" for process in running.values()]
    said = installed.script("proof.sh", "--json", *logs)
    document = json.loads(said.stdout)
    assert said.returncode == 0, document["checks"]
    kept = (installed.base / "current/docs/P3_3_VPS_PROOF.txt").read_text()
    assert "all 8 points hold" in kept
    key = (installed.credentials / "operator" / "P33_PERMIT_KEY").read_text().strip()
    everything = kept + said.stdout + "".join(process.log.read_text() for process in running.values())
    assert key not in everything and REHEARSAL_SECRET not in everything


def test_a_plan_becomes_one_order(installed: Installation, stack: Stack, running: dict[str, Process]) -> None:
    """The installation does its work: 75 % of 0.040, reduce-only."""
    plan = stack.source.publish(plan_of("BTCUSDT", "PARTIAL_75"))
    stack.until("the order", lambda: stack.door.state().orders, patience_s=PATIENCE_S)
    (order,) = stack.door.state().orders
    assert (order.client_order_id, f"{order.qty.normalize():f}", order.reduce_only) == (
        f"p33-{plan.plan_id}", "0.03", True)


def test_the_installed_programs_are_not_the_checkout(installed: Installation) -> None:
    """What runs is the release: it would run without this folder."""
    python = installed.base / "current/venv/bin/python"
    where = subprocess.run([str(python), "-c", "import p33_sidecar; print(p33_sidecar.__file__)"], capture_output=True,
                           text=True, check=True, cwd=installed.root, env={"PATH": os.environ["PATH"]}).stdout
    assert str(ROOT / "p33_sidecar") not in where and "site-packages" in where


def test_upgrade_and_rollback_to_the_previous_release(installed: Installation, tmp_path: Path) -> None:
    """Another content is another release beside the old one; rollback.sh returns to it and says so."""
    before = installed.release()
    newer = Installation(installed.root, source=tmp_path / "source")
    parts = ("p33_sidecar", "p33_pipeline", "deployment", "docs", "pyproject.toml", "constraints.txt", "README.md",
             "LICENSE")
    newer.source.mkdir()
    for part in parts:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, newer.source / part)
    (newer.source / "README.md").write_text("a newer one\n")
    name = newer.script("deploy.sh", "--dry-run").stdout.split("release ")[1].split(":")[0]
    shutil.copytree(installed.base / "releases" / before, installed.base / "releases" / name, symlinks=True)
    said = newer.script("deploy.sh")
    assert said.returncode == 0, said.stderr
    assert (newer.release(), newer.release("previous")) == (name, before)
    assert f"would: ln -sfn releases/{before}" in installed.script("rollback.sh", "--dry-run").stdout
    assert newer.release() == name
    said = installed.script("rollback.sh")
    assert f"rolled back: release {before} instead of {name}" in said.stdout, said.stderr
    assert (installed.release(), installed.release("previous")) == (before, name)


def test_rollback_to_governor_only_mode_and_back(installed: Installation) -> None:
    """Only APPLY_GATE changes; what the Apply Layer would run with is checked by its own reader."""
    before = installed.settings.read_text()
    said = installed.script("rollback.sh", "--governor")
    assert "Governor-only mode" in said.stdout, said.stderr
    assert installed.settings.read_text() == before.replace("APPLY_GATE=both", "APPLY_GATE=governor")
    checked = installed.p33("check-config", f"--env-file={installed.settings}")
    assert "orders go out without this gate" in checked.stdout
    installed.script("rollback.sh", "--both")
    assert installed.settings.read_text() == before


def test_rollback_sets_the_gate_where_the_file_has_none_and_does_not_end_in_a_line(installed: Installation) -> None:
    """Settings as an editor left them: the last one stays what it is, and the gate is set."""
    before = installed.settings.read_text()
    short = "".join(line for line in before.splitlines(True) if not line.startswith("APPLY_GATE=")) + "P33_POLL_SEC=4"
    installed.settings.write_text(short)
    installed.script("rollback.sh", "--governor")
    after = installed.settings.read_text()
    installed.settings.write_text(before)
    assert after == f"{short}\nAPPLY_GATE=governor\n"


def test_there_is_nothing_to_roll_back_where_nothing_is(tmp_path: Path) -> None:
    """Said, with exit code 1."""
    said = Installation(tmp_path / "root").script("rollback.sh")
    assert said.returncode == 1 and "nothing is installed" in said.stderr


def test_the_scripts_are_clean() -> None:
    """shellcheck, from the wheel of the development extra, has nothing to say."""
    program = Path(sys.executable).with_name("shellcheck")
    scripts = sorted(str(path) for path in SCRIPTS.glob("*.sh"))
    said = subprocess.run([str(program), "--external-sources", *scripts], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\nset -e\n{script}\n")
    path.chmod(0o755)


def _everything(root: Path) -> dict[str, bytes]:
    """Every file that is not of the environment, and every link, by its content."""
    found = {}
    for path in sorted(root.rglob("*")):
        if "venv" in path.parts or "docs" in path.parts:
            continue
        if path.is_symlink():
            found[str(path)] = os.readlink(path).encode()
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found
