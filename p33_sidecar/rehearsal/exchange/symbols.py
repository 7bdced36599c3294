"""The simulator's contracts: a committed table of facts, read once into frozen values.

No market state may live here: a price in the table is only where a symbol's walk begins.
The table is made by `make_symbols` (what the recorded demo host listed on 2025-12-24, 660 symbols, with BTCUSDT's
rules of the main exchange of 2026-09, and 40 twins).
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from pathlib import Path

import msgspec

TABLE_PATH = Path(__file__).with_name("symbols.json")
COLUMNS = (
    "symbol", "contract_type", "status", "base", "quote", "tick", "min_price", "max_price", "step", "min_qty",
    "max_qty", "market_step", "market_min", "market_max", "notional", "price_precision", "qty_precision",
    "max_orders", "take_bound", "risk_control", "mark",
)  # fmt: skip


class Contract(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """One symbol and its rules. Texts are the exchange's own; the Decimal twins are for arithmetic."""

    symbol: str
    contract_type: str
    status: str
    base: str
    quote: str
    tick: str
    min_price: str
    max_price: str
    step: str
    min_qty: str
    max_qty: str
    market_step: str
    market_min: str
    market_max: str
    notional: str
    price_precision: int
    qty_precision: int
    max_orders: int
    take_bound: str
    risk_control: int
    mark: str

    @property
    def pair(self) -> str:
        return self.symbol.partition("_")[0]

    @cached_property
    def tick_size(self) -> Decimal:
        """The price grid; a symbol without one (tick 0) uses its price precision."""
        return Decimal(self.tick) or Decimal(1).scaleb(-self.price_precision)

    @cached_property
    def percent_band(self) -> Decimal:
        """How far a limit price may lie from the mark, as a fraction (PERCENT_PRICE)."""
        return Decimal("0.05") if self.symbol.startswith(("BTC", "ETH")) else Decimal("0.15")

    def qty_text(self, qty: Decimal) -> str:
        """A quantity with the symbol's decimals, as the exchange writes it (`0.000`, `61`), or with all that it has."""
        grid = Decimal(1).scaleb(-self.qty_precision)
        return format(qty if qty % grid else qty.quantize(grid), "f")


def load_contracts(count: int) -> dict[str, Contract]:
    """The first `count` contracts by symbol, in the exchange's order. Raises ValueError outside 1..700."""
    table = msgspec.json.decode(TABLE_PATH.read_bytes())
    if not 1 <= count <= len(table["rows"]):
        raise ValueError(f"symbols must be 1 to {len(table['rows'])}, is {count}")
    rows = (dict(zip(table["columns"], row, strict=True)) for row in table["rows"][:count])
    return {row["symbol"]: msgspec.convert(row, Contract) for row in rows}
