"""kill -9 at every round trip of bookkeeper and clerk, enumerated; a store emptied or restarted under them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store import keys
from tests.service.breaking import Breaking, Died
from tests.service.keeping import Keeping
from tests.service.world import RESULTS

SCOPE = "BTCUSDT TRXUSDT SOLUSDT"
MOST_STEPS = 250


# -- one story with everything a bookkeeper does -------------------------------------------------------------


def first_reply(k: Keeping) -> None:
    k.say("0.038", TRXUSDT="120")


def second_reply_opens(k: Keeping) -> None:
    k.clock.pass_ms(600)
    k.say("0.038", TRXUSDT="120", SOLUSDT="0")


def results_come(k: Keeping) -> None:
    """A fill of a taken permit, the same again, nonsense, another symbol, a flat symbol's first, one out of scope."""
    k.clock.pass_ms(1000)
    k.redis.hset(keys.ISSUED, "BTCUSDT", f"p1 nonce {k.clock.ms - 500} {k.clock.ms + 60_000} 0.038 1")
    k.redis.set(keys.taken("p1"), "nonce token", px=86_400_000)
    k.result("0.004", order_id="1")
    k.result("0.004", order_id="1")
    k.result(steps_results="[{", plan_id="p2")
    k.result("1", symbol="TRXUSDT", order_id="1", plan_id="p3")
    k.result("5", symbol="SOLUSDT", order_id="1", plan_id="p4", side="BUY", reduce_only=False)
    k.result("9", symbol="XRPUSDT", order_id="1", plan_id="p5")


def a_part_and_its_end(k: Keeping) -> None:
    k.clock.pass_ms(1000)
    k.result("0.004", order_id="", plan_id="p6", status="PARTIALLY_FILLED")
    k.ended("0.010", order_id="6", client_id="p33-p6")


def a_hash_is_gone(k: Keeping) -> None:
    k.clock.pass_ms(30_000)
    k.redis.delete(keys.ledger("BTCUSDT"))


def the_stream_is_trimmed(k: Keeping) -> None:
    k.clock.pass_ms(1000)
    for number in range(4):
        k.result("1", symbol="ETHUSDT", order_id=str(number), plan_id="p7")
    k.redis.xtrim(RESULTS, maxlen=1, approximate=False)


def replies_show_the_books_to_be_right(k: Keeping) -> None:
    k.clock.pass_ms(1000)
    k.say("0.024", SOLUSDT="5", TRXUSDT="119")


def and_again(k: Keeping) -> None:
    k.clock.pass_ms(600)
    k.say("0.024", SOLUSDT="5", TRXUSDT="119")


def orders_are_wrecked(k: Keeping) -> None:
    k.clock.pass_ms(30_000)
    k.redis.delete(keys.orders("TRXUSDT"))
    k.redis.set(keys.orders("TRXUSDT"), "x")


def an_old_result_comes_again(k: Keeping) -> None:
    k.clock.pass_ms(1000)
    k.result("0.010", order_id="6", plan_id="p6", status="FILLED")


STORY = (first_reply, second_reply_opens, results_come, a_part_and_its_end, a_hash_is_gone, the_stream_is_trimmed,
         replies_show_the_books_to_be_right, and_again, and_again, orders_are_wrecked, an_old_result_comes_again)


def turn(k: Keeping) -> None:
    k.book().look_up()


def play(url: str, *, at: int = -1, executed: bool = False) -> tuple[Keeping, int]:
    """The story, with the process killed at round trip `at` and another started; (the last one, trips of the first)."""
    k = Keeping(url, scope=SCOPE)
    k.redis.flushall()
    breaking = Breaking(k.own.redis, at=at, executed=executed)
    for happening in STORY:
        happening(k)
        try:
            turn(k)
        except (Died, StoreUnavailable):
            dead, k = k, k.again()
            k.memory.last_good_poll = dead.memory.last_good_poll
            dead.close()
            turn(k)
    return k, breaking.count


def judge(k: Keeping) -> None:
    """Each fill booked exactly once, whatever was lost on the way."""
    assert (k.amt(), k.amt("SOLUSDT"), k.ledger("XRPUSDT")) == ("0.024", "5", {})
    assert k.redis.hget(keys.book("TRXUSDT"), "amt") == "119"
    for symbol in ("BTCUSDT", "TRXUSDT", "SOLUSDT"):
        amt, rev = Decimal(0), 0
        for entry in (e for e in k.journal("opening", "fill", "adjustment") if e["symbol"] == symbol):
            amt, rev = amt + Decimal(entry["delta"]), rev + 1
            assert (Decimal(entry["amt_after"]), entry["rev"]) == (amt, rev)
        assert (k.redis.hget(keys.book(symbol), "amt"), k.redis.hget(keys.book(symbol), "rev")) == (
            f"{amt.normalize():f}", str(rev))
    assert len(k.records(keys.REJECTED)) == 1
    assert not k.redis.hexists(keys.ISSUED, "BTCUSDT")
    assert (k.redis.hlen(keys.UNSETTLED), k.line().unsettled) == (0, 0)
    assert len(k.events("gap")) == 1
    assert not k.line().gap_since(int(k.redis.get(keys.GAP)))
    assert "could not be read" in k.line("TRXUSDT").tampered
    last = k.redis.xrevrange(RESULTS, count=1)[0][0]
    assert k.redis.hget(keys.CURSOR, RESULTS) == f"{last} {k.redis.xinfo_stream(RESULTS)['entries-added']}"


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
def test_i35_killed_at_every_step_of_booking(redis_url: str, executed: bool) -> None:
    """For each round trip: die there, start anew, and each fill is booked and journalled once, and nothing is open."""
    clean, steps = play(redis_url)
    judge(clean)
    clean.close()
    assert 60 <= steps <= MOST_STEPS
    for step in range(steps):
        k, _ = play(redis_url, at=step, executed=executed)
        try:
            judge(k)
        except AssertionError as wrong:
            raise AssertionError(f"killed at round trip {step}") from wrong
        k.close()


# -- the store emptied, or restarted, under a running bookkeeper ---------------------------------------------


@pytest.fixture
def durable() -> Iterator[EmbeddedServer]:
    """A server that keeps what it said it has."""
    with EmbeddedServer(durable=True) as running:
        yield running


def never(k: Keeping) -> None:
    """Nobody tells the bookkeeper."""


def told(k: Keeping) -> None:
    k.memory.reread_books.set()


@pytest.mark.parametrize("notice", [never, told])
@pytest.mark.parametrize("results", [0, 2])
def test_an_emptied_store_is_begun_anew(redis_url: str, notice: Callable[[Keeping], None], results: int) -> None:
    """FLUSHALL while it runs: nothing that memory held is written back; two agreeing replies open the books again."""
    k = Keeping(redis_url, scope=SCOPE).opened("0.038", TRXUSDT="120")
    for number in range(results):
        k.result("0.001", order_id=str(number))
    k.book()
    k.redis.flushall()
    notice(k)
    k.clock.pass_ms(1000)
    k.result("0.001", order_id="after", plan_id="p9")
    k.book()
    k.clock.pass_ms(30_000)
    k.poll("0.030", TRXUSDT="120")
    assert (k.ledger(), k.redis.hget(keys.book("BTCUSDT"), "amt")) == ({}, None)
    k.clock.pass_ms(600)
    k.poll("0.030", TRXUSDT="120")
    k.clock.pass_ms(600)
    k.poll("0.030", TRXUSDT="120")
    assert (k.amt(), k.amt("TRXUSDT")) == ("0.03", "120")
    assert {e["cause"] for e in k.journal()} == {"contained", "opening"}
    k.close()


def test_a_store_that_restarts_keeps_each_fill_once(durable: EmbeddedServer) -> None:
    """Killed between two results, back with its append-only file: unavailable meanwhile, then booked on, each once."""
    k = Keeping(durable.url, scope=SCOPE).opened("0.038")
    k.result("0.004", order_id="1")
    k.book()
    k.result("0.004", order_id="2", plan_id="p2")
    durable.kill()
    with pytest.raises(StoreUnavailable):
        k.book()
    durable.start()
    k.memory.reread_books.set()
    k.result("0.004", order_id="1")
    k.result("0.004", order_id="3", plan_id="p3")
    k.book()
    assert k.amt() == "0.026"
    assert [e["order_id"] for e in k.journal("fill")] == ["1", "2", "3"]
    assert k.events("gap") == []
    k.close()
