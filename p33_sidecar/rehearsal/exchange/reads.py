"""The endpoints that only look: market rules, positions, orders, trades, and the account's settings.

Nothing here may change a position or an order. Each takes the venue and the parameters, and returns what JSON says.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from p33_sidecar.rehearsal.exchange import wire
from p33_sidecar.rehearsal.exchange.engine import LEVERAGE
from p33_sidecar.rehearsal.exchange.errors import EITHER, ApiError, refusal
from p33_sidecar.rehearsal.exchange.model import Order, Trade
from p33_sidecar.rehearsal.exchange.params import Params
from p33_sidecar.rehearsal.exchange.venue import Venue

WEEK_MS = 7 * 24 * 3600 * 1000
ASSETS = (("USDT", "-100"), ("USDC", "-0.10000000"), ("BTC", "-0.00100000"), ("BNB", "-0.00100000"))


def ping(venue: Venue, params: Params) -> object:
    return {}


def server_time(venue: Venue, params: Params) -> object:
    return {"serverTime": venue.engine.now_ms()}


def exchange_info(venue: Venue, params: Params) -> object:
    """Always every symbol: `?symbol=` is ignored (observed 2026-09)."""
    return {
        "timezone": "UTC",
        "serverTime": venue.engine.now_ms(),
        "futuresType": "U_MARGINED",
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, venue.limits.weight_per_minute),
            _rate_limit("ORDERS", "MINUTE", 1, venue.limits.orders_per_minute),
            _rate_limit("ORDERS", "SECOND", 10, venue.limits.orders_per_10s),
        ],
        "exchangeFilters": [],
        "assets": [{"asset": name, "marginAvailable": True, "autoAssetExchange": low} for name, low in ASSETS],
        "symbols": msgspec.Raw(venue.symbols_json()),
    }


def order_rate_limit(venue: Venue, params: Params) -> object:
    return [
        _rate_limit("ORDERS", "SECOND", 10, venue.limits.orders_per_10s),
        _rate_limit("ORDERS", "MINUTE", 1, venue.limits.orders_per_minute),
    ]


def position_risk_v2(venue: Venue, params: Params) -> object:
    return msgspec.Raw(venue.position_rows_json(params.optional("symbol")))


def position_risk_v3(venue: Venue, params: Params) -> object:
    engine = venue.engine
    positions = venue.live_positions(params.optional("symbol"))
    return [wire.position_v3(p, engine.contracts[p.symbol], engine.mark(p.symbol)) for p in positions]


def query_order(venue: Venue, params: Params) -> object:
    contract = venue.engine.contract(params.text("symbol"))
    order_id, client_id = order_reference(params)
    order = venue.engine.find_order(
        contract.symbol, order_id=order_id, client_order_id=client_id, moment_ms=venue.moment_ms
    )
    if order is None:
        raise refusal(-2013)
    return wire.order_read(order, contract)


def order_reference(params: Params) -> tuple[int | None, str | None]:
    """The order id, or the client's; one of them is mandatory."""
    if "orderId" not in params and "origClientOrderId" not in params:
        raise ApiError(-1102, EITHER % ("origClientOrderId", "orderId"))
    return params.integer("orderId") if "orderId" in params else None, params.optional("origClientOrderId")


def open_orders(venue: Venue, params: Params) -> object:
    return _order_rows(venue, [o for o in _orders_of(venue, params.optional("symbol")) if o.is_open])


def all_orders(venue: Venue, params: Params) -> object:
    """A week at most; from `orderId` on, from `startTime` on, or else the newest."""
    orders = _orders_of(venue, params.optional("symbol"))
    first_id = params.integer("orderId", 0)
    if "orderId" in params and "symbol" not in params:
        raise refusal(-1128)
    start_ms, end_ms = (0, venue.engine.now_ms()) if first_id else _window(venue, params)
    found = [o for o in orders if o.order_id >= first_id and start_ms <= o.placed_ms <= end_ms]
    limit = _limit(params, default=500, highest=1000)
    return _order_rows(venue, found[:limit] if first_id or "startTime" in params else found[-limit:])


def user_trades(venue: Venue, params: Params) -> object:
    """One symbol; a week at most; `fromId` not together with times."""
    contract = venue.engine.contract(params.text("symbol"))
    trades = [t for t in _visible_trades(venue) if t.symbol == contract.symbol]
    limit = _limit(params, default=500, highest=1000)
    if "orderId" in params:
        trades = [t for t in trades if t.order_id == params.integer("orderId")]
    if "fromId" in params:
        if "startTime" in params or "endTime" in params:
            raise refusal(-1128)
        first_id = params.integer("fromId")
        found = [t for t in trades if t.trade_id >= first_id][:limit]
    else:
        start_ms, end_ms = _window(venue, params)
        found = [t for t in trades if start_ms <= t.at_ms <= end_ms]
        found = found[:limit] if "startTime" in params else found[-limit:]
    return [wire.trade_row(t, contract) for t in found]


def force_orders(venue: Venue, params: Params) -> object:
    """Orders the exchange placed itself: liquidations (LIQUIDATION) and deleveraging (ADL)."""
    start_ms, end_ms = _window(venue, params)
    kind = params.text("autoCloseType", "")
    prefixes = {"": ("autoclose-", "adl_autoclose"), "LIQUIDATION": ("autoclose-",), "ADL": ("adl_autoclose",)}
    if kind not in prefixes:
        raise refusal(-1130, "autoCloseType")
    orders = [o for o in _orders_of(venue, params.optional("symbol")) if o.forced]
    found = [o for o in orders if o.client_order_id.startswith(prefixes[kind]) and start_ms <= o.placed_ms <= end_ms]
    limit = _limit(params, default=50, highest=100)
    return [wire.force_order(o, venue.engine.contracts[o.symbol]) for o in found[-limit:]]


def income(venue: Venue, params: Params) -> object:
    """What the trades earned and cost; other kinds of income do not happen here."""
    start_ms, end_ms = _window(venue, params)
    symbol, wanted = params.optional("symbol"), params.optional("incomeType")
    trades = [t for t in _visible_trades(venue) if symbol in (None, t.symbol) and start_ms <= t.at_ms <= end_ms]
    rows = [row for t in trades for row in _income_of(t) if wanted in (None, row["incomeType"])]
    return rows[: _limit(params, default=100, highest=1000)]


def position_mode(venue: Venue, params: Params) -> object:
    return {"dualSidePosition": venue.engine.hedge}


def account_config(venue: Venue, params: Params) -> object:
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "dualSidePosition": venue.engine.hedge,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }


def symbol_config(venue: Venue, params: Params) -> object:
    symbol = params.optional("symbol")
    contracts = [venue.engine.contract(symbol)] if symbol is not None else venue.engine.contracts.values()
    return [
        {
            "symbol": contract.symbol,
            "marginType": "CROSSED",
            "isAutoAddMargin": False,
            "leverage": LEVERAGE,
            "maxNotionalValue": "100000000",
        }
        for contract in contracts
    ]


def account(venue: Venue, params: Params) -> object:
    """/fapi/v3/account in single-asset mode: all in USDT."""
    engine = venue.engine
    live = [(p, engine.mark(p.symbol)) for p in venue.live_positions()]
    profit = sum(((mark - p.entry_price) * p.amt for p, mark in live), Decimal(0))
    money = _money(engine.wallet, profit, margin=engine.wallet - engine.free_margin())
    totals = {"total" + name[0].upper() + name[1:]: value for name, value in money.items()}
    v3 = [wire.position_v3(p, engine.contracts[p.symbol], mark) for p, mark in live]
    return {
        **totals,
        "availableBalance": wire.eight(engine.free_margin()),
        "maxWithdrawAmount": wire.eight(engine.free_margin()),
        "assets": [
            {
                "asset": "USDT",
                **money,
                "availableBalance": wire.eight(engine.free_margin()),
                "maxWithdrawAmount": wire.eight(engine.free_margin()),
                "updateTime": engine.now_ms(),
            }
        ],
        "positions": [_account_position(row) for row in v3],
    }


def balance(venue: Venue, params: Params) -> object:
    free = wire.eight(venue.engine.free_margin())
    return [
        {
            "accountAlias": "SgsR",
            "asset": "USDT",
            "balance": wire.eight(venue.engine.wallet),
            "crossWalletBalance": wire.eight(venue.engine.wallet),
            "crossUnPnl": "0.00000000",
            "availableBalance": free,
            "maxWithdrawAmount": free,
            "marginAvailable": True,
            "updateTime": venue.engine.now_ms(),
        }
    ]


def _money(wallet: Decimal, profit: Decimal, *, margin: Decimal) -> dict[str, str]:
    return {
        "initialMargin": wire.eight(margin),
        "maintMargin": wire.eight(margin / 2),
        "walletBalance": wire.eight(wallet),
        "unrealizedProfit": wire.eight(profit),
        "marginBalance": wire.eight(wallet + profit),
        "positionInitialMargin": wire.eight(margin),
        "openOrderInitialMargin": "0.00000000",
        "crossWalletBalance": wire.eight(wallet),
        "crossUnPnl": wire.eight(profit),
    }


def _account_position(row: dict) -> dict:
    names = ("symbol", "positionSide", "positionAmt", "isolatedMargin", "notional", "isolatedWallet")
    names += ("initialMargin", "maintMargin", "updateTime")
    return {name: row[name] for name in names} | {"unrealizedProfit": row["unRealizedProfit"]}


def _income_of(trade: Trade) -> Iterable[dict]:
    if trade.realized_pnl:
        yield wire.income_row(trade, "REALIZED_PNL", trade.realized_pnl)
    yield wire.income_row(trade, "COMMISSION", -trade.commission)


def _rate_limit(kind: str, interval: str, count: int, limit: int) -> dict:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit}


def _orders_of(venue: Venue, symbol: str | None) -> list[Order]:
    if symbol is not None:
        venue.engine.contract(symbol)
    return [o for o in venue.engine.orders.values(venue.moment_ms) if symbol in (None, o.symbol)]


def _order_rows(venue: Venue, orders: Iterable[Order]) -> list[dict]:
    contracts = venue.engine.contracts
    return [wire.order_read(o, contracts[o.symbol]) for o in orders if o.symbol in contracts]


def _visible_trades(venue: Venue) -> list[Trade]:
    moment_ms = venue.moment_ms
    return [t for t in venue.engine.trades if moment_ms is None or t.at_ms <= moment_ms]


def _limit(params: Params, *, default: int, highest: int) -> int:
    limit = params.integer("limit", default)
    if not 1 <= limit <= highest:
        raise refusal(-1130, "limit")
    return limit


def _window(venue: Venue, params: Params) -> tuple[int, int]:
    """The asked time range: a week from `startTime`, up to `endTime`, or the last week."""
    now_ms = venue.engine.now_ms()
    end_ms = params.integer("endTime", params.integer("startTime", now_ms - WEEK_MS) + WEEK_MS)
    start_ms = params.integer("startTime", end_ms - WEEK_MS)
    if start_ms > end_ms:
        raise refusal(-1023)
    if end_ms - start_ms > WEEK_MS:
        raise refusal(-1127, WEEK_MS // 3_600_000)
    return start_ms, end_ms
