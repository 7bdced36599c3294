"""`p33 proof` on a running installation of real processes: eight points, each of which can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p33_pipeline.archive.everything import note_until
from p33_pipeline.audit.audit import audit
from p33_pipeline.audit.flow import SETTLED_MS
from p33_pipeline.audit.scope import open_scope, rows
from p33_pipeline.history import History, place_at
from p33_sidecar.core.model import Policy
from p33_sidecar.rehearsal.plan_source import plan_of
from p33_sidecar.rehearsal.stack import Stack
from p33_sidecar.store import canary, keys

P33 = [sys.executable, "-m", "p33_sidecar.cli"]
NAMES = ["service", "metrics", "snapshots", "ledger", "permits", "apply_layer", "logs", "changes"]
PATIENCE_S = 120
SETTINGS = {"P33_STALE_THRESHOLD_SEC": "30", "P33_POLL_SEC": "10"}
"""So loose that a busy machine does not make a snapshot old, and not above three polls."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Server, exchange, Governor, sidecar and Apply Layer."""
    with Stack(positions={"BTCUSDT": "0.038", "ETHUSDT": "-1.2"}, settings=SETTINGS) as running:
        yield running


def environment(stack: Stack, **more: str) -> dict[str, str]:
    return os.environ | stack.environment(P33_METRICS_PORT=stack.page_url.rpartition(":")[2],
                                          APPLY_METRICS_PORT=str(stack.apply_ports[0])) | more


def run(stack: Stack, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*P33, *args], env=environment(stack, **more), capture_output=True, text=True,
                          timeout=PATIENCE_S, check=False, stdin=subprocess.DEVNULL)


def proof(stack: Stack, *args: str, **more: str) -> tuple[int, dict[str, dict], dict]:
    """(exit code, the points by name, the whole document)."""
    logs = [f"--log={process.log}" for process in (*stack.sidecars, *stack.applies)]
    said = run(stack, "proof", "--json", *(args or logs), **more)
    assert said.stderr == "", said.stderr
    document = json.loads(said.stdout)
    assert [point["name"] for point in document["checks"]] == NAMES
    assert (said.returncode == 0) == document["ok"] == all(point["ok"] for point in document["checks"])
    return said.returncode, {point["name"]: point for point in document["checks"]}, document


def failed(points: dict[str, dict]) -> set[str]:
    return {name for name, point in points.items() if not point["ok"]}


def test_a_sound_installation_passes_all_eight(stack: Stack) -> None:
    """The canary went the whole path, was blocked on a verdict of ours, and no order was sent for it."""
    code, points, document = proof(stack)
    assert failed(points) == set(), points
    assert code == 0 and document["at_ms"] > 0
    assert "denied symbol_not_allowed" in points["permits"]["detail"]
    assert "signature holds" in points["permits"]["detail"]
    assert "p33_denied:symbol_not_allowed" in points["apply_layer"]["detail"]
    assert stack.door.state().orders == ()


def test_the_canary_leaves_a_note_that_the_sidecar_exports(stack: Stack) -> None:
    """`p33 proof --canary`, as the timer runs it: the alert's metric is the time of the last good one."""
    said = json.loads(run(stack, "proof", "--canary", "--json").stdout)
    note = canary.last(stack.redis)
    assert note is not None
    assert (said["ok"], note.ok, note.plan_id, note.last_ok_ms) == (True, True, said["canary"]["plan_id"], note.at_ms)
    wanted = f"p33_canary_last_ok_timestamp_seconds {note.last_ok_ms / 1000}"
    stack.until("the metric", lambda: float(_metric(stack)) == float(wanted.split()[1]), patience_s=PATIENCE_S)


def _metric(stack: Stack) -> str:
    import httpx
    text = httpx.get(f"{stack.page_url}/metrics", timeout=30, trust_env=False).text
    return next(line.split()[1] for line in text.splitlines() if line.startswith("p33_canary_last_ok"))


def test_the_auditor_finds_nothing_wrong_with_a_canary(stack: Stack, tmp_path: Path) -> None:
    """A denied plan and its refusal are archived and judged like any other, also once nothing of them can be on its way
    any more."""
    plan_id = json.loads(run(stack, "proof", "--canary", "--json").stdout)["canary"]["plan_id"]
    audited = subprocess.run([sys.executable, "-m", "p33_pipeline.audit_command", "--last", "1h", "--json"],
                             env=environment(stack, P33_HISTORY_URL=str(tmp_path)), capture_output=True, text=True,
                             timeout=2 * PATIENCE_S, check=False, stdin=subprocess.DEVNULL)
    assert audited.returncode in (0, 1), audited.stderr
    said, history = json.loads(audited.stdout), History(place_at(str(tmp_path)))
    note_until(history, said["to_ms"] + 2 * SETTLED_MS)
    span = {"from_ms": said["from_ms"], "to_ms": said["to_ms"] + SETTLED_MS, "policy": Policy()}
    scope = open_scope(history, **span)
    assert all(rows(scope, f"SELECT 1 FROM {table} WHERE plan_id = $plan_id", plan_id=plan_id)
               for table in ("plans", "decisions", "results"))
    judged = audit(history, **span)
    assert judged.counts["verdicts"] and audited.stdout.count(plan_id) == 0
    assert [found for found in judged.flow if found.plan_id == plan_id] == []


def test_a_pair_that_was_taken_is_accounted_for(stack: Stack) -> None:
    """After a real close the point names the pair; a taking that nobody decided fails it."""
    plan = stack.source.publish(plan_of("BTCUSDT", "PARTIAL_75"))
    stack.until("the order's result", lambda: any(
        f["plan_id"] == plan.plan_id for _, f in stack.redis.xrange(stack.result_stream)), patience_s=PATIENCE_S)
    stack.until("it is settled", lambda: stack.redis.hget(keys.ledger("BTCUSDT"), "last_known_amt") == "0.01",
                patience_s=PATIENCE_S)
    stack.until("a poll saw it", lambda: stack.redis.hget(keys.snapshot("BTCUSDT"), "position_amt") == "0.01",
                patience_s=PATIENCE_S)
    _, points, _ = proof(stack)
    assert f"newest {plan.plan_id}" in points["apply_layer"]["detail"], points
    entry = stack.redis.xadd(keys.TAKINGS, {"plan_id": "nobody-decided", "symbol": "BTCUSDT", "json": "{}"})
    _, points, _ = proof(stack)
    stack.redis.xdel(keys.TAKINGS, entry)
    assert failed(points) == {"apply_layer"}
    assert "nobody-decided was taken without a recorded ALLOW" in points["apply_layer"]["detail"]


def test_what_changed_is_said_by_the_next_proof(stack: Stack, tmp_path: Path) -> None:
    """Settings, books, verdicts and events since the proof that was kept; a file for people beside it."""
    kept = tmp_path / "new-folder" / "proof.json"
    logs = [f"--log={stack.sidecars[0].log}"]
    _, points, document = proof(stack, *logs, f"--keep={kept}")
    assert "first proof" in points["changes"]["detail"]
    assert json.loads(kept.read_text()) == document
    assert kept.with_suffix(".txt").read_text().startswith("P3.3 proof of ")
    assert run(stack, "halt", "ETHUSDT", "--for", "1h").returncode == 0
    assert run(stack, "resume", "ETHUSDT").returncode == 0
    _, points, _ = proof(stack, *logs, f"--keep={kept}", P33_POLL_SEC="11")
    said = points["changes"]["detail"]
    assert "P33_POLL_SEC 10 → 11" in said
    assert "1 halt, 1 resume" in said and "1 DENY" in said
    kept.write_text("{}")
    assert failed(proof(stack, *logs, f"--keep={kept}")[1]) == {"changes"}


def test_nothing_secret_is_kept(stack: Stack, tmp_path: Path) -> None:
    """Neither in the document nor in what is printed."""
    kept = tmp_path / "proof.json"
    said = run(stack, "proof", f"--keep={kept}", f"--log={stack.sidecars[0].log}")
    everything = said.stdout + said.stderr + kept.read_text() + kept.with_suffix(".txt").read_text()
    env = stack.environment()
    for name in ("P33_PERMIT_KEY", "BINANCE_API_KEY", "BINANCE_API_SECRET"):
        assert env[name] not in everything


@pytest.mark.parametrize(("line", "ok"), [
    ("2026-01-25T00:43:28.976Z ERROR loop.failing loop=desk", False),
    ('{"at": "2026-01-25T00:43:28.976Z", "level": "ERROR", "event": "loop.failing"}', False),
    ("Traceback (most recent call last):", False),
    ("2026-01-25T00:43:28.976Z WARNING poll.failed kind=ERROR", True),
])
def test_the_logs_are_read(stack: Stack, tmp_path: Path, line: str, ok: bool) -> None:
    """A line of level ERROR, as text or JSON, fails the point; the word alone does not."""
    log = tmp_path / "service.log"
    log.write_text("2026-01-25T00:43:27.000Z INFO service.started port=8045\n" + line + "\n")
    _, points, _ = proof(stack, f"--log={log}")
    assert failed(points) == (set() if ok else {"logs"})


def test_a_log_that_cannot_be_read_is_no_good_log(stack: Stack, tmp_path: Path) -> None:
    """Missing is not clean."""
    _, points, _ = proof(stack, f"--log={tmp_path / 'missing.log'}")
    assert failed(points) == {"logs"}


def test_a_halted_gate_fails_and_says_why(stack: Stack) -> None:
    """The canary is still answered; the service cannot allow."""
    run(stack, "halt", "--reason", "test", "--for", "10m")
    stack.until("the sidecar knows", lambda: not _ready(stack), patience_s=PATIENCE_S)
    _, points, _ = proof(stack)
    run(stack, "resume")
    stack.wait_sidecars(patience_s=PATIENCE_S)
    assert failed(points) == {"service"}
    assert "halted" in points["service"]["detail"]


def _ready(stack: Stack) -> bool:
    import httpx
    return httpx.get(f"{stack.page_url}/readyz", timeout=30, trust_env=False).status_code == 200


def test_another_key_is_noticed(stack: Stack) -> None:
    """A permit that does not verify under the key of the one who asks is no proof."""
    _, points, _ = proof(stack, P33_PERMIT_KEY="n" * 32)
    assert failed(points) == {"permits"}


def test_the_denial_cases_are_played_beside_it(stack: Stack) -> None:
    """`--scenarios` is judged, and leaves the installation's records as they were."""
    before = stack.redis.xinfo_stream(keys.EVENTS)["length"]
    said = run(stack, "proof", "--scenarios", "--scenes", "side-flip", "--json")
    document = json.loads(said.stdout)
    assert [(s["name"], s["ok"]) for s in document["scenarios"]] == [("side-flip", True)], document
    assert (said.returncode, document["ok"]) == (0, True)
    assert stack.redis.xinfo_stream(keys.EVENTS)["length"] == before


def test_who_is_away_fails_what_needs_it(stack: Stack) -> None:
    """Both processes killed: nothing that rests on them passes, and the exit code says so."""
    logs = f"--log={stack.sidecars[0].log}"
    stack.applies[0].kill()
    stack.kill_sidecar()
    try:
        _, points, _ = proof(stack, logs, "--wait", "2s")
    finally:
        stack.restart_sidecar()
        stack.restart_apply()
    assert failed(points) == {"service", "metrics", "snapshots", "ledger", "permits", "apply_layer"}
    note = canary.last(stack.redis)
    assert note is not None
    assert not note.ok and 0 < note.last_ok_ms < note.at_ms
