"""Keys that somebody spoiled: the symbol is denied by name and said aloud, everybody else is booked and allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
import redis

from p33_sidecar.rehearsal.exchange import SimExchange
from p33_sidecar.service import identity
from p33_sidecar.service.recall import recall
from p33_sidecar.store import keys
from p33_sidecar.store.positions import PositionStore
from p33_sidecar.store.reading import Reading
from p33_sidecar.store.settling import Person, Settler, SettlingRefused
from tests.service.keeping import Keeping
from tests.service.over_http import closed, served
from tests.service.world import PLANS, RESULTS, VENUE, World

Wreck = Callable[[redis.Redis, str], None]


def another_type(key: Callable[[str], str]) -> Wreck:
    def wreck(client: redis.Redis, symbol: str) -> None:
        client.delete(key(symbol))
        client.rpush(key(symbol), "what is this")
    return wreck


def field(key: Callable[[str], str], name: str, value: str) -> Wreck:
    return lambda client, symbol: client.hset(key(symbol), name, value)


WRECKS: dict[str, Wreck] = {
    "book of another type": another_type(keys.book),
    "book without sense": field(keys.book, "amt", "about a half"),
    "book with a broken number": field(keys.book, "rev", "x"),
    "book gone": lambda client, symbol: client.delete(keys.book(symbol)),
    "orders of another type": another_type(keys.orders),
    "an order's JSON spoilt": field(keys.orders, "id 8389765", "{"),
}


@pytest.fixture
def opened(redis_url: str) -> Iterator[Keeping]:
    """BTCUSDT at 0.038 and one fill of 0.004 booked, TRXUSDT at 120."""
    built = Keeping(redis_url, scope="BTCUSDT TRXUSDT").opened("0.038", TRXUSDT="120")
    built.result("0.004")
    yield built.book()
    built.close()


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("name", WRECKS)
def test_a_wrecked_symbol_stands_in_nobody_elses_way(opened: Keeping, name: str, restart: bool) -> None:
    """Its keys are set aside under another name, its book waits for a person; the other symbol's results are booked."""
    before = opened.redis.keys("quantum:p33:wrecked:*")
    WRECKS[name](opened.redis, "BTCUSDT")
    opened = opened.again() if restart else opened
    opened.result("0.004", timestamp=str(opened.clock.ms // 1000 - 1))
    opened.result("1", symbol="TRXUSDT", order_id="7")
    opened.memory.reread_books.set()
    opened.book()
    assert opened.amt("TRXUSDT") == "119"
    line = opened.line()
    assert "could not be read" in line.tampered
    assert before == []
    assert len(opened.redis.keys("quantum:p33:wrecked:*")) == (0 if name == "book gone" else 1)
    (event,) = opened.events("tampering")
    assert (event["symbol"], event["what"]) == ("BTCUSDT", "unreadable")
    assert ("anomaly", "book_unreadable") in opened.hooks.seen
    assert opened.redis.xlen(keys.REJECTED) == 0
    opened.clock.pass_ms(1_000)
    opened.opened("0.034")
    assert "could not be read" in opened.line().tampered, "nothing heals it but a person"
    opened.close()


@pytest.mark.parametrize("name", WRECKS)
def test_an_old_result_told_after_the_wreck_is_not_booked_again(opened: Keeping, name: str) -> None:
    """What was known of the orders may be lost: results from before are late, whatever a person made of the book."""
    stamp = str(opened.clock.ms // 1000 - 1)
    WRECKS[name](opened.redis, "BTCUSDT")
    opened.memory.reread_books.set()
    opened.book()
    amt = opened.redis.hget(keys.book("BTCUSDT"), "amt")
    opened.clock.pass_ms(60_000)
    opened.result("0.004", timestamp=stamp)
    opened.book()
    assert opened.redis.hget(keys.book("BTCUSDT"), "amt") == amt


@pytest.mark.parametrize("key", [keys.open_permit, lambda s: keys.plan("p9"), lambda s: keys.ISSUED, keys.ledger,
                                 lambda s: keys.taken("p9")], ids=["open", "plan", "issued", "ledger", "taken"])
def test_a_spoilt_key_beside_the_book_does_not_stop_a_booking(opened: Keeping, key) -> None:
    """A permit that cannot be read is none; the fill, its mark and its journal entry are there."""
    opened.redis.delete(key("BTCUSDT"))
    opened.redis.rpush(key("BTCUSDT"), "x")
    opened.result("0.010", order_id="9", plan_id="p9")
    opened.book()
    assert opened.redis.hget(keys.book("BTCUSDT"), "amt") == "0.024"
    assert opened.redis.hexists(keys.orders("BTCUSDT"), "id 9")


@pytest.mark.parametrize("key", [keys.JOURNAL, keys.UNSETTLED, keys.BOOKS])
def test_a_shared_key_of_another_type_stops_bookings_before_the_first_write(opened: Keeping, key: str) -> None:
    """Fail closed: nothing of the booking is there, and when the key is gone the fill is booked, once."""
    opened.result("0.001", order_id="8", status="PARTIALLY_FILLED", plan_id="p8")
    opened.book()
    opened.redis.rename(key, "aside")
    opened.redis.set(key, "x")
    opened.result("0.010", order_id="9")
    with pytest.raises(redis.ResponseError, match=key):
        opened.book()
    assert not opened.redis.hexists(keys.orders("BTCUSDT"), "id 9")
    opened.redis.rename("aside", key)
    assert opened.book().amt() == "0.023"
    assert len(opened.journal("fill")) == 3


def test_orders_of_another_type_are_noticed_without_a_result(opened: Keeping) -> None:
    """By the round that looks at the hashes; a person's adoption is refused by name until then."""
    WRECKS["orders of another type"](opened.redis, "BTCUSDT")
    settler = Settler(opened.redis, reading=Reading(opened.redis, plan_stream=PLANS, result_stream=RESULTS),
                      policy=opened.memory.policy)
    with pytest.raises(SettlingRefused, match=keys.orders("BTCUSDT")):
        settler.adjust("BTCUSDT", Decimal(1), person=Person("me", "why"), force=True)
    opened.clock.pass_ms(20_000)
    opened.book()
    assert "could not be read" in opened.line().tampered
    settler.adjust("BTCUSDT", Decimal(1), person=Person("me", "why"), force=True)
    assert (opened.amt(), opened.line().tampered) == ("1", "")


def test_a_book_that_cannot_be_opened_stands_in_nobody_elses_way(redis_url: str) -> None:
    """Something else lies where its first book would be: set aside and denied, the other symbol's book is opened."""
    keeping = Keeping(redis_url, scope="BTCUSDT TRXUSDT")
    keeping.redis.set(keys.book("BTCUSDT"), "x")
    keeping.redis.set(keys.orders("TRXUSDT"), "x")
    for _ in range(4):
        keeping.opened("0.038", TRXUSDT="120", SOLUSDT="1")
        keeping.memory.scope = frozenset({"BTCUSDT", "TRXUSDT", "SOLUSDT"})
    assert ("could not be read" in keeping.line().tampered, keeping.line().book) == (True, None)
    assert ("could not be read" in keeping.line("TRXUSDT").tampered, keeping.line("TRXUSDT").book) == (True, None)
    assert keeping.amt("SOLUSDT") == "1"
    keeping.close()


# -- verdicts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRECKS)
def test_verdicts_of_a_wrecked_symbol_and_of_another(redis_url: str, name: str) -> None:
    """Never allowed, `ledger_tampered` from the bookkeeper's turn on until a person settles it. The other is free."""
    world = World(redis_url, allowlist=frozenset({"BTCUSDT", "ETHUSDT"}))
    world.exchange.amounts["ETHUSDT"] = "1"
    world.open_books()
    world.result("foreign", qty="0.001")
    world.exchange.amounts["BTCUSDT"] = "0.037"
    world.poll()
    WRECKS[name](world.redis, "BTCUSDT")
    world.result("again", qty="0.001")
    assert world.ask("PARTIAL_75") != "ALLOW 0.027"
    assert world.ask("PARTIAL_75", symbol="ETHUSDT") == "ALLOW 0.75"
    world.book()
    world.poll()
    assert world.ask("PARTIAL_75") == "ledger_tampered"
    reading = Reading(world.redis, plan_stream=PLANS, result_stream=RESULTS)
    settler = Settler(world.redis, reading=reading, policy=world.policy)
    settler.adjust("BTCUSDT", Decimal("0.037"), person=Person("me", "looked"), force=True)
    world.memory.reread_books.set()
    assert world.ask_settled() == "ALLOW 0.027"
    world.close()


def test_an_order_id_with_our_separator_in_it_wrecks_no_book(opened: Keeping) -> None:
    """A producer's odd id, told twice: the fill is booked once, and the next start reads the book that was written."""
    for _ in range(2):
        opened.result("0.004", order_id="12\x1f34")
    second = opened.book().again().book()
    assert (second.amt(), second.line().tampered, second.ledger()["last_order_id"]) == ("0.03", "", "12?34")
    second.close()


@pytest.mark.parametrize("wreck", [
    lambda client: client.hset(keys.FILTERS, "BTCUSDT", "{"),
    lambda client: client.hset(keys.FILTERS, "read_ms", "yesterday"),
    lambda client: (client.delete(keys.FILTERS), client.rpush(keys.FILTERS, "what is this")),
    lambda client: client.hset(keys.ROW_VERSIONS, "BTCUSDT", "new"),
], ids=["a rule", "the time", "another type", "a row's version"])
def test_a_start_on_spoilt_lot_rules_or_versions_asks_the_exchange(
        ready: World, wreck: Callable[[redis.Redis], object]) -> None:
    """A start is no time to end: what the exchange can say again is asked for, and replaces what was there."""
    wreck(ready.redis)
    second = World(ready.redis_url)
    recall(second.link, second.memory, second.clock)
    second.start_again()
    assert PositionStore(second.redis).filters()[1]["BTCUSDT"] == second.exchange.lot_rules["BTCUSDT"]
    assert second.memory.filters == second.exchange.lot_rules and second.memory.last_good_poll
    second.close()


@pytest.mark.parametrize("wreck", [lambda client: client.set(keys.BAN, "soon"),
                                   lambda client: client.rpush(keys.BAN, "what is this")], ids=["text", "list"])
def test_a_start_with_a_ban_that_cannot_be_read_asks_nothing_and_runs(
        redis_url: str, sim: SimExchange, wreck: Callable[[redis.Redis], object]) -> None:
    """Not knowing is no leave to ask, and no reason to end: polls fail by name until it is mended."""
    world = served(redis_url, sim)
    wreck(world.redis)
    recall(world.link, world.memory, world.clock)
    world.poll()
    assert world.memory.last_poll.outcome == "ban_unknown" and not sim.request_count("positionRisk")
    world.redis.delete(keys.BAN)
    world.poll()
    assert world.memory.last_poll.outcome == "ok"
    closed(world)


@pytest.mark.parametrize("junk", [lambda client, key: client.rpush(key, "x"),
                                  lambda client, key: client.set(key, "x y")], ids=["another type", "nonsense"])
@pytest.mark.parametrize(("key", "first", "then"), [
    (keys.POLICY, "ALLOW 0.028", "ALLOW 0.028"),
    (keys.RUN_ID, "store_restarted", "ALLOW 0.028"),
    (keys.VENUE, "venue_mismatch", "venue_mismatch"),
])
def test_a_start_on_a_spoilt_name_of_the_database_runs_and_denies(redis_url: str, key: str, first: str, then: str,
                                                                  junk: Callable[[redis.Redis, str], object]) -> None:
    """Whose it is, which server was trusted, what the thresholds were: the first polls mend what may be mended."""
    World(redis_url).open_books().close()
    with redis.Redis.from_url(redis_url) as client:
        client.delete(key)
        junk(client, key)
    world = World(redis_url)
    if world.memory.ours:
        recall(world.link, world.memory, world.clock)
        world.start_again()
    assert world.ask() == first
    if first == "store_restarted":
        world.poll()
        identity.trust_again(world.link, world.memory)
        assert world.ask() == then
    said = [event["was"] for event in world.records(keys.EVENTS) if event["kind"] == "policy_changed"]
    assert said == ([None] if key == keys.POLICY else [])
    world.close()


def test_a_database_whose_owner_cannot_be_read_is_used_once_that_is_mended(redis_url: str) -> None:
    """Looked at again and again, quietly: it is nobody's to write to until then."""
    with redis.Redis.from_url(redis_url) as client:
        client.rpush(keys.VENUE, "x")
    world = World(redis_url)
    watch = identity.Watch(world.link, world.memory, world.clock)
    for _ in range(3):
        watch.step()
    assert not world.memory.ours and world.ask() == "venue_mismatch" and world.memory.store_epoch == 0
    world.redis.delete(keys.VENUE)
    watch.step()
    assert world.memory.ours and world.redis.get(keys.VENUE) == VENUE
    world.close()
