"""The vectorised rules are the core's rules: same facts, same policy, same verdict, whatever the facts."""

from __future__ import annotations

import json
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p33_pipeline.archive.rows import table_of
from p33_pipeline.audit.scope import Scope, scope_of
from p33_pipeline.history import TABLES
from p33_pipeline.review.cases import read_cases
from p33_pipeline.review.judge import Facts, judge
from p33_pipeline.review.rules import tolerance_units
from p33_pipeline.review.verdicts import in_hindsight, verdicts_of
from p33_sidecar.core.checks import decide, evaluation_failed
from p33_sidecar.core.model import Policy
from p33_sidecar.core.record import record_bytes
from tests.core.made import ORIGIN, POLICY, STAMP, facts
from tests.core.test_record import POLICIES, any_facts, written

STALE = (1_000, 3_200, 10_000)
COOLDOWN = (0, 8_000, 15_000)
TOLERANCE = (Decimal(0), Decimal("1"), Decimal("2.5"), Decimal(100))


def opened(raws: list[str], *, by_record: bool) -> Scope:
    """The records as an archive.

    `by_record`: as rows of an older archive, of which only the record itself can be read.
    """
    decisions = table_of(TABLES["decisions"], [(f"0-{n}", {"json": raw}) for n, raw in enumerate(raws)])
    if by_record:
        index = decisions.schema.get_field_index("in_scope")
        decisions = decisions.set_column(index, decisions.schema.field(index), pa.nulls(len(raws), pa.bool_()))
    return scope_of({"decisions": decisions}, from_ms=0, to_ms=2**42, begin_ms=0, until_ms=2**42, reach={},
                    policy=Policy())


def vectorised(many, *, by_record: bool) -> list[dict]:
    """The rules' findings for these facts, in order, by way of the records that the sidecar would write."""
    scope = opened([written(one)[0].decode() for one in many], by_record=by_record)
    with scope.db as db:
        verdicts, _ = in_hindsight(db, verdicts_of(read_cases(scope), len(many)))
        facts = Facts(db, verdicts, tolerance_pct=TOLERANCE, material_pct=Decimal(5))
        (judged,) = judge(facts, verdicts, [verdicts.own], stale_ms=STALE, cooldown_ms=COOLDOWN)
    facts = judged.facts.to_pylist()
    found = {seq: {"closable": facts[fact]["closable"] and timely, "stale_denies": stale, "cooldown_denies": cooldown,
                   "tolerance_denies": facts[fact]["tolerance_denies"], "closed4": facts[fact]["closed4"]}
             for seq, timely, stale, cooldown, fact in zip(
                 verdicts.seq, judged.timely, judged.stale_denies, judged.cooldown_denies, judged.fact, strict=True)}
    return [found[n] for n in range(len(many))]


def cases(raws: list[str], *, by_record: bool) -> tuple[list[dict], int]:
    """The cases of these records, and how many were read off the record itself."""
    scope = opened(raws, by_record=by_record)
    with scope.db as db:
        told = sorted((case for batch in read_cases(scope) for case in batch.to_pylist()), key=lambda case: case["seq"])
        unread = db.execute("SELECT count(*) FROM duckdb_views() WHERE view_name = 'unread'").fetchall()[0][0]
        return told, db.execute("SELECT count(*) FROM unread").fetchall()[0][0] if unread else 0


def allowed(row: dict, stale: int, cooldown: int, tolerance: int) -> bool:
    """Whether a policy, told by its place on the three axes, allows the case."""
    return (row["closable"] and stale >= row["stale_denies"] and tolerance >= row["tolerance_denies"]
            and cooldown < len(COOLDOWN) - row["cooldown_denies"])


def compare(many, *, by_record: bool) -> int:
    """Every policy of the small grid on every fact, both ways; returns how many were allowed."""
    allows = 0
    for one, row in zip(many, vectorised(many, by_record=by_record), strict=True):
        for i, stale in enumerate(STALE):
            for j, cooldown in enumerate(COOLDOWN):
                for k, pct in enumerate(TOLERANCE):
                    decision = decide(one, Policy(stale_threshold_ms=stale, cooldown_ms=cooldown,
                                                  qty_tolerance_pct=pct))
                    assert allowed(row, i, j, k) == decision.allow, (one, stale, cooldown, pct, decision)
                    if decision.allow:
                        assert row["closed4"] == decision.safe_close_qty * 4
                    allows += decision.allow
    return allows


NEAR = st.builds(
    facts, amt=st.sampled_from(["0.038", "-0.05", "0.001", "0", "123.9"]),
    ledger=st.sampled_from(["0.038", "-0.05", "0.0384", "0.0495", "-0.0495", "0.001", "0", "123.9", None]),
    step=st.sampled_from(["0.001", "1", "0.003"]), min_qty=st.sampled_from([None, "0.004", "0"]),
    max_qty=st.sampled_from(["120", "0.01"]), snapshot_age_ms=st.sampled_from([0, 1_000, 1_001, 3_200, 10_001, -1_001]),
    plan=st.fixed_dictionaries({}, optional={
        "action": st.sampled_from(["PARTIAL_25", "CLOSE_FULL", "PARTIAL_50", "FOO"]),
        "side": st.sampled_from(["BUY", "SELL"]), "close_qty": st.sampled_from(["0.01", "0.0005", "x"])}),
    last_order_age_ms=st.sampled_from([None, 0, 7_999, 8_000, 15_000, 40_000]),
    tampered=st.sampled_from([False] * 4 + [True]), unsettled_orders=st.sampled_from([0] * 4 + [1]),
    released_ms=st.sampled_from([0, 0, 1_769_301_010_000 - 3_200]),
)


UNDECIDED = record_bytes(evaluation_failed(POLICY), facts(), POLICY, stamp=STAMP, origin=ORIGIN).decode()
ODD = [UNDECIDED, "no JSON", "{}", "[]", UNDECIDED.replace('"v":1', '"v":2'),
       UNDECIDED.replace('"decided_ms":', '"undecided_ms":')]
"""A verdict that the rules did not get to, and what cannot be read as one: by columns, or at all."""
ODD_CASES = 2
"""The verdict itself, and its like of an unknown version."""


@pytest.mark.parametrize("by_record", [False, True])
@pytest.mark.parametrize("size", ["1000000000000", "30000000000000000000", "-30000000000000000000"])
def test_amounts_that_messages_put_at_any_size_are_judged_like_others(size, by_record):
    """A book that a forged result made, an upper bound that is none: they stop no review."""
    bound = {"close_qty": size.lstrip("-")}
    assert compare([facts(ledger=size), facts(amt="-0.038", ledger=size), facts(plan=bound)], by_record=by_record)


@pytest.mark.parametrize("by_record", [False, True])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NEAR | any_facts(), min_size=20, max_size=20))
def test_the_vectorised_rules_agree_with_decide(by_record, many):
    """On random facts, near the edges and far from them, under every policy of a grid."""
    compare(many, by_record=by_record)


@pytest.mark.parametrize("by_record", [False, True])
def test_the_agreement_is_about_allows_too(by_record):
    """Otherwise two rules that always deny would agree."""
    many = [facts(), facts(ledger="0.0384"), facts(snapshot_age_ms=10_001)]
    assert compare(many, by_record=by_record) > 20


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(NEAR | any_facts(), st.just(POLICY) | POLICIES), min_size=30, max_size=30))
def test_columns_and_records_tell_the_same_cases(many):
    """Whatever the facts and the policy in force, and whatever stands between the records that is none."""
    raws = [written(one, policy)[0].decode() for one, policy in many] + ODD
    told, _ = cases(raws, by_record=False)
    again, read = cases(raws, by_record=True)
    assert told == again
    assert read == len(raws) and len(told) == len(many) + ODD_CASES


@pytest.mark.parametrize("by_record", [False, True])
@pytest.mark.parametrize("close_qty, bound", [
    ("0.0000000000000000001", None), ("1E-19", None), ("15E-19", None), ("0.0300000000000000000001", None),
    ("1E-18", Decimal("1E-18")), ("0.02000000000000000000000", Decimal("0.02")), ("2.5e-2", Decimal("0.025")),
    ("0.0", Decimal(0)), ("x", Decimal(0))])
def test_a_bound_is_kept_exactly_or_the_verdict_is_no_case(by_record, close_qty, bound):
    """Rounded to the column's 18 places, a tiny bound would be none, and a verdict on it would close everything."""
    raws = [written(facts(plan={"close_qty": close_qty}))[0].decode(), written(facts())[0].decode()]
    told, _ = cases(raws, by_record=by_record)
    assert [case["bound"] for case in told] == ([] if bound is None else [bound]) + [Decimal(0)]


@pytest.mark.parametrize("member", ["position_amt", "last_known_amt", "min_qty"])
def test_no_other_quantity_of_a_record_is_rounded_either(member):
    """Somebody else's record, or one of a venue with finer amounts than the archive's columns."""
    body = json.loads(written(facts())[0])
    part = next(part for part in body.values() if isinstance(part, dict) and member in part)
    part[member] += "0" * 18 + "1"
    assert cases([json.dumps(body)], by_record=False)[0] == []


def test_ordinary_verdicts_are_read_off_the_columns():
    """Otherwise the two ways would agree because they are one."""
    told, read = cases([written(facts())[0].decode(), *ODD], by_record=False)
    assert len(told) == 1 + ODD_CASES and read == len(ODD) - 1
    assert told[0]["sound"] and not told[1]["sound"]


def test_a_tolerance_beyond_four_places_is_refused():
    """Rather than compared with what it is not."""
    assert tolerance_units(Decimal("0.0001")) == 1
    with pytest.raises(ValueError, match="at most 4 decimal places"):
        tolerance_units(Decimal("0.00001"))
