"""The incidents and timelines that end at the desk, told with its loops on a real server.

What must be long ago is made so by thresholds, never by waiting: a cooldown of an hour holds, one of nothing is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from p33_sidecar.core.model import Filters, Policy
from p33_sidecar.service.status import status
from p33_sidecar.store import keys
from tests.service.world import PLANS, World

DURING = Policy(cooldown_ms=3_600_000, poll_ms=500)
AFTER = Policy(cooldown_ms=0, poll_ms=500)
PATIENCE_S = 30


def _under(world: World, policy: Policy) -> None:
    """From here on these thresholds hold."""
    world.memory.policy = world.desk.store._policy = policy


def _opened_at(url: str, amounts: dict[str, str], *, filters: tuple[Filters, ...] = ()) -> World:
    """A world whose books were adopted at these amounts."""
    world = World(url, allowlist=frozenset(amounts))
    world.exchange.amounts = dict(amounts)
    world.exchange.lot_rules |= {f.symbol: f for f in filters}
    return world.open_books()


@pytest.fixture
def filled(ready: World) -> Iterator[World]:
    """0.028 of 0.038 were just closed, the exchange shows it, and the cooldown runs."""
    plan = ready.publish()
    ready.decide()
    ready.result(plan)
    ready.exchange.amounts["BTCUSDT"] = "0.010"
    ready.poll()
    _under(ready, DURING)
    yield ready


def test_i14_denied_in_the_cooldown_and_allowed_after_it(filled: World) -> None:
    """The same plan published again is judged afresh; after its ALLOW a third publication changes nothing."""
    ahead = f"{filled.clock.now_ms() / 1000 + 0.9:.3f}"
    plan = filled.publish("CLOSE_FULL", timestamp=ahead)
    filled.decide()
    assert filled.verdict(plan) == "cooldown_in_flight"
    _under(filled, AFTER)
    filled.poll()
    filled.publish("CLOSE_FULL", plan_id=plan, timestamp=ahead)
    filled.decide()
    assert filled.verdict(plan) == "ALLOW 0.01"
    before = filled.redis.get(keys.permit(plan))
    filled.publish("CLOSE_FULL", plan_id=plan, timestamp=ahead)
    filled.decide()
    assert filled.redis.get(keys.permit(plan)) == before and filled.redis.xlen(keys.DECISIONS) == 3
    assert ("republished",) in filled.hooks.seen


def test_t15_second_verdict_replaces_the_first_and_says_when(filled: World) -> None:
    """What lies at the permit's key after a republication is the new verdict: another nonce, issued no earlier."""
    plan = filled.publish("CLOSE_FULL", timestamp="")
    filled.decide()
    denied = filled.permit(plan)
    _under(filled, AFTER)
    filled.poll()
    filled.publish("CLOSE_FULL", plan_id=plan, timestamp="")
    filled.decide()
    allowed = filled.permit(plan)
    assert (denied["allow"], allowed["allow"]) == (False, True)
    assert denied["nonce"] != allowed["nonce"] and denied["issued_ms"] <= allowed["issued_ms"]


def test_i44_mismatch_denies_each_plan_and_is_one_incident_with_a_way_out(ready: World) -> None:
    """Five plans, five denials, one opening event; when the accounts agree again: one closing event, and an ALLOW."""
    ready.exchange.amounts["BTCUSDT"] = "0.010"
    ready.poll()
    for _ in range(5):
        ready.poll()
        assert ready.ask() == "reconcile_required_qty_mismatch"
    ready.exchange.amounts["BTCUSDT"] = "0.038"
    for _ in range(3):
        ready.poll()
    assert ready.ask() == "ALLOW 0.028"
    events = [e for e in ready.records(keys.EVENTS) if e["kind"] == "mismatch"]
    assert [e["state"] for e in events] == ["opened", "closed"] and events[1]["duration_ms"] >= 0


def test_i44_mismatch_of_a_symbol_that_leaves_the_scope_is_closed_too(redis_url: str) -> None:
    """Off the list, closed at the exchange, then in the book: the symbol has left the scope."""
    world = World(redis_url)
    world.exchange.amounts["ETHUSDT"] = "1"
    world.open_books()
    world.exchange.amounts["ETHUSDT"] = "0"
    world.poll()
    world.poll()
    assert list(world.memory.mismatches) == ["ETHUSDT"]
    world.result("elsewhere", symbol="ETHUSDT", qty="1")
    for _ in range(3):
        world.poll()
    assert "ETHUSDT" not in world.memory.scope and world.memory.mismatches == {}
    events = [e for e in world.records(keys.EVENTS) if e["kind"] == "mismatch"]
    assert [(e["symbol"], e["state"]) for e in events] == [("ETHUSDT", "opened"), ("ETHUSDT", "closed")]
    world.close()


@pytest.mark.parametrize("noted", ["{", "[1]", "null", '{"opened_ms":"soon"}', '{"opened_ms":null}',
                                   '{"opened_ms":1.5}', '{"since_ms":"soon"}'])
def test_i44_an_incident_of_which_nothing_can_be_read_is_open_and_is_closed(redis_url: str, noted: str) -> None:
    """Whatever somebody noted for it: it ends when the accounts agree, and no poll fails by it."""
    _opened_at(redis_url, {"BTCUSDT": "0.038"}).close()
    world = World(redis_url)
    world.redis.hset(keys.MISMATCHES, "BTCUSDT", noted)
    world.start_again()
    assert list(world.memory.mismatches) == ["BTCUSDT"] and status(world.memory, world.clock)["symbols"]
    world.poll()
    assert world.memory.mismatches == {} and not world.redis.exists(keys.MISMATCHES)
    world.close()


def test_i53_quantity_is_floored_to_the_exchanges_step(redis_url: str) -> None:
    """Steps come from the exchange: 0.038 x 75 % -> 0.028; 123.9 x 50 % at step 1 -> 61; no step, no ALLOW."""
    world = _opened_at(redis_url, {"BTCUSDT": "0.038", "TRXUSDT": "123.9", "NEWUSDT": "5"})
    assert world.ask("PARTIAL_75") == "ALLOW 0.028"
    assert world.ask("PARTIAL_50", symbol="TRXUSDT") == "ALLOW 61"
    assert world.ask("CLOSE_FULL", symbol="NEWUSDT") == "no_symbol_filters"
    assert "NEWUSDT" in world.memory.unknown_symbols
    world.close()


@pytest.mark.parametrize(("book", "verdict"), [("0.0495", "ALLOW 0.05"), ("0.0494", "reconcile_required_qty_mismatch")])
def test_i54_one_per_cent_of_the_exchange_exactly(redis_url: str, book: str, verdict: str) -> None:
    """0.0495 against 0.0500 is 1 % and passes; a step less does not."""
    world = _opened_at(redis_url, {"BTCUSDT": book})
    world.exchange.amounts["BTCUSDT"] = "0.0500"
    world.poll()
    assert world.ask("CLOSE_FULL") == verdict
    world.close()


def test_i57_snapshot_older_than_the_last_order_denies(ready: World) -> None:
    """Both look right and agree, but the snapshot was asked for before the order."""
    ready.exchange.amounts["BTCUSDT"] = "0.010"
    ready.poll()
    ready.result("elsewhere")
    ready.book()
    assert ready.ledger()["last_known_amt"] == "0.01"
    plan = ready.publish("CLOSE_FULL", timestamp="")
    ready.decide()
    permit = ready.permit(plan)
    assert (permit["reason"], permit["details"]["value"]) == ("cooldown_in_flight", "snapshot_not_newer")
    ready.poll()
    assert ready.ask("CLOSE_FULL", timestamp="") == "ALLOW 0.01"


def test_x20_dust_has_a_named_reason_each_time(redis_url: str) -> None:
    """Above the step and below the minimum: never closable, and said so as often as asked."""
    dust = Filters("BTCUSDT", "TRADING", Decimal("0.0001"), Decimal("0.001"), Decimal(120))
    world = _opened_at(redis_url, {"BTCUSDT": "0.0005"}, filters=(dust,))
    assert [world.ask("CLOSE_FULL"), world.ask("CLOSE_FULL")] == ["qty_below_min", "qty_below_min"]
    world.close()


def test_t09_plan_decided_before_the_last_order_is_superseded(redis_url: str) -> None:
    """A and B want 75 % of 0.100. A fills; B, published again as it was, does not get another 75 %."""
    world = _opened_at(redis_url, {"BTCUSDT": "0.100"})
    then = f"{world.clock.now_ms() / 1000 - 2:.3f}"
    first, second = world.publish(timestamp=then), world.publish(timestamp=then)
    world.decide()
    assert [world.verdict(first), world.verdict(second)] == ["ALLOW 0.075", "permit_outstanding"]
    world.result(first, qty="0.075")
    world.exchange.amounts["BTCUSDT"] = "0.025"
    world.poll()
    world.publish(plan_id=second, timestamp=then)
    world.decide()
    assert world.verdict(second) == "plan_superseded"
    world.close()


# -- the stream and its group -----------------------------------------------------------------------------------


def test_i49_entries_of_a_dead_consumer_are_claimed_after_30_s(ready: World) -> None:
    """Delivered to somebody who is gone: left alone at 20 s, answered at 31 s, once."""
    ready.decide()
    young, old = ready.publish("CLOSE_FULL"), ready.publish("PARTIAL_50")
    (_, entries), = ready.redis.xreadgroup("p33", "dead", {PLANS: ">"})
    for (entry_id, _), idle_ms in zip(entries, (20_000, 31_000), strict=True):
        ready.redis.xclaim(PLANS, "p33", "dead", 0, [entry_id], idle=idle_ms)
    ready.desk._claimed_ms = 0
    ready.decide()
    assert [ready.verdict(young), ready.verdict(old)] == ["NONE", "ALLOW 0.019"]
    assert [entry["consumer"] for entry in ready.redis.xpending_range(PLANS, "p33", "-", "+", 10)] == ["dead"]


@pytest.mark.parametrize("what", ["stream", "group"])
def test_operators_del_while_the_desk_waits_is_survived(ready: World, what: str) -> None:
    """It wakes from its wait, makes the group anew, and the next plan has its verdict."""
    ready.decide()
    waiting = threading.Thread(target=lambda: ready.desk.step(block_ms=4000))
    waiting.start()
    while not any(client["cmd"] == "xreadgroup" and "b" in client["flags"] for client in ready.redis.client_list()):
        assert waiting.is_alive(), "the desk did not wait"
    if what == "stream":
        ready.redis.delete(PLANS)
    else:
        ready.redis.xgroup_destroy(PLANS, "p33")
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    plan, deadline = ready.publish(), time.monotonic() + PATIENCE_S
    while ready.verdict(plan) == "NONE" and time.monotonic() < deadline:
        ready.decide()
    assert ready.verdict(plan) == "ALLOW 0.028"


def test_error_inside_the_evaluation_is_a_denial_by_name(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a check raises, this plan is denied and recorded without findings, and the next one is judged."""
    def broken(facts, policy):
        raise ZeroDivisionError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr("p33_sidecar.service.desk.decide", broken)
        assert ready.ask() == "evaluation_error"
    (_, fields), = ready.redis.xrange(keys.DECISIONS)
    record = msgspec.json.decode(fields["json"])
    assert (record["outcome"], record["reason"], record["checks"]) == ("DENY", "evaluation_error", [])
    assert ready.ask() == "ALLOW 0.028"


def test_names_that_a_producer_invents_are_not_kept_in_memory(ready: World) -> None:
    """Each gets its verdict, and its repetition none; what is kept is as many symbols as are in scope."""
    plans = [ready.publish(symbol=f"INVENTED{number}") for number in range(30)]
    for _ in range(2):
        ready.decide()
        for number, plan_id in enumerate(plans):
            ready.publish(symbol=f"INVENTED{number}", plan_id=plan_id)
    ready.decide()
    assert {ready.verdict(plan_id) for plan_id in plans} == {"symbol_not_allowed"}
    assert ready.ask() == "ALLOW 0.028" and set(ready.memory.states) == {"BTCUSDT"}
