"""Decodes the exchange's own record of the account: its trades, and the names of the orders behind them.

What may not happen here: a row that cannot be read passed over, or an id that passes through a float (ids exceed 2^53).
Facts: userTrades and allOrders, official documentation; a trade does not name its order's client id.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.exchange.positions import LATEST_MS
from p33_sidecar.exchange.wire import BadField, amount, decode


class Trade(msgspec.Struct, frozen=True):
    """One fill at the exchange. `raw` is the row as received."""

    symbol: str
    trade_id: int
    order_id: str
    side: str
    price: Decimal
    qty: Decimal
    quote_qty: Decimal
    realized_pnl: Decimal
    commission: Decimal
    commission_asset: str
    maker: bool
    time_ms: int
    raw: str


class _Row(msgspec.Struct, rename="camel"):
    symbol: str
    id: int
    order_id: int
    side: str
    price: str
    qty: str
    time: int
    quote_qty: str = "0"
    realized_pnl: str = "0"
    commission: str = "0"
    commission_asset: str = ""
    maker: bool = False


class _Named(msgspec.Struct, rename="camel"):
    order_id: int
    client_order_id: str


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_ROW = msgspec.json.Decoder(_Row)
_ORDERS = msgspec.json.Decoder(list[_Named])


def decode_trades(body: bytes, *, symbol: str) -> list[Trade]:
    """The trades of a reply, oldest first. Raises ExchangeUnavailable for one that is not whole."""
    trades = [_trade(bytes(raw), symbol) for raw in decode(body, _RAWS)]
    return sorted(trades, key=lambda trade: trade.trade_id)


def decode_order_names(body: bytes) -> dict[str, str]:
    """Order id to client order id, of a reply of allOrders. Raises ExchangeUnavailable."""
    return {str(order.order_id): order.client_order_id for order in decode(body, _ORDERS)}


def _trade(raw: bytes, symbol: str) -> Trade:
    row = decode(raw, _ROW)
    if row.symbol != symbol or row.side not in ("BUY", "SELL"):
        raise ExchangeUnavailable("wrong_trade", f"asked for trades of {symbol}")
    try:
        numbers = [amount(text, field=name) for name, text in (
            ("price", row.price), ("qty", row.qty), ("quoteQty", row.quote_qty), ("realizedPnl", row.realized_pnl),
            ("commission", row.commission))]
    except BadField as why:
        raise ExchangeUnavailable("bad_trade", str(why)) from None
    price, qty = numbers[:2]
    if price < 0 or qty <= 0 or not 0 < row.time < LATEST_MS:
        raise ExchangeUnavailable("bad_trade", "price, qty or time is none that a trade can have")
    return Trade(row.symbol, row.id, str(row.order_id), row.side, *numbers, row.commission_asset, row.maker, row.time,
                 raw.decode())
