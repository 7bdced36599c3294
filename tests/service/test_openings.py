"""Opening balances on a real server: two agreeing replies, and what a result in between, before or after does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from p33_sidecar.store import keys
from p33_sidecar.store.connect import server_ms
from tests.service.keeping import DAY_MS, HandClock, Keeping
from tests.service.world import RESULTS, World


@pytest.fixture
def keeping(redis_url: str) -> Iterator[Keeping]:
    """Before the first poll."""
    built = Keeping(redis_url, scope="BTCUSDT TRXUSDT")
    yield built
    built.close()


def test_two_agreeing_replies_half_a_second_apart_open_a_book(keeping: Keeping) -> None:
    """499 ms are too little; it holds as of the first request and says so in the journal. Flat symbols open at 0."""
    first_ms = keeping.clock.ms
    keeping.poll("0.038", TRXUSDT="0")
    keeping.clock.pass_ms(499)
    keeping.poll("0.038", TRXUSDT="0")
    assert keeping.ledger() == {}
    keeping.clock.pass_ms(1)
    keeping.poll("0.038", TRXUSDT="0")
    assert (keeping.amt(), keeping.amt("TRXUSDT")) == ("0.038", "0")
    assert keeping.redis.hget(keys.book("BTCUSDT"), "opened_ms") == str(first_ms)
    opening = next(entry for entry in keeping.journal("opening") if entry["symbol"] == "BTCUSDT")
    assert (opening["rev"], opening["delta"], opening["amt_before"], opening["amt_after"], opening["by"]) == (
        1, "0.038", None, "0.038", "bookkeeper")
    assert str(first_ms) in opening["why"]
    ledger = keeping.ledger()
    assert (ledger["last_order_id"], ledger["last_order_time_epoch"], ledger["last_order_time_ms"]) == ("", "0", "0")


def test_the_same_reply_twice_is_one(keeping: Keeping) -> None:
    """However often the bookkeeper looks at it."""
    keeping.poll()
    for _ in range(5):
        keeping.clock.pass_ms(1000)
        keeping.book()
    assert keeping.ledger() == {}


def test_replies_that_disagree_start_over(keeping: Keeping) -> None:
    """0.038, 0.040, 0.038: the third agrees with nobody yet."""
    for amt in ("0.038", "0.040", "0.038"):
        keeping.poll(amt)
        keeping.clock.pass_ms(1000)
    assert keeping.ledger() == {}
    assert keeping.poll("0.038").amt() == "0.038"


@pytest.mark.parametrize("unknown", [None, "legs"])
def test_what_is_not_known_is_not_adopted(keeping: Keeping, unknown: str | None) -> None:
    """A symbol the reply lacks or shows in legs has no amount; it starts over when it has one."""
    keeping.poll("0.038")
    keeping.clock.pass_ms(600)
    keeping.poll(None)
    if unknown:
        keeping.memory.positions["BTCUSDT"] = None
        keeping.book()
    keeping.clock.pass_ms(600)
    keeping.poll("0.038")
    assert keeping.ledger() == {}


def test_deny_never_adopts(redis_url: str) -> None:
    """P33_LEDGER_BOOTSTRAP=deny: neither from replies nor from a first fill of a flat symbol."""
    keeping = Keeping(redis_url, adopt=False)
    keeping.opened("0.038", TRXUSDT="0").result("61", symbol="TRXUSDT")
    keeping.book()
    keeping.clock.pass_ms(1000)
    keeping.opened("0.038")
    assert (keeping.ledger(), keeping.ledger("TRXUSDT"), keeping.journal("opening")) == ({}, {}, [])
    keeping.close()


# -- results around an opening -------------------------------------------------------------------------------


def test_t08_a_week_of_results_is_contained_in_the_first_opening(keeping: Keeping) -> None:
    """First start beside a running stack: all recorded, none booked, and one that may still fill is asked for first."""
    now_ms = keeping.clock.ms
    for day in range(7):
        keeping.result("0.010", order_id=str(day), plan_id=f"p{day}", at_ms=now_ms - (7 - day) * DAY_MS)
    keeping.result("0", order_id="", plan_id="open", status="NEW", at_ms=now_ms - 100_000 + 1)
    keeping.ended("0.002", order_id="99", client_id="p33-open")
    keeping.book()
    keeping.opened("0.038")
    assert keeping.ledger() == {}, "an order may still fill"
    keeping.look_up()
    keeping.opened("0.038")
    assert keeping.amt() == "0.038"
    assert len(keeping.journal("contained")) == 8
    assert keeping.journal("fill") == []
    keeping.result("0.010", order_id="3", plan_id="p3")
    keeping.book()
    assert keeping.amt() == "0.038", "an old result told again"


def test_a_result_in_between_starts_the_adoption_over(keeping: Keeping) -> None:
    """0.038, a fill of unknown time, 0.038: the second reply may not contain it, so two later ones are needed."""
    keeping.poll("0.038")
    keeping.clock.pass_ms(300)
    keeping.result()
    keeping.book()
    keeping.clock.pass_ms(300)
    keeping.poll("0.038")
    assert keeping.ledger() == {}
    keeping.clock.pass_ms(600)
    keeping.poll("0.010")
    keeping.clock.pass_ms(600)
    assert keeping.poll("0.010").amt() == "0.01"
    assert [entry["cause"] for entry in keeping.journal()] == ["contained", "opening"]


def test_a_result_not_yet_read_holds_the_adoption_back(keeping: Keeping) -> None:
    """It came after the bookkeeper had looked at the stream: the adopting step sees it, and nothing is adopted."""
    keeping.poll("0.038")
    keeping.clock.pass_ms(600)
    keeping.say("0.038")
    keeping.result()
    keeping.keeper.openings.step(keeping.memory.cursor)
    assert keeping.ledger() == {}
    keeping.book()
    assert [entry["cause"] for entry in keeping.journal()] == ["contained"]
    assert keeping.ledger() == {}


def test_a_symbol_flat_in_the_last_good_reply_opens_at_zero_before_its_first_fill(keeping: Keeping) -> None:
    """A fill never opens a book by itself: the opening is journalled before it, as of that reply."""
    keeping.poll("0")
    asked_ms = keeping.clock.ms
    keeping.clock.pass_ms(300)
    keeping.result("0.637", side="BUY", reduce_only=False)
    keeping.book()
    assert keeping.amt() == "0.637"
    opening, fill = keeping.journal()
    assert (opening["cause"], opening["rev"], opening["amt_after"]) == ("opening", 1, "0")
    assert str(asked_ms) in opening["why"]
    assert (fill["cause"], fill["rev"], fill["amt_before"], fill["amt_after"]) == ("fill", 2, "0", "0.637")
    assert keeping.ledger()["source"] == "fill"


@pytest.mark.parametrize("seen", [None, "0.637"])
def test_a_fill_never_opens_a_book_by_itself(keeping: Keeping, seen: str | None) -> None:
    """Not known to have been flat before it: it is contained in an opening to come."""
    keeping.poll(seen)
    keeping.clock.pass_ms(300)
    keeping.result("0.637", side="BUY", reduce_only=False)
    keeping.book()
    assert keeping.ledger() == {}
    assert [entry["cause"] for entry in keeping.journal()] == ["contained"]


def test_i31_a_part_before_the_book_holds_its_opening_back(keeping: Keeping) -> None:
    """PARTIALLY_FILLED before the first start: what of it is in the replies is only known when it has ended."""
    keeping.result("0.004", status="PARTIALLY_FILLED")
    keeping.clock.pass_ms(100)
    keeping.opened("0.038")
    assert (keeping.ledger(), keeping.line().unsettled) == ({}, 1)
    keeping.ended("0.010")
    keeping.look_up()
    keeping.opened("0.032")
    assert (keeping.amt(), keeping.line().unsettled) == ("0.032", 0)
    keeping.result("0.010", status="FILLED")
    keeping.book()
    assert keeping.amt() == "0.032"


def test_a_restart_in_the_middle_of_an_adoption_starts_it_over(keeping: Keeping) -> None:
    """The first reply was the dead process's; a result read meanwhile is contained."""
    keeping.poll("0.038")
    keeping.clock.pass_ms(600)
    keeping.result()
    second = keeping.again()
    second.poll("0.010")
    assert second.ledger() == {}
    second.clock.pass_ms(600)
    assert second.poll("0.010").amt() == "0.01"
    second.close()


def test_a_book_of_a_symbol_out_of_scope_is_not_opened(keeping: Keeping) -> None:
    """Only what is in scope has a book."""
    keeping.opened("0.038", XRPUSDT="5")
    assert keeping.ledger("XRPUSDT") == {}
    assert keeping.redis.xlen(RESULTS) == 0


# -- while the next reply is being kept ------------------------------------------------------------------------------


@pytest.fixture
def between(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """One reply that the bookkeeper has not looked at; it takes its turn while the next one is being written."""
    with redis.Redis.from_url(redis_url) as client:
        world = World(redis_url, clock=HandClock(server_ms(client)))
    world.clerk.step()
    world.book()
    world.exchange.amounts["BTCUSDT"] = "0.028"
    world.poller.poll()
    world.clock.pass_ms(600)
    write = world.poller.store.write

    def written(*what: object, **how: object) -> list[str]:
        world.book()
        return write(*what, **how)

    monkeypatch.setattr(world.poller.store, "write", written)
    yield world
    world.close()


def test_one_reply_is_not_taken_for_two(between: World) -> None:
    """0.028, then 0.038: seen before it was kept and again when it was, the second agrees with nobody but itself."""
    between.exchange.amounts["BTCUSDT"] = "0.038"
    between.poll()
    assert between.ledger() == {}
    between.clock.pass_ms(600)
    between.poll()
    assert between.ledger()["last_known_amt"] == "0.038"


def test_a_symbol_that_a_fill_has_made_flat_was_not_flat_before_it(between: World) -> None:
    """0.028, its close, 0: what the second reply says is no reason to open at zero and book the close on top."""
    between.redis.xadd(RESULTS, {
        "plan_id": "p1", "symbol": "BTCUSDT", "executed": "True", "order_id": "8389765", "side": "SELL",
        "executed_qty": "0.028"}, id=f"{between.clock.now_ms() - 100}-0")
    between.exchange.amounts["BTCUSDT"] = "0"
    between.poll()
    for _ in range(2):
        between.clock.pass_ms(600)
        between.poll()
    assert between.ledger()["last_known_amt"] == "0"
