"""Whether two accounts of one position agree, by the tolerance of the rules."""

from __future__ import annotations

from decimal import Decimal

from .quantity import difference, product, scaled


def disagreement(exchange: Decimal, ledger: Decimal, *, tolerance_pct: Decimal) -> str | None:
    """`side`, `quantity`, or None. The tolerance is a share of the exchange's amount; exactly that much passes."""
    if exchange < 0 < ledger or ledger < 0 < exchange:
        return "side"
    allowed = scaled(product(exchange.copy_abs(), tolerance_pct), -2)
    return "quantity" if difference(exchange, ledger).copy_abs() > allowed else None
