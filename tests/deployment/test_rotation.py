"""`p33 rotate-key` while plans keep coming: no permit is lost, and the old key is worth nothing afterwards."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from p33_sidecar.cli import credentials, rotation
from p33_sidecar.cli.credentials import HOLDERS, KEY, PREVIOUS, permit_keys
from p33_sidecar.core.permit import read_permit, sign
from p33_sidecar.rehearsal.exchange.symbols import load_contracts
from p33_sidecar.rehearsal.plan_source import Plan, PlanSource, plan_of
from p33_sidecar.rehearsal.stack import Stack
from p33_sidecar.store import keys
from tests.deployment import tiny_systemd
from tests.deployment.installation import ROOT, Installation, bare_environment, leave_testnet_env

PATIENCE_S = 240
UNITS = (rotation.SIDECAR_UNIT, rotation.APPLY_UNIT)
SYMBOLS = [name for name, contract in load_contracts(200).items() if contract.status == "TRADING"][:120]
"""One plan each, so that every one of them has to be allowed."""


class House(Installation):
    """An installation whose programs are this checkout's: what is tried here are the keys, not the packages."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "root")
        self.folder = folder
        programs, units = self.base / "current/venv/bin", self.root / "etc/systemd/system"
        for path in (programs, units, self.etc):
            path.mkdir(parents=True)
        for name, module in (("p33-sidecar", "p33_sidecar.service.main"), ("p33-apply", "p33_sidecar.apply.main")):
            _script(programs / name, f'PYTHONPATH={ROOT} exec {sys.executable} -m {module} "$@"')
        for unit in UNITS:
            shutil.copy(ROOT / "deployment/systemd" / unit, units / unit)
        self.settings.touch()
        credentials.fill(self.credentials, exchange_from=leave_testnet_env(folder), redis_users=None, env_file=None)
        self.tools = folder / "bin"
        self.tools.mkdir()
        tiny = Path(tiny_systemd.__file__)
        _script(self.tools / "systemctl", f'PYTHONPATH={ROOT} exec {sys.executable} {tiny} {folder} "$@"')

    def systemctl(self, *words: str) -> None:
        subprocess.run([str(self.tools / "systemctl"), *words], check=True, env=bare_environment(), timeout=PATIENCE_S)

    def p33(self, *args: str, path: str = "") -> subprocess.CompletedProcess[str]:
        """The operator's tool with the installation's settings, as deployment/p33.sh starts it."""
        kept = {f"{p.name}_FILE": str(p) for p in (self.credentials / "operator").iterdir()}
        env = bare_environment(PYTHONPATH=str(ROOT), PATH=path or f"{self.tools}:{os.environ['PATH']}", **kept)
        command = [sys.executable, "-m", "p33_sidecar.cli", f"--env-file={self.settings}", *args]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                              stdin=subprocess.DEVNULL)

    def rotate(self, *args: str, **options: str) -> subprocess.CompletedProcess[str]:
        return self.p33("rotate-key", f"--credentials={self.credentials}", *args, **options)


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Redis, an exchange with a position in every symbol, a Governor."""
    with Stack(positions=dict.fromkeys(SYMBOLS, "1000"), sidecars=0, applies=0) as running:
        yield running


@pytest.fixture(scope="module")
def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Both programs run, as their units say."""
    made = House(tmp_path_factory.mktemp("house"))
    made.aim_at(stack)
    with made.settings.open("a") as file:
        file.write("P33_PERMIT_TTL=600\nP33_PLAN_MAX_AGE_SEC=600\nP33_STALE_THRESHOLD_SEC=300\n")
    try:
        made.systemctl("start", *UNITS)
        stack.until("ready", lambda: made.p33("status").returncode == 0, patience_s=PATIENCE_S)
        yield made
    finally:
        for unit in UNITS:
            tiny_systemd.stop(made.folder, unit)


def results(stack: Stack, plan: Plan) -> list[dict[str, str]]:
    return [f for _, f in stack.redis.xrange(stack.result_stream) if f["plan_id"] == plan.plan_id]


class Load(threading.Thread):
    """Plans at a steady pace, one a symbol, until told to stop."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self.published: list[Plan] = []
        self._source, self._enough = PlanSource(stack.redis, stream=stack.plan_stream), threading.Event()

    def run(self) -> None:
        for symbol in SYMBOLS[:-2]:
            self.published.append(self._source.publish(plan_of(symbol, "PARTIAL_50")))
            if self._enough.wait(0.25):
                return

    def stop(self) -> None:
        self._enough.set()
        self.join(PATIENCE_S)


def test_no_permit_is_lost_and_the_old_key_is_worth_nothing(house: House, stack: Stack) -> None:
    """Every plan of the time of the rotation is executed once, none refused; afterwards the old signature is forged."""
    old = set(permit_keys(house.credentials).values()).pop()
    load = Load(stack)
    load.start()
    stack.until("plans are executed", lambda: any(results(stack, p) for p in load.published[:1]), patience_s=PATIENCE_S)
    said = house.rotate()
    load.stop()
    assert said.returncode == 0, said.stdout + said.stderr
    new = set(permit_keys(house.credentials).values())
    assert len(new) == 1 and old not in new and not permit_keys(house.credentials, PREVIOUS)
    assert old not in said.stdout + said.stderr and new.pop() not in said.stdout + said.stderr
    stack.until("every plan has its result", lambda: all(results(stack, p) for p in load.published),
                patience_s=PATIENCE_S)
    told = {p.plan_id: [(r["executed"], r["error"], r["steps_results"]) for r in results(stack, p)]
            for p in load.published}
    assert all(len(said) == 1 and said[0][0] == "True" for said in told.values()), told
    _refused_with(house, stack, old.encode(), SYMBOLS[-1])


def _refused_with(house: House, stack: Stack, key: bytes, symbol: str) -> None:
    """A permit of the gate's own, signed again with the old key, is not taken."""
    tiny_systemd.stop(house.folder, rotation.APPLY_UNIT)
    plan = stack.source.publish(plan_of(symbol, "PARTIAL_50"))
    permit = keys.permit(plan.plan_id)
    stack.until("the verdict", lambda: stack.redis.exists(permit), patience_s=PATIENCE_S)
    raw = stack.redis.get(permit).encode()
    assert read_permit(raw).allow
    stack.redis.set(permit, sign(raw.partition(b',"sig":')[0] + b"}", key), px=600_000)
    house.systemctl("start", rotation.APPLY_UNIT)
    stack.until("the result", lambda: results(stack, plan), patience_s=PATIENCE_S)
    (said,) = results(stack, plan)
    assert (said["decision"], "forged_permit" in said["steps_results"]) == ("BLOCKED", True), said


def test_a_step_that_is_not_due_is_refused(house: House) -> None:
    """Nothing to finish; no systemctl to restart with; both at once: said, and nothing changes."""
    before = permit_keys(house.credentials)
    assert "no rotation is under way" in house.rotate("--finish").stderr
    assert "no systemctl" in house.rotate(path="/nonexistent").stderr
    assert house.rotate("--begin", "--finish").returncode == 2
    assert house.rotate("--no-restart").returncode == 1
    assert (permit_keys(house.credentials), permit_keys(house.credentials, PREVIOUS)) == (before, {})


def test_of_two_people_who_rotate_at_once_one_does(house: House) -> None:
    """Else each would put a key of its own into every second folder, and the Apply Layer know none that the gate signs
    with."""
    before = permit_keys(house.credentials)
    other = os.open(house.credentials, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    said = house.rotate("--begin", "--no-restart")
    os.close(other)
    assert (said.returncode, "another p33 rotate-key is at work" in said.stderr) == (1, True), said
    assert (permit_keys(house.credentials), permit_keys(house.credentials, PREVIOUS)) == (before, {})


def test_the_old_key_stays_while_the_gate_still_signs_with_it(house: House) -> None:
    """Begun and not restarted: the canary shows the old signature, and finishing is refused. Then taken back."""
    before = permit_keys(house.credentials)
    assert house.rotate("--begin", "--no-restart").returncode == 0
    said = house.rotate("--finish", "--no-restart")
    assert (said.returncode, "both keys stay" in said.stderr) == (1, True), said
    assert permit_keys(house.credentials, PREVIOUS).keys() != set()
    for path, key in before.items():
        credentials.put(path, key)
        path.with_name(PREVIOUS).unlink()


@pytest.mark.parametrize("written", range(7))
def test_a_rotation_that_broke_off_is_taken_up(tmp_path: Path, written: int) -> None:
    """After each of its writes: the next `begin` ends with one new key, and the old one beside it, everywhere."""
    credentials.fill(tmp_path, exchange_from=None, redis_users=None, env_file=None)
    old = set(permit_keys(tmp_path).values()).pop()
    places = [(holder, PREVIOUS, old) for holder in HOLDERS] + [(holder, KEY, "n" * 64) for holder in HOLDERS]
    for holder, name, key in places[:written]:
        credentials.put(tmp_path / holder / name, key)
    rotation.begin(tmp_path)
    assert set(permit_keys(tmp_path, PREVIOUS).values()) == {old}
    assert len(permit_keys(tmp_path, PREVIOUS)) == len(permit_keys(tmp_path)) == len(HOLDERS)
    (new,) = set(permit_keys(tmp_path).values())
    assert new != old and (new == "n" * 64) == (written > len(HOLDERS))
