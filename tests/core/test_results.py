"""Results in every shape they are met in (contract, chapter 1): one fill, one report; what cannot be read is named."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from p33_sidecar.core.plan import MessageRefused
from p33_sidecar.core.results import NEVER, result_of

STEP = {"step": "CLOSE_PARTIAL_75", "status": "success", "order_id": "8389765", "side": "SELL", "quantity": "0.028",
        "executed_qty": "0.028", "reduce_only": True}


def message(*steps: dict, **fields: str) -> dict[str, str]:
    """A result as on the stream; `steps_results` from the steps."""
    return {"plan_id": "f1a8d7f48713d5cf", "symbol": "BTCUSDT", "decision": "EXECUTE", "executed": "True",
            "would_execute": "False", "steps_results": msgspec.json.encode(list(steps)).decode(), "error": "",
            "timestamp": "1769301010"} | fields


def only(fields: dict[str, str]):
    """The one report of a message."""
    (report,) = result_of(fields).reports
    return report


FLAT = {"order_id": "8389765", "side": "SELL", "executed_qty": "0.028", "reduceOnly": "true"}
DETAILS = msgspec.json.encode({"order_id": 8389765, "side": "sell", "filled_qty": 0.028, "reduceOnly": 1}).decode()


@pytest.mark.parametrize("fields", [
    message(STEP), message(STEP, executed="true"), message(STEP, executed="1"),
    message(STEP | {"status": "FILLED"}), message(STEP | {"status": "executed", "side": "sell"}),
    message(STEP | {"order_id": 8389765, "executed_qty": 0.028}),
    message({k: v for k, v in STEP.items() if k not in ("executed_qty", "reduce_only")}
            | {"filled_qty": "0.0280", "reduceOnly": "True"}),
    message(STEP | {"executed_qty": None, "filled_qty": 0.028}), message(STEP | {"executed_qty": "2.8e-2"}),
    message(**FLAT), message(**{k: v for k, v in FLAT.items() if k != "executed_qty"}, filled_qty="0.028"),
    message(**FLAT, status="FILLED"), message(details=DETAILS), message(details=DETAILS, status="success"),
])
def test_every_shape_means_the_same_fill(fields):
    """Steps, details or flat; True, true or 1; filled or executed quantity; numbers or texts."""
    report = only(fields)
    assert (report.order_id, report.side, report.executed_qty, report.reduce_only, report.settled) == (
        "8389765", "SELL", Decimal("0.028"), True, True)
    assert report.names[0] == "id 8389765"
    assert "plan f1a8d7f48713d5cf " in report.names


def test_absent_reduce_only_is_plain_arithmetic():
    """Nothing said of reduce-only means that it is not."""
    assert not only(message({k: v for k, v in STEP.items() if k != "reduce_only"})).reduce_only


@pytest.mark.parametrize("status", sorted(NEVER) + [s.upper() for s in sorted(NEVER)])
def test_i39_failed_steps_never_count(status):
    """Executed, although every step failed: nothing was."""
    assert result_of(message(STEP | {"status": status})).reports == ()


def test_i39_every_successful_step_counts_not_only_the_last():
    """Two fills around a step that failed are two fills."""
    steps = (STEP | {"step": "A", "order_id": "1"}, STEP | {"step": "B", "status": "failed"},
             STEP | {"step": "C", "order_id": "3", "status": "not_implemented"}, STEP | {"step": "D", "order_id": "4"})
    assert [report.order_id for report in result_of(message(*steps)).reports] == ["1", "4"]


@pytest.mark.parametrize("change", [
    {"status": "PARTIALLY_FILLED"}, {"status": "NEW", "executed_qty": "0"}, {"status": "EXPIRED_IN_MATCH"},
    {"status": "SOMETHING_NEW"}, {"status": ""}, {"executed_qty": "0"}, {"executed_qty": None},
])
def test_i30_x23_what_may_still_fill_is_not_settled(change):
    """A part, no quantity, or a status that is not known: the order's fate is to be asked for."""
    assert not only(message(STEP | change)).settled


@pytest.mark.parametrize("fields", [message(), message(details="{}"), message(steps_results="null")])
def test_i30_executed_and_nothing_else_is_an_order_to_ask_for(fields):
    """It can still be found by its plan's client id."""
    report = only(fields)
    assert (report.executed_qty, report.settled, report.order_id, report.names) == (
        0, False, "", ("plan f1a8d7f48713d5cf ",))


@pytest.mark.parametrize(("fields", "reports"), [
    (message(STEP, executed="False", would_execute="True"), 0), (message(executed="False"), 0),
    (message(STEP | {"status": "blocked"}, executed="False", decision="BLOCKED"), 0),
    (message(STEP, executed="False"), 1), (message(STEP | {"status": "NEW"}, executed="False"), 1),
])
def test_without_executed_only_an_order_that_may_exist_is_kept(fields, reports):
    """A dry run and a refusal are nothing; an order with an id may have gone out, and is not believed but asked for."""
    found = result_of(fields).reports
    assert len(found) == reports
    assert not any(report.settled for report in found)


def test_a_fill_is_believed_only_with_executed_and_a_side():
    """A quantity that nobody vouches for is zero until the exchange has said it."""
    assert only(message(STEP, executed="False")).executed_qty == 0
    assert only(message(STEP | {"side": "close"})).executed_qty == 0


@pytest.mark.parametrize(("change", "reason"), [
    ({"symbol": ""}, "missing_symbol"), ({"symbol": "A B"}, "malformed_symbol"),
    ({"plan_id": "a b"}, "malformed_plan_id"), ({"plan_id": ""}, "missing_plan_id"),
    ({"steps_results": "[{"}, "unreadable_steps"),
    ({"steps_results": "{}"}, "unreadable_steps"), ({"steps_results": "[" * 5000}, "unreadable_steps"),
    ({"steps_results": "", "details": "[]"}, "unreadable_steps"),
    ({"executed_qty": "nan"}, "unreadable_quantity"), ({"executed_qty": "1e99"}, "unreadable_quantity"),
    ({"filled_qty": "-1"}, "negative_quantity"),
    ({"steps_results": '[{"status":"success","executed_qty":[1]}]'}, "unreadable_quantity"),
])
def test_what_cannot_be_understood_is_refused_by_name(change, reason):
    """So that it is kept whole, and somebody looks."""
    with pytest.raises(MessageRefused) as refused:
        result_of(message() | change)
    assert refused.value.reason == reason


def test_an_order_id_is_enough_without_a_plan():
    """A fill that names its order can be booked; one that names neither order nor plan cannot."""
    assert only(message(STEP, plan_id="")).names == ("id 8389765",)


@pytest.mark.parametrize(("error", "executed", "ending"), [
    ("", "True", "over"), ("order_rejected", "False", "over"), ("order_not_sent", "False", "over"),
    ("missing_or_denied_p33_permit", "False", "other"), ("", "False", "other"),
])
def test_what_ends_a_taken_permit(error, executed, ending):
    """A result that executed, or one of two definite errors (contract, chapter 2)."""
    assert result_of(message(executed=executed, error=error)).ending == ending
