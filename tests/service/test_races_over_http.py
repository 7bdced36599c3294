"""What happens between two steps of ours: between reading and issuing, order and result, result and booking.

The step in the middle is taken where it hurts, by the test, in one thread; server, exchange and command are real.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from p33_sidecar.core.model import Policy
from p33_sidecar.store import keys
from tests.cli.conftest import Tool
from tests.service.over_http import COOLING, PATIENT, Floor, under


def before_the_issuing(floor: Floor, happens: Callable[[], object]) -> None:
    """Once, when the next verdict is decided and not yet issued."""
    store = floor.world.desk.store
    issue = store.issue

    def then_issue(issues):
        store.issue = issue
        happens()
        return issue(issues)

    store.issue = then_issue


def before_the_result(floor: Floor, happens: Callable[[], object]) -> None:
    """Once, when the next order was filled and its result is not written yet."""
    orders = floor.applier.orders
    send = orders.send

    def then_say(intent):
        orders.send = send
        outcome = send(intent)
        happens()
        return outcome

    orders.send = then_say


def traded_elsewhere(floor: Floor, amt: str) -> None:
    """Another program's order brings the position to `amt`, and its result is on the stream."""
    order = floor.sim.set_position("BTCUSDT", amt)
    floor.world.result("elsewhere", side=order.side, qty=str(order.executed_qty), order_id=str(order.order_id),
                       reduce_only=False)


# -- between reading and issuing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("polled", "policy", "reason"), [
    (False, PATIENT, "reconcile_required_qty_mismatch"), (True, COOLING, "cooldown_in_flight")],
    ids=["the snapshot is the old one", "both moved and agree"])
def test_x03_a_fill_lands_between_reading_and_issuing(floor: Floor, polled: bool, policy: Policy, reason: str) -> None:
    """0.028 of 0.038 was decided when 0.020 were sold elsewhere: no ALLOW on what is gone, and no order."""
    floor.opened()
    under(floor.world, policy)

    def fill() -> None:
        traded_elsewhere(floor, "0.018")
        floor.world.book()
        if polled:
            floor.world.poll()

    before_the_issuing(floor, fill)
    assert floor.carry(timestamp="") == f"p33_denied:{reason}"
    assert floor.orders() == [] and floor.accounts() == ("0.018", "0.018")
    under(floor.world, PATIENT)
    floor.see_order()
    assert floor.carry() == "SELL 0.013", "the next one is 75 % of what is left"


def test_t02_halt_and_a_new_snapshot_between_reading_and_issuing(floor: Floor, p33: Tool) -> None:
    """0 facts read · 1 `p33 halt` · 2 snapshot 0.010 instead of 0.038 · 3 issue: decided again on both, `halted`."""
    floor.opened()

    def halt_and_close() -> None:
        assert p33("halt", "--reason", "fire").code == 0
        floor.sim.set_position("BTCUSDT", "0.010")
        floor.world.poll()

    before_the_issuing(floor, halt_and_close)
    assert floor.carry() == "halted"
    (record,) = floor.world.records(keys.DECISIONS)
    assert (record["reason"], record["snapshot"]["position_amt"]) == ("halted", "0.01")
    assert floor.orders() == [] and not floor.redis.exists(keys.open_permit("BTCUSDT"))


# -- between an order and its result ----------------------------------------------------------------------------------


def test_t20_a_poll_shows_the_fill_before_the_result_does(floor: Floor) -> None:
    """1,000 filled · 1,500 three polls show it · 2,000 result: no mismatch is counted, told or journalled."""
    floor.opened()
    before_the_result(floor, lambda: [floor.world.poll() for _ in range(3)])
    assert floor.carry() == "SELL 0.028"
    for _ in range(3):
        floor.world.poll()
    assert floor.redis.hlen(keys.MISMATCHES) == 0 and floor.events("mismatch") == []
    assert ("mismatch", "BTCUSDT") not in floor.world.hooks.seen
    assert [entry["cause"] for entry in floor.world.records(keys.JOURNAL)] == ["opening", "fill"]


def test_i57_snapshot_from_before_the_last_order_is_no_proof(floor: Floor) -> None:
    """Book and snapshot agree on 0.010, but nobody has asked the exchange since: denied until somebody has."""
    floor.opened()
    before_the_result(floor, floor.world.poll)
    assert floor.carry() == "SELL 0.028"
    seen = floor.redis.hget(keys.snapshot("BTCUSDT"), "position_amt")
    assert (floor.accounts(), Decimal(seen)) == (("0.01", "0.01"), Decimal("0.010"))
    assert floor.carry("CLOSE_FULL", timestamp="") == "p33_denied:cooldown_in_flight"
    failed = [check for check in floor.world.records(keys.DECISIONS)[-1]["checks"] if not check["pass"]]
    assert [check["value"] for check in failed] == ["snapshot_not_newer"]
    floor.see_order()
    assert floor.carry("CLOSE_FULL") == "SELL 0.01" and floor.accounts() == ("0", "0")


def test_t22_ledger_adopt_between_fill_and_result(floor: Floor, p33: Tool) -> None:
    """Adopted now, the fill would be booked twice: refused while the permit is taken, granted when all is settled."""
    floor.opened()
    said = []

    def adopt() -> None:
        floor.world.poll()
        said.append(p33("ledger", "adopt", "BTCUSDT", "--reason", "hurry", "--json"))

    before_the_result(floor, adopt)
    assert floor.carry() == "SELL 0.028"
    assert (said[0].code, said[0].json["ok"]) == (1, False)
    assert any("taken" in reason for reason in said[0].json["reasons"])
    assert floor.accounts() == ("0.01", "0.01")
    assert [entry["cause"] for entry in floor.world.records(keys.JOURNAL)] == ["opening", "fill"]


# -- between a result and its booking ---------------------------------------------------------------------------------


def test_t14_a_close_plan_is_read_before_the_buy_is_booked(floor: Floor) -> None:
    """0 BUY 0.012 was told · 1 PARTIAL_75 is read: not 75 % of the old 0.038, and afterwards 75 % of 0.050."""
    floor.opened()
    traded_elsewhere(floor, "0.050")
    entry = floor.publish()
    floor.world.decide()
    assert floor.world.ledger()["last_known_amt"] == "0.038", "still not booked"
    assert floor.apply(entry) == "p33_denied:cooldown_in_flight"
    assert floor.orders() == [] and floor.accounts() == ("0.05", "0.05")
    floor.see_order()
    assert floor.carry() == "SELL 0.037" and floor.accounts() == ("0.013", "0.013")


def test_t14_a_close_plan_waits_for_the_booking(floor: Floor) -> None:
    """The same, booked while the plan waits: it is judged on the new book, and there are two amounts to explain."""
    floor.opened().world.decide()
    traded_elsewhere(floor, "0.050")
    entry = floor.publish(timestamp="")
    floor.world.desk.step(block_ms=1)
    assert floor.world.verdict("plan1") == "NONE" and floor.world.desk.waiting.jobs
    floor.world.book()
    floor.world.decide()
    assert floor.apply(entry) == "p33_denied:reconcile_required_qty_mismatch" and floor.orders() == []
