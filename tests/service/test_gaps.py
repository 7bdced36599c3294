"""What the bookkeeper never got to see: counted exactly, said once, doubted until shown to be right (incident I50)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p33_sidecar.store import keys
from p33_sidecar.store.result_stream import Cursor, Missing, missing_entries
from tests.service.keeping import Keeping
from tests.service.world import RESULTS, World


@pytest.fixture
def opened(redis_url: str) -> Iterator[Keeping]:
    """BTCUSDT at 0.038, TRXUSDT at 120; ten results of another symbol booked."""
    built = Keeping(redis_url, scope="BTCUSDT TRXUSDT").opened("0.038", TRXUSDT="120")
    others(built, 10)
    built.book()
    yield built
    built.close()


def others(keeping: Keeping, count: int) -> list[str]:
    """So many results that have nothing to do with our symbols."""
    return [keeping.result("1", symbol="ETHUSDT", order_id=str(n), plan_id=f"e{n}") for n in range(count)]


def doubted(keeping: Keeping) -> set[str]:
    """The symbols whose book may lack something."""
    lines = {symbol: kept.line for symbol, kept in keeping.memory.books.items() if kept.line.book}
    return {symbol for symbol, line in lines.items() if line.gap_since(keeping.memory.gap_ms)}


def trimmed(keeping: Keeping) -> None:
    others(keeping, 7)
    keeping.redis.xtrim(RESULTS, maxlen=3, approximate=False)


def trimmed_away(keeping: Keeping) -> None:
    others(keeping, 4)
    keeping.redis.xtrim(RESULTS, maxlen=0, approximate=False)


def some_deleted(keeping: Keeping) -> None:
    ids = others(keeping, 6)
    keeping.redis.xdel(RESULTS, ids[1], ids[2], ids[5])


def trimmed_within_a_backlog(keeping: Keeping) -> None:
    others(keeping, 500)
    keeping.redis.xtrim(RESULTS, maxlen=450, approximate=False)


def deleted_within_a_backlog(keeping: Keeping) -> None:
    ids = others(keeping, 500)
    keeping.redis.xdel(RESULTS, ids[250])


def deleted(keeping: Keeping) -> None:
    keeping.redis.delete(RESULTS)
    keeping.book()


def recreated(keeping: Keeping) -> None:
    keeping.redis.delete(RESULTS)
    others(keeping, 3)


def recreated_and_longer(keeping: Keeping) -> None:
    keeping.redis.delete(RESULTS)
    keeping.clock.pass_ms(1)
    others(keeping, 30)


def recreated_with_a_slow_clock(keeping: Keeping) -> None:
    keeping.redis.delete(RESULTS)
    keeping.clock.ms -= 600_000
    others(keeping, 12)
    keeping.clock.ms += 600_000


LOSSES = [(trimmed, "trimmed", 4), (trimmed_away, "trimmed", 4), (some_deleted, "entries deleted", 3),
          (trimmed_within_a_backlog, "trimmed", 50), (deleted_within_a_backlog, "entries deleted", 1),
          (deleted, "deleted", None), (recreated, "recreated", None), (recreated_and_longer, "recreated", None),
          (recreated_with_a_slow_clock, "recreated", None)]


@pytest.mark.parametrize(("lose", "what", "missing"), LOSSES, ids=[loss[0].__name__ for loss in LOSSES])
def test_i50_what_was_lost_is_one_gap_counted_exactly(opened: Keeping, lose, what: str, missing: int | None) -> None:
    """One event with the number, every book doubted, what is left of the stream booked, and nothing said twice."""
    lose(opened)
    last = opened.result("0.001", order_id="last", plan_id="last")
    opened.book()
    for _ in range(5):
        opened.clock.pass_ms(5_000)
        opened.book()
    (gap,) = opened.events("gap")
    assert (gap["what"], gap["missing"], gap["stream"]) == (what, missing, RESULTS)
    assert doubted(opened) == {"BTCUSDT", "TRXUSDT"}
    assert opened.hooks.seen.count(("gap", RESULTS)) == 1
    assert opened.amt() == "0.037"
    assert opened.redis.hget(keys.CURSOR, RESULTS) == f"{last} {opened.redis.xinfo_stream(RESULTS)['entries-added']}"
    second = opened.again()
    second.book()
    assert len(second.events("gap")) == 1
    second.close()


def test_i50_trimming_what_was_booked_is_no_gap(opened: Keeping) -> None:
    """The usual MAXLEN behind the reader; nothing at all left; entries deleted that were read."""
    opened.redis.xtrim(RESULTS, maxlen=3, approximate=False)
    others(opened, 3)
    opened.book()
    opened.redis.xdel(RESULTS, opened.redis.xrevrange(RESULTS, count=1)[0][0])
    opened.book()
    opened.redis.xtrim(RESULTS, maxlen=0, approximate=False)
    others(opened, 2)
    opened.book()
    assert (opened.events("gap"), doubted(opened)) == ([], set())


def test_i50_a_first_start_on_a_trimmed_stream_is_no_gap(redis_url: str) -> None:
    """What went before anybody read is part of the openings."""
    keeping = Keeping(redis_url)
    others(keeping, 20)
    keeping.redis.xtrim(RESULTS, maxlen=5, approximate=False)
    keeping.opened("0.038")
    assert (keeping.amt(), keeping.events("gap")) == ("0.038", [])
    keeping.close()


def test_i50_no_stream_yet_is_no_gap(redis_url: str) -> None:
    """A stack that has not executed anything."""
    keeping = Keeping(redis_url).opened("0.038")
    keeping.result()
    assert (keeping.book().amt(), keeping.events("gap")) == ("0.01", [])
    keeping.close()


def test_i50_a_gap_ends_with_a_newer_snapshot_that_equals_the_book(opened: Keeping) -> None:
    """To the last digit, asked for after the gap was noticed, symbol by symbol, and it stays ended after a restart."""
    opened.say("0.038", TRXUSDT="120")
    trimmed_away(opened)
    opened.book()
    assert doubted(opened) == {"BTCUSDT", "TRXUSDT"}, "that reply was asked for before"
    opened.clock.pass_ms(1_000)
    opened.poll("0.0381", TRXUSDT="120")
    assert doubted(opened) == {"BTCUSDT"}, "0.0381 is within the tolerance and not equal"
    opened.clock.pass_ms(1_000)
    opened.poll("0.038", TRXUSDT="121")
    assert doubted(opened) == set()
    second = opened.again()
    second.book()
    assert doubted(second) == set()
    assert [entry["cause"] for entry in second.journal() if entry["symbol"] == "BTCUSDT"] == ["opening"]
    second.close()


def test_i50_a_later_gap_doubts_every_book_again(opened: Keeping) -> None:
    """What was shown to be right before it says nothing of it."""
    for _ in range(2):
        trimmed_away(opened)
        opened.book()
        assert doubted(opened) == {"BTCUSDT", "TRXUSDT"}
        opened.clock.pass_ms(1_000)
        opened.poll("0.038", TRXUSDT="120")
        assert doubted(opened) == set()
        opened.clock.pass_ms(1_000)
    assert len(opened.events("gap")) == 2


def test_i50_an_opening_after_the_gap_is_not_doubted(redis_url: str) -> None:
    """A symbol without a book at the time: its opening is younger."""
    keeping = Keeping(redis_url)
    keeping.book()
    others(keeping, 3)
    keeping.book()
    trimmed_away(keeping)
    keeping.book()
    keeping.clock.pass_ms(1_000)
    keeping.opened("0.038")
    assert doubted(keeping) == set()
    keeping.close()


def test_i50_a_verdict_during_a_gap(redis_url: str) -> None:
    """`ledger_gap` for all symbols; with the next agreeing poll the plan is allowed."""
    world = World(redis_url).open_books()
    world.result("foreign", symbol="ETHUSDT")
    world.book()
    world.redis.delete(RESULTS)
    world.book()
    assert world.ask("PARTIAL_75") == "ledger_gap"
    for _ in range(50):
        world.poll()
        if not world.memory.books["BTCUSDT"].line.gap_since(world.memory.gap_ms):
            break
    assert world.ask("PARTIAL_75") == "ALLOW 0.028"
    world.close()


# -- the arithmetic ------------------------------------------------------------------------------------------


def info(*, added: int, length: int, first: str | None, last: str) -> dict:
    """What the server says of a stream."""
    return {"entries-added": added, "length": length, "last-generated-id": last,
            "first-entry": None if first is None else (first, {})}


@pytest.mark.parametrize(("cursor", "said", "readable", "missing"), [
    (Cursor(), None, 0, None), (Cursor("5-0", 5), None, 0, Missing("deleted", None, Cursor())),
    (Cursor("5-0", 5), info(added=5, length=5, first="1-0", last="5-0"), 0, None),
    (Cursor("5-9", 5), info(added=7, length=2, first="5-10", last="5-11"), 2, None),
    (Cursor("5-0", 5), info(added=9, length=2, first="8-0", last="9-0"), 2, Missing("trimmed", 2, Cursor("5-0", 7))),
    (Cursor("5-0", 5), info(added=8, length=7, first="1-0", last="8-0"), 2,
     Missing("entries deleted", 1, Cursor("5-0", 6))),
    (Cursor("5-0", 5), info(added=905, length=900, first="6-0", last="905-0"), None, None),
    (Cursor("5-0", 5), info(added=905, length=899, first="7-0", last="905-0"), None,
     Missing("trimmed", 1, Cursor("5-0", 6))),
    (Cursor("5-0", 5), info(added=905, length=899, first="1-0", last="905-0"), None, None),
    (Cursor("5-0", 5), info(added=4, length=4, first="6-0", last="9-0"), 4,
     Missing("recreated", None, Cursor("0-0", 0))),
    (Cursor("5-0", 5), info(added=6, length=6, first="6-0", last="11-0"), 6,
     Missing("recreated", None, Cursor("0-0", 0))),
    (Cursor("5-0", 5), info(added=50, length=6, first="1-0", last="4-0"), 0,
     Missing("recreated", None, Cursor("0-0", 44))),
])
def test_missing_is_the_difference_of_two_counts(cursor, said, readable, missing) -> None:
    """Entries ever added, less those passed, less those that can be read; ids compared as numbers."""
    assert missing_entries(cursor, said, readable=readable) == missing
