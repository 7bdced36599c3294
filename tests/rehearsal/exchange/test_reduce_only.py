"""Reduce-only, as a law: it never opens, never grows and never flips a position, whatever else happens."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from p33_sidecar.rehearsal.exchange.engine import Engine
from p33_sidecar.rehearsal.exchange.errors import ApiError
from p33_sidecar.rehearsal.exchange.model import OrderTicket, Position
from p33_sidecar.rehearsal.exchange.symbols import load_contracts

KEY = ("BTCUSDT", "BOTH")
CONTRACTS = load_contracts(1)
LOTS = st.integers(1, 60).map(lambda n: Decimal(n) / 1000)
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["market", "resting", "plain"]), st.sampled_from(["BUY", "SELL"]), LOTS),
    st.tuples(st.just("fill"), st.integers(0, 5), LOTS),
    st.tuples(st.just("hand"), st.integers(-60, 60).map(lambda n: Decimal(n) / 1000), st.none()),
)


def engine_with(amt: Decimal) -> Engine:
    engine = Engine(CONTRACTS, clock=lambda: 1_795_500_000_000, first_order_id=1, wallet=Decimal(10**6))
    engine.seed_position(Position(symbol="BTCUSDT", amt=amt, entry_price=Decimal(100_000), updated_ms=1))
    return engine


def place(engine: Engine, kind: str, side: str, qty: Decimal) -> None:
    price = Decimal("104500.0") if side == "SELL" else Decimal("103000.0")
    engine.place(
        OrderTicket(
            symbol="BTCUSDT",
            side=side,
            type="LIMIT" if kind == "resting" else "MARKET",
            qty=qty,
            price=price if kind == "resting" else Decimal(0),
            reduce_only=kind != "plain",
        )
    )


def perform(engine: Engine, kind: str, first: object, second: object) -> None:
    if kind == "hand":
        engine.move_position(KEY, amt=first, client_order_id="web_x")
    elif kind == "fill":
        resting = engine.open_orders()
        if resting:
            engine.fill_resting("BTCUSDT", resting[first % len(resting)].order_id, second)
    else:
        try:
            place(engine, kind, first, second)
        except ApiError as error:
            assert error.code in (-2022, -4164)  # noqa: PT017 - any other refusal would be a mistake of the test


@settings(max_examples=150, deadline=None)
@given(start=st.integers(-60, 60).map(lambda n: Decimal(n) / 1000), actions=st.lists(ACTIONS, max_size=12))
def test_never_flips_never_grows(start, actions):
    """A reduce-only fill takes the position towards zero and not beyond; resting ones never hold more than it."""
    engine = engine_with(start)
    for kind, first, second in actions:
        before = engine.position(KEY).amt
        perform(engine, kind, first, second)
        after = engine.position(KEY).amt
        if kind in ("market", "resting", "fill"):
            assert abs(after) <= abs(before)
            assert before * after >= 0
        held = sum((o.remaining_qty for o in engine.open_orders() if o.reduce_only), Decimal(0))
        assert held <= abs(after)


@settings(max_examples=100, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=12))
def test_trades_add_up_to_the_position(actions):
    """The signed sum of all trades is the change of the position, and orders executed what their trades say."""
    engine = engine_with(Decimal("0.038"))
    for kind, first, second in actions:
        perform(engine, kind, first, second)
    signed = sum((t.qty if t.side == "BUY" else -t.qty for t in engine.trades), Decimal(0))
    assert Decimal("0.038") + signed == engine.position(KEY).amt
    for order in engine.orders.values():
        traded = sum((t.qty for t in engine.trades if t.order_id == order.order_id), Decimal(0))
        assert traded == order.executed_qty <= order.qty


def test_i10_reduce_only_on_a_flat_symbol_is_rejected(call, exchange):
    """Nothing to reduce, or the wrong side: -2022."""
    for symbol, side, qty in (("ETHUSDT", "SELL", "0.100"), ("BTCUSDT", "BUY", "0.010")):
        reply = call.order(side, qty, symbol=symbol, reduceOnly="true")
        assert reply.json() == {"code": -2022, "msg": "ReduceOnly Order is rejected."}
    assert exchange.orders == []


def test_reduce_only_is_cut_to_the_position(call, exchange):
    """More than the position closes the position, and no more."""
    reply = call.order(quantity="1.000", reduceOnly="true", newOrderRespType="RESULT").json()
    assert (reply["status"], reply["executedQty"]) == ("FILLED", "0.038")
    assert exchange.position_amt("BTCUSDT") == 0


def test_resting_orders_take_the_room(call, exchange):
    """A full-size resting take-profit leaves no room for a second close; canceling it does."""
    take_profit = call.limit("SELL", "0.038", "106000.00", reduceOnly="true").json()
    assert call.order(reduceOnly="true").json()["code"] == -2022
    call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=take_profit["orderId"])
    assert call.order(reduceOnly="true").status_code == 200


def test_closing_by_hand_shrinks_and_expires_resting_orders(call, exchange):
    """A position that shrinks takes its resting closes with it."""
    resting = call.limit("SELL", "0.038", "106000.00", reduceOnly="true").json()["orderId"]
    exchange.set_position("BTCUSDT", "0.010")
    assert str(exchange.orders[0].qty) == "0.010"
    exchange.set_position("BTCUSDT", "0")
    read = call("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=resting).json()
    assert read["status"] == "EXPIRED"


def test_min_notional_spares_reduce_only(call, exchange):
    """0.0004-sized dust aside, the minimum notional does not stop a close."""
    exchange.set_position("ETHUSDT", "0.003")
    assert call.order("SELL", "0.003", symbol="ETHUSDT").json()["code"] == -4164
    assert call.order("SELL", "0.003", symbol="ETHUSDT", reduceOnly="true").status_code == 200
