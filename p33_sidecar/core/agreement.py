"""Whether two accounts of one position agree, by the tolerance of the rules."""

from __future__ import annotations

from decimal import Decimal

from .quantity import product, total


def disagreement(exchange: Decimal, ledger: Decimal, *, tolerance_pct: Decimal) -> str | None:
    """`side`, `quantity`, or None. The tolerance is a share of the exchange's amount; exactly that much passes."""
    if exchange < 0 < ledger or ledger < 0 < exchange:
        return "side"
    allowed = product(abs(exchange), tolerance_pct).scaleb(-2)
    return "quantity" if abs(total(exchange, -ledger)) > allowed else None
