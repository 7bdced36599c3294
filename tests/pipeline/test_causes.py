"""What names a break: an order of ours on its way covers no other cause, one without an id is known by its plan."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.core.made import NOW_MS
from tests.pipeline.hour import BEGIN_MS, ORDER_MS, Hour

POLL_MS = -(-ORDER_MS // 5_000) * 5_000
"""The poll behind the order."""


@pytest.mark.parametrize(("client_id", "kind"), [
    ("adl_autoclose", "venue_initiated"), ("autoclose-17", "venue_initiated"), ("web_abc", "external_trade")])
def test_what_happens_while_an_order_of_ours_is_on_its_way_names_the_break(client_id, kind):
    """Filled before one poll and booked after it; somebody else trades before the next."""
    hour = Hour()
    hour.sold[:] = [(POLL_MS - 300, "-0.028"), (POLL_MS + 2_500, "-0.005")]
    hour.trades[:] = [hour.trade(1, POLL_MS - 300, "SELL", "0.028", "8389765", f"p33-{hour.plan_id}"),
                      hour.trade(2, POLL_MS + 2_500, "SELL", "0.005", "77", client_id)]
    hour.entries["results"] = [(f"{POLL_MS + 500}-0", hour.result(hour.plan_id, "8389765", "0.028"))]
    hour.entries["ledger"][1] = (f"{POLL_MS + 510}-0", hour.booking(
        "fill", POLL_MS + 510, "-0.028", "0.010", rev=2, plan_id=hour.plan_id, order_id="8389765",
        result_id=f"{POLL_MS + 500}-0"))
    audit = hour.audit()
    found, = audit.breaks
    assert (found.kind, found.opened_ms, found.closed_ms) == (kind, POLL_MS, None)
    assert found.evidence.trade_ids == ("1", "2") and found.evidence.plan_ids == (hour.plan_id,)
    assert audit.flow == ()


def test_an_order_that_the_journal_knows_by_its_plan_alone_is_booked():
    """Its result named no id: what the snapshot then lacks is the snapshot's fault, not a fill that nobody booked."""
    hour = Hour()
    told = hour.entries["results"][0][1]
    told["steps_results"] = told["steps_results"].replace('"order_id": "8389765", ', "")
    hour.entries["ledger"][1] = (hour.entries["ledger"][1][0], hour.booking(
        "fill", ORDER_MS + 510, "-0.028", "0.010", rev=2, plan_id=hour.plan_id, result_id=f"{ORDER_MS + 500}-0"))
    hour.sold.append((NOW_MS + 2_000, "-0.005"))
    assert [found.kind for found in hour.audit().breaks] == ["stale_source"]


def test_a_difference_that_was_too_small_to_see_before_an_order_is_no_stale_snapshot():
    """0.0003 of 0.038 are within the tolerance, of the 0.010 that are left they are not."""
    hour = Hour()
    hour.sold.append((BEGIN_MS + 60_000, "0.0003"))
    found, = hour.audit().breaks
    assert (found.kind, found.max_difference) == ("quantity", Decimal("0.0003"))
