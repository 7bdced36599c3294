"""One plan, from its entry to its one result: what is ordered, what is said, what is left alone."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest

from p33_sidecar.apply.intent import OrderIntent
from p33_sidecar.apply.results import Outcome, error_of, not_sent
from p33_sidecar.core.reasons import Refusal
from p33_sidecar.store import keys
from tests.apply.shop import Shop, until
from tests.gate.sidecar import PLAN, SYMBOL


def test_i10_the_order_is_the_permits_reduce_only_and_named_after_the_plan(shop: Shop):
    """I10, I56: MARKET, reduceOnly, the permit's 0.028 and nothing else, `p33-<plan_id>`; one result says the same."""
    shop.applier().handle(shop.allowed())
    (order,) = shop.exchange.orders
    assert (order.type, order.side, order.qty, order.reduce_only) == ("MARKET", "SELL", Decimal("0.028"), True)
    assert order.client_order_id == f"p33-{PLAN}"
    result = shop.only_result()
    assert (result.decision, result.executed, result.error) == ("EXECUTE", "True", "")
    assert result.step == {
        "step": "PARTIAL_75", "status": "success", "side": "SELL", "quantity": "0.028", "reduce_only": True,
        "client_order_id": f"p33-{PLAN}", "order_id": str(order.order_id), "executed_qty": "0.028",
        "order_status": "FILLED"}
    assert shop.exchange.position_amt(SYMBOL) == Decimal("0.010") and not shop.intents()


def test_a_plan_read_again_for_a_symbol_that_is_not_listed_gets_its_answer(shop: Shop):
    """A canary that was waiting when the Apply Layer was killed: the exchange refuses to look for its order."""
    shop.applier().handle(shop.publish("canary-1", "P33CANARY", "P33_CANARY", again=True))
    result = shop.only_result()
    assert (result.decision, result.step["refusal"]) == ("BLOCKED", "missing_governor_permit") and not shop.sends()


def test_a_plan_id_the_exchange_would_refuse_is_hashed(shop: Shop):
    """`p33-` and the first 32 hex digits of SHA-256(plan_id)."""
    plan_id = "close#" + "x" * 100
    shop.applier().handle(shop.allowed(plan_id))
    (order,) = shop.exchange.orders
    assert order.client_order_id == "p33-" + hashlib.sha256(plan_id.encode()).hexdigest()[:32]


def test_i08_nothing_below_one_step_is_ever_ordered(shop: Shop):
    """I08: a permit that says quantity 0, properly signed, does not fall back to the plan's: nothing is sent."""
    entry = shop.publish(close_qty="0.038")
    shop.hand.govern()
    raw = shop.hand.verdict().partition(b',"sig"')[0] + b"}"
    forged = raw.replace(b'"safe_close_qty":0.028', b'"safe_close_qty":0')
    assert forged != raw
    shop.hand.allow()
    shop.redis.set(keys.permit(PLAN), shop.hand.signed(forged))
    shop.applier().handle(entry)
    assert shop.only_result().step["refusal"] == "invalid_quantity" and not shop.sends()


REFUSALS = (
    ("missing_governor_permit", "missing_permit_or_redis", lambda s: s.redis.delete(keys.governor_permit(PLAN))),
    ("governor_denied", "missing_permit_or_redis", lambda s: s.hand.govern(value='{"granted":false}')),
    ("missing_p33_permit", "missing_or_denied_p33_permit", lambda s: s.redis.delete(keys.permit(PLAN))),
    ("p33_denied:unsupported_action", "missing_or_denied_p33_permit", lambda s: s.hand.deny()),
    ("forged_permit", "missing_or_denied_p33_permit",
     lambda s: s.redis.set(keys.permit(PLAN), s.hand.verdict()[:-9] + b'00000000"}')),
    ("halted", "missing_or_denied_p33_permit", lambda s: s.redis.set(keys.HALT, "1")),
    ("facts_changed", "missing_or_denied_p33_permit", lambda s: s.hand.snapshot(amt="0.010")),
)


@pytest.mark.parametrize(("refusal", "error", "spoil"), REFUSALS, ids=[name for name, _, _ in REFUSALS])
@pytest.mark.parametrize("dry_run", [False, True], ids=["testnet", "dry_run"])
def test_any_refusal_blocks_the_order(shop: Shop, refusal: str, error: str, spoil, dry_run: bool):
    """BLOCKED, executed False, the contract's error, and the refusal in the step; nothing sent, nothing taken."""
    entry = shop.allowed()
    spoil(shop)
    shop.applier(dry_run=dry_run).handle(entry)
    result = shop.only_result()
    assert (result.decision, result.executed, result.error) == ("BLOCKED", "False", error)
    assert (result.step["status"], result.step["refusal"]) == ("blocked", refusal)
    assert not shop.sends() and not shop.redis.exists(keys.taken(PLAN))
    assert shop.counted.seen[f"refused {refusal}"] == 1


@pytest.mark.parametrize("refusal", Refusal)
def test_the_error_says_whose_permit_it_was(refusal: Refusal):
    """`missing_permit_or_redis` for the Governor's and for Redis, else `missing_or_denied_p33_permit`."""
    governors = {"redis_unavailable", "missing_governor_permit", "governor_denied"}
    expected = "missing_permit_or_redis" if refusal in governors else "missing_or_denied_p33_permit"
    assert error_of(refusal) == expected


def test_t11_a_permit_of_another_exchange_orders_nothing(shop: Shop):
    """T11: the sidecar looks at one exchange, we would order at another."""
    entry = shop.publish()
    shop.hand.venue = "testnet.binancefuture.com"
    shop.hand.govern()
    shop.hand.allow()
    shop.applier().handle(entry)
    assert shop.only_result().step["refusal"] == "venue_mismatch" and not shop.sends()
    assert shop.hand.both_there()


def test_t17_an_old_plan_is_answered_at_once(shop: Shop):
    """T17: over its age it is BLOCKED `plan_expired` without a look at its permits, though they could be taken."""
    entry = shop.publish(timestamp=str(shop.hand.now_ms() // 1000 - 61))
    shop.hand.govern()
    shop.hand.allow()
    shop.applier(wait_ms=60_000).handle(entry)
    result = shop.only_result()
    assert (result.decision, result.step["refusal"]) == ("BLOCKED", "plan_expired")
    assert result.error == "missing_or_denied_p33_permit" and shop.hand.both_there()


def test_t01_the_second_layer_is_told_and_writes_no_result(shop: Shop):
    """T01: A took and does not know what became of its order; B hears `already_consumed` and says nothing."""
    entry = shop.allowed()
    shop.exchange.fault("drop", "POST order", executed=True)
    shop.applier(instance="a").handle(entry)
    assert not shop.results() and shop.intents() == 1
    shop.applier(instance="b").handle(entry)
    assert not shop.results() and shop.sends() == 1
    assert shop.counted.seen["plan already_consumed"] == 1


def test_t05_a_process_that_wakes_after_the_permits_end_sends_nothing(shop: Shop):
    """T05: taken, then stopped until the permit has expired: `order_not_sent`."""
    applier, sleeper = shop.applier(), shop.applier()
    permits: list[int] = []

    class Sleeps:
        """Between the taking and the send it sleeps past the end."""

        possible = True

        def send(self, intent: OrderIntent) -> Outcome | None:
            permits.append(intent.expires_ms)
            until(lambda: shop.hand.now_ms() >= intent.expires_ms)
            return sleeper.orders.send(intent)

    applier.orders = Sleeps()
    applier.handle(shop.allowed(life_ms=3_000))
    result = shop.only_result()
    assert not shop.sends()
    if permits:  # else the machine was too slow even to take it
        assert (result.error, result.step["detail"]) == ("order_not_sent", "too late") and not shop.intents()


def test_t05_at_the_end_itself_it_is_too_late(shop: Shop):
    """`expires_ms` belongs to the time after: the last look refuses."""
    orders, _ = shop.orders(shop.store())
    assert orders.send(shop.intend(expires_in_ms=0)) == not_sent("too late")
    assert not shop.sends()


@pytest.mark.parametrize("offset_ms", [40_000, -40_000])
def test_t13_an_exchange_whose_clock_disagrees_gets_one_order(shop: Shop, offset_ms: int):
    """T13: 40 s apart: refused (-1021), measured, sent once more with the time of the first; one order comes of it."""
    shop.exchange.set_clock_offset(offset_ms)
    shop.applier().handle(shop.allowed())
    assert shop.only_result().executed == "True"
    assert (len(shop.exchange.orders), shop.sends()) == (1, 2)


def test_t13_the_end_is_judged_by_redis_not_by_a_slow_host(shop: Shop):
    """T13: our own clock is an hour behind; the permit has ended by the server's: nothing is sent."""
    orders, _ = shop.orders(shop.store())
    orders._clock.sync(shop.hand.now_ms() - 3_600_000)
    assert orders.send(shop.intend(expires_in_ms=0)) == not_sent("too late")
    assert not shop.sends()


def test_a_definite_rejection_ends_it(shop: Shop):
    """`order_rejected` with the code, one try."""
    shop.exchange.fault("reject", "POST order", times=None, code=-2022, msg="ReduceOnly Order is rejected.")
    shop.applier().handle(shop.allowed())
    result = shop.only_result()
    assert (result.executed, result.error, result.step["status"]) == ("False", "order_rejected", "failed")
    assert result.step["detail"].startswith("-2022") and shop.sends() == 1 and not shop.intents()


def test_a_definite_failure_of_the_exchange_is_not_sent(shop: Shop):
    """503 with the text that says it was not executed: `order_not_sent`, one try."""
    shop.exchange.fault("http_503_b", "POST order", times=None)
    shop.applier().handle(shop.allowed())
    assert shop.only_result().error == "order_not_sent" and shop.sends() == 1


def test_a_partial_fill_that_ended_is_reported_as_what_it_is(shop: Shop):
    """The exchange had only 0.004: the rest expired; the result is a fill of 0.004, final."""
    shop.exchange.set_liquidity(SYMBOL, "0.004")
    shop.applier().handle(shop.allowed())
    step = shop.only_result().step
    assert (step["status"], step["executed_qty"], step["quantity"]) == ("success", "0.004", "0.028")


def test_dry_run_says_what_it_would_do_and_takes_nothing(shop: Shop):
    """`would_execute=True`; both permits stay, and no request for an order is made."""
    shop.applier(dry_run=True).handle(shop.allowed())
    result = shop.only_result()
    assert (result.decision, result.executed, result.would_execute) == ("EXECUTE", "False", "True")
    assert (result.step["status"], result.step["quantity"]) == ("dry_run", "0.028")
    assert shop.hand.both_there() and not shop.sends() and not shop.redis.exists(keys.TAKINGS, keys.taken(PLAN))


def test_without_credentials_nothing_is_taken(shop: Shop):
    """A permit that nobody could use stays where it is."""
    shop.applier(configured=False).handle(shop.allowed())
    result = shop.only_result()
    assert (result.decision, result.error) == ("BLOCKED", "order_not_sent")
    assert result.step["refusal"] == "exchange_unconfigured" and shop.hand.both_there()


def test_an_entry_that_has_its_result_is_passed_over(shop: Shop):
    """Handed out again after its answer: no second result, whatever is there to take by now."""
    entry = shop.publish()
    shop.applier().handle(entry)
    assert shop.only_result().decision == "BLOCKED"
    shop.hand.govern()
    shop.hand.allow()
    shop.applier().handle(entry)
    assert len(shop.results()) == 1 and not shop.sends() and shop.hand.both_there()
