"""Keys that somebody overwrote with another type, or with nonsense: each denies by name, and only what rests on it.

Incident I07, timeline T19, the sidecar's part: other programs wrote where only we should. After the key is mended
the same symbol is allowed again; other symbols were never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.store import keys
from tests.service.world import PLANS, RESULTS, World


def _list(client: redis.Redis, key: str) -> None:
    client.delete(key)
    client.rpush(key, "junk")


@pytest.fixture
def two(redis_url: str) -> Iterator[World]:
    """Two symbols with a position and an agreeing book each."""
    world = World(redis_url, allowlist=frozenset({"BTCUSDT", "ETHUSDT"}))
    world.exchange.amounts["ETHUSDT"] = "2.5"
    yield world.open_books()
    world.close()


@pytest.mark.parametrize(("key", "verdict"), [
    (keys.halt(), "halted"),
    (keys.halt("BTCUSDT"), "halted"),
    (keys.hold("BTCUSDT"), "reconcile_hold_active"),
    (keys.VENUE, "venue_mismatch"),
    (keys.RUN_ID, "store_restarted"),
    (keys.snapshot("BTCUSDT"), "no_exchange_snapshot"),
    (keys.ledger("BTCUSDT"), "ledger_tampered"),
    (keys.book("BTCUSDT"), "ledger_tampered"),
    (keys.GAP, "ledger_gap"),
    (RESULTS, "cooldown_in_flight"),
    (keys.ISSUED, "permit_outstanding"),
    (keys.taken("p1"), "permit_outstanding"),
    (keys.plan("p1"), "evaluation_error"),
    (keys.permit("p1"), "ALLOW 0.028"),
    (keys.open_permit("BTCUSDT"), "ALLOW 0.028"),
])
def test_i07_key_of_another_type_is_answered_by_name(two: World, key: str, verdict: str) -> None:
    """A LIST where we keep something else. Our permit's key, and the open one where none is open, are written over."""
    _list(two.redis, key)
    assert two.ask(plan_id="p1") == verdict
    assert two.redis.xpending(PLANS, "p33")["pending"] == 0
    (record,) = two.records(keys.DECISIONS)
    assert (record["outcome"], record["reason"]) == (("ALLOW", None) if verdict[:5] == "ALLOW" else ("DENY", verdict))


@pytest.mark.parametrize("key", [keys.snapshot("BTCUSDT"), keys.ledger("BTCUSDT"), keys.book("BTCUSDT"),
                                 keys.taken("p1"), keys.plan("p1"), keys.halt("BTCUSDT"), keys.hold("BTCUSDT")])
def test_i07_wrecked_symbol_stops_no_other(two: World, key: str) -> None:
    """In one batch with it, another symbol's plan is allowed."""
    _list(two.redis, key)
    bad, good = two.publish(plan_id="p1"), two.publish("CLOSE_FULL", symbol="ETHUSDT")
    two.decide()
    assert not two.permit(bad)["allow"] and two.verdict(good) == "ALLOW 2.5"


@pytest.mark.parametrize(("wreck", "verdict"), [
    (lambda r: r.hset(keys.ISSUED, "BTCUSDT", "two words"), "permit_outstanding"),
    (lambda r: r.hset(keys.ISSUED, "BTCUSDT", "a b c d e f"), "permit_outstanding"),
    (lambda r: r.hset(keys.book("BTCUSDT"), "amt", "much"), "ledger_tampered"),
    (lambda r: r.hset(keys.snapshot("BTCUSDT"), "position_amt", "nan"), "no_exchange_snapshot"),
    (lambda r: r.hset(keys.snapshot("BTCUSDT"), "ts_ms", "yesterday"), "no_exchange_snapshot"),
    (lambda r: r.set(keys.GAP, "some"), "ledger_gap"),
    (lambda r: r.set(keys.plan("p1"), "\x1f\x1f\x1f\x1fsoon"), "evaluation_error"),
    (lambda r: r.set(keys.plan("p1"), "first\x1fDENY\x1f0\x1fn\x1f"), "evaluation_error"),
    (lambda r: r.set(keys.plan("p1"), "DENY"), "evaluation_error"),
], ids=["issued-words", "issued-numbers", "book", "amount", "time", "gap", "mark-result", "mark-entry", "mark-parts"])
def test_i07_nonsense_in_a_key_is_answered_by_name(two: World, wreck: Callable[[redis.Redis], object],
                                                   verdict: str) -> None:
    """The right type with a value that nobody of ours would write."""
    wreck(two.redis)
    assert two.ask(plan_id="p1") == verdict


@pytest.fixture
def bounded(two: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its desk gives up where it would turn for ever."""
    issue, rounds = two.desk.store.issue, []

    def counted(issues: list) -> list:
        rounds.append(len(issues))
        assert len(rounds) < 50, "the desk turns for ever"
        return issue(issues)

    monkeypatch.setattr(two.desk.store, "issue", counted)
    return two


@pytest.mark.parametrize(("wreck", "verdict", "next_symbol"), [
    (lambda r: r.set(keys.open_permit("BTCUSDT"), b"p0 \xff"), "permit_outstanding", "ALLOW 2.5"),
    (lambda r: r.hset(keys.ISSUED, "BTCUSDT", b"\xc3"), "permit_outstanding", "ALLOW 2.5"),
    (lambda r: r.hset(keys.snapshot("BTCUSDT"), "position_amt", b"\xed\xa0\x80"), "no_exchange_snapshot", "ALLOW 2.5"),
    (lambda r: r.hset(keys.book("BTCUSDT"), "amt", b"0.038\xc3\xa9\xe2\x82"), "ledger_tampered", "ALLOW 2.5"),
    (lambda r: r.set(keys.plan("p1"), b"\xe0\x80\xaf"), "evaluation_error", "ALLOW 2.5"),
    (lambda r: r.set(keys.GAP, b"\xf5"), "ledger_gap", "ledger_gap"),
    (lambda r: r.set(keys.VENUE, b"\xc0\xaf"), "venue_mismatch", "venue_mismatch"),
    (lambda r: r.set(keys.RUN_ID, b"\xf4\x90\x80\x80"), "store_restarted", "store_restarted"),
], ids=["open", "issued", "snapshot", "book", "mark", "gap", "venue", "run-id"])
def test_i07_bytes_that_are_no_text_are_answered_by_name(bounded: World, wreck: Callable[[redis.Redis], object],
                                                         verdict: str, next_symbol: str) -> None:
    """What would come back as other bytes than are there is a value like any other; the next symbol is not held up."""
    wreck(bounded.redis)
    bad, good = bounded.publish(plan_id="p1"), bounded.publish("CLOSE_FULL", symbol="ETHUSDT")
    bounded.decide()
    assert (bounded.verdict(bad), bounded.verdict(good)) == (verdict, next_symbol)


def test_i07_token_of_raw_bytes_is_a_taking_like_any_other(bounded: World) -> None:
    """An Apply Layer of one's own that draws its token as bytes: the symbol is taken, the plan is settled."""
    assert bounded.ask(plan_id="p1") == "ALLOW 0.028"
    permit = bounded.redis.get(keys.permit("p1"))
    mark = bounded.permit("p1")["nonce"].encode() + b" \x80\xff \xfe"
    bounded.redis.set(keys.taken("p1"), mark, px=keys.TAKEN_TTL_MS)
    assert bounded.ask() == "permit_outstanding"
    bounded.ask(plan_id="p1")
    assert bounded.redis.get(keys.permit("p1")) == permit and ("republished",) in bounded.hooks.seen
    assert bounded.redis.xpending(PLANS, "p33")["pending"] == 0


@pytest.mark.parametrize("order_id", ["ордер-1", "訂單\U0001f4c8", "é"])
def test_text_that_is_not_ascii_stays_as_it_is(bounded: World, order_id: str) -> None:
    """A producer's order id in the book: the verdict rests on it, and finds it again."""
    bounded.result("p0", order_id=order_id)
    bounded.book()
    bounded.exchange.amounts["BTCUSDT"] = "0.01"
    assert bounded.ask_settled("CLOSE_FULL") == "ALLOW 0.01"
    assert bounded.records(keys.DECISIONS)[-1]["ledger"]["last_order_id"] == order_id


def test_wrecked_cursor_stops_bookings_and_no_verdict_that_knows_of_none(two: World) -> None:
    """The desk knows what is booked; a result that cannot be booked now keeps its own symbol waiting."""
    _list(two.redis, keys.CURSOR)
    assert two.ask() == "ALLOW 0.028"
    two.redis.xadd(RESULTS, {"plan_id": "p9", "symbol": "ETHUSDT", "decision": "EXECUTE", "executed": "False"})
    assert two.ask("CLOSE_FULL", symbol="ETHUSDT") == "cooldown_in_flight"


def test_wrecked_open_key_keeps_a_permit_outstanding(two: World) -> None:
    """While an ALLOW may be open, a key that cannot be read does not say that it is not."""
    assert two.ask() == "ALLOW 0.028"
    _list(two.redis, keys.open_permit("BTCUSDT"))
    assert two.ask() == "permit_outstanding"


def test_wrecked_taken_key_of_the_open_permit_counts_as_taken(two: World) -> None:
    """A taking that cannot be read may be going on: outstanding also after the permit's own end."""
    first = two.publish()
    two.decide()
    _list(two.redis, keys.taken(first))
    two.redis.delete(keys.open_permit("BTCUSDT"))
    assert two.ask() == "permit_outstanding"


@pytest.mark.parametrize("forget", [
    lambda r: r.hdel(keys.ISSUED, "BTCUSDT"), lambda r: r.hset(keys.ISSUED, "BTCUSDT", "p0 n0nce 1 2 0.038 1"),
], ids=["removed", "another's"])
@pytest.mark.parametrize("taken", [False, True], ids=["open", "taken"])
def test_allow_whose_note_is_gone_stays_outstanding(two: World, forget: Callable[[redis.Redis], object],
                                                    taken: bool) -> None:
    """No step of ours removes the note of the last ALLOW and leaves that it is open."""
    assert two.ask(plan_id="p1") == "ALLOW 0.028"
    if taken:
        two.redis.set(keys.taken("p1"), f"{two.permit('p1')['nonce']} t0ken", px=keys.TAKEN_TTL_MS)
    forget(two.redis)
    assert two.ask() == "permit_outstanding"
    two.redis.delete(keys.open_permit("BTCUSDT"))
    assert two.ask() == "ALLOW 0.028"


def test_wrecked_mark_is_replaced_by_the_denial_and_the_plan_may_come_again(two: World) -> None:
    """What was remembered of the plan is lost, so it is denied once, by name; published again it is judged afresh."""
    _list(two.redis, keys.plan("p1"))
    assert two.ask(plan_id="p1") == "evaluation_error"
    assert two.permit("p1")["retryable"] and two.redis.type(keys.plan("p1")) == "string"
    assert two.ask(plan_id="p1") == "ALLOW 0.028"


def test_mended_snapshot_allows_again(two: World) -> None:
    """The next poll writes the snapshot anew."""
    _list(two.redis, keys.snapshot("BTCUSDT"))
    assert two.ask() == "no_exchange_snapshot"
    two.poll()
    assert two.ask() == "ALLOW 0.028"


def test_verdict_without_a_place_for_its_record_is_not_given(two: World) -> None:
    """A decisions stream of another type: nothing is written or acknowledged; mended, the plan gets its verdict."""
    _list(two.redis, keys.DECISIONS)
    plan = two.publish()
    with pytest.raises(Exception, match=keys.DECISIONS):
        two.decide()
    assert two.verdict(plan) == "NONE" and not two.redis.exists(keys.plan(plan), keys.open_permit("BTCUSDT"))
    two.redis.delete(keys.DECISIONS)
    two.desk.reset()
    two.decide()
    assert two.verdict(plan) == "ALLOW 0.028"


def test_a_message_that_cannot_be_kept_is_not_passed_over(ready: World) -> None:
    """The stream of rejected messages is of another type: a plan and a result that nobody can read wait until it is
    mended; however often they were tried meanwhile, each is kept once."""
    _list(ready.redis, keys.REJECTED)
    ready.redis.xadd(PLANS, {"decision": "EXECUTE", "symbol": "BTCUSDT", "plan_id": "no id"})
    ready.redis.xadd(RESULTS, {"executed": "True", "symbol": "no symbol"})
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            ready.decide()
        with pytest.raises(StoreUnavailable):
            ready.book()
        ready.desk.reset()
    ready.redis.delete(keys.REJECTED)
    ready.decide()
    ready.book()
    assert [record["reason"] for record in ready.records(keys.REJECTED)] == ["malformed_plan_id", "malformed_symbol"]
    assert ready.redis.xpending(PLANS, "p33")["pending"] == 0
