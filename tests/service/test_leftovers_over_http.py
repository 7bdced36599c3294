"""What is left over: a rest that cannot be closed, an ending nobody has heard of, a week of orders before our time."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from p33_sidecar.core.quantity import text
from p33_sidecar.rehearsal.exchange.model import Order
from p33_sidecar.store import keys
from tests.service.over_http import Floor
from tests.service.world import RESULTS

WEEK_MS = 7 * 86_400_000
OLD_ORDERS = 50


def test_x20_dust_is_named_and_no_loop(floor: Floor) -> None:
    """0.0011 of 0.0015 are closed; 0.0004 is above the step and below the minimum: said each time, nothing is sent."""
    floor.sim.set_symbol("BTCUSDT", step="0.0001", market_step="0.0001", min_qty="0.001", market_min="0.001",
                         qty_precision=4)
    floor.opened(BTCUSDT="0.0015")
    assert floor.carry() == "SELL 0.0011"
    floor.see_order()
    sent = floor.shop.sends()
    assert [floor.carry("CLOSE_FULL") for _ in range(3)] == ["p33_denied:qty_below_min"] * 3
    assert floor.shop.sends() == sent and floor.accounts() == ("0.0004", "0.0004")
    assert floor.world.verdict("plan4") == "qty_below_min" and floor.events("mismatch") == []


@pytest.mark.parametrize(("word", "settled"), [("EXPIRED_IN_MATCH", True), ("EXPIRED_IN_HEAVEN", False)])
def test_x23_a_terminal_status_that_was_in_nobodys_list(floor: Floor, word: str, settled: bool) -> None:
    """Ended at 0.004 of 0.028, and the exchange has a word for it: known, it is an end; unknown, it never is one."""
    floor.opened()
    floor.sim.set_liquidity("BTCUSDT", "0.004")
    floor.sim.fault("odd_status", "order", times=None, value=word)
    assert floor.carry() == "SELL 0.004" and floor.shop.only_result().step["order_status"] == word
    floor.world.clerk.step()
    floor.world.book()
    floor.see_order()
    assert floor.accounts() == ("0.034", "0.034")
    assert floor.carry("PARTIAL_25") == ("SELL 0.004" if settled else "p33_denied:cooldown_in_flight")


def test_x23_an_unknown_status_denies_until_the_exchange_names_one_that_is_known(floor: Floor) -> None:
    """However often it is asked, and after a restart; the day it says EXPIRED the symbol is free."""
    floor.opened()
    floor.sim.set_liquidity("BTCUSDT", "0.004")
    floor.sim.fault("odd_status", "order", times=None, value="EXPIRED_IN_HEAVEN")
    floor.carry()
    for _ in range(2):
        floor.restart().clerk.step()
        floor.see_order()
        assert floor.carry() == "p33_denied:cooldown_in_flight"
    floor.sim.clear()
    floor.restart().clerk.step()
    floor.see_order()
    assert floor.carry("CLOSE_FULL") == "SELL 0.034" and floor.accounts() == ("0", "0")


def told_a_week_ago(floor: Floor, number: int, order: Order) -> None:
    """A result of the time when no sidecar was there, at its place in the stream."""
    step = {"step": "CLOSE_PARTIAL_25", "status": "success", "order_id": str(order.order_id), "side": order.side,
            "executed_qty": text(order.executed_qty), "reduce_only": True}
    floor.redis.xadd(RESULTS, {
        "plan_id": f"old{number}", "symbol": "BTCUSDT", "decision": "EXECUTE", "executed": "True",
        "would_execute": "False", "steps_results": msgspec.json.encode([step]), "error": ""},
        id=f"{floor.world.clock.now_ms() - WEEK_MS + number}-0")


def test_t08_first_start_beside_a_running_stack(floor: Floor) -> None:
    """Fifty orders of the last week brought 0.088 to 0.038: the book opens there, and the first close plan is carried.

    An order older than the opening that is told once more, late, books nothing either.
    """
    floor.sim.set_position("BTCUSDT", "0.088")
    old = [floor.sim.set_position("BTCUSDT", str(Decimal(87 - n) / 1000)) for n in range(OLD_ORDERS)]
    for number, order in enumerate(old):
        told_a_week_ago(floor, number, order)
    floor.opened()
    assert floor.accounts() == ("0.038", "0.038")
    assert [entry["cause"] for entry in floor.world.records(keys.JOURNAL)] == ["contained"] * OLD_ORDERS + ["opening"]
    floor.world.result("old7", qty="0.001", order_id=str(old[7].order_id))
    floor.world.book()
    assert floor.carry() == "SELL 0.028" and floor.accounts() == ("0.01", "0.01")
