"""The booking step on a real server: what it refuses, what it leaves alone, and that many at once are one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier

import msgspec
import pytest
import redis

from p33_sidecar.core.ledger import OrderMark
from p33_sidecar.core.model import Book
from p33_sidecar.store import keys, scripts
from p33_sidecar.store.books import BookStore, Change, Cursor, JournalEntry, Unsettled, Wrecked
from p33_sidecar.store.changes import mark_json
from p33_sidecar.store.state import BookLine

RESULTS = "quantum:apply.result"
MARK = OrderMark(booked_qty=Decimal("0.0280"), settled=True, side="SELL", order_id="1", names=("plan p1 ",))


@pytest.fixture
def store(redis_client: redis.Redis) -> BookStore:
    """An empty database with one result in the stream."""
    scripts.load_all(redis_client)
    redis_client.xadd(RESULTS, {"plan_id": "p1"}, id="5-0")
    return BookStore(redis_client, result_stream=RESULTS)


def line(amt: str, *, rev: int = 1, ver: int = 1, **more) -> BookLine:
    return BookLine(Book(symbol="BTCUSDT", amt=Decimal(amt), rev=rev), ver=ver, **more)


def change(amt: str = "0.010", *, ver: int = 0, rev: int = 1, **more) -> Change:
    """A booking of entry 5-0, the first of the stream."""
    entry = JournalEntry(1, "BTCUSDT", rev, "fill", "-0.028", "0.038", amt, 1)
    told = {"cursor_from": Cursor("0-0", 0), "cursor_to": Cursor("5-0", 1), "marks": {"id 1": MARK},
            "names": {"plan p1 ": "id 1"}, "journal": (entry,), "write_view": True, "plan_id": "p1", "result_ms": 5}
    return Change(symbol="BTCUSDT", ver=ver, line=line(amt, rev=rev, ver=ver + 1), **(told | more))


def test_what_was_written_is_read_again(store: BookStore) -> None:
    """Book, marks under all names, decimals as canonical text, and what waits for its fate."""
    waiting = Unsettled("BTCUSDT", "id 2", "p2", "2", "SELL", True, 5, "p33-p2")
    assert store.change(change(unsettled=(waiting,))) == ""
    assert store.line("BTCUSDT") == line("0.010")
    assert store.symbols() == {"BTCUSDT"}
    horizon_ms, known = store.known("BTCUSDT", ["id 1", "plan p1 ", "id 9"])
    assert (horizon_ms, known) == (0, {"id 1": ("id 1", MARK), "plan p1 ": ("id 1", MARK)})
    assert '"booked_qty":"0.028"' in mark_json(MARK)
    assert store.unsettled() == [waiting]
    assert [key for key, _, _ in store.marks("BTCUSDT")] == ["id 1"]


@pytest.mark.parametrize("wrong", [
    {"ver": 1}, {"cursor_from": Cursor("4-0", 0)}, {"cursor_to": Cursor("6-0", 1)}, {"cursor_to": Cursor("5-1", 1)},
    {"quiet_after": Cursor("4-9", 0)},
], ids=["another version", "another cursor", "an entry that is not there", "not the next entry", "not quiet"])
def test_what_has_moved_is_refused_and_nothing_is_written(store: BookStore, wrong: dict) -> None:
    """The step rests on the book's version, the cursor, and the very next entry of the stream."""
    before = store.redis.keys()
    assert store.change(change(**wrong)) is None
    assert store.redis.keys() == before


def test_a_booking_never_skips_an_entry(store: BookStore) -> None:
    """The second entry cannot be booked before the first."""
    store.redis.xadd(RESULTS, {"plan_id": "p2"}, id="6-0")
    assert store.change(change(cursor_to=Cursor("6-0", 1))) is None
    assert store.change(change()) == ""
    assert store.change(change(ver=1, cursor_from=Cursor("5-0", 1), cursor_to=Cursor("6-0", 2))) == ""


def test_i29_many_at_once_book_one_entry_once(store: BookStore, redis_url: str) -> None:
    """Eight connections with the same change: one makes it, the others are told that it has moved."""
    together = Barrier(8)

    def book(_: int) -> str | None:
        with redis.Redis.from_url(redis_url, decode_responses=True, protocol=2) as client:
            together.wait()
            return BookStore(client, result_stream=RESULTS).change(change())

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(book, range(8)))
    assert sorted(outcomes, key=str) == ["", *[None] * 7]
    assert store.redis.xlen(keys.JOURNAL) == 1


@pytest.mark.parametrize("key", [keys.book("BTCUSDT"), keys.orders("BTCUSDT"), keys.UNSETTLED, keys.JOURNAL,
                                 keys.CURSOR, keys.BOOKS])
def test_i35_types_are_looked_at_before_the_first_write(store: BookStore, key: str) -> None:
    """A script that fails half-way keeps what it wrote: an order marked and not booked would be a lost fill."""
    store.redis.set(key, "x")
    before = sorted(store.redis.keys())
    with pytest.raises((Wrecked, redis.ResponseError), match=key):
        store.change(change())
    assert sorted(store.redis.keys()) == before
    assert store.redis.get(key) == "x"


@pytest.mark.parametrize(("ends", "told"), [
    (lambda r: None, {"result_ms": 5}), (lambda r: r.hset(keys.ISSUED, "BTCUSDT", "p1 n 4 9 0.038 1"), {}),
    (lambda r: r.hset(keys.ISSUED, "BTCUSDT", "p1 n 6 9 0.038 1"), {"result_ms": 5}),
], ids=["no permit", "open", "younger than the result"])
def test_a_result_ends_the_open_permit_of_its_plan(store: BookStore, ends: Callable, told: dict) -> None:
    """Only one that was issued before it; a result from before the permit says nothing of it."""
    ends(store.redis)
    issued = store.redis.hget(keys.ISSUED, "BTCUSDT")
    ended = store.change(change(**told))
    over = bool(issued) and issued.startswith("p1 n 4")
    assert ended == ("p1" if over else "")
    assert store.redis.hexists(keys.ISSUED, "BTCUSDT") == (bool(issued) and not over)


@pytest.mark.parametrize(("ending", "ends"), [("over", True), ("other", False)])
def test_a_taken_permit_ends_only_with_a_result_that_settles_it(store: BookStore, ending: str, ends: bool) -> None:
    """Executed, rejected or not sent; a refusal of somebody else's second try does not."""
    store.redis.hset(keys.ISSUED, "BTCUSDT", "p1 n 4 9 0.038 1")
    store.redis.set(keys.taken("p1"), "n token")
    assert (store.change(change(ending=ending)) == "p1") is ends


def test_a_change_of_the_book_ends_the_open_permit(store: BookStore) -> None:
    """Whoever is about to take it hears that the facts changed."""
    store.change(change())
    store.redis.set(keys.open_permit("BTCUSDT"), "p9 nonce", px=60_000)
    store.change(Change(symbol="BTCUSDT", ver=1, line=line("0.010", rev=1, ver=2)))
    assert store.redis.exists(keys.open_permit("BTCUSDT"))
    store.change(Change(symbol="BTCUSDT", ver=2, line=line("0.020", rev=2, ver=3)))
    assert not store.redis.exists(keys.open_permit("BTCUSDT"))
    assert store.redis.get(keys.ENDED + "p9") == "nonce facts_changed"


def test_forgetting_leaves_what_changed_meanwhile(store: BookStore) -> None:
    """A mark told of between reading and forgetting stays; names that lead elsewhere by now stay too."""
    store.change(change())
    raw = store.redis.hget(keys.orders("BTCUSDT"), "id 1")
    store.redis.hset(keys.orders("BTCUSDT"), "id 1", mark_json(msgspec.structs.replace(MARK, seen_ms=9)))
    forget = ([keys.orders("BTCUSDT"), keys.book("BTCUSDT")], [7, "id 1", raw, 1, "plan p1 "])
    assert scripts.run(store.redis, "forget", *forget) == 0
    assert store.redis.hlen(keys.orders("BTCUSDT")) == 2
    assert store.known("BTCUSDT", ["id 1"])[0] == 7
    assert store.forget("BTCUSDT", horizon_ms=8, seen_before_ms=10) == 1
    assert store.known("BTCUSDT", ["id 1", "plan p1 "]) == (8, {})
    assert store.redis.hlen(keys.orders("BTCUSDT")) == 0


def test_the_horizon_never_goes_back(store: BookStore) -> None:
    """A clock that was set back forgets nothing more."""
    for horizon_ms in (100, 50):
        scripts.run(store.redis, "forget", [keys.orders("BTCUSDT"), keys.book("BTCUSDT")], [horizon_ms])
    assert store.known("BTCUSDT", ["id 1"])[0] == 100
