"""The poller on a real server: what a reply changes, what it does not, and what is known before the first one."""

from __future__ import annotations

from decimal import Decimal

import pytest

from p33_sidecar.core.model import HEDGE, Policy, Snapshot
from p33_sidecar.core.quantity import side_of
from p33_sidecar.errors import ExchangeBanned, StoreUnavailable
from p33_sidecar.exchange import SymbolPosition
from p33_sidecar.service.memory import Memory
from p33_sidecar.store import keys
from p33_sidecar.store.positions import PositionStore, RedisBans
from tests.service.world import VENUE, World


def snapshot(world: World, symbol: str = "BTCUSDT") -> dict[str, str]:
    return world.redis.hgetall(keys.snapshot(symbol))


def last_record(world: World) -> dict:
    return world.records(keys.SNAPSHOTS)[-1]


def events(world: World, kind: str) -> list[dict]:
    return [event for event in world.records(keys.EVENTS) if event["kind"] == kind]


def row(symbol: str, amt: str | None, *, update_time_ms: int = 0, legs_held: bool = False) -> SymbolPosition:
    return SymbolPosition(symbol, None if amt is None else Decimal(amt), amt is None, "0", "0", "10", "0",
                          update_time_ms, legs_held)


# -- a good reply -------------------------------------------------------------------------------------------------


def test_snapshot_has_the_contracts_fields(world: World) -> None:
    """Every field of chapter 2, exact, canonical, as old as the start of the request, and it expires."""
    world.exchange.amounts = {"BTCUSDT": "-0.0120"}
    world.poll()
    hash_ = snapshot(world)
    assert set(hash_) == {"position_amt", "side", "entry_price", "mark_price", "leverage", "unrealized_pnl", "ts_epoch",
                          "ts_iso", "ts_ms", "source"}
    assert (hash_["position_amt"], hash_["side"]) == ("-0.012", "SHORT")
    assert int(hash_["ts_ms"]) == world.memory.last_good_poll.requested_ms
    assert int(hash_["ts_epoch"]) == int(hash_["ts_ms"]) // 1000 and hash_["ts_iso"].endswith("Z")
    assert 3_500_000 < world.redis.pttl(keys.snapshot("BTCUSDT")) <= 3_600_000


def test_flat_symbols_in_scope_are_written_too(world: World) -> None:
    """Flat is a position like any other: amount `0`, side NONE."""
    world.exchange.amounts = {"BTCUSDT": "0.000"}
    world.poll()
    assert (snapshot(world)["position_amt"], snapshot(world)["side"]) == ("0", "NONE")


def test_i19_missing_symbol_is_unknown_and_its_snapshot_ages(world: World) -> None:
    """Left out of a good reply: nothing is written for it, it stays held and in scope, and nobody calls it flat."""
    world.exchange.amounts = {"BTCUSDT": "0.038", "ETHUSDT": "2"}
    world.poll()
    before = snapshot(world, "ETHUSDT")
    del world.exchange.amounts["ETHUSDT"]
    world.poll()
    assert snapshot(world, "ETHUSDT") == before and "ETHUSDT" not in world.memory.positions
    assert world.memory.in_scope("ETHUSDT") and "ETHUSDT" in world.memory.scope
    world.exchange.amounts["ETHUSDT"] = "0"
    world.poll()
    assert snapshot(world, "ETHUSDT")["position_amt"] == "0" and "ETHUSDT" not in world.memory.scope


@pytest.mark.parametrize("kind", ["html", "timeout", "empty_list", "error_body"])
def test_x01_failed_poll_changes_nothing_but_the_record(world: World, kind: str) -> None:
    """A query that failed is no position: hash, memory and scope stay, the poll is recorded by what failed."""
    world.poll()
    before, positions = snapshot(world), dict(world.memory.positions)
    world.exchange.failure = kind
    world.poll()
    assert snapshot(world) == before and world.memory.positions == positions
    assert last_record(world)["outcome"] == kind and last_record(world)["positions"] == []
    assert world.memory.last_poll.outcome == kind and world.memory.last_good_poll.outcome == "ok"


def test_a_symbol_that_the_reply_lacks_is_named_in_the_record(world: World) -> None:
    """Who reads the record later takes a symbol that stands nowhere in it for flat."""
    world.exchange.amounts = {"BTCUSDT": "0.010", "ETHUSDT": "1"}
    world.poll()
    assert "missing_rows" not in last_record(world)
    world.exchange.amounts = {"ETHUSDT": "1"}
    world.poll()
    assert last_record(world)["missing_rows"] == ["BTCUSDT"]


def test_older_row_is_not_newer_truth(world: World) -> None:
    """updateTime may not go backwards, also across a restart: such a symbol is unknown, and said so in the record."""
    world.exchange.amounts, world.exchange.update_times = {"BTCUSDT": "0.010"}, {"BTCUSDT": 2_000}
    world.poll()
    before = snapshot(world)
    world.exchange.amounts, world.exchange.update_times = {"BTCUSDT": "0.038", "ETHUSDT": "0"}, {"BTCUSDT": 1_999}
    world.poll()
    assert snapshot(world) == before and "BTCUSDT" not in world.memory.positions
    assert last_record(world)["older_rows"] == ["BTCUSDT"]
    again = World(world.redis_url)
    again.exchange.amounts, again.exchange.update_times = {"BTCUSDT": "0.038", "ETHUSDT": "0"}, {"BTCUSDT": 1_999}
    again.poll()
    assert snapshot(again) == before
    again.exchange.update_times["BTCUSDT"] = 2_000
    again.poll()
    assert snapshot(again)["position_amt"] == "0.038"
    again.close()


def test_i55_hedge_rows_are_side_hedge_without_an_amount(ready: World) -> None:
    """LONG and SHORT rows: no position_amt, deny by name; back in one-way mode an older BOTH row is truth again."""
    ready.exchange.update_times["BTCUSDT"] = 5_000
    ready.exchange.amounts["BTCUSDT"] = None
    ready.poll()
    assert snapshot(ready)["side"] == "HEDGE" and "position_amt" not in snapshot(ready)
    assert ready.ask() == "hedge_mode_unsupported"
    ready.exchange.update_times["BTCUSDT"], ready.exchange.amounts["BTCUSDT"] = 4_000, "0.038"
    ready.poll()
    assert snapshot(ready)["position_amt"] == "0.038" and ready.ask() == "ALLOW 0.028"


def test_i55_the_accounts_own_word_denies_before_any_row_shows_it(ready: World) -> None:
    """Hedge mode read from the account: every symbol is denied by name."""
    ready.memory.hedge_account = True
    assert ready.ask() == "hedge_mode_unsupported"
    now = {"now_ms": ready.clock.now_ms(), "mono_ns": ready.clock.mono_ns()}
    assert "hedge_mode_unsupported" in ready.memory.not_ready(**now)


# -- scope --------------------------------------------------------------------------------------------------------


def test_i28_position_outside_the_list_is_in_scope(world: World) -> None:
    """A shrunken list leaves no position unclosable; it gets its book, and its verdict."""
    world.exchange.amounts = {"BTCUSDT": "0", "ETHUSDT": "2"}
    world.open_books()
    assert world.ask("CLOSE_FULL", symbol="ETHUSDT") == "ALLOW 2"
    assert world.ask("CLOSE_FULL", symbol="TRXUSDT") == "symbol_not_allowed"


def test_i28_scope_is_known_from_redis_before_the_first_poll(world: World, redis_url: str) -> None:
    """Restarted with a list that lacks it: the plan is judged on what Redis holds, not called a stranger."""
    world.exchange.amounts = {"BTCUSDT": "0", "ETHUSDT": "2"}
    world.open_books()
    again = World(redis_url)
    assert again.ask("CLOSE_FULL", symbol="ETHUSDT") != "symbol_not_allowed"
    again.memory.recall(PositionStore(again.redis).snapshots())
    assert "ETHUSDT" in again.memory.scope and again.memory.in_scope("ETHUSDT")
    again.close()


def test_symbol_that_leaves_the_scope_is_written_flat_once_more(world: World, redis_url: str) -> None:
    """Closed, also while we were away: its hash says 0, and from then on it is left to expire."""
    world.exchange.amounts = {"BTCUSDT": "0", "ETHUSDT": "2"}
    world.poll()
    again = World(redis_url)
    again.memory.recall(PositionStore(again.redis).snapshots())
    again.exchange.amounts = {"BTCUSDT": "0", "ETHUSDT": "0"}
    again.poll()
    flat = snapshot(again, "ETHUSDT")
    assert (flat["position_amt"], flat["side"]) == ("0", "NONE")
    again.poll()
    assert snapshot(again, "ETHUSDT") == flat
    again.close()


def test_hedge_legs_that_are_flat_are_not_in_scope(world: World) -> None:
    """In hedge mode every symbol has two rows: only one with a leg is held."""
    world.exchange.rows = {"BTCUSDT": row("BTCUSDT", None), "ETHUSDT": row("ETHUSDT", None, legs_held=True),
                           "TRXUSDT": row("TRXUSDT", None)}
    world.poll()
    assert world.memory.scope == {"BTCUSDT", "ETHUSDT"}
    assert [held["symbol"] for held in last_record(world)["positions"]] == ["ETHUSDT"]


# -- the record ---------------------------------------------------------------------------------------------------


def test_every_poll_has_one_record_and_the_scope_whenever_it_changed(world: World) -> None:
    """poll_id, times, outcome, what is not flat with its version, and the scope when it is another."""
    world.exchange.amounts, world.exchange.update_times = {"BTCUSDT": "0.038", "ETHUSDT": "0"}, {"BTCUSDT": 7}
    world.poll()
    world.poll()
    world.exchange.amounts["ETHUSDT"] = "1"
    world.poll()
    first, second, third = world.records(keys.SNAPSHOTS)
    assert first["scope"] == ["BTCUSDT"] and "scope" not in second and third["scope"] == ["BTCUSDT", "ETHUSDT"]
    assert first["v"] == 1 and first["requested_ms"] <= first["received_ms"] and first["outcome"] == "ok"
    (held,) = first["positions"]
    assert (held["symbol"], held["position_amt"], held["update_time_ms"]) == ("BTCUSDT", "0.038", 7)
    ids = [fields["poll_id"] for _, fields in world.redis.xrange(keys.SNAPSHOTS)]
    assert len(set(ids)) == 3


def test_i18_one_request_a_poll_for_566_symbols(redis_url: str) -> None:
    """However many symbols: one request, and every one of them has its snapshot."""
    world = World(redis_url, allowlist=frozenset(f"S{n}USDT" for n in range(566)))
    world.exchange.amounts = dict.fromkeys(world.memory.allowlist, "0")
    world.poll()
    assert world.exchange.polls == 1 and len(world.memory.snapshots) == 566
    assert len({snapshot(world, f"S{n}USDT")["ts_ms"] for n in range(566)}) == 1
    world.close()


def test_record_stream_of_another_type_writes_nothing(world: World) -> None:
    """A wrecked key is named, and no snapshot without a record comes of it; mended, the next poll is whole."""
    world.redis.set(keys.SNAPSHOTS, "x")
    with pytest.raises(StoreUnavailable, match=keys.SNAPSHOTS):
        world.poller.poll()
    assert not snapshot(world) and not world.memory.snapshots
    world.redis.delete(keys.SNAPSHOTS)
    world.poll()
    assert snapshot(world) and last_record(world)["scope"] == ["BTCUSDT"]


def test_snapshot_key_of_another_type_is_replaced(world: World) -> None:
    """Somebody's STRING at a snapshot's key does not blind us for ever."""
    world.redis.set(keys.snapshot("BTCUSDT"), "x")
    world.poll()
    assert snapshot(world)["position_amt"] == "0.038"


# -- bans ---------------------------------------------------------------------------------------------------------


def test_i22_no_poll_is_due_during_a_ban_and_it_is_told_once(world: World) -> None:
    """The ban's end is when the next poll is due, whoever wants a refresh; one record, no request."""
    until_ms = world.clock.now_ms() + 3_600_000

    def banned():
        raise ExchangeBanned(until_ms)

    world.exchange.positions = banned
    world.poll()
    world.memory.refresh_wanted.set()
    assert world.poller.due_in_ms() > 3_500_000 and not world.poller.step(wait_s=0.001)
    assert [record["outcome"] for record in world.records(keys.SNAPSHOTS)] == ["banned"]
    assert "exchange_banned" in world.memory.not_ready(now_ms=world.clock.now_ms(), mono_ns=world.clock.mono_ns())


def test_i22_ban_is_kept_in_redis_until_its_end_with_one_event(world: World) -> None:
    """The later end wins; key and event name it; an unreadable key is not `no ban`."""
    bans, until_ms = RedisBans(world.redis, by="test"), world.clock.now_ms() + 60_000
    bans.set_ban(until_ms, "banned")
    bans.set_ban(until_ms - 1, "throttled_429")
    assert RedisBans(world.redis).ban_until_ms() == until_ms and 0 < world.redis.pttl(keys.BAN) <= 61_001
    (event,) = events(world, "ban")
    assert (event["until_ms"], event["by"], event["why"]) == (until_ms, "test", "banned") and event["at_ms"] > 0
    world.redis.set(keys.BAN, "soon")
    with pytest.raises(StoreUnavailable, match=keys.BAN):
        bans.ban_until_ms()


# -- memory of the start ------------------------------------------------------------------------------------------


def test_recall_knows_longs_shorts_and_legs() -> None:
    """Anything that is not flat was held, and is in scope."""
    memory = Memory(policy=Policy(), venue=VENUE, instance="x", allowlist=frozenset({"A"}), configured=True)
    amounts = {"L": Decimal(1), "S": Decimal(-1), "F": Decimal(0), "H": None}
    memory.recall(Snapshot(symbol=symbol, amt=amt, ts_ms=1, side=HEDGE if amt is None else side_of(amt))
                  for symbol, amt in amounts.items())
    assert memory.held == {"L", "S", "H"} and memory.scope == {"L", "S", "H"}


def test_an_account_that_was_reset_is_believed_after_the_runbooks_remedy(ready: World, redis_url: str) -> None:
    """Its rows are older than those seen, and stay so after a restart; without the versions, a restart takes them."""
    ready.exchange.update_times["BTCUSDT"] = 1_000
    ready.poll()
    for forget, seen in ((False, False), (True, True)):
        if forget:
            ready.redis.delete(keys.ROW_VERSIONS)
        second = World(redis_url)
        second.exchange.update_times["BTCUSDT"] = 1
        second.start_again()
        assert ("BTCUSDT" in second.memory.positions) is seen
        second.close()
