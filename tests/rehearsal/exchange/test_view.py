"""What reads show: every symbol in v2, live ones in v3, changes only when something changed, and late when told so."""

from __future__ import annotations

from decimal import Decimal

import pytest

DAY_MS = 24 * 3600 * 1000


def row(call, symbol: str) -> dict:
    return call("GET", "/fapi/v2/positionRisk", symbol=symbol).json()[0]


def test_v2_lists_all_and_v3_only_live(call, exchange):
    """A flat symbol that was never traded has updateTime 0 and no mark; v3 leaves it out."""
    rows = call("GET", "/fapi/v2/positionRisk").json()
    assert len(rows) == 70
    never = next(r for r in rows if r["symbol"] == "ETHUSDT")
    assert (never["updateTime"], never["markPrice"], Decimal(never["positionAmt"])) == (0, "0.00000000", 0)
    assert {r["symbol"] for r in call("GET", "/fapi/v3/positionRisk").json()} == {"BTCUSDT", "TRXUSDT"}
    exchange.set_position("BTCUSDT", "0")
    call.limit("BUY", "0.100", "3300.00", symbol="ETHUSDT")
    assert {r["symbol"] for r in call("GET", "/fapi/v3/positionRisk").json()} == {"ETHUSDT", "TRXUSDT"}


def test_update_time_moves_with_the_position_and_not_with_the_mark(call, exchange, clock):
    """updateTime is a version of the position; the mark walks on by itself."""
    before = row(call, "BTCUSDT")
    clock.advance(30_000)
    later = row(call, "BTCUSDT")
    assert later["updateTime"] == before["updateTime"]
    assert later["markPrice"] != before["markPrice"]
    exchange.set_position("BTCUSDT", "0.020")
    assert row(call, "BTCUSDT")["updateTime"] == clock.now_ms


def test_marks_are_the_same_at_the_same_moment(call, clock):
    """The walk depends on symbol and time alone, and stays close to its base."""
    first = row(call, "BTCUSDT")["markPrice"]
    clock.advance(700_000)
    assert abs(Decimal(row(call, "BTCUSDT")["markPrice"]) / Decimal("103862.50") - 1) < Decimal("0.002")
    clock.advance(-700_000)
    assert row(call, "BTCUSDT")["markPrice"] == first


def test_reads_lag_behind_the_engine(call, exchange, clock):
    """Positions, orders and trades are seen late; an order not seen yet is -2013."""
    exchange.set_lag(2000)
    order_id = call.order(newOrderRespType="RESULT").json()["orderId"]
    clock.advance(1999)
    assert row(call, "BTCUSDT")["positionAmt"] == "0.038"
    assert call("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=order_id).json()["code"] == -2013
    assert call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").json() == []
    clock.advance(1)
    assert row(call, "BTCUSDT")["positionAmt"] == "0.010"
    assert call("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=order_id).json()["status"] == "FILLED"
    assert len(call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").json()) == 1


def test_user_trades_window_and_paging(call, exchange, clock):
    """A week without times, a week at most with them, fromId alone, and the newest where the limit cuts."""
    for day in range(10):
        exchange.set_position("BTCUSDT", Decimal(day + 1) / 10)
        clock.advance(DAY_MS)

    def ids(**params: int) -> list[int]:
        return [t["id"] - 359311800 for t in call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT", **params).json()]

    start_ms = clock.now_ms - 10 * DAY_MS
    assert ids() == [3, 4, 5, 6, 7, 8, 9]
    assert ids(limit=2) == [8, 9]
    assert ids(startTime=start_ms) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert ids(startTime=start_ms, limit=2) == [0, 1]
    assert ids(endTime=start_ms + DAY_MS) == [0, 1]
    assert ids(fromId=359311800, limit=3) == [0, 1, 2]
    assert ids(orderId=8389774) == [9]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"startTime": 0, "endTime": 7 * DAY_MS + 1}, -1127),
        ({"startTime": 2, "endTime": 1}, -1023),
        ({"startTime": 2, "fromId": 1}, -1128),
        ({"limit": 1001}, -1130),
        ({"limit": 0}, -1130),
    ],
)
def test_user_trades_refusals(call, params, code):
    """Windows and limits beyond the documented ones are refused."""
    assert call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT", **params).json()["code"] == code
    assert call("GET", "/fapi/v1/userTrades").json()["code"] == -1102


def test_all_orders_without_symbol(call, exchange):
    """allOrders needs no symbol, except together with an order id."""
    exchange.set_position("BTCUSDT", "0")
    exchange.set_position("TRXUSDT", "0")
    assert [o["symbol"] for o in call("GET", "/fapi/v1/allOrders").json()] == ["BTCUSDT", "TRXUSDT"]
    assert call("GET", "/fapi/v1/allOrders", orderId=1).json()["code"] == -1128


def test_liquidation_is_an_order_of_the_exchange(call, exchange):
    """A liquidated position is gone by an order of ours that we never sent: reduceOnly false, autoclose id."""
    exchange.liquidate("BTCUSDT")
    exchange.liquidate("TRXUSDT", kind="adl")
    found = {o["symbol"]: o for o in call("GET", "/fapi/v1/forceOrders").json()}
    assert found["BTCUSDT"]["clientOrderId"].startswith("autoclose-")
    assert found["TRXUSDT"]["clientOrderId"] == "adl_autoclose"
    assert not any(o["reduceOnly"] for o in found.values())
    assert [t["qty"] for t in call("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").json()] == ["0.038"]
    assert [o["symbol"] for o in call("GET", "/fapi/v1/forceOrders", autoCloseType="ADL").json()] == ["TRXUSDT"]


def test_income_tells_what_trades_earned(call, exchange, clock):
    """A close books profit and commission; transaction ids are one per trade and kind."""
    exchange.set_position("BTCUSDT", "0", entry_price="110000")
    rows = call("GET", "/fapi/v1/income", symbol="BTCUSDT").json()
    trade = exchange.trades[0]
    assert {r["incomeType"]: Decimal(r["income"]) for r in rows} == {
        "REALIZED_PNL": trade.realized_pnl,
        "COMMISSION": -trade.commission,
    }
    assert trade.realized_pnl > 0
    assert rows[0]["tranId"] == rows[1]["tranId"]


def test_hedge_mode_by_the_api(call, exchange):
    """The mode changes only when nothing is open; then orders need a position side and closes cannot exceed a leg."""

    def mode(value: str) -> dict:
        return call("POST", "/fapi/v1/positionSide/dual", dualSidePosition=value).json()

    assert mode("false")["code"] == -4059
    assert mode("true")["code"] == -4068
    exchange.set_position("BTCUSDT", "0")
    exchange.set_position("TRXUSDT", "0")
    resting = call.limit("BUY", "0.010", "100000.00").json()["orderId"]
    assert mode("true")["code"] == -4067
    call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=resting)
    assert mode("true") == {"code": 200, "msg": "success"}
    assert call("GET", "/fapi/v1/accountConfig").json()["dualSidePosition"] is True
    assert call.order("BUY", "0.010").json()["code"] == -4061
    assert call.order("BUY", "0.010", positionSide="LONG", reduceOnly="false").json()["code"] == -1106
    assert call.order("BUY", "0.010", positionSide="LONG").status_code == 200
    assert call.order("SELL", "0.011", positionSide="LONG").json()["code"] == -2022
    assert call.order("SELL", "0.010", positionSide="LONG").json()["reduceOnly"] is True
    assert exchange.position_amt("BTCUSDT", "LONG") == 0


def test_listen_key_lives_an_hour(call, clock):
    """The same key for an hour, extended by POST and PUT; a dead one is -1125."""
    assert call.http.put("/fapi/v1/listenKey").json()["code"] == -1125
    key = call.http.post("/fapi/v1/listenKey").json()["listenKey"]
    clock.advance(3_599_999)
    assert call.http.put("/fapi/v1/listenKey").json()["listenKey"] == key
    clock.advance(3_600_000)
    assert call.http.put("/fapi/v1/listenKey").json()["code"] == -1125
    assert call.http.post("/fapi/v1/listenKey").json()["listenKey"] != key
    assert call.http.delete("/fapi/v1/listenKey").json() == {}
    assert call.http.put("/fapi/v1/listenKey").json()["code"] == -1125
