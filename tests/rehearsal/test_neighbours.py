"""The stand-in Governor and planner as programs: what others write ends neither, a bad setting is told in a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from p33_sidecar.rehearsal import governor, plan_source
from p33_sidecar.rehearsal.governor import Governor
from p33_sidecar.store import keys

PLANS = "quantum:apply.plan"


def test_a_plan_that_is_no_text_does_not_end_the_governor(redis_client, redis_url: str) -> None:
    """The plan behind it gets its permit."""
    neighbour = Governor(redis_url)
    neighbour.ensure_groups()
    redis_client.xadd(PLANS, {"plan_id": b"\xff\xfe", "symbol": b"\x80", "decision": "EXECUTE"})
    redis_client.xadd(PLANS, {"plan_id": "good", "symbol": "BTCUSDT", "decision": "EXECUTE"})
    assert neighbour.step(block_ms=1) == 2
    assert json.loads(redis_client.get(keys.governor_permit("good")))["granted"] is True
    neighbour.stop()


@pytest.mark.parametrize("program", [governor, plan_source])
def test_a_setting_that_cannot_be_used_is_told_in_a_line(program, monkeypatch, capsys) -> None:
    """Exit code 78, as for every program of the house."""
    monkeypatch.setenv("P33_POLL_SEC", "soon")
    assert program.main([]) == 78
    assert capsys.readouterr().err.startswith("P33_POLL_SEC=soon: allowed is ")


def test_a_governor_without_redis_says_so(tmp_path) -> None:
    """Exit code 69 and a line."""
    environment = os.environ | {"REDIS_URL": f"unix://{tmp_path}/nobody.sock"}
    done = subprocess.run([sys.executable, "-m", "p33_sidecar.rehearsal.governor"], env=environment, text=True,
                          capture_output=True, timeout=120, check=False)
    assert done.returncode == 69
    assert len(done.stderr.splitlines()) == 1 and "Redis does not serve us" in done.stderr
