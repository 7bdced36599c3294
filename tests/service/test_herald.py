"""What systemd is told: ready after the first comparison, alive while the loops turn, and how things stand in words."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from p33_sidecar.service.herald import Herald, manager
from p33_sidecar.service.http import Health
from tests.service.pictured import StoppedClock, empty_memory, ready_memory


class Told:
    """A herald on a memory, and what it told."""

    def __init__(self, memory) -> None:
        self.memory, self.clock, self.lines = memory, StoppedClock(), []
        self.memory.turned("desk", self.clock.mono_ns())
        health = Health(memory, self.clock, limits_ms={"desk": 10_000})
        self.herald = Herald(memory, self.clock, health, lambda text: self.lines.append(text.split("\n")))

    def step(self) -> list[str]:
        self.lines.clear()
        self.herald.step()
        return self.lines[0] if self.lines else []


def test_ready_is_said_once_and_only_after_the_comparison():
    """X07: until the three accounts were compared the unit is starting, and says why it denies."""
    told = Told(empty_memory())
    first = told.step()
    assert "READY=1" not in first
    assert any(line.startswith("STATUS=denying every plan: ") and "not_compared" in line for line in first)
    told.memory.compared = True
    assert "READY=1" in told.step()
    assert "READY=1" not in told.step()


def test_watchdog_is_fed_only_while_the_loops_turn():
    """A loop that hangs is not covered up by the others."""
    told = Told(ready_memory())
    assert "WATCHDOG=1" in told.step()
    told.clock.pass_ms(10_001)
    assert told.step() == ["STATUS=stuck: desk: no turn for 10001 ms, limit 10000 ms"]
    told.memory.turned("desk", told.clock.mono_ns())
    assert "WATCHDOG=1" in told.step()


def test_words_are_told_when_they_change():
    """`systemctl status` shows the last words; the same words are not sent every second."""
    told = Told(ready_memory())
    assert "STATUS=ready: 2 symbols in scope" in told.step()
    assert told.step() == ["WATCHDOG=1"]
    told.memory.mismatches["ETHUSDT"] = {"since_ms": 1}
    told.memory.halts["BTCUSDT"] = {"reason": "a"}
    assert told.step()[-1] == "STATUS=ready: 2 symbols in scope; 1 differ: ETHUSDT; halted: BTCUSDT"
    told.memory.halts[""] = {"reason": "all"}
    assert told.step()[-1] == "STATUS=denying every plan: halted"


@pytest.mark.parametrize("abstract", [False, True])
def test_datagrams_reach_the_manager_and_a_deaf_one_does_no_harm(tmp_path, abstract):
    """sd_notify(3): a path, or `@` for the abstract namespace."""
    name = str(tmp_path / "notify") if not abstract else f"@p33-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(name if not abstract else "\0" + name[1:])
        ear.settimeout(30)
        tell = manager({"NOTIFY_SOCKET": name})
        tell("READY=1")
        assert ear.recv(4096) == b"READY=1"
    tell("WATCHDOG=1")
    manager({})("READY=1")
    manager({"NOTIFY_SOCKET": "vsock:2:1"})("READY=1")


def test_the_process_tells_why_it_waits_and_that_it_stops(tmp_path, server):
    """The real process without credentials: alive, not ready, in words; SIGTERM ends it with 0."""
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(str(tmp_path / "notify"))
    ear.settimeout(60)
    env = {"PATH": os.environ["PATH"], "REDIS_URL": server.url, "NOTIFY_SOCKET": str(tmp_path / "notify"),
           "P33_METRICS_PORT": "0", "P33_EXCHANGE_URL": "http://127.0.0.1:9", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-m", "p33_sidecar.service.main"], env=env, stderr=subprocess.DEVNULL)
    try:
        told = ear.recv(4096).decode()
        assert "WATCHDOG=1" in told and "READY=1" not in told
        assert "STATUS=denying every plan: exchange_unconfigured" in told
        process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in told:
            told = ear.recv(4096).decode()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        ear.close()
