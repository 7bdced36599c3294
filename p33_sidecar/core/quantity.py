"""Exact quantities: canonical text, parsing, and the exchange's grid.

No float may enter here, and nothing is rounded up: a quantity is floored to the grid or refused.
The canonical plain notation is the contract's: no exponent, no trailing zeros, no `+`, zero is `0`.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow

import msgspec

ZERO = Decimal(0)
MAX_DIGITS = 60
"""Longest plain notation accepted as a number: far above any real quantity, far below what could hurt."""

_PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?\Z", re.ASCII)
_EXACT = Context(prec=MAX_DIGITS * 6, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
"""Room for a product of two accepted numbers added to a third; whatever still does not fit raises, never rounds."""


def parse(text: str) -> Decimal:
    """The exact value of a decimal text. Raises ValueError for anything else (`nan`, `inf`, ``, `1_0`).

    An exponent is read, but only as far as the plain notation stays within MAX_DIGITS (so `1E+99` is refused).
    """
    if len(text) > MAX_DIGITS or not _PLAIN.match(text):
        raise ValueError(f"not a decimal number: {text[:80]!r}")
    value = Decimal(text)
    if len(format(value, "f")) > MAX_DIGITS:
        raise ValueError(f"too many digits: {text[:80]!r}")
    return value


def text(value: Decimal) -> str:
    """Canonical plain notation of a finite value."""
    plain = str(value)
    if "E" in plain:
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
    """The largest quantity on the grid that is not above `qty` and not negative; zero where there is none.

    The exchange calls a quantity legal when `(qty - minQty) % stepSize == 0`; `anchor` is that minQty. Points of
    the grid below the minimum are returned too: what is too little is the caller's question.
    Raises ValueError for a step that is not positive and for a quantity that is not finite.
    """
    if not qty.is_finite():
        raise ValueError(f"not a quantity: {qty}")
    if step <= 0:
        raise ValueError(f"step must be positive, is {text(step)}")
    offset = _EXACT.remainder(anchor, step)
    if qty < offset:
        return ZERO
    steps = _EXACT.divide_int(_EXACT.subtract(qty, offset), step)
    return _EXACT.fma(steps, step, offset)


def product(a: Decimal, b: Decimal) -> Decimal:
    """Exact product: raises decimal.Inexact rather than dropping a digit."""
    return _EXACT.multiply(a, b)


def total(a: Decimal, b: Decimal) -> Decimal:
    """Exact sum: raises decimal.Inexact rather than dropping a digit."""
    return _EXACT.add(a, b)


def difference(a: Decimal, b: Decimal) -> Decimal:
    """Exact `a - b`: raises decimal.Inexact rather than dropping a digit, as a unary minus would."""
    return _EXACT.subtract(a, b)


def scaled(value: Decimal, places: int) -> Decimal:
    """Exact `value * 10**places` (Decimal.scaleb rounds to the ambient context's 28 digits)."""
    return _EXACT.scaleb(value, places)


def within_digits(value: Decimal) -> bool:
    """Whether a value that did not come through `parse` is finite and of a size that `parse` would accept."""
    return value.is_finite() and -MAX_DIGITS < value.adjusted() < MAX_DIGITS
