"""Decodes `GET /fapi/v1/exchangeInfo` into the lot rules of each symbol, or the reason why it has none.

What may not happen here: a default step or minimum, or a grid on which the exchange would refuse a quantity.

Facts: a MARKET order obeys MARKET_LOT_SIZE and LOT_SIZE; `(qty - minQty) % stepSize == 0` (official docs). All 660
symbols of the recording of 2025-12 carry both. Where MARKET_LOT_SIZE is absent, LOT_SIZE alone is used: it binds every
order, and a market rule that we cannot see ends at worst in a definite refusal. MARKET_LOT_SIZE alone is refused, for
then the rule that binds every order is the one that is unknown.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal

import msgspec

from p33_sidecar.core.model import Filters
from p33_sidecar.errors import ExchangeUnavailable
from p33_sidecar.exchange.wire import NOT_JSON, BadField, amount, decode, usable_symbol

LOT, MARKET_LOT = "LOT_SIZE", "MARKET_LOT_SIZE"
MOST_DIGITS = 20
"""Before and after the point; the exchange's own rule for a legal quantity (text of -1100)."""

_EXACT = Context(prec=4 * MOST_DIGITS)


class FiltersReply(msgspec.Struct, frozen=True):
    """The lot rules as read at `read_ms`. `refused`: symbol -> why it has no usable rules."""

    read_ms: int
    filters: dict[str, Filters]
    refused: dict[str, str]


class _Filter(msgspec.Struct, gc=False):
    filter_type: str = msgspec.field(name="filterType", default="")
    min_qty: str | None = msgspec.field(name="minQty", default=None)
    max_qty: str | None = msgspec.field(name="maxQty", default=None)
    step: str | None = msgspec.field(name="stepSize", default=None)


class _Symbol(msgspec.Struct):
    symbol: str
    status: str
    filters: list[_Filter]


class _Limit(msgspec.Struct):
    kind: str = msgspec.field(name="rateLimitType", default="")
    interval: str = ""
    interval_num: int = msgspec.field(name="intervalNum", default=0)
    limit: int = 0


class _Info(msgspec.Struct):
    symbols: list[msgspec.Raw]
    limits: list[_Limit] = msgspec.field(name="rateLimits", default_factory=list)


class _Named(msgspec.Struct):
    symbol: str


class _Lot(msgspec.Struct, frozen=True):
    step: Decimal
    min_qty: Decimal
    max_qty: Decimal


_INFO = msgspec.json.Decoder(_Info)
_SYMBOL = msgspec.json.Decoder(_Symbol)
_NAMED = msgspec.json.Decoder(_Named)


def decode_filters(body: bytes) -> tuple[dict[str, Filters], dict[str, str], int | None]:
    """Filters, refused symbols and the weight limit a minute. Raises ExchangeUnavailable where no symbol is usable."""
    info = decode(body, _INFO)
    filters: dict[str, Filters] = {}
    refused: dict[str, str] = {}
    for number, raw in enumerate(info.symbols):
        name = _name(raw) or f"symbol {number}"
        try:
            if name in filters or name in refused:
                raise BadField("listed twice")
            filters[name] = _rules(raw)
        except BadField as why:
            refused[name] = str(why)
            filters.pop(name, None)
    if not filters:
        raise ExchangeUnavailable("all_rows_bad" if refused else "empty_list", next(iter(refused.values()), "")[:200])
    return filters, refused, _weight_limit(info.limits)


def _name(raw: msgspec.Raw) -> str:
    try:
        name = _NAMED.decode(raw).symbol
    except NOT_JSON:
        return ""
    return name if usable_symbol(name) else ""


def _rules(raw: msgspec.Raw) -> Filters:
    """The rules of one symbol. Raises BadField."""
    try:
        row = _SYMBOL.decode(raw)
    except NOT_JSON as error:
        raise BadField(str(error)[:200]) from None
    if not usable_symbol(row.symbol):
        raise BadField("symbol cannot be used")
    lot = _lot(row.filters, LOT)
    if lot is None:
        raise BadField(f"{LOT} is absent")
    rules = _both(lot, _lot(row.filters, MARKET_LOT) or lot)
    return Filters(row.symbol, row.status[:40], rules.step, rules.min_qty, rules.max_qty)


def _lot(filters: list[_Filter], kind: str) -> _Lot | None:
    """The filter of one kind, None where absent. Raises BadField for one that cannot be used."""
    of_kind = [f for f in filters if f.filter_type == kind]
    if not of_kind:
        return None
    found = of_kind[0]
    if len(of_kind) > 1 or found.step is None or found.min_qty is None or found.max_qty is None:
        raise BadField(f"{kind} is listed twice or lacks a field")
    lot = _Lot(*(amount(text, field=f"{kind} {field}") for field, text in (
        ("stepSize", found.step), ("minQty", found.min_qty), ("maxQty", found.max_qty))))
    if any(abs(int(v.as_tuple().exponent)) > MOST_DIGITS or v.adjusted() > MOST_DIGITS
           for v in (lot.step, lot.min_qty, lot.max_qty)):
        raise BadField(f"{kind} has more digits than the exchange accepts")
    if lot.step <= 0 or lot.min_qty < 0 or lot.max_qty <= 0:
        raise BadField(f"{kind} has no positive step and maximum")
    return lot


def _both(lot: _Lot, market: _Lot) -> _Lot:
    """The rule that keeps both: common multiple of the steps, larger minimum, smaller maximum. Raises BadField."""
    if lot == market:
        joint = lot
    else:
        joint = _Lot(_common_step(lot.step, market.step), max(lot.min_qty, market.min_qty),
                     min(lot.max_qty, market.max_qty))
    if any(_EXACT.remainder(_EXACT.subtract(joint.min_qty, each.min_qty), each.step) for each in (lot, market)):
        raise BadField("the grids of LOT_SIZE and MARKET_LOT_SIZE do not meet at the larger minimum")
    if joint.max_qty < joint.min_qty:
        raise BadField("the maximum is below the minimum")
    return joint


def _common_step(a: Decimal, b: Decimal) -> Decimal:
    """The least common multiple: the larger step wherever it is a multiple of the smaller."""
    places = max(-int(a.as_tuple().exponent), -int(b.as_tuple().exponent), 0)
    lots = math.lcm(int(_EXACT.scaleb(a, places)), int(_EXACT.scaleb(b, places)))
    return _EXACT.scaleb(Decimal(lots), -places)


def _weight_limit(limits: list[_Limit]) -> int | None:
    for each in limits:
        if (each.kind, each.interval, each.interval_num) == ("REQUEST_WEIGHT", "MINUTE", 1) and each.limit > 0:
            return each.limit
    return None
