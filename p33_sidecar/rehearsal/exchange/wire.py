"""The shapes of the exchange's rows: each a plain dictionary in the spelling and JSON types of the real ones.

No state and no decision may live here. Sources: recorded and documented rows of 2024 to 2026; since 2026-06-30
acknowledgements of orders have no `avgPrice` and no `cumQuote`, reads keep them; `isAutoAddMargin` of v2 is text.
"""

from __future__ import annotations

import zlib
from decimal import Decimal

from p33_sidecar.rehearsal.exchange.engine import LEVERAGE
from p33_sidecar.rehearsal.exchange.fills import FEE_RATE
from p33_sidecar.rehearsal.exchange.model import Order, Position, Trade
from p33_sidecar.rehearsal.exchange.symbols import Contract

EIGHT = Decimal("0.00000001")
PERPETUAL_DELIVERY_MS = 4_133_404_800_000
ONBOARD_MS = 1_569_398_400_000
ORDER_TYPES = (
    "LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET",
)  # fmt: skip


def plain(value: Decimal) -> str:
    """Without exponent and without trailing zeros; zero is `0`."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def eight(value: Decimal) -> str:
    """With eight decimals, as marks and money are written."""
    return format(value.quantize(EIGHT), "f")


def _price(value: Decimal) -> str:
    return plain(value) if value else "0.0"


def _break_even(position: Position) -> str:
    direction = 1 if position.amt > 0 else -1
    return _price((position.entry_price * (1 + direction * FEE_RATE)).quantize(EIGHT)) if position.amt else "0.0"


def position_v2(position: Position, contract: Contract, mark: Decimal | None) -> dict:
    """A row of /fapi/v2/positionRisk; `mark` is None for a symbol that was never traded (`0.00000000`)."""
    mark = mark or Decimal(0)
    return {
        "symbol": position.symbol,
        "positionAmt": contract.qty_text(position.amt),
        "entryPrice": _price(position.entry_price),
        "breakEvenPrice": _break_even(position),
        "markPrice": eight(mark),
        "unRealizedProfit": eight((mark - position.entry_price) * position.amt),
        "liquidationPrice": "0",
        "leverage": str(LEVERAGE),
        "maxNotionalValue": "100000000",
        "marginType": "cross",
        "isolatedMargin": "0.00000000",
        "isAutoAddMargin": "false",
        "positionSide": position.side,
        "notional": eight(mark * position.amt) if position.amt else "0",
        "isolatedWallet": "0",
        "updateTime": position.updated_ms,
        "isolated": False,
        "adlQuantile": 1 if position.amt else 0,
    }


def position_v3(position: Position, contract: Contract, mark: Decimal) -> dict:
    """A row of /fapi/v3/positionRisk: no leverage, no margin type."""
    margin = eight(abs(position.amt) * mark / LEVERAGE)
    return {
        "symbol": position.symbol,
        "positionSide": position.side,
        "positionAmt": contract.qty_text(position.amt),
        "entryPrice": _price(position.entry_price),
        "breakEvenPrice": _break_even(position),
        "markPrice": eight(mark),
        "unRealizedProfit": eight((mark - position.entry_price) * position.amt),
        "liquidationPrice": "0",
        "isolatedMargin": "0",
        "notional": eight(mark * position.amt) if position.amt else "0",
        "marginAsset": contract.quote,
        "isolatedWallet": "0",
        "initialMargin": margin,
        "maintMargin": eight(abs(position.amt) * mark / 40),
        "positionInitialMargin": margin,
        "openOrderInitialMargin": "0",
        "adl": 1 if position.amt else 0,
        "bidNotional": "0",
        "askNotional": "0",
        "updateTime": position.updated_ms,
    }


def order_ack(order: Order, contract: Contract) -> dict:
    """The reply to POST and DELETE of an order."""
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_order_id,
        "price": _tick_text(order.price, contract),
        "origQty": contract.qty_text(order.qty),
        "executedQty": contract.qty_text(order.executed_qty),
        "cumQty": contract.qty_text(order.executed_qty),
        "timeInForce": order.time_in_force,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": False,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": _tick_text(Decimal(0), contract),
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": order.type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "updateTime": order.updated_ms,
    }


def order_read(order: Order, contract: Contract) -> dict:
    """A row of GET order, openOrders and allOrders: what the ack lost, and the time it was placed."""
    row = order_ack(order, contract)
    del row["cumQty"]
    average = order.quote_qty / order.executed_qty if order.executed_qty else Decimal(0)
    return row | {
        "avgPrice": format(average.quantize(contract.tick_size.scaleb(-3).normalize()), "f"),
        "cumQuote": plain(order.quote_qty),
        "time": order.placed_ms,
    }


def force_order(order: Order, contract: Contract) -> dict:
    """A row of forceOrders: reduceOnly is false on all of them."""
    row = order_read(order, contract)
    for name in ("priceMatch", "selfTradePreventionMode", "goodTillDate", "priceProtect"):
        del row[name]
    return row


def trade_row(trade: Trade, contract: Contract) -> dict:
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "side": trade.side,
        "price": _tick_text(trade.price, contract),
        "qty": contract.qty_text(trade.qty),
        "realizedPnl": eight(trade.realized_pnl) if trade.realized_pnl else "0",
        "marginAsset": trade.asset,
        "quoteQty": plain(trade.qty * trade.price),
        "commission": eight(trade.commission),
        "commissionAsset": trade.asset,
        "time": trade.at_ms,
        "positionSide": trade.position_side,
        "buyer": trade.side == "BUY",
        "maker": trade.maker,
    }


def income_row(trade: Trade, kind: str, amount: Decimal) -> dict:
    return {
        "symbol": trade.symbol,
        "incomeType": kind,
        "income": eight(amount),
        "asset": trade.asset,
        "info": str(trade.trade_id) if kind == "REALIZED_PNL" else kind,
        "time": trade.at_ms,
        "tranId": zlib.crc32(trade.symbol.encode()) * 10**9 + trade.trade_id,
        "tradeId": str(trade.trade_id),
    }


def symbol_row(contract: Contract) -> dict:
    """A row of exchangeInfo."""
    return {
        "symbol": contract.symbol,
        "pair": contract.pair,
        "contractType": contract.contract_type,
        "deliveryDate": PERPETUAL_DELIVERY_MS,
        "onboardDate": ONBOARD_MS,
        "status": contract.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": contract.base,
        "quoteAsset": contract.quote,
        "marginAsset": contract.quote,
        "pricePrecision": contract.price_precision,
        "quantityPrecision": contract.qty_precision,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": contract.take_bound,
        "maxMoveOrderLimit": 10000,
        "filters": _filters(contract),
        "orderTypes": ORDER_TYPES,
        "timeInForce": ("GTC", "IOC", "FOK", "GTX", "GTD"),
        "permissionSets": ("GRID", "COPY", "DCA"),
    }


def _filters(contract: Contract) -> list[dict]:
    """The filters; their order and the order of their keys vary by symbol, as in recorded answers."""
    c, band = contract, contract.percent_band
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": c.min_price, "maxPrice": c.max_price, "tickSize": c.tick},
        {"filterType": "LOT_SIZE", "minQty": c.min_qty, "maxQty": c.max_qty, "stepSize": c.step},
        {"filterType": "MARKET_LOT_SIZE", "minQty": c.market_min, "maxQty": c.market_max, "stepSize": c.market_step},
        {"filterType": "MAX_NUM_ORDERS", "limit": c.max_orders},
        {"filterType": "MIN_NOTIONAL", "notional": c.notional},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": f"{1 + band:.4f}",
            "multiplierDown": f"{1 - band:.4f}",
            "multiplierDecimal": "4",
        },
    ]
    if c.risk_control:
        filters.append({"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"})
    turn = zlib.crc32(c.symbol.encode())
    return [dict(_rotated(list(f.items()), turn + place)) for place, f in enumerate(_rotated(filters, turn))]


def _rotated(items: list, by: int) -> list:
    cut = by % len(items)
    return items[cut:] + items[:cut]


def _tick_text(price: Decimal, contract: Contract) -> str:
    return format(price.quantize(contract.tick_size), "f")
