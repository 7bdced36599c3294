"""The values that pass through the simulated exchange: requests, replies, positions, orders, trades.

No behaviour beyond what a value says of itself may live here. Times are Unix milliseconds of the
exchange's clock; quantities and prices are exact decimals; `qty` is never negative, `amt` is signed.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

ZERO = Decimal(0)
PositionKey = tuple[str, str]
"""(symbol, position side: BOTH, LONG or SHORT)."""


class Request(msgspec.Struct, frozen=True):
    """One HTTP request as it came: `query` and `body` are the raw bytes, since the signature covers those."""

    method: str
    path: str
    query: bytes = b""
    body: bytes = b""
    api_key: str | None = None
    ip: str = "127.0.0.1"


class Reply(msgspec.Struct, frozen=True):
    """What goes back. `cut_at` closes the connection after that many bytes of the body; 0 sends nothing at all."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = {}
    cut_at: int | None = None


class Position(msgspec.Struct, frozen=True):
    """`updated_ms` is 0 until the first change: the exchange's sign for "never traded"."""

    symbol: str
    side: str = "BOTH"
    amt: Decimal = ZERO
    entry_price: Decimal = ZERO
    updated_ms: int = 0

    @property
    def closing_side(self) -> str:
        return "SELL" if self.amt > 0 else "BUY"


class Order(msgspec.Struct, frozen=True):
    order_id: int
    client_order_id: str
    symbol: str
    side: str
    type: str
    qty: Decimal
    price: Decimal
    time_in_force: str
    reduce_only: bool
    position_side: str
    placed_ms: int
    updated_ms: int
    sequence: int
    status: str = "NEW"
    executed_qty: Decimal = ZERO
    quote_qty: Decimal = ZERO
    forced: bool = False

    @property
    def is_open(self) -> bool:
        return self.status in ("NEW", "PARTIALLY_FILLED")

    @property
    def remaining_qty(self) -> Decimal:
        return self.qty - self.executed_qty

    @property
    def position_key(self) -> PositionKey:
        return self.symbol, self.position_side


class Trade(msgspec.Struct, frozen=True):
    trade_id: int
    order_id: int
    symbol: str
    side: str
    position_side: str
    qty: Decimal
    price: Decimal
    realized_pnl: Decimal
    commission: Decimal
    asset: str
    maker: bool
    at_ms: int


class OrderTicket(msgspec.Struct, frozen=True):
    """An order as its sender asked for it, format already checked. `price` is zero for MARKET."""

    symbol: str
    side: str
    type: str
    qty: Decimal
    price: Decimal = ZERO
    time_in_force: str = "GTC"
    reduce_only: bool = False
    position_side: str = "BOTH"
    client_order_id: str | None = None
    forced: bool = False
