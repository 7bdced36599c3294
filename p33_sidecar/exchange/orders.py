"""Decodes what the exchange says about one order: acks (without avgPrice and cumQuote since 2026-06) and look-ups.

What may not happen here: the state of another order taken for ours, or an id that passes through a float.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.exchange.statuses import TERMINAL
from p33_sidecar.exchange.wire import BadField, amount, decode


class OrderState(msgspec.Struct, frozen=True):
    """An order as of `update_time_ms`. `status` is as received; `executed_qty` is the order's total so far."""

    symbol: str
    order_id: str
    client_order_id: str
    status: str
    side: str
    executed_qty: Decimal
    reduce_only: bool
    terminal: bool
    known_status: bool
    update_time_ms: int


class _Order(msgspec.Struct, rename="camel"):
    symbol: str
    order_id: int
    client_order_id: str
    status: str
    side: str
    executed_qty: str
    reduce_only: bool = False
    update_time: int = 0


_ORDER = msgspec.json.Decoder(_Order)


def decode_order(body: bytes, *, symbol: str, order_id: str = "", client_order_id: str = "") -> OrderState:
    """The state of the order asked for. Raises ExchangeUnavailable, `wrong_order` where it is another one's."""
    order = decode(body, _ORDER)
    if order.symbol != symbol or order_id not in ("", str(order.order_id)) or (
            client_order_id not in ("", order.client_order_id)):
        raise ExchangeUnavailable("wrong_order", f"asked for {symbol} {order_id or client_order_id}")
    try:
        executed_qty = amount(order.executed_qty, field="executedQty")
    except BadField as why:
        raise ExchangeUnavailable("bad_order", str(why)) from None
    if why := _contradiction(order, executed_qty):
        raise ExchangeUnavailable("bad_order", why)
    return OrderState(
        order.symbol, str(order.order_id), order.client_order_id, order.status, order.side, executed_qty,
        order.reduce_only, TERMINAL.get(order.status, False), order.status in TERMINAL, order.update_time)


def _contradiction(order: _Order, executed_qty: Decimal) -> str:
    """What cannot be true of any order. FILLED with nothing executed would pass for an order that ended unfilled."""
    if executed_qty < 0:
        return "executedQty is negative"
    if order.status == "FILLED" and not executed_qty:
        return "FILLED with an executedQty of zero"
    return "" if order.side in ("BUY", "SELL") else "side is neither BUY nor SELL"
