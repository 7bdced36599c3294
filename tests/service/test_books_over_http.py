"""Incidents of the book: what our orders add up to, tried with orders that the exchange really executed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from p33_sidecar.errors import ExchangeRejected
from p33_sidecar.store import keys
from tests.cli.conftest import Tool, environment
from tests.service.over_http import PATIENT, Floor, under
from tests.service.world import RESULTS


def operator(floor: Floor) -> Tool:
    """`p33` as an operator types it, under the thresholds of these tests."""
    return Tool(**environment(floor.url, P33_COOLDOWN_SEC="0", P33_POLL_SEC="3600", P33_STALE_THRESHOLD_SEC="3600",
                              EXCHANGE_URL=floor.sim.url))


# -- each fill once -----------------------------------------------------------------------------------------------


def test_i29_a_result_told_again_and_again_books_once(floor: Floor) -> None:
    """By five polls of its producer, and again after a restart: 0.038 becomes 0.010, and the cooldown has one start."""
    floor.opened()
    assert floor.carry() == "SELL 0.028"
    ((_, result),) = floor.redis.xrange(RESULTS)
    since = floor.world.ledger()["last_order_time_ms"]
    for life in range(2):
        for _ in range(5):
            floor.redis.xadd(RESULTS, result)
            floor.world.poll()
        assert floor.accounts() == ("0.01", "0.01") and floor.world.ledger()["last_order_time_ms"] == since, life
        floor.restart()
    assert [entry["cause"] for entry in floor.world.records(keys.JOURNAL)] == ["opening", "fill"]
    floor.see_order()
    assert floor.carry("CLOSE_FULL") == "SELL 0.01" and floor.accounts() == ("0", "0")


Step = Callable[[Floor, int], dict]


def sold(floor: Floor, number: int) -> dict:
    """A step whose order the exchange fills: 0.010."""
    state = floor.world.exchange.close_market(
        "BTCUSDT", side="SELL", quantity=Decimal("0.010"), client_order_id=f"other-{number}", recv_window_ms=5000,
        timestamp_ms=floor.world.clock.now_ms())
    return {"step": f"CLOSE_{number}", "status": "success", "order_id": state.order_id, "side": "SELL",
            "executed_qty": str(state.executed_qty), "reduce_only": True}


def refused(floor: Floor, number: int) -> dict:
    """A step whose order the exchange does not take: reduce-only, on the wrong side."""
    with pytest.raises(ExchangeRejected):
        floor.world.exchange.close_market(
            "BTCUSDT", side="BUY", quantity=Decimal("0.010"), client_order_id=f"other-{number}", recv_window_ms=5000,
            timestamp_ms=floor.world.clock.now_ms())
    return {"step": f"CLOSE_{number}", "status": "failed", "side": "BUY", "quantity": "0.010", "executed_qty": "0.010"}


def forgotten(floor: Floor, number: int) -> dict:
    """A step that its producer never had."""
    return {"step": f"CLOSE_{number}", "status": "not_implemented", "side": "SELL", "executed_qty": "0.010"}


@pytest.mark.parametrize(("steps", "left"), [
    ((sold, refused), "0.028"), ((refused, sold), "0.028"), ((sold, forgotten, sold), "0.018"),
    ((refused, refused), "0.038"), ((forgotten,), "0.038"),
])
def test_i39_a_result_is_what_its_steps_did(floor: Floor, steps: tuple[Step, ...], left: str) -> None:
    """All of them say executed: the book is what the exchange has, wherever among the steps the fills are."""
    floor.opened()
    told = [step(floor, number) for number, step in enumerate(steps)]
    floor.redis.xadd(RESULTS, {"plan_id": "other", "symbol": "BTCUSDT", "decision": "EXECUTE", "executed": "True",
                               "steps_results": msgspec.json.encode(told).decode(), "error": ""})
    floor.world.book()
    assert floor.accounts() == (left, left)
    floor.see_order()
    assert floor.carry("CLOSE_FULL") == f"SELL {left}"


# -- no book ------------------------------------------------------------------------------------------------------


def test_i31_without_a_book_nothing_is_closed(redis_url: str, sim) -> None:
    """P33_LEDGER_BOOTSTRAP=deny: denied before and after a fill, and allowed once a person has adopted the amount."""
    floor = Floor(redis_url, sim, adopt=False).opened()
    assert floor.carry() == "p33_denied:ledger_missing"
    sold(floor, 1)
    floor.world.poll()
    assert floor.carry() == "p33_denied:ledger_missing" and floor.orders() == []
    assert operator(floor)("ledger", "adopt", "BTCUSDT", "--reason", "first start").code == 0
    floor.world.book()
    assert floor.carry("CLOSE_FULL") == "SELL 0.028" and floor.accounts() == ("0", "0")
    floor.close()


def test_i31_a_book_is_opened_by_two_replies_that_agree(floor: Floor) -> None:
    """While the exchange says one thing and then another there is none; afterwards one close follows the other."""
    world, sim = floor.world, floor.sim
    world.clerk.step()
    world.book()
    for amt in ("0.038", "0.050", "0.044"):
        sim.set_position("BTCUSDT", amt)
        world.poll()
        assert floor.carry() == "p33_denied:ledger_missing"
    floor.opened()
    (opening,) = world.records(keys.JOURNAL)
    assert (opening["cause"], opening["amt_after"], floor.accounts()) == ("opening", "0.044", ("0.044", "0.044"))
    assert floor.carry("PARTIAL_50") == "SELL 0.022"
    floor.see_order()
    assert floor.carry("CLOSE_FULL") == "SELL 0.022" and floor.accounts() == ("0", "0")


# -- what is no order ---------------------------------------------------------------------------------------------


def test_i34_only_an_order_starts_the_cooldown(floor: Floor) -> None:
    """Polls, a hash rewritten by somebody's sync job and the operator's own adoptions leave its start where it was."""
    floor.opened(BTCUSDT="0.100")
    assert floor.carry("PARTIAL_50") == "SELL 0.05"
    floor.see_order()
    since = floor.world.ledger()["last_order_time_ms"]
    for amt in ("0.060", "0.070", "0.080"):
        floor.sim.set_position("BTCUSDT", amt)
        floor.redis.hset(keys.ledger("BTCUSDT"), mapping={
            "last_known_amt": amt, "last_order_time_ms": str(floor.world.clock.now_ms())})
        floor.world.poll()
        assert floor.carry() == "p33_denied:ledger_tampered"
        said = operator(floor)("ledger", "adopt", "BTCUSDT", "--reason", "by hand")
        assert (said.code, floor.world.ledger()["last_order_time_ms"]) == (0, since), said
        floor.world.book()
    age_ms = floor.world.clock.now_ms() - int(since)
    under(floor.world, msgspec.structs.replace(PATIENT, cooldown_ms=age_ms))
    assert floor.carry("PARTIAL_50") == "SELL 0.04" and floor.accounts() == ("0.04", "0.04")


# -- what disagrees -----------------------------------------------------------------------------------------------


def test_i44_a_mismatch_is_one_incident_and_has_a_way_out(floor: Floor, caplog: pytest.LogCaptureFixture) -> None:
    """Traded by hand: each plan is denied, one opening and one line of log; a hold denies, too; adopting ends it."""
    floor.opened()
    floor.sim.set_position("BTCUSDT", "0.050")
    for _ in range(5):
        floor.world.poll()
        assert floor.carry() == "p33_denied:reconcile_required_qty_mismatch"
    floor.redis.set(keys.hold("BTCUSDT"), "1")
    assert floor.carry() == "reconcile_hold_active"
    assert operator(floor)("ledger", "adopt", "BTCUSDT", "--reason", "by hand").code == 0
    floor.redis.delete(keys.hold("BTCUSDT"))
    floor.world.keeper.views._round_ms = 0
    floor.see(lambda: len(floor.events("mismatch")) > 1)
    assert floor.carry("CLOSE_FULL") == "SELL 0.05" and floor.accounts() == ("0", "0")
    opened, ended = floor.events("mismatch")
    assert (opened["state"], ended["state"]) == ("opened", "closed") and ended["duration_ms"] >= 0
    assert [record.getMessage() for record in caplog.records].count("mismatch.opened") == 1
    assert len(floor.orders()) == 1


def lost(floor: Floor) -> None:
    """Results that were trimmed away before anybody read them."""
    for number in range(5):
        floor.world.result(f"e{number}", symbol="ETHUSDT", order_id=str(number))
    floor.redis.xtrim(RESULTS, maxlen=0, approximate=False)
    floor.world.book()


def test_i50_a_gap_denies_until_the_exchange_confirms_the_book(floor: Floor) -> None:
    """What was lost was not ours: one event, denied by name, and allowed with the first reply asked for after it."""
    floor.opened()
    lost(floor)
    assert floor.carry() == "p33_denied:ledger_gap" and floor.orders() == []
    (gap,) = floor.events("gap")
    assert (gap["what"], gap["missing"]) == ("trimmed", 5)
    floor.see(lambda: not floor.world.memory.books["BTCUSDT"].line.gap_since(floor.world.memory.gap_ms))
    assert floor.carry() == "SELL 0.028" and floor.accounts() == ("0.01", "0.01")


def test_i50_a_fill_that_was_lost_denies_until_a_person_settles_it(floor: Floor) -> None:
    """What was lost was an order of ours: no reply of the exchange makes the old book right."""
    floor.opened()
    sold(floor, 1)
    lost(floor)
    asked_ms = floor.world.memory.gap_ms
    floor.see(lambda: floor.world.memory.last_good_poll.requested_ms > asked_ms)
    assert floor.carry() == "p33_denied:ledger_gap" and floor.accounts() == ("0.038", "0.028")
    assert operator(floor)("ledger", "adopt", "BTCUSDT", "--reason", "results lost").code == 0
    floor.world.book()
    assert floor.carry("CLOSE_FULL") == "SELL 0.028" and floor.accounts() == ("0", "0")
