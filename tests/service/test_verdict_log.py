"""The log's line for each verdict: once, of our own, and whatever else stands in the stream."""

from __future__ import annotations

import json

import pytest

from p33_sidecar.store import keys
from tests.service.world import World


def told(caplog: pytest.LogCaptureFixture) -> list[dict]:
    return [record.fields for record in caplog.records if record.message == "verdict.issued"]


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="p33.verdicts")


def test_each_verdict_once_with_its_ids(ready: World, caplog: pytest.LogCaptureFixture) -> None:
    """Plan, entry, nonce, and what it came to."""
    ready.ask(plan_id="a")
    ready.ask("FOO", plan_id="b")
    ready.clerk.step(), ready.clerk.step()
    allow, deny = told(caplog)
    assert (allow["plan_id"], allow["outcome"], allow["quantity"]) == ("a", "ALLOW", "0.028")
    assert allow["nonce"] == ready.permit("a")["nonce"] and "reason" not in allow
    assert (deny["plan_id"], deny["outcome"], deny["reason"]) == ("b", "DENY", "unsupported_action")


def test_what_another_wrote_is_not_ours_to_tell(ready: World, caplog: pytest.LogCaptureFixture) -> None:
    """Another sidecar's record, and what is none."""
    ready.ask(plan_id="a")
    kept = json.loads(ready.redis.xrange(keys.DECISIONS)[0][1]["json"])
    for record in (json.dumps(kept | {"instance": "another"}), "{", "[]"):
        ready.redis.xadd(keys.DECISIONS, {"json": record})
    ready.redis.xadd(keys.DECISIONS, {"nothing": "here"})
    ready.clerk.step()
    assert [fields["plan_id"] for fields in told(caplog)] == ["a"]


def test_a_start_tells_nothing_of_before(ready: World, caplog: pytest.LogCaptureFixture) -> None:
    """The one before it did."""
    ready.ask(plan_id="a")
    later = World(ready.redis_url).start_again()
    later.ask("FOO", plan_id="b")
    later.clerk.step()
    later.close()
    assert [fields["plan_id"] for fields in told(caplog)] == ["b"]


def test_records_of_another_type_stop_nothing(ready: World, caplog: pytest.LogCaptureFixture) -> None:
    """The clerk's other work goes on."""
    ready.ask(plan_id="a")
    ready.redis.delete(keys.DECISIONS)
    ready.redis.set(keys.DECISIONS, "spoilt")
    ready.clerk.step()
    assert told(caplog) == []
