"""What fills, told late, in part or not at all, mean for the next verdict: a sidecar's loops on a real server."""

from __future__ import annotations

from decimal import Decimal

import pytest

from p33_sidecar.exchange import OrderState
from p33_sidecar.store import keys
from tests.service.world import World


def reply(world: World, amt: str) -> None:
    """The exchange shows this amount from now on."""
    world.exchange.amounts["BTCUSDT"] = amt
    world.poll()


def exchange_says(world: World, qty: str, status: str, *, terminal: bool = True) -> None:
    world.exchange.orders["8389765"] = OrderState(
        "BTCUSDT", "8389765", "p33-x", status, "SELL", Decimal(qty), True, terminal, terminal, world.clock.now_ms())


@pytest.mark.parametrize(("told", "booked"), [
    ({"status": "NEW", "qty": "0"}, "0.038"), ({"status": "PARTIALLY_FILLED", "qty": "0.004"}, "0.034"),
    ({"status": "SOMETHING_NEW", "qty": "0.004"}, "0.034"), ({"status": "success", "qty": "0"}, "0.038"),
], ids=["I30", "T21", "X23", "no quantity"])
def test_i30_t21_x23_an_open_order_denies_until_its_fate_is_known(ready: World, told: dict, booked: str) -> None:
    """`cooldown_in_flight` however long the cooldown is over, also after a restart; the final total frees it."""
    ready.result("foreign", **told)
    ready.book()
    reply(ready, booked)
    assert ready.ledger()["last_known_amt"] == booked
    assert ready.ask() == "cooldown_in_flight"
    exchange_says(ready, told["qty"], "NEW", terminal=False)
    ready.clerk.step()
    reply(ready, booked)
    assert ready.ask() == "cooldown_in_flight"
    second = World(ready.redis_url).start_again()
    exchange_says(second, "0.010", "EXPIRED_IN_MATCH")
    second.clerk.step()
    second.book()
    assert second.ledger()["last_known_amt"] == "0.028"
    second.exchange.amounts["BTCUSDT"] = "0.028"
    assert second.ask_settled("FULL_CLOSE_PROPOSED") == "ALLOW 0.028"
    second.close()


def test_t14_a_result_written_but_not_booked_is_waited_for(ready: World) -> None:
    """0 result written, 1 close plan read: never allowed on the old amount, whether it is booked in time or not."""
    ready.result("foreign", qty="0.010")
    assert ready.ask() == "cooldown_in_flight"
    plan = ready.publish()
    ready.result("foreign2", qty="0.010", order_id="2")
    ready.desk.step(block_ms=1)
    ready.book()
    ready.decide()
    assert ready.verdict(plan) in ("cooldown_in_flight", "reconcile_required_qty_mismatch")


def test_t14_a_result_of_another_symbol_is_not_waited_for(ready: World) -> None:
    """Only what names the plan's symbol or plan, or names none, can matter to it."""
    ready.result("foreign", symbol="ETHUSDT")
    assert ready.ask() == "ALLOW 0.028"


def test_t20_a_fill_that_the_exchange_shows_first_is_no_mismatch(ready: World) -> None:
    """1,000 filled · 1,500 poll shows it · 2,000 result: nothing is counted, nothing journalled but the fill."""
    reply(ready, "0.010")
    ready.result("foreign")
    ready.book()
    for _ in range(3):
        reply(ready, "0.010")
    assert ready.redis.hlen(keys.MISMATCHES) == 0
    assert [event for event in ready.records(keys.EVENTS) if event["kind"] == "mismatch"] == []
    assert not [seen for seen in ready.hooks.seen if seen[0] == "mismatch"]
    assert [entry["cause"] for entry in ready.records(keys.JOURNAL)] == ["opening", "fill"]
    assert ready.ask_settled("FULL_CLOSE_PROPOSED") == "ALLOW 0.01"


def test_t08_first_start_beside_a_running_stack(world: World) -> None:
    """A week of results in the stream, exchange 0.038: opening 0.038 and the first close plan is allowed."""
    for number in range(50):
        world.result(f"old{number}", order_id=str(number), qty="0.001")
    world.open_books()
    assert world.ledger()["last_known_amt"] == "0.038"
    assert [entry["cause"] for entry in world.records(keys.JOURNAL)] == ["contained"] * 50 + ["opening"]
    assert world.ask() == "ALLOW 0.028"


def test_i31_without_a_ledger_nothing_is_allowed(redis_url: str) -> None:
    """P33_LEDGER_BOOTSTRAP=deny: `ledger_missing`, also after a fill."""
    world = World(redis_url, adopt=False).open_books()
    assert world.ask() == "ledger_missing"
    world.result("foreign", qty="0.010")
    world.book()
    world.exchange.amounts["BTCUSDT"] = "0.028"
    world.poll()
    assert world.ask() == "ledger_missing"
    assert world.ledger() == {}
    world.close()


def test_i36_a_deleted_hash_is_no_doubt_and_a_changed_one_is(ready: World) -> None:
    """The hash is a view: without it the book decides; with another amount in it somebody has to look."""
    ready.redis.delete(keys.ledger("BTCUSDT"))
    first = ready.publish()
    ready.decide()
    assert ready.verdict(first) == "ALLOW 0.028"
    ready.redis.hset(keys.ledger("BTCUSDT"), "last_known_amt", "0.040")
    ready.result(first, order_id="3")
    ready.book()
    reply(ready, "0.010")
    ready.redis.hset(keys.ledger("BTCUSDT"), "last_known_amt", "0.040")
    assert ready.ask() == "ledger_tampered"


def test_i34_the_cooldown_runs_from_the_last_order_only(ready: World) -> None:
    """Redelivered results and rebuilt hashes leave the last order where it was."""
    ready.result("foreign", qty="0.010")
    ready.book()
    before = ready.ledger()["last_order_time_ms"]
    for _ in range(5):
        ready.result("foreign", qty="0.010")
        ready.redis.delete(keys.ledger("BTCUSDT"))
        ready.memory.reread_books.set()
        ready.book()
    assert ready.redis.hget(keys.book("BTCUSDT"), "last_order_ms") == before
    ready.exchange.amounts["BTCUSDT"] = "0.028"
    assert ready.ask_settled("FULL_CLOSE_PROPOSED") == "ALLOW 0.028"
