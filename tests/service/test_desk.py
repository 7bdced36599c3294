"""The desk: one verdict an entry, on facts that were confirmed in the step that issues it."""

from __future__ import annotations

import time

import msgspec
import pytest

from p33_sidecar.core.model import Policy
from p33_sidecar.core.record import read_record, reproduce
from p33_sidecar.store import keys, switches
from p33_sidecar.store.state import entry_order
from tests.service.world import PLANS, World


def test_first_close_is_allowed(ready: World) -> None:
    """Three accounts agree: 75 % of 0.038 floored to the step; nothing stays pending."""
    assert ready.ask() == "ALLOW 0.028"
    assert ready.redis.xpending(PLANS, "p33")["pending"] == 0


def test_i01_permit_is_keyed_by_plan_id_alone(ready: World) -> None:
    """Stream id and plan id are different things: only the plan's key exists."""
    entry = ready.redis.xadd(PLANS, {"plan_id": "f1a8d7f48713d5cf", "symbol": "BTCUSDT", "action": "PARTIAL_75",
                                     "decision": "EXECUTE", "steps": "", "close_qty": "0.0"})
    ready.decide()
    assert ready.redis.keys("quantum:permit:*") == ["quantum:permit:p33:f1a8d7f48713d5cf"]
    assert entry not in "".join(ready.redis.keys("*permit*"))


def test_i43_second_plan_of_a_symbol_waits_for_the_first(ready: World) -> None:
    """Two full closes 10 ms apart: one ALLOW, the other permit_outstanding."""
    first, second = ready.publish("FULL_CLOSE_PROPOSED"), ready.publish("FULL_CLOSE_PROPOSED")
    ready.decide()
    assert [ready.verdict(first), ready.verdict(second)] == ["ALLOW 0.038", "permit_outstanding"]


def test_every_verdict_has_a_nonce_of_its_own(ready: World) -> None:
    """One was drawn before its plan was there, the others of the turn with theirs, and none is used again."""
    plans = [ready.publish() for _ in range(3)]
    ready.decide()
    plans += [ready.publish()]
    ready.decide()
    nonces = [ready.permit(plan)["nonce"] for plan in plans]
    assert len(set(nonces)) == 4 and all(len(nonce) == 32 for nonce in nonces)


def test_fill_is_booked_and_denies_until_settled(ready: World) -> None:
    """A result ends the permit, moves the book, and the next plan waits for a newer snapshot."""
    plan = ready.publish()
    ready.decide()
    ready.result(plan)
    ready.book()
    assert ready.ledger()["last_known_amt"] == "0.01"
    ready.exchange.amounts["BTCUSDT"] = "0.010"
    assert ready.ask(timestamp="") == "reconcile_required_qty_mismatch"
    assert ready.ask_settled("FULL_CLOSE_PROPOSED", timestamp="") == "ALLOW 0.01"


@pytest.mark.parametrize(("fields", "verdict"), [
    ({"symbol": "DOGEUSDT"}, "symbol_not_allowed"),
    ({"action": "FOO"}, "unsupported_action"),
    ({"action": "UPDATE_SL"}, "unsupported_action"),
    ({"action": "OPEN_LONG"}, "unsupported_action"),
    ({"timestamp": "1"}, "plan_expired"),
    ({"timestamp": "yesterday"}, "plan_expired"),
    ({"timestamp": "99999999999"}, "clock_skew"),
    ({"steps": "{"}, "action_step_mismatch"),
    ({"steps": '[{"step":"CLOSE_PARTIAL_50","pct":50}]'}, "action_step_mismatch"),
    ({"close_qty": "-1"}, "action_step_mismatch"),
    ({"close_qty": "0.010"}, "ALLOW 0.01"),
    ({"side": "BUY"}, "action_step_mismatch"),
    ({"side": "SELL"}, "ALLOW 0.028"),
    ({"action": "PARTIAL_25"}, "ALLOW 0.009"),
    ({"action": "CLOSE_FULL"}, "ALLOW 0.038"),
])
def test_i12_i13_every_execute_entry_gets_its_verdict(ready: World, fields: dict[str, str], verdict: str) -> None:
    """Whatever a plan says, it is answered, by name."""
    assert ready.ask(**fields) == verdict


@pytest.mark.parametrize(("fields", "reason"), [
    ({"symbol": "BTCUSDT", "decision": "EXECUTE"}, "missing_plan_id"),
    ({"plan_id": "two words", "symbol": "BTCUSDT", "decision": "EXECUTE"}, "malformed_plan_id"),
    ({"plan_id": "p33:x", "symbol": "BTCUSDT", "decision": "EXECUTE"}, "malformed_plan_id"),
    ({"plan_id": "x", "decision": "EXECUTE"}, "missing_symbol"),
    ({"plan_id": "x", "symbol": "BTC:USDT", "decision": "EXECUTE"}, "malformed_symbol"),
    ({"plan_id": "x", "symbol": "BTCUSDT"}, "missing_decision"),
    ({"plan_id": b"\xff\xfe", "symbol": "BTCUSDT", "decision": "EXECUTE"}, "no verdict for nobody"),
])
def test_unintelligible_plan_is_kept_whole_with_its_reason(ready: World, fields: dict, reason: str) -> None:
    """No permit, no crash, nothing lost, and the entry is dealt with."""
    ready.redis.xadd(PLANS, fields)
    ready.decide()
    if reason != "no verdict for nobody":
        (record,) = ready.records(keys.REJECTED)
        assert record["reason"] == reason and record["message"] == fields
        assert not ready.redis.keys("quantum:permit:*")
    assert ready.redis.xpending(PLANS, "p33")["pending"] == 0


def test_plans_that_are_not_execute_are_passed_over(ready: World) -> None:
    """Only decision=EXECUTE is evaluated; others leave no verdict and no pending entry."""
    assert ready.ask(decision="SKIP") == "NONE"
    assert ready.redis.xpending(PLANS, "p33")["pending"] == 0 and not ready.redis.exists(keys.REJECTED)


# -- republication --------------------------------------------------------------------------------------------


def test_settled_denial_is_not_evaluated_again(ready: World) -> None:
    """A denial that cannot change answers its repetition: acknowledged, counted, nothing written."""
    plan = ready.publish("FOO")
    ready.decide()
    ready.publish("FOO", plan_id=plan)
    ready.decide()
    assert ready.redis.xlen(keys.DECISIONS) == 1 and ready.hooks.seen == [("republished",)]


def test_taken_plan_is_never_allowed_again(ready: World) -> None:
    """Remembered 24 h by the taken key alone, whatever else was lost."""
    plan = ready.publish()
    ready.redis.set(keys.taken(plan), "nonce token", px=keys.TAKEN_TTL_MS)
    ready.decide()
    assert ready.verdict(plan) == "NONE"


# -- what moves between reading and issuing ---------------------------------------------------------------------


def test_t02_halt_and_snapshot_between_read_and_issue(ready: World) -> None:
    """The issuing step notices both and decides again: DENY halted."""
    plan = ready.publish()
    switches.halt(ready.redis, by="test", reason="fire", at_ms=ready.clock.now_ms())
    ready.exchange.amounts["BTCUSDT"] = "0.010"
    behind = dict(ready.memory.snapshots)
    ready.poll()
    ready.memory.snapshots.update(behind)
    ready.decide()
    assert ready.verdict(plan) == "halted"


def test_x03_fill_booked_between_read_and_issue(ready: World) -> None:
    """A fill that another process booked after our facts were read voids the decision."""
    behind = dict(ready.memory.books)
    ready.result("elsewhere", qty="0.020")
    ready.book()
    ready.memory.books.update(behind)
    assert ready.ask(timestamp="") == "reconcile_required_qty_mismatch"


def test_t14_plan_waits_for_the_booking_of_an_older_result(ready: World) -> None:
    """A result before the plan, not booked yet: never an ALLOW on the old book."""
    ready.result("earlier", qty="0.028")
    assert ready.ask(timestamp="") == "cooldown_in_flight"


def test_t17_plan_answered_while_we_were_down(ready: World) -> None:
    """BLOCKED was written for it before we read it: plan_expired, and nothing is open. Our clock may lag a little."""
    plan = ready.publish()
    answer = ready.result(plan, executed="False", status="blocked", qty="0", order_id="")
    ready.clock.sync(entry_order(answer)[0] - 100)
    ready.book()
    ready.decide()
    assert ready.verdict(plan) == "plan_expired" and not ready.redis.exists(keys.open_permit("BTCUSDT"))


@pytest.mark.parametrize("switch", [keys.HALT, keys.halt("BTCUSDT")])
@pytest.mark.parametrize("value", ["1", "true", "0", "", "no", '{"by":"me"}'])
def test_i51_every_value_people_type_halts(ready: World, switch: str, value: str) -> None:
    """The switch's existence halts, whatever it holds."""
    ready.redis.set(switch, value)
    assert ready.ask() == "halted"
    ready.redis.delete(switch)
    assert ready.ask() == "ALLOW 0.028"


def test_hold_denies(ready: World) -> None:
    """quantum:reconcile:hold:<symbol> of any type denies."""
    ready.redis.hset(keys.hold("BTCUSDT"), "why", "x")
    assert ready.ask() == "reconcile_hold_active"


def test_venue_of_the_database_is_not_ours(ready: World) -> None:
    """A database that belongs to another exchange gets no permit from us."""
    ready.redis.set(keys.VENUE, "fapi.binance.com")
    assert ready.ask() == "venue_mismatch"


def test_permit_key_of_another_type_is_overwritten(ready: World) -> None:
    """T19: an old writer's HASH at the permit key does not keep the verdict out."""
    ready.redis.hset(keys.permit("p1"), "allow", "1")
    assert ready.ask(plan_id="p1") == "ALLOW 0.028"


def test_stale_snapshot_denies(redis_url: str) -> None:
    """Older than the threshold: denied with the age and the limit."""
    world = World(redis_url, policy=Policy(cooldown_ms=0, poll_ms=500, stale_threshold_ms=600)).open_books()
    time.sleep(0.65)
    plan = world.publish()
    world.decide()
    permit = world.permit(plan)
    assert permit["reason"] == "stale_exchange_state" and permit["retryable"] and permit["retry_after_sec"] >= 1
    assert permit["details"]["value"] > permit["details"]["threshold"] == 600
    world.close()


# -- the records ----------------------------------------------------------------------------------------------


def test_every_record_reproduces_byte_for_byte(redis_url: str) -> None:
    """A decision taken again from its record gives the same bytes, ALLOW and DENY, signed."""
    key = b"k" * 32
    world = World(redis_url, key=key).open_books()
    plans = [world.publish("PARTIAL_75"), world.publish("CLOSE_FULL"), world.publish("FOO", symbol="XRPUSDT")]
    world.decide()
    raws = [fields["json"].encode() for _, fields in world.redis.xrange(keys.DECISIONS)]
    permits = {p: world.redis.get(keys.permit(p)).encode() for p in plans}
    assert len(raws) == 3
    for raw in raws:
        record = read_record(raw)
        assert reproduce(record, key=key) == (raw, permits[record.plan_id])
    world.close()


def test_entry_dealt_with_before_the_group_was_deleted_is_recognised(ready: World) -> None:
    """An operator's DEL of the group delivers old entries again: they are known and answered no second time."""
    plan = ready.publish()
    ready.decide()
    permit = ready.redis.get(keys.permit(plan))
    ready.redis.xgroup_destroy(PLANS, "p33")
    ready.decide()
    ready.decide()
    assert ready.redis.xlen(keys.DECISIONS) == 1 and ready.redis.get(keys.permit(plan)) == permit
    assert ready.redis.xpending(PLANS, "p33")["pending"] == 0


def test_i49_plans_read_and_not_acknowledged_are_evaluated_once_after_a_restart(ready: World, redis_url: str) -> None:
    """Delivered to us, never acknowledged, restarted: exactly one verdict; five minutes old: plan_expired."""
    ready.decide()
    plan, old = ready.publish(), ready.publish(timestamp=f"{time.time() - 300:.0f}")
    assert len(ready.redis.xreadgroup("p33", "test", {PLANS: ">"})[0][1]) == 2
    again = World(redis_url).open_books()
    again.decide()
    assert [again.verdict(plan), again.verdict(old)] == ["ALLOW 0.028", "plan_expired"]
    assert again.redis.xlen(keys.DECISIONS) == 2
    again.close()


def test_decisions_carry_what_the_contract_names(ready: World) -> None:
    """Every member of a decision's record, and every check with its numbers."""
    ready.ask()
    (_, fields), = ready.redis.xrange(keys.DECISIONS)
    assert set(fields) == {"plan_id", "symbol", "outcome", "json"}
    record = msgspec.json.decode(fields["json"])
    assert {"v", "decision_id", "plan", "stream_id", "snapshot", "ledger", "filters", "policy", "policy_hash", "checks",
            "outcome", "reason", "requested_qty", "safe_close_qty", "permit", "times", "instance",
            "version"} <= record.keys()
    assert all({"name", "pass", "value", "threshold", "margin"} <= check.keys() for check in record["checks"])
    assert set(record["permit"]) == {"issued_ms", "expires_ms", "nonce"}
    assert set(record["times"]) == {"published_ms", "read_ms", "decided_ms"}
