"""What the store's steps promise, on a real server and on the simulation's fake one: the two may not drift apart."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from p33_sidecar.core.model import HEDGE, Filters, Policy, Snapshot
from p33_sidecar.core.quantity import side_of
from p33_sidecar.errors import StoreUnavailable
from p33_sidecar.store import keys, scripts, switches
from p33_sidecar.store.connect import Link, server_ms
from p33_sidecar.store.positions import PositionStore, RedisBans
from p33_sidecar.store.verdicts import GroupMissing, VerdictStore
from tests.sim.fakes import FakeStore, HandClock, on_clock

PLANS, RESULTS = "quantum:apply.plan", "quantum:apply.result"
MINUTE_MS = 60_000


@pytest.fixture(params=["real", "fake"])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    """A connection to an empty database of either kind."""
    if request.param == "fake":
        with on_clock(clock := HandClock()):
            yield FakeStore(clock).link()
        return
    made = Link(request.getfixturevalue("redis_url"), name="contract")
    made.redis.ping()
    yield made
    made.close()


def snapshot(amt: str | None, ts_ms: int, symbol: str = "BTCUSDT") -> Snapshot:
    held = None if amt is None else Decimal(amt)
    return Snapshot(symbol=symbol, amt=held, ts_ms=ts_ms, side=HEDGE if held is None else side_of(held))


def write(link: Link, *snapshots: Snapshot, versions: dict[str, int] | None = None, now_ms: int = 0) -> list[str]:
    return PositionStore(link.redis).write(list(snapshots), versions=versions or {}, poll_id="1-a", record=b"{}",
                                           now_ms=now_ms or server_ms(link.redis))


def verdicts(link: Link) -> VerdictStore:
    return VerdictStore(link, plan_stream=PLANS, result_stream=RESULTS, consumer="here", policy=Policy(), key=None)


# -- snapshots --------------------------------------------------------------------------------------------------------


def test_snapshot_is_read_back_as_written(link: Link) -> None:
    """Exact, short and long, legs without an amount; with its life and one record a write."""
    now_ms = server_ms(link.redis)
    written = [snapshot("-0.012", now_ms), snapshot("1000000", now_ms, "MOGUSDT"), snapshot(None, now_ms, "ETHUSDT")]
    assert write(link, *written) == []
    found = {each.symbol: each for each in PositionStore(link.redis).snapshots()}
    assert found == {each.symbol: each for each in written}
    assert not link.redis.hexists(keys.snapshot("ETHUSDT"), "position_amt")
    assert 0 < link.redis.pttl(keys.snapshot("BTCUSDT")) <= keys.SNAPSHOT_TTL_MS
    assert link.redis.xlen(keys.SNAPSHOTS) == 1


def test_older_snapshot_never_replaces_a_newer_one(link: Link) -> None:
    """It is named; one from the future (a clock that was wrong) is replaced all the same."""
    now_ms = server_ms(link.redis)
    write(link, snapshot("2", now_ms))
    assert write(link, snapshot("1", now_ms - 1)) == ["BTCUSDT"]
    assert link.redis.hget(keys.snapshot("BTCUSDT"), "position_amt") == "2"
    write(link, snapshot("3", now_ms + 3_600_000), now_ms=now_ms + 3_600_000)
    assert write(link, snapshot("4", now_ms), now_ms=now_ms) == []
    assert link.redis.hget(keys.snapshot("BTCUSDT"), "position_amt") == "4"


def test_snapshot_that_contradicts_an_open_permit_ends_it(link: Link) -> None:
    """In the same step, with the reason a taker hears; one that agrees leaves it."""
    now_ms = server_ms(link.redis)
    link.redis.hset(keys.ISSUED, "BTCUSDT", f"p1 n1 {now_ms} {now_ms + MINUTE_MS} 0.038 1")
    link.redis.set(keys.open_permit("BTCUSDT"), "p1 n1", px=MINUTE_MS)
    write(link, snapshot("0.038", now_ms))
    assert link.redis.get(keys.open_permit("BTCUSDT")) == "p1 n1"
    write(link, snapshot("0.010", now_ms + 1))
    assert link.redis.get(keys.open_permit("BTCUSDT")) is None
    assert link.redis.get(keys.ENDED + "p1") == "n1 facts_changed"


@pytest.mark.parametrize("wrecked", [keys.SNAPSHOTS, keys.ROW_VERSIONS, keys.ISSUED])
def test_key_of_another_type_stops_the_step_before_its_first_write(link: Link, wrecked: str) -> None:
    """Named, and nothing is half written."""
    link.redis.set(wrecked, "x")
    with pytest.raises(StoreUnavailable, match=wrecked):
        write(link, snapshot("1", server_ms(link.redis)), versions={"BTCUSDT": 5})
    assert link.redis.keys("*") == [wrecked]


def test_row_versions_are_remembered(link: Link) -> None:
    """Across a restart: symbol to the newest updateTime."""
    write(link, versions={"BTCUSDT": 1_769_301_010_976, "币安人生USDT": 7})
    assert PositionStore(link.redis).row_versions() == {"BTCUSDT": 1_769_301_010_976, "币安人生USDT": 7}


def test_filters_are_replaced_whole(link: Link) -> None:
    """A symbol that is gone from the list is gone from the store."""
    store = PositionStore(link.redis)
    assert store.filters() is None
    btc = Filters("BTCUSDT", "TRADING", Decimal("0.001"), Decimal("0.001"), Decimal(120))
    trx = Filters("TRXUSDT", "SETTLING", Decimal(1), Decimal(1), Decimal(5_000_000))
    store.put_filters({"BTCUSDT": btc, "TRXUSDT": trx}, read_ms=1)
    store.put_filters({"BTCUSDT": btc}, read_ms=2)
    assert store.filters() == (2, {"BTCUSDT": btc})


# -- switches, bans, identity -----------------------------------------------------------------------------------------


def test_halts_are_found_only_where_they_stand(link: Link) -> None:
    """Global, by symbol, set by hand in any type; none means one question."""
    assert switches.halts_of(link.redis, ["BTCUSDT"]) == {}
    link.redis.hset(keys.halt("BTCUSDT"), "x", "y")
    assert not switches.glance(link.line()).halted
    switches.halt(link.redis, by="me", reason="why", at_ms=5)
    assert switches.glance(link.line()).halted
    found = switches.halts_of(link.redis, ["BTCUSDT", "ETHUSDT"])
    assert set(found) == {"", "BTCUSDT"}
    assert found["BTCUSDT"] == {"reason": "set by hand"} and found[""]["reason"] == "why"


def test_ban_keeps_its_later_end(link: Link) -> None:
    """And is gone when it is over."""
    bans, until_ms = RedisBans(link.redis), server_ms(link.redis) + MINUTE_MS
    bans.set_ban(until_ms, "banned")
    bans.set_ban(until_ms - 1, "again")
    assert bans.ban_until_ms() == until_ms and 0 < link.redis.pttl(keys.BAN) <= MINUTE_MS + 1_000
    assert link.redis.xlen(keys.EVENTS) == 1


def test_venue_belongs_to_the_first(link: Link) -> None:
    """Whoever comes second hears whose it is."""
    assert switches.claim_venue(link.redis, "a:1") == "a:1" == switches.claim_venue(link.redis, "b:2")
    assert switches.glance(link.line()) == ("", "a:1", False)


def test_server_we_have_written_to_is_no_first_start(link: Link) -> None:
    """A database that holds records of ours but not the server's name has lost it."""
    assert not switches.knows_us(link.redis)
    write(link, snapshot("1", server_ms(link.redis)))
    assert switches.knows_us(link.redis)
    switches.doubt_server(link.redis)
    assert switches.known_run_id(link.redis) not in ("", link.run_id)


def test_changed_thresholds_are_told_once(link: Link) -> None:
    """The first start has nothing to compare with."""
    told = [switches.note_policy(link.redis, raw, hash_=hash_, at_ms=1, by="me") for raw, hash_ in (
        (b'{"a":1}', "h1"), (b'{"a":1}', "h1"), (b'{"a":2}', "h2"))]
    assert told == [False, False, True] and link.redis.xlen(keys.EVENTS) == 1


# -- the plan stream --------------------------------------------------------------------------------------------------


def test_group_is_made_where_it_is_missing_and_reads_what_is_young(link: Link) -> None:
    """Entries older than the plans' greatest age are not for us; a second making changes nothing."""
    store, now_ms = verdicts(link), server_ms(link.redis)
    link.redis.xadd(PLANS, {"plan_id": "old"}, id=f"{now_ms - 61_000}-0")
    link.redis.xadd(PLANS, {"plan_id": "young"}, id=f"{now_ms - 1_000}-0")
    with pytest.raises(GroupMissing):
        store.new_plans(count=10, block_ms=None)
    assert store.ensure_group(now_ms) and not store.ensure_group(now_ms)
    ((entry_id, fields),) = store.new_plans(count=10, block_ms=None)
    assert fields == {"plan_id": "young"}
    assert store.own_pending() == [(entry_id, fields)]
    store.pass_over(entry_id)
    assert store.own_pending() == []


def test_state_of_nothing_is_a_state(link: Link) -> None:
    """Fourteen texts, whatever is missing, at the server's time."""
    scripts.load_all(link.redis)
    moved = verdicts(link).read_state("BTCUSDT", "p1")
    assert abs(moved.now_ms - server_ms(link.redis)) < MINUTE_MS
    assert (moved.state.halted, moved.state.held, moved.state.view, moved.state.unbooked) == ("0", "0", "ok", "0")
