"""An ALLOW for a symbol whose taken permit has not ended is found, to the millisecond; what ended it is believed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from p33_pipeline.audit.findings import FlowFinding
from p33_pipeline.audit.grounds import groundless
from p33_pipeline.audit.scope import scope_of
from p33_pipeline.history import TABLES
from tests.core.made import NOW_MS, POLICY

TAKEN_MS, VERDICT_MS = NOW_MS + 900, NOW_MS + 20_000
OVER_MS = TAKEN_MS + POLICY.permit_ttl_ms + POLICY.cooldown_ms
"""From then on the gate lets a permit go that was taken and has no result."""
SYMBOL, FIRST, SECOND = "BTCUSDT", "first", "second"


def row(at_ms: int, **columns: Any) -> dict:
    return {"id": f"{at_ms}-0", "at": at_ms, "seq": 0, "symbol": SYMBOL} | columns


def verdict(plan_id: str, at_ms: int, **columns: Any) -> dict:
    """An ALLOW, under the policy in force."""
    return row(at_ms, plan_id=plan_id, outcome="ALLOW", nonce=f"nonce of {plan_id}", issued_at=at_ms, decided_at=at_ms,
               permit_ttl_ms=POLICY.permit_ttl_ms, cooldown_ms=POLICY.cooldown_ms, skew_ms=POLICY.skew_ms) | columns


def taking(at_ms: int = TAKEN_MS, **columns: Any) -> dict:
    return row(at_ms, plan_id=FIRST, nonce=f"nonce of {FIRST}", gate="both") | columns


def result(at_ms: int, **columns: Any) -> dict:
    return row(at_ms, plan_id=FIRST, executed=True, error="") | columns


def gap(after_ms: int, before_ms: int | None, table: str = "results") -> dict:
    before_id = "" if before_ms is None else f"{before_ms}-0"
    return {"id": f"{VERDICT_MS}-9", "at": VERDICT_MS, "seq": 9, "table": table, "after_id": f"{after_ms}-0",
            "before_id": before_id, "noticed_at": VERDICT_MS + 60_000}


def found(at_ms: int = VERDICT_MS, *, taken: dict | None = None, results: tuple[dict, ...] = (),
          gaps: tuple[dict, ...] = (), end_ms: int = NOW_MS + 3_600_000, **second: Any) -> list[FlowFinding]:
    """What is found of a second verdict at `at_ms`, the first one's permit having been taken."""
    given = {"decisions": [verdict(FIRST, NOW_MS), verdict(SECOND, at_ms, **second)], "taken": [taken or taking()],
             "results": list(results), "gaps": list(gaps)}
    tables = {name: pa.Table.from_pylist(rows, schema=TABLES[name].schema) for name, rows in given.items()}
    scope = scope_of(tables, from_ms=NOW_MS, to_ms=end_ms, begin_ms=NOW_MS, until_ms=end_ms, reach={}, policy=POLICY)
    return groundless(scope, unlike=[])


def test_the_finding_names_both_plans_and_when():
    finding, = found()
    assert (finding.finding, finding.symbol, finding.plan_id, finding.at_ms) == (
        "irreproducible_verdict", SYMBOL, SECOND, VERDICT_MS)
    assert f"{VERDICT_MS - TAKEN_MS} ms after the permit of plan {FIRST} was taken (nonce nonce of {FIRST})" in (
        finding.detail)


@pytest.mark.parametrize(("at_ms", "how_many"), [
    (TAKEN_MS - 1, 0), (TAKEN_MS, 0), (TAKEN_MS + 1, 1),
    (OVER_MS - POLICY.skew_ms - 1, 1), (OVER_MS - POLICY.skew_ms, 0), (OVER_MS, 0)])
def test_from_the_taking_until_its_time_is_over(at_ms, how_many):
    """Less the second by which the gate's clock may be ahead; what came in one millisecond is not put in an order."""
    assert len(found(at_ms)) == how_many


@pytest.mark.parametrize(("ended", "how_many"), [
    (result(VERDICT_MS), 0), (result(VERDICT_MS + 1), 1), (result(TAKEN_MS), 0), (result(NOW_MS - 1), 1),
    (result(VERDICT_MS - 1, executed=False, error="order_rejected"), 0),
    (result(VERDICT_MS - 1, executed=False, error="order_not_sent"), 0),
    (result(VERDICT_MS - 1, executed=False, error="missing_or_denied_p33_permit"), 1),
    (result(VERDICT_MS - 1, plan_id=SECOND), 1), (result(VERDICT_MS - 1, symbol="ETHUSDT"), 1)])
def test_a_result_of_its_own_ends_a_taking(ended, how_many):
    """Up to the verdict's millisecond, not from before its permit; a refusal of the same plan ends nothing."""
    assert len(found(results=(ended,))) == how_many


@pytest.mark.parametrize("second", [{"outcome": "DENY"}, {"symbol": "ETHUSDT"}, {"problem": "unreadable"}])
def test_only_an_allow_of_the_same_symbol_is_one_too_many(second):
    assert found(**second) == []


@pytest.mark.parametrize("taken", [
    taking(gate="governor", nonce="governor"), taking(nonce="forged"), taking(plan_id="other"),
    taking(symbol="ETHUSDT"), taking(problem="unreadable")])
def test_what_took_no_permit_of_the_gate_keeps_no_symbol(taken):
    """Without this gate, or forged, which is a finding of its own."""
    assert found(taken=taken) == []


@pytest.mark.parametrize(("lost", "how_many"), [
    (gap(NOW_MS, VERDICT_MS), 0), (gap(VERDICT_MS, None), 0), (gap(VERDICT_MS + 1, None), 1),
    (gap(NOW_MS - 9, NOW_MS), 0), (gap(NOW_MS - 9, NOW_MS - 1), 1), (gap(NOW_MS, VERDICT_MS, "events"), 1)])
def test_a_result_may_lie_where_the_archive_has_a_gap(lost, how_many):
    """Then nothing is said; a gap at another time, or of another table, excuses nobody."""
    assert len(found(gaps=(lost,))) == how_many


def test_a_verdict_belongs_to_one_range():
    assert found(end_ms=VERDICT_MS) == []
    assert len(found(end_ms=VERDICT_MS + 1)) == 1


def test_the_newest_taking_counts():
    """One that was let go long ago does not hide behind another symbol's, nor does a later one that has ended."""
    assert found(OVER_MS + 60_000, taken=taking()) == []
    later = taking(OVER_MS + 50_000)
    assert len(found(OVER_MS + 60_000, taken=later)) == 1
    assert found(OVER_MS + 60_000, taken=later, results=(result(OVER_MS + 55_000),)) == []
