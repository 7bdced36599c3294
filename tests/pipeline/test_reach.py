"""How far the archive says that it reaches: never beyond what it has read."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from p33_pipeline import running
from p33_pipeline.archive.everything import archived_until_ms
from p33_pipeline.archive.trades import reaches, searched_ms
from p33_pipeline.errors import SourceUnavailable
from p33_pipeline.history import History, Table, place_at
from p33_sidecar.rehearsal.exchange.sim import SimExchange
from p33_sidecar.settings import load
from p33_sidecar.store import keys
from p33_sidecar.store.connect import server_ms

from .conftest import MIDNIGHT_MS


def test_what_is_written_while_trades_are_asked_for_is_not_archived_yet(redis_url, redis_client, tmp_path, monkeypatch):
    """An audit that took the time of the trades for the streams' called a permit forged whose verdict came then."""
    late: list[str] = []

    def symbols(*_: object) -> list[str]:
        late.append(redis_client.xadd(keys.DECISIONS, {"plan_id": "p-1", "json": "{}"}))
        while server_ms(redis_client) <= at_ms(late[0]):
            pass
        return []

    monkeypatch.setattr(running, "_symbols", symbols)
    settings = load({"REDIS_URL": redis_url, "P33_HISTORY_URL": str(tmp_path), "BINANCE_TESTNET_API_KEY": "a",
                     "BINANCE_TESTNET_API_SECRET": "b", "P33_EXCHANGE_URL": "http://127.0.0.1:1"})
    assert running.archive_now(settings).trades == 0
    assert 0 < archived_until_ms(History(place_at(str(tmp_path)))) <= at_ms(late[0])


def test_what_was_searched_for_symbols_is_not_read_again(redis_url, redis_client, tmp_path, monkeypatch):
    """After a year every pass of five minutes read a year. What an old booking named is asked for all the same, and
    where the exchange could not be asked the search is not over."""
    history, scanned = History(place_at(str(tmp_path))), []
    scan = History.scan

    def watched(self: History, table: Table, **more: object) -> pa.Table:
        if table.name == "ledger" and more["columns"] == ["symbol"]:
            scanned.append(more["from_ms"])
        return scan(self, table, **more)

    monkeypatch.setattr(History, "scan", watched)
    opening = {"v": 1, "symbol": "ETHUSDT", "rev": 1, "cause": "opening", "delta": "1", "at_ms": MIDNIGHT_MS}
    redis_client.xadd(keys.JOURNAL, {"symbol": "ETHUSDT", "json": json.dumps(opening)}, id=f"{MIDNIGHT_MS}-0")
    with SimExchange(symbols=3) as sim:
        settings = load({"REDIS_URL": redis_url, "P33_HISTORY_URL": str(tmp_path), "P33_EXCHANGE_URL": sim.url,
                         "BINANCE_TESTNET_API_KEY": sim.api_key, "BINANCE_TESTNET_API_SECRET": sim.api_secret})
        sim.fault("reject", "userTrades", code=-2015, msg="Invalid API-key, IP, or permissions for action.")
        with pytest.raises(SourceUnavailable, match="no trades of ETHUSDT"):
            running.archive_now(settings)
        assert searched_ms(history) == 0 and running.archive_now(settings).trades == 0
        assert (until_ms := searched_ms(history)) == archived_until_ms(history)
        asked = sim.request_count("userTrades")
        running.archive_now(settings)
        assert sim.request_count("userTrades") > asked and set(reaches(history)) == {"ETHUSDT"}
    assert scanned == [0, 0, until_ms - running.HOUR_MS]


def at_ms(entry_id: str) -> int:
    return int(entry_id.split("-")[0])
