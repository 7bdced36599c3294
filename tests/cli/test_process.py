"""`p33` as a process of its own beside a running sidecar: exit codes, colours only on a terminal, no traceback."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from p33_sidecar.rehearsal.plan_source import plan_of
from p33_sidecar.rehearsal.stack import Stack
from p33_sidecar.store import keys

P33 = [sys.executable, "-m", "p33_sidecar.cli"]
PATIENCE_S = 60


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A server, the simulated exchange and a sidecar whose stale threshold somebody raised and forgot (I24)."""
    with Stack(positions={"BTCUSDT": "0.038"}, applies=0, settings={"P33_STALE_THRESHOLD_SEC": "300"}) as running:
        yield running


def run(stack: Stack, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command with the sidecar's own environment, into a pipe."""
    env = os.environ | stack.environment(P33_METRICS_PORT=stack.page_url.rpartition(":")[2]) | more
    return subprocess.run([*P33, *args], env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                          stdin=subprocess.DEVNULL)


def on_terminal(stack: Stack, *args: str, **more: str) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    env |= stack.environment(P33_METRICS_PORT=stack.page_url.rpartition(":")[2])
    env |= {"TERM": "xterm-256color", "COLUMNS": "160"} | more
    process = subprocess.Popen([*P33, *args], env=env, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65_536):
            said += piece
    except OSError:  # Linux answers EIO once the other end is closed
        pass
    finally:
        os.close(ours)
        process.wait(PATIENCE_S)
    return said.decode()


def test_status_of_a_running_sidecar_is_ready(stack: Stack) -> None:
    """Exit code 0 answers the question, and no warning is said twice."""
    stack.until("ready", lambda: run(stack, "status").returncode == 0, patience_s=PATIENCE_S)
    said = json.loads(run(stack, "status", "--json").stdout)
    assert (said["ready"], said["sidecar"]["ready"]) == (True, True)
    assert len(said["warnings"]) == len(set(said["warnings"]))


def test_i24_a_loosened_threshold_is_said_by_status_log_and_metric(stack: Stack) -> None:
    """For as long as it stands: whoever raised it has forgotten it."""
    stack.until("ready", lambda: run(stack, "status").returncode == 0, patience_s=PATIENCE_S)
    said = json.loads(run(stack, "status", "--json").stdout)
    assert any("P33_STALE_THRESHOLD_SEC=300 is loosened" in warning for warning in said["warnings"])
    assert "p33_policy_loosened 1.0" in httpx.get(f"{stack.page_url}/metrics").text
    (log,) = stack.directory.glob("*sidecar*.log")
    assert "P33_STALE_THRESHOLD_SEC=300 is loosened" in log.read_text()


def test_a_halted_sidecar_is_not_ready(stack: Stack) -> None:
    """`halt` by one process is seen by the other's status, at once."""
    assert run(stack, "halt", "--reason", "test").returncode == 0
    said = run(stack, "status", "--json")
    assert (said.returncode, json.loads(said.stdout)["halts"][""]["reason"]) == (1, "test")
    assert run(stack, "resume").returncode == 0


def test_a_verdict_of_the_process_is_explained_and_taken_again(stack: Stack) -> None:
    """What a real sidecar recorded comes out of `replay` byte for byte, with the signature."""
    plan = stack.source.publish(plan_of("BTCUSDT", "PARTIAL_75"))
    stack.until("a verdict", lambda: stack.redis.exists(keys.permit(plan.plan_id)), patience_s=PATIENCE_S)
    assert "ALLOW 0.028" in run(stack, "explain", plan.plan_id).stdout
    assert run(stack, "replay").returncode == 0
    assert run(stack, "audit-permits").returncode == 0


def test_colours_only_on_a_terminal(stack: Stack) -> None:
    """None in a pipe, some on a terminal, none where NO_COLOR is set."""
    assert "\x1b" not in run(stack, "status").stdout
    assert "\x1b[" in on_terminal(stack, "status")
    assert "\x1b[3" not in on_terminal(stack, "status", NO_COLOR="1")


def test_watch_on_a_terminal_is_one_live_table(stack: Stack) -> None:
    """It redraws in place."""
    said = on_terminal(stack, "watch", "--every", "10ms", "--count", "2")
    assert "BTCUSDT" in said
    assert "\x1b[" in said


def test_a_reader_that_leaves_is_no_traceback(stack: Stack) -> None:
    """`p33 decisions --json | head -1` ends quietly."""
    env = os.environ | stack.environment()
    said = subprocess.run(f"{sys.executable} -m p33_sidecar.cli watch --every 1ms --count 50 | head -c 10",
                          shell=True, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("gone", ["| true", "2>&1 | true", ">&-", "2>&-", ">&- 2>&-"])
def test_the_exit_code_is_right_where_nobody_listens(stack: Stack, gone: str) -> None:
    """Redis is not there, and neither is a reader: 69 and no traceback, not the 1 of "not ready"."""
    line = f'("$@" || echo "$?" >&3) {gone}'
    nobody = os.environ | stack.environment() | {"REDIS_URL": "redis://127.0.0.1:1/0"}
    said, out = os.pipe()
    done = subprocess.run(["bash", "-c", f"exec 3>&{out}; {line}", "-", *P33, "status", "--json"], env=nobody,
                          pass_fds=[out], stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False, text=True)
    os.close(out)
    with os.fdopen(said) as codes:
        assert codes.read() == "69\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("gone", [">&-", "2>&-", ">&- 2>&-"])
def test_everything_is_halted_also_by_a_caller_that_closed_its_outputs(stack: Stack, gone: str) -> None:
    """A watchdog need not listen to halt."""
    env = os.environ | stack.environment()
    subprocess.run(["bash", "-c", f'"$@" {gone}', "-", *P33, "halt", "--reason", "watchdog"], env=env,
                   timeout=PATIENCE_S, check=True)
    assert stack.redis.exists(keys.HALT)
    run(stack, "resume")


@pytest.mark.parametrize(("env", "code", "word"), [
    ({"REDIS_URL": "redis://127.0.0.1:1/0"}, 69, "Redis does not serve us"),
    ({"P33_POLL_SEC": "often"}, 78, "P33_POLL_SEC=often: allowed is"),
    ({"REDIS_URL": "http://x"}, 78, "REDIS_URL=(secret)"),
])
def test_what_cannot_work_is_one_line_and_a_code(stack: Stack, env: dict[str, str], code: int, word: str) -> None:
    """No traceback for anything an operator can get wrong."""
    said = run(stack, "status", **env)
    assert (said.returncode, said.stdout) == (code, "")
    assert word in said.stderr
    assert len(said.stderr.splitlines()) == 1
    for_programs = run(stack, "status", "--json", **env)
    told = json.loads(for_programs.stdout)
    assert (for_programs.returncode, for_programs.stderr) == (code, said.stderr)
    assert told == {"ok": False, "error": said.stderr.removeprefix("p33: ").rstrip(), "exit_code": code}


@pytest.mark.parametrize("args", [(), ("nonsense",), ("explain",), ("status", "--nonsense"), ("ledger",),
                                  ("decisions", "--outcome", "MAYBE"), ("decisions", "--last", "soon")])
def test_wrong_usage_is_exit_code_2(stack: Stack, args: tuple[str, ...]) -> None:
    """And says how it is used."""
    said = run(stack, *args)
    assert said.returncode == 2
    assert "Usage" in said.stderr + said.stdout
