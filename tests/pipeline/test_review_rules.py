"""The vectorised rules are the core's rules: same facts, same policy, same verdict, whatever the facts."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p33_pipeline.review.cases import cases_sql
from p33_pipeline.review.rules import judged_sql, tolerance_units
from p33_sidecar.core.checks import decide
from p33_sidecar.core.model import Policy
from tests.core.made import facts
from tests.core.test_record import any_facts, written

STALE = (1_000, 3_200, 10_000)
COOLDOWN = (0, 8_000, 15_000)
TOLERANCE = (Decimal(0), Decimal("1"), Decimal("2.5"), Decimal(100))


@pytest.fixture(scope="module")
def database():
    with duckdb.connect() as connection:
        yield connection


def vectorised(database, many) -> list[dict]:
    """The rules' rows for these facts, in order, by way of the records that the sidecar would write."""
    rows = [{"id": f"{n:04}", "raw": written(one)[0].decode()} for n, one in enumerate(many)]
    decisions = pa.Table.from_pylist(rows)  # noqa: F841 - the query finds it by its name
    sql = judged_sql(source=f"({cases_sql('decisions')})", stale_ms=STALE, cooldown_ms=COOLDOWN,
                     tolerance_pct=TOLERANCE)
    return database.sql(f"{sql} ORDER BY id").to_arrow_table().to_pylist()


def allowed(row: dict, stale: int, cooldown: int, tolerance: int) -> bool:
    """Whether a policy, told by its place on the three axes, allows the case."""
    return (row["closable"] and stale >= row["stale_denies"] and tolerance >= row["tolerance_denies"]
            and cooldown < len(COOLDOWN) - row["cooldown_denies"])


def compare(database, many) -> int:
    """Every policy of the small grid on every fact, both ways; returns how many were allowed."""
    allows = 0
    for one, row in zip(many, vectorised(database, many), strict=True):
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


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NEAR | any_facts(), min_size=20, max_size=20))
def test_the_vectorised_rules_agree_with_decide(database, many):
    """On random facts, near the edges and far from them, under every policy of a grid."""
    compare(database, many)


def test_the_agreement_is_about_allows_too(database):
    """Otherwise two rules that always deny would agree."""
    assert compare(database, [facts(), facts(ledger="0.0384"), facts(snapshot_age_ms=10_001)]) > 20


def test_a_tolerance_beyond_four_places_is_refused():
    """Rather than compared with what it is not."""
    assert tolerance_units(Decimal("0.0001")) == 1
    with pytest.raises(ValueError, match="at most 4 decimal places"):
        tolerance_units(Decimal("0.00001"))
