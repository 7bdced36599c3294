"""The exchange's rules for one order, as pure checks in the order the exchange applies them.

No state may be read or changed here: what a rule needs is passed in. Codes and texts: see `errors`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from p33_sidecar.rehearsal.exchange.errors import CLIENT_ID_TOO_LONG, ApiError, refusal
from p33_sidecar.rehearsal.exchange.model import OrderTicket
from p33_sidecar.rehearsal.exchange.params import Params
from p33_sidecar.rehearsal.exchange.symbols import Contract

CONDITIONAL: Final = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
CLIENT_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}", re.ASCII)
CLOSE_ONLY: Final = ("PRE_DELIVERING", "PRE_SETTLE")


def read_ticket(params: Params) -> OrderTicket:
    """The order that a request asks for; raises for whatever is missing or malformed."""
    symbol, side, kind = params.text("symbol"), params.text("side"), params.text("type")
    if side not in ("BUY", "SELL"):
        raise refusal(-1117)
    if kind in CONDITIONAL:
        raise refusal(-4120)
    if kind not in ("MARKET", "LIMIT"):
        raise refusal(-1116)
    limit = kind == "LIMIT"
    if not limit and "price" in params:
        raise refusal(-1106, "price")
    return OrderTicket(
        symbol=symbol,
        side=side,
        type=kind,
        qty=params.decimal("quantity"),
        price=params.decimal("price") if limit else Decimal(0),
        time_in_force=_time_in_force(params) if limit else "GTC",
        reduce_only=params.flag("reduceOnly"),
        position_side=params.text("positionSide", "BOTH"),
        client_order_id=_client_id(params),
    )


def check_mode(ticket: OrderTicket, *, hedge: bool, sent_reduce_only: bool) -> None:
    """Position side and reduceOnly have to fit the account's position mode."""
    if ticket.position_side not in ("BOTH", "LONG", "SHORT"):
        raise refusal(-4060)
    if hedge == (ticket.position_side == "BOTH"):
        raise refusal(-4061)
    if hedge and sent_reduce_only:
        raise refusal(-1106, "reduceOnly")


def check_status(contract: Contract, *, closes: bool) -> None:
    """Only a trading symbol takes openings; one about to settle still takes closes."""
    if contract.status == "TRADING" or (closes and contract.status in CLOSE_ONLY):
        return
    raise refusal(-4140 if contract.status in CLOSE_ONLY else -4141)


def check_quantity(ticket: OrderTicket, contract: Contract) -> None:
    """LOT_SIZE for all, MARKET_LOT_SIZE too for market orders; the stricter bound of both holds."""
    if ticket.qty <= 0:
        raise refusal(-4003)
    if ticket.qty != round(ticket.qty, contract.qty_precision):
        raise refusal(-1111)
    bounds = [(contract.min_qty, contract.max_qty, contract.step)]
    if ticket.type == "MARKET":
        bounds.append((contract.market_min, contract.market_max, contract.market_step))
    for low, high, step in ((Decimal(a), Decimal(b), Decimal(c)) for a, b, c in bounds):
        if ticket.qty < low:
            raise refusal(-4004)
        if ticket.qty > high:
            raise refusal(-4005)
        if step and (ticket.qty - low) % step:
            raise refusal(-4023)


def check_price(ticket: OrderTicket, contract: Contract, *, mark: Decimal) -> None:
    """PRICE_FILTER and PERCENT_PRICE; nothing for a market order."""
    if ticket.type == "MARKET":
        return
    if ticket.price <= 0:
        raise refusal(-4001)
    if ticket.price > Decimal(contract.max_price):
        raise refusal(-4002)
    if ticket.price < Decimal(contract.min_price):
        raise refusal(-4013)
    if ticket.price % contract.tick_size:
        raise refusal(-4014)
    if ticket.price > mark * (1 + contract.percent_band):
        raise refusal(-4016)
    if ticket.price < mark * (1 - contract.percent_band):
        raise refusal(-4024)


def check_notional(ticket: OrderTicket, contract: Contract, *, mark: Decimal, closes: bool) -> None:
    """MIN_NOTIONAL, from which an order that only reduces is exempt (text of -4164)."""
    if not closes and ticket.qty * (ticket.price or mark) < Decimal(contract.notional):
        raise refusal(-4164, contract.notional)


def _time_in_force(params: Params) -> str:
    value = params.text("timeInForce")
    if value not in ("GTC", "IOC", "FOK", "GTX"):
        raise refusal(-1115)
    return value


def _client_id(params: Params) -> str | None:
    value = params.optional("newClientOrderId")
    if value is None or CLIENT_ID.fullmatch(value):
        return value
    raise ApiError(-4015, CLIENT_ID_TOO_LONG) if len(value) > 36 else refusal(-4015)
