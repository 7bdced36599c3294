"""The account's own trades: a row that cannot be true is refused with the whole reply, never archived or left out."""

import json
from decimal import Decimal

import pytest

from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.exchange.records import decode_trades

from .conftest import fixture, http


@pytest.mark.parametrize("name", [
    "userTrades_docs.json", "userTrades_ETHUSDT_testnet_2022-02.json", "userTrades_BTCUSDT_testnet_2025-06_partA.json"])
def test_recorded_trades_decode(name):
    """Every recorded row, with its exact digits, oldest first."""
    rows = json.loads(fixture(name))
    trades = decode_trades(fixture(name), symbol=rows[0]["symbol"])
    assert [(t.trade_id, t.qty, t.time_ms) for t in trades] == sorted(
        (r["id"], Decimal(r["qty"]), r["time"]) for r in rows)


@pytest.mark.parametrize("changes", [
    {"qty": "-0.002"}, {"qty": "0.000"}, {"qty": "NaN"}, {"price": "-7819.01"}, {"time": 0}, {"time": -1},
    {"time": 1 << 53}, {"side": "SHORT"}, {"symbol": "ETHUSDT"}, {"id": "698759"}])
def test_an_impossible_trade_is_no_data(rig, changes):
    """A negative quantity would turn a close into an opening, a quantity of zero would hide one."""
    good = json.loads(fixture("userTrades_docs.json"))[0]
    rig.plays(http(200, [good, good | {"id": 698760} | changes]))
    with pytest.raises(ExchangeUnavailable):
        rig.exchange.trades_from("BTCUSDT", 698759)
