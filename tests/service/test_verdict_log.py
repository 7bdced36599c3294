"""The log's line for each verdict: once, and late rather than in a verdict's way."""

from __future__ import annotations

import pytest

from p33_sidecar.service.memory import MOST_UNTOLD
from tests.service.world import World


def told(caplog: pytest.LogCaptureFixture) -> list[dict]:
    return [record.fields for record in caplog.records if record.message == "verdict.issued"]


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="p33.clerk")


def test_each_verdict_once_with_its_ids(ready: World, caplog: pytest.LogCaptureFixture) -> None:
    """Plan, entry, nonce, and what it came to."""
    ready.ask(plan_id="a")
    ready.ask("FOO", plan_id="b")
    ready.clerk.step(), ready.clerk.step()
    allow, deny = told(caplog)
    assert (allow["plan_id"], allow["outcome"], allow["quantity"]) == ("a", "ALLOW", "0.028")
    assert allow["nonce"] == ready.permit("a")["nonce"] and "reason" not in allow
    assert (deny["plan_id"], deny["outcome"], deny["reason"]) == ("b", "DENY", "unsupported_action")


def test_a_clerk_that_hangs_costs_lines_and_no_memory(ready: World, caplog: pytest.LogCaptureFixture) -> None:
    """The newest are told; the records have all."""
    ready.ask(plan_id="a")
    (first,) = ready.memory.untold
    ready.memory.untold.extend([first] * MOST_UNTOLD)
    ready.ask("FOO", plan_id="b")
    assert len(ready.memory.untold) == MOST_UNTOLD
    ready.clerk.step()
    assert told(caplog)[-1]["plan_id"] == "b" and not ready.memory.untold
