"""The audit's rules for whole columns are the core's: what they pass comes out again, what was bent does not pass."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p33_pipeline.archive.rows import table_of
from p33_pipeline.audit.rules import prepare, unlike_sql
from p33_pipeline.audit.scope import rows, scope_of
from p33_pipeline.history import TABLES
from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import Policy
from p33_sidecar.core.record import record_bytes
from tests.core.made import ORIGIN, POLICY, STAMP, facts
from tests.core.test_record import POLICIES, any_facts, written
from tests.pipeline.test_review_rules import NEAR


def unlike(raws: list[str]) -> set[int]:
    """The places of the records that the rules do not pass."""
    entries = [(f"1769301010000-{n}", {"json": raw}) for n, raw in enumerate(raws)]
    scope = scope_of({"decisions": table_of(TABLES["decisions"], entries)}, from_ms=0, to_ms=2**41, begin_ms=0,
                     until_ms=2**41, reach={}, policy=POLICY)
    prepare(scope)
    return {row["seq"] for row in rows(scope, unlike_sql("decisions"))}


def bent(raw: bytes, **changes: object) -> str:
    return msgspec.json.encode(msgspec.json.decode(raw) | changes).decode()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(NEAR | any_facts(), st.just(POLICY) | POLICIES), min_size=30, max_size=30))
def test_what_passes_is_what_the_core_decides(many):
    """A verdict with another reason, outcome or quantity than the core's never passes, whatever the facts."""
    raws = [written(one, policy)[0] for one, policy in many]
    told = [(raw, msgspec.json.decode(raw)) for raw in raws]
    lies = [(bent(raw, reason=None, outcome="ALLOW", safe_close_qty="0.5"),
             (record["outcome"], record["safe_close_qty"]) != ("ALLOW", "0.5")) for raw, record in told]
    denied = [(bent(raw, reason="halted", outcome="DENY", safe_close_qty=None), record["reason"] != "halted")
              for raw, record in told]
    asked = [(bent(raw, requested_qty="0.333"), record["requested_qty"] != "0.333") for raw, record in told]
    judged = lies + denied + asked
    assert unlike([raw for raw, _ in judged]) >= {n for n, (_, bad) in enumerate(judged) if bad}


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NEAR, min_size=60, max_size=60))
def test_ordinary_verdicts_pass(many):
    """Otherwise rules that pass nothing would do. Only a close_qty that is no number is left to the core."""
    odd = {n for n, one in enumerate(many) if one.plan.unreadable}
    assert unlike([written(one)[0].decode() for one in many]) == odd


@pytest.mark.parametrize("plan", [
    {"timestamp": "1769301008.1234"}, {"timestamp": "1769301008.1239996"}, {"timestamp": ""}, {"timestamp": "1e9"},
    {"steps": '[{"step":"CLOSE_PARTIAL_75","pct":75.0}]'}, {"steps": "["},
    {"steps": '[{"step":"CLOSE_PARTIAL_50"}]'}, {"close_qty": "0.01"}, {"close_qty": "0.020"},
    {"action": "FULL_CLOSE_PROPOSED"}, {"action": "UPDATE_SL"}, {"timestamp": "1769301100"}, {"side": "buy"}])
def test_the_ways_a_plan_is_written_pass(plan):
    assert unlike([written(facts(plan=plan))[0].decode()]) == set()


@pytest.mark.parametrize("plan", [
    {"timestamp": "x"}, {"timestamp": "1769301008123"}, {"timestamp": "99999999999999"}, {"close_qty": "-1"},
    {"close_qty": "1e-3"}])
def test_what_is_written_unusually_is_left_to_the_core(plan):
    assert unlike([written(facts(plan=plan))[0].decode()]) == {0}


def test_a_policy_under_another_hash_is_left_to_the_core():
    """Thresholds that were changed in the record do not pass under the hash of others."""
    given = facts()
    raw = record_bytes(decide(given, POLICY), given, POLICY, stamp=STAMP, origin=ORIGIN)
    other = msgspec.json.decode(written(given, Policy(stale_threshold_ms=20_000))[0])
    assert unlike([raw.decode(), bent(raw, policy=other["policy"]), bent(raw, policy_hash="0" * 12)]) == {1, 2}


@pytest.mark.parametrize("since", ["in_scope", "plan_at"])
def test_a_row_of_an_older_archive_is_left_to_the_core(since):
    """Its columns say nothing of the facts, or not of all."""
    table = table_of(TABLES["decisions"], [("1-0", {"json": written(facts())[0].decode()})])
    index = table.schema.get_field_index(since)
    table = table.set_column(index, table.schema.field(index), pa.nulls(1, table.schema.field(index).type))
    scope = scope_of({"decisions": table}, from_ms=0, to_ms=2, begin_ms=0, until_ms=2, reach={}, policy=POLICY)
    prepare(scope)
    assert len(rows(scope, unlike_sql("decisions"))) == 1
