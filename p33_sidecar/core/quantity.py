"""Exact quantities: canonical text, parsing, and the exchange's grid.

No float may enter here, and nothing is rounded up: a quantity is floored to the grid or refused.
The canonical plain notation is the contract's: no exponent, no trailing zeros, no `+`, zero is `0`.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, localcontext

import msgspec

ZERO = Decimal(0)
MAX_DIGITS = 60
"""Longest text accepted as a number: far above any real quantity, far below what could hurt."""

_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?\Z", re.ASCII)
_EXACT = Context(prec=MAX_DIGITS * 2, traps=[Inexact])


def parse(text: str) -> Decimal:
    """The exact value of a decimal text. Raises ValueError for anything else (`nan`, `inf`, ``, `1_0`)."""
    if len(text) > MAX_DIGITS or not _PLAIN.match(text):
        raise ValueError(f"not a decimal number: {text[:80]!r}")
    return Decimal(text)


def text(value: Decimal) -> str:
    """Canonical plain notation of a finite value."""
    plain = format(value, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in ("-0", "") else plain


def number(value: Decimal) -> msgspec.Raw:
    """The value as a JSON number with its exact digits (msgspec alone would write `1E-8`)."""
    return msgspec.Raw(text(value).encode())


def seconds(ms: int) -> Decimal:
    """Milliseconds as exact seconds."""
    return Decimal(ms).scaleb(-3)


def side_of(amt: Decimal) -> str:
    """LONG, SHORT or NONE, as the snapshot and ledger hashes say it."""
    return "LONG" if amt > 0 else "SHORT" if amt < 0 else "NONE"


def floor_to_grid(qty: Decimal, *, step: Decimal, anchor: Decimal = ZERO) -> Decimal:
    """The largest legal quantity not above `qty`: `anchor + n * step`, n >= 0; zero where there is none.

    The exchange calls a quantity legal when `(qty - minQty) % stepSize == 0`; `anchor` is that minQty.
    Raises ValueError for a step that is not positive.
    """
    if step <= 0:
        raise ValueError(f"step must be positive, is {text(step)}")
    with localcontext(_EXACT):
        offset = anchor % step
        if qty < offset:
            return ZERO
        return (qty - offset) // step * step + offset


def product(a: Decimal, b: Decimal) -> Decimal:
    """Exact product: raises decimal.Inexact rather than dropping a digit."""
    return _EXACT.multiply(a, b)


def total(a: Decimal, b: Decimal) -> Decimal:
    """Exact sum: raises decimal.Inexact rather than dropping a digit."""
    return _EXACT.add(a, b)
