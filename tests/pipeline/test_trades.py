"""The exchange's own record, asked for over HTTP and archived once: by symbol and id, late rows included."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from p33_pipeline.archive.trades import NOTE, OVERLAP_MS, WEEK_MS, TradeArchiver, reaches
from p33_pipeline.errors import HistoryUnreadable, SourceUnavailable
from p33_pipeline.history import TABLES, History
from p33_pipeline.history.place import Folder
from p33_sidecar.exchange import Credentials, Exchange
from p33_sidecar.exchange import client as exchange_client
from p33_sidecar.rehearsal.exchange.limits import Limits
from p33_sidecar.rehearsal.exchange.sim import SimExchange
from p33_sidecar.store.positions import RedisBans

from .conftest import DAY_MS, MIDNIGHT_MS, Fuse, Killed, MortalFolder


class Clock:
    """The exchange's time and ours, moved by hand."""

    def __init__(self) -> None:
        self.now_ms = MIDNIGHT_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sim(clock) -> Iterator[SimExchange]:
    with SimExchange(symbols=3, clock=clock) as running:
        yield running


@pytest.fixture
def exchange(sim, clock, redis_client) -> Iterator[Exchange]:
    found = Exchange(sim.url, credentials=Credentials(sim.api_key, sim.api_secret), bans=RedisBans(redis_client),
                     now_ms=clock)
    yield found
    found.close()


def trade_ids(history: History) -> list[int]:
    return sorted(history.scan(TABLES["trades"], columns=["trade_id"])["trade_id"].to_pylist())


def move(sim: SimExchange, clock: Clock, amounts: list[str], *, apart_ms: int = 1000) -> None:
    """Trade a position by hand from one amount to the next."""
    for amt in amounts:
        clock.now_ms += apart_ms
        sim.set_position("BTCUSDT", amt)


def test_trades_arrive_once_with_the_name_of_their_order(sim, clock, exchange, history):
    """Over two runs whose windows overlap; exact to the digit, with the client id the trade itself does not tell."""
    archiver = TradeArchiver(exchange, history, now_ms=clock)
    move(sim, clock, ["0.038", "0.010"])
    sim.liquidate("BTCUSDT")
    clock.now_ms += 5000
    assert archiver.run(["BTCUSDT", "ETHUSDT"], since_ms=MIDNIGHT_MS) == 3
    move(sim, clock, ["-0.5"])
    clock.now_ms += 5000
    assert archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS) == 1
    assert archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS) == 0
    rows = history.scan(TABLES["trades"]).to_pylist()
    assert [(row["side"], row["qty"]) for row in rows] == [
        ("BUY", Decimal("0.038")), ("SELL", Decimal("0.028")), ("SELL", Decimal("0.010")), ("SELL", Decimal("0.5"))]
    assert [row["client_order_id"].split("_")[0].split("-")[0] for row in rows] == ["web", "web", "autoclose", "web"]
    assert len(set(trade_ids(history))) == 4
    assert reaches(history)["ETHUSDT"].from_ms == MIDNIGHT_MS


def test_weeks_and_full_pages_are_walked_through(sim, clock, exchange, history, monkeypatch):
    """Nine trades in one millisecond and some two weeks later, with pages of four: none is missed."""
    monkeypatch.setattr(exchange_client, "PAGE", 4)
    monkeypatch.setattr("p33_pipeline.archive.trades.PAGE", 4)
    move(sim, clock, [f"0.{n}" for n in range(1, 10)], apart_ms=0)
    clock.now_ms += 2 * WEEK_MS + DAY_MS
    move(sim, clock, ["1", "2"])
    clock.now_ms += 5000
    assert TradeArchiver(exchange, history, now_ms=clock).run(["BTCUSDT"], since_ms=MIDNIGHT_MS) == 11
    assert len(set(trade_ids(history))) == 11
    assert None not in history.scan(TABLES["trades"])["client_order_id"].to_pylist()


def test_a_late_row_is_archived_by_the_next_run(sim, clock, exchange, history):
    """The exchange shows a trade only after we have read past its time."""
    archiver = TradeArchiver(exchange, history, now_ms=clock)
    sim.app.venue.lag_ms = 60_000
    move(sim, clock, ["0.1"])
    clock.now_ms += 5000
    assert archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS) == 0
    clock.now_ms += OVERLAP_MS // 2
    assert archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS) == 1


def test_a_clock_that_was_ahead_for_a_while_loses_no_trade(sim, clock, exchange, history):
    """The server's, by which we ask: half of an hour was asked for before it had come, and never again."""
    ours = Clock()
    ahead = Exchange(sim.url, credentials=Credentials(sim.api_key, sim.api_secret), bans=NoBans(), now_ms=ours)
    archiver = TradeArchiver(ahead, history, now_ms=ours)
    for turn in range(1, 9):
        move(sim, clock, [f"0.{turn}"], apart_ms=300_000)
        ours.now_ms = clock.now_ms + (3_600_000 if turn < 6 else 0)
        archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS)
    clock.now_ms += 5000
    ours.now_ms = clock.now_ms
    archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS)
    ahead.close()
    assert len(trade_ids(history)) == 8
    assert MIDNIGHT_MS < reaches(history)["BTCUSDT"].until_ms <= clock.now_ms


class NoBans:
    """Nobody was told to stay away."""

    def ban_until_ms(self) -> int:
        return 0

    def set_ban(self, until_ms: int, why: str) -> None:
        raise AssertionError(why)


def test_more_symbols_than_a_minutes_weight_allows_are_all_read(clock, history, monkeypatch):
    """Of 400 symbols the last 60 were never asked for, and every run failed: theirs is the next minute."""
    with SimExchange(symbols=400, clock=clock) as sim:
        symbols = sorted(sim.app.venue.engine.contracts)
        sim.set_position(symbols[-1], "5")
        clock.now_ms += 5000
        many = Exchange(sim.url, credentials=Credentials(sim.api_key, sim.api_secret), bans=NoBans(), now_ms=clock)
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock.now_ms += round(seconds * 1000)

        write, notes = history.place.write, []
        monkeypatch.setattr(history.place, "write", lambda *given: notes.append(given[0]) or write(*given))
        assert TradeArchiver(many, history, now_ms=clock, sleep=sleep).run(symbols, since_ms=MIDNIGHT_MS) == 1
        assert notes.count(NOTE) == 2
        assert len(slept) == 1 and 50 < slept[0] < 60 and set(reaches(history)) == set(symbols)
        many.close()


def test_a_run_that_was_not_enough_for_all_is_gone_on_with(clock, history, monkeypatch):
    """Where nobody may wait any longer the run says so; the next begins with those whose turn it is."""
    monkeypatch.setattr("p33_pipeline.archive.trades.PAUSES", 0)
    clock.now_ms += 5000
    with SimExchange(symbols=3, clock=clock, limits=Limits(weight_per_minute=15)) as sim:
        names = sorted(sim.app.venue.engine.contracts)
        few = Exchange(sim.url, credentials=Credentials(sim.api_key, sim.api_secret), bans=NoBans(), now_ms=clock)
        few.filters()
        archiver = TradeArchiver(few, history, now_ms=clock)
        for turn in range(2):
            with pytest.raises(SourceUnavailable, match=f"no trades of {names[2 - turn]} .*used this minute"):
                archiver.run(names, since_ms=MIDNIGHT_MS)
            clock.now_ms += 60_000
        assert set(reaches(history)) == set(names)
        few.close()


def test_killed_at_every_step_each_trade_stands_once(sim, clock, exchange, tmp_path):
    """Between the commit and the note of how far it goes, too."""
    move(sim, clock, ["0.1", "0.2"], apart_ms=DAY_MS)
    clock.now_ms += 5000
    step = 0
    while True:
        step += 1
        root, fuse = str(tmp_path / f"at-{step}"), Fuse(step)
        try:
            TradeArchiver(exchange, History(MortalFolder(root, fuse)), now_ms=clock).run(["BTCUSDT"],
                                                                                         since_ms=MIDNIGHT_MS)
        except Killed:
            kept = History(Folder(root))
            TradeArchiver(exchange, kept, now_ms=clock).run(["BTCUSDT"], since_ms=MIDNIGHT_MS)
            ids = trade_ids(kept)
            assert len(ids) == len(set(ids)) == 2, f"killed at step {step}"
        else:
            break
    assert step == 13


def test_an_exchange_that_does_not_answer_is_a_sentence(sim, clock, exchange, history):
    """What was archived before stays, and the next run goes on."""
    archiver = TradeArchiver(exchange, history, now_ms=clock)
    move(sim, clock, ["0.1"])
    clock.now_ms += 5000
    sim.stop()
    with pytest.raises(SourceUnavailable, match="the exchange gave no trades of BTCUSDT .* run again"):
        archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS)
    sim.start()
    assert archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS) == 1


def test_a_symbol_that_the_exchange_does_not_know_stands_in_nobodys_way(sim, clock, exchange, history):
    """A result may name anything; the other symbols are archived, and nothing is said of how far this one is."""
    move(sim, clock, ["0.1"])
    clock.now_ms += 5000
    assert TradeArchiver(exchange, history, now_ms=clock).run(["AAAUSDT", "BTCUSDT"], since_ms=MIDNIGHT_MS) == 1
    assert set(reaches(history)) == {"BTCUSDT"}


def test_a_name_that_can_be_no_symbol_stands_in_nobodys_way(sim, clock, exchange, history):
    """The exchange refuses its letters before it looks for it; other letters that it refuses are not passed over."""
    move(sim, clock, ["0.1"])
    clock.now_ms += 5000
    archiver = TradeArchiver(exchange, history, now_ms=clock)
    said = "Illegal characters found in parameter '{}'; legal range is '^[A-Z0-9-_.]{{1,20}}$'."
    sim.fault("reject", "userTrades", code=-1100, msg=said.format("symbol"))
    assert archiver.run(["AAA/usdt", "BTCUSDT"], since_ms=MIDNIGHT_MS) == 1
    sim.fault("reject", "userTrades", code=-1100, msg=said.format("fromId"))
    with pytest.raises(SourceUnavailable, match="-1100"):
        archiver.run(["BTCUSDT"], since_ms=MIDNIGHT_MS)


def test_a_note_that_cannot_be_read_is_named(clock, exchange, history):
    history.place.write(NOTE, b"{")
    with pytest.raises(HistoryUnreadable, match="delete it"):
        TradeArchiver(exchange, history, now_ms=clock).run(["BTCUSDT"], since_ms=MIDNIGHT_MS)


def test_recorded_trades_decode(exchange):
    """The exchange's own rows, as recorded: ids beyond 2^53 stay whole."""
    from p33_sidecar.exchange.records import decode_trades

    from ..exchange.conftest import fixture
    trades = decode_trades(fixture("userTrades_BTCUSDT_testnet_2025-06_partA.json"), symbol="BTCUSDT")
    assert trades[0].trade_id == 359311800 and trades[0].qty == Decimal("0.001")
    big = ('[{"symbol":"X","id":9007199254740993,"orderId":9007199254740995,"side":"BUY","price":"1","qty":"2",'
           '"time":3}]')
    assert decode_trades(big.encode(), symbol="X")[0].order_id == "9007199254740995"
