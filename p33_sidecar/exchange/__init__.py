"""Binance USD-M futures over httpx: positions, lot rules, and one order whose fate is always named.

Nothing here knows Redis or decides about a plan. The errors are `p33_sidecar.errors`.
"""

from p33_sidecar.exchange.client import Exchange
from p33_sidecar.exchange.connection import Observer
from p33_sidecar.exchange.filters import FiltersReply
from p33_sidecar.exchange.limits import BanStore
from p33_sidecar.exchange.orders import OrderState
from p33_sidecar.exchange.positions import PositionRow, PositionsReply, SymbolPosition
from p33_sidecar.exchange.records import Trade
from p33_sidecar.exchange.signing import Credentials

__all__ = [
    "BanStore",
    "Credentials",
    "Exchange",
    "FiltersReply",
    "Observer",
    "OrderState",
    "PositionRow",
    "PositionsReply",
    "SymbolPosition",
    "Trade",
]
