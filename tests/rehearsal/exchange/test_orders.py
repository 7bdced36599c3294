"""Orders: what is accepted, what is refused and with which words, and what an answer may say."""

from __future__ import annotations

from decimal import Decimal

import pytest

from p33_sidecar.rehearsal.exchange import SimExchange


def code_of(reply) -> int:
    assert reply.status_code == 400
    return reply.json()["code"]


def test_ack_says_new_although_it_fills(call, exchange):
    """MARKET with ACK answers NEW and nothing executed; RESULT the end; neither has avgPrice or cumQuote."""
    ack = call.order(quantity="0.010").json()
    result = call.order(quantity="0.010", newOrderRespType="RESULT").json()
    assert (ack["status"], Decimal(ack["executedQty"])) == ("NEW", 0)
    assert (result["status"], result["executedQty"]) == ("FILLED", "0.010")
    assert not {"avgPrice", "cumQuote"} & (ack.keys() | result.keys())
    assert exchange.position_amt("BTCUSDT") == Decimal("0.018")
    read = call("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=ack["orderId"]).json()
    assert read["status"] == "FILLED"
    assert Decimal(read["cumQuote"]) == Decimal(read["avgPrice"]) * Decimal(read["executedQty"]) > 0


def test_first_order_id_runs_per_symbol(call):
    """Order ids run per symbol, so two symbols may share one (T07)."""
    first = call.order(quantity="0.001").json()["orderId"]
    second = call.order(quantity="0.001").json()["orderId"]
    other = call.order("BUY", "23", symbol="TRXUSDT").json()["orderId"]
    assert (first, second, other) == (8389765, 8389766, 8389765)


def test_order_ids_beyond_a_float():
    """Order ids can exceed 2**53 and stay exact."""
    with SimExchange(symbols=1, first_order_id=8389765739703625592) as sim:
        assert sim.set_position("BTCUSDT", "0.5").order_id == 8389765739703625592


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"symbol": "NOSUCHUSDT"}, -1121),
        ({"side": "LONG"}, -1117),
        ({"type": "STOP_MARKET"}, -4120),
        ({"type": "TRAILING_STOP_MARKET"}, -4120),
        ({"type": "FANCY"}, -1116),
        ({"quantity": "1e-2"}, -1100),
        ({"quantity": "-0.01"}, -1100),
        ({"quantity": "0.000"}, -4003),
        ({"quantity": "0.0015"}, -1111),
        ({"quantity": "121"}, -4005),
        ({"quantity": "0.001", "symbol": "ETHUSDT"}, -4164),
        ({"quantity": "0.2", "symbol": "LABUSDT"}, -1121),
        ({"quantity": "5", "symbol": "FLMUSDT"}, -4140),
        ({"quantity": "0.5", "symbol": "EOSUSDT"}, -4141),
        ({"quantity": "10", "symbol": "SPELLUSDT"}, -4004),
        ({"price": "1"}, -1106),
        ({"positionSide": "LONG"}, -4061),
        ({"positionSide": "UP"}, -4060),
        ({"newClientOrderId": "has space"}, -4015),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"newOrderRespType": "FULL"}, -1130),
        ({"reduceOnly": "yes"}, -1130),
    ],
)
def test_refusals(call, exchange, params, code):
    """Each rule has its code, and a refused order leaves nothing behind."""
    fields = {"side": "BUY", "quantity": "0.010"} | params
    assert code_of(call.order(**fields)) == code
    assert exchange.orders == []


def test_margin_is_finite(call, exchange):
    """An opening that the wallet cannot carry is -2019; a close needs no margin."""
    exchange.set_position("ETHUSDT", "9000")
    assert code_of(call.order("BUY", "0.010")) == -2019
    assert call.order("SELL", "0.010", reduceOnly="true").status_code == 200


def test_step_anchored_at_minimum(call, exchange):
    """A quantity is legal when (qty - minQty) is a multiple of the step."""
    exchange.set_symbol("ETHUSDT", min_qty="0.002", step="0.003", market_min="0.002", market_step="0.003")
    assert code_of(call.order("BUY", "0.300", symbol="ETHUSDT")) == -4023
    assert call.order("BUY", "0.302", symbol="ETHUSDT").status_code == 200


@pytest.mark.parametrize(
    ("price", "code"),
    [("103862.55", -4014), ("0", -4001), ("500", -4013), ("5000000", -4002), ("130000", -4016), ("80000", -4024)],
)
def test_limit_price_filters(call, price, code):
    """PRICE_FILTER and PERCENT_PRICE hold for limit orders."""
    assert code_of(call.limit("BUY", "0.010", price)) == code


def test_limit_rests_until_filled(call, exchange):
    """A limit order that does not cross rests, fills when told, and is then no longer open."""
    placed = call.limit("BUY", "0.010", "100000.00").json()
    assert [o["orderId"] for o in call("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").json()] == [placed["orderId"]]
    exchange.fill("BTCUSDT", placed["orderId"], "0.004")
    read = call("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=placed["orderId"]).json()
    assert (read["status"], read["executedQty"], read["avgPrice"]) == ("PARTIALLY_FILLED", "0.004", "100000.0000")
    assert exchange.fill("BTCUSDT", placed["orderId"]).status == "FILLED"
    assert call("GET", "/fapi/v1/openOrders").json() == []
    assert exchange.position_amt("BTCUSDT") == Decimal("0.048")


@pytest.mark.parametrize(
    ("tif", "price", "outcome"),
    [("IOC", "100000.00", "EXPIRED"), ("GTX", "105000.00", -5022), ("FOK", "100000.00", -5021)],
)
def test_time_in_force(call, tif, price, outcome):
    """IOC expires what does not fill, FOK and GTX are refused."""
    reply = call.limit("BUY", "0.010", price, timeInForce=tif, newOrderRespType="RESULT").json()
    assert reply.get("code", reply.get("status")) == outcome


def test_thin_book_leaves_the_rest_expired(call, exchange):
    """A market order gets what the book holds; the rest expires."""
    exchange.set_liquidity("BTCUSDT", "0.004")
    reply = call.order(quantity="0.010", newOrderRespType="RESULT").json()
    assert (reply["status"], reply["executedQty"]) == ("EXPIRED", "0.004")
    assert exchange.position_amt("BTCUSDT") == Decimal("0.034")


def test_client_id_is_unique_among_open_orders_only(call, exchange):
    """A client id is refused while an order with it is open and accepted again afterwards; a read finds the newest."""
    first = call.limit("BUY", "0.010", "100000.00", newClientOrderId="p33-a").json()
    assert code_of(call.order(newClientOrderId="p33-a")) == -4116
    assert call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="p33-a").json()["status"] == "CANCELED"
    again = call.order(newClientOrderId="p33-a").json()
    read = call("GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="p33-a").json()
    assert read["orderId"] == again["orderId"] != first["orderId"]


def test_unknown_orders(call):
    """Reading an unknown order is -2013, canceling it -2011, naming none -1102."""
    assert code_of(call("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=1)) == -2013
    assert code_of(call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=1)) == -2011
    assert code_of(call("GET", "/fapi/v1/order", symbol="BTCUSDT")) == -1102


def test_non_ascii_symbol(call, exchange):
    """A symbol outside ASCII is signed as percent-encoded bytes and traded like any other."""
    reply = call.order("BUY", "100", symbol="币安人生USDT", newOrderRespType="RESULT")
    assert reply.json()["symbol"] == "币安人生USDT"
    assert exchange.position_amt("币安人生USDT") == 100
