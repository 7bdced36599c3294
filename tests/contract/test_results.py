"""Chapter 1 from outside: results in every shape that is met, booked once and in order by a running p33-sidecar."""

from __future__ import annotations

import json

import pytest

from tests.contract.client import Outsider, until
from tests.contract.conftest import House

HOUSE = {"pool": 20, "positions": {}, "plans": "quantum:apply.plan", "results": "quantum:apply.result",
         "P33_POLL_SEC": "0.5", "P33_COOLDOWN_SEC": "60", "P33_STALE_THRESHOLD_SEC": "30"}


@pytest.fixture(scope="module", autouse=True)
def sidecar(house: House, out: Outsider) -> None:
    """Running, with a book of 100 for every symbol of the pool."""
    house.start("p33-sidecar")
    until("all books are open", lambda: all(out.ledger(symbol) for symbol in house.pool))


def step(**other: object) -> dict:
    """One executed step: 10 sold under order 901."""
    return {"step": "CLOSE", "status": "FILLED", "order_id": "901", "side": "SELL", "executed_qty": "10",
            "reduce_only": True} | other


FLATLY = {"order_id": "901", "side": "SELL", "filled_qty": "10", "reduceOnly": "true"}
SHAPES = {
    "steps_results": {"executed": "True", "steps_results": json.dumps([step()])},
    "status success": {"executed": "true", "steps_results": json.dumps([step(status="success")])},
    "status in any case": {"executed": "1", "steps_results": json.dumps([step(status="executed")])},
    "flat on the message": {"executed": "True"} | FLATLY,
    "flat, executed_qty": {"executed": "True", "order_id": "901", "side": "SELL", "executed_qty": "10"},
    "in details": {"executed": "true", "details": json.dumps(FLATLY)},
    "beside failed steps": {"executed": "True", "steps_results": json.dumps(
        [step(status="failed", order_id="900", executed_qty="50"), step(),
         step(status="not_implemented", order_id="902", executed_qty="7")])},
}


def book(out: Outsider, symbol: str, *messages: dict[str, str], plan_id: str = "a-plan") -> dict[str, str]:
    """The ledger's hash once all of these are booked: results go strictly in order, so what follows them tells."""
    for message in messages:
        out.result(symbol, plan_id=plan_id, decision="EXECUTE", **message)
    sentinel = out.redis.xadd(out.results, {"a result": "without a plan"})
    until("what follows is rejected", lambda: out.records("quantum:p33:rejected", id=sentinel))
    return out.ledger(symbol)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_of_these_shapes_mean_the_same_fill(out: Outsider, house: House, shape: str) -> None:
    """I29, I39: told five times it books once, and only what succeeded."""
    symbol = house.fresh()
    found = book(out, symbol, *[SHAPES[shape]] * 5)
    assert (found["last_known_amt"], found["last_known_side"], found["rev"]) == ("90", "LONG", "2")
    assert (found["last_order_id"], found["source"]) == ("901", "fill")
    assert int(found["last_order_time_epoch"]) == int(found["last_order_time_ms"]) // 1000 > 0


@pytest.mark.parametrize("told", [("4", "10"), ("10", "4")])
def test_of_several_messages_on_one_order_the_largest_counts(out: Outsider, house: House,
                                                             told: tuple[str, str]) -> None:
    """I35: 4 then 10 is 10, in whatever order they arrive."""
    statuses = {"4": "PARTIALLY_FILLED", "10": "FILLED"}
    messages = [{"executed": "True", "steps_results": json.dumps([step(status=statuses[q], executed_qty=q)])}
                for q in told]
    assert book(out, house.fresh(), *messages)["last_known_amt"] == "90"


def test_t07_the_same_order_id_of_two_symbols_is_two_orders(out: Outsider, house: House) -> None:
    """A fill is identified by symbol and order id."""
    first, second = house.fresh(), house.fresh()
    assert book(out, first, SHAPES["flat on the message"])["last_known_amt"] == "90"
    assert book(out, second, SHAPES["flat on the message"])["last_known_amt"] == "90"


def test_without_an_order_id_plan_and_step_name_the_fill(out: Outsider, house: House) -> None:
    """A later message that adds the id is the same fill."""
    symbol = house.fresh()
    nameless = {"executed": "True", "steps_results": json.dumps([step(order_id="")])}
    assert book(out, symbol, nameless, nameless)["last_known_amt"] == "90"
    assert book(out, symbol, SHAPES["steps_results"])["last_known_amt"] == "90"


def test_i32_a_reduce_only_fill_stops_at_zero(out: Outsider, house: House) -> None:
    """And is journalled as an anomaly; without the flag it is plain signed arithmetic."""
    reducing, plain = house.fresh(), house.fresh()
    assert book(out, reducing, {"executed": "True", "steps_results": json.dumps(
        [step(executed_qty="150")])})["last_known_amt"] == "0"
    assert out.records("quantum:p33:ledger", symbol=reducing)[-1]["anomaly"]
    found = book(out, plain, {"executed": "True", "steps_results": json.dumps(
        [step(executed_qty="150", reduce_only=False)])})
    assert (found["last_known_amt"], found["last_known_side"]) == ("-50", "SHORT")


def test_i30_an_executed_result_without_quantity_books_nothing_and_denies(out: Outsider, house: House) -> None:
    """Not settled: until its fate is known every plan of the symbol is denied."""
    symbol = house.fresh()
    assert book(out, symbol, {"executed": "True", "steps_results": json.dumps(
        [step(status="NEW", executed_qty="0")])})["last_known_amt"] == "100"
    assert out.verdict(symbol)["reason"] == "cooldown_in_flight"


def test_what_did_not_execute_books_nothing(out: Outsider, house: House) -> None:
    """BLOCKED, and dry runs."""
    found = book(out, house.fresh(), {"executed": "False", "error": "missing_or_denied_p33_permit"},
                 {"executed": "False", "would_execute": "True", "steps_results": json.dumps([step(status="dry_run")])})
    assert (found["last_known_amt"], found["rev"]) == ("100", "1")


def test_after_an_order_the_symbol_settles_and_older_plans_are_superseded(out: Outsider, house: House) -> None:
    """`cooldown_in_flight` for a new plan, `plan_superseded` for one decided before (T09)."""
    symbol = house.fresh()
    last_ms = int(book(out, symbol, SHAPES["steps_results"])["last_order_time_ms"])
    house.exchange.set_position(symbol, "90")
    until("the poll", lambda: out.snapshot(symbol)["position_amt"] == "90")
    stamp = last_ms - 2000
    assert out.verdict(symbol, timestamp=f"{stamp // 1000}.{stamp % 1000:03d}")["reason"] == "plan_superseded"
    assert out.verdict(symbol)["reason"] == "cooldown_in_flight"


def test_a_result_beyond_understanding_is_kept_whole(out: Outsider, house: House) -> None:
    """And the ones behind it are booked."""
    symbol = house.fresh()
    broken = out.redis.xadd(out.results, {"decision": "EXECUTE", "executed": "True", "steps_results": "[{"})
    assert book(out, symbol, SHAPES["steps_results"])["last_known_amt"] == "90"
    (record,) = out.records("quantum:p33:rejected", id=broken)
    assert record["message"] == {"decision": "EXECUTE", "executed": "True", "steps_results": "[{"}
