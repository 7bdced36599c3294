"""Self-contained HTML: everything a page needs stands in it, so that it opens offline, prints, and can be mailed.

Every value is escaped by the template engine; a picture is the only thing let through as it is, and it is made of
numbers and escaped names (`svg`). Times are UTC, amounts canonical text, money in USDT from whole cents.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import Any

import jinja2

from p33_sidecar.core.quantity import text

ROOT = Path(__file__).parents[1]
_WIDE = Context(prec=400)
"""Room for a notional of any accepted amount and price."""


def render(template: str, **values: Any) -> bytes:
    """The page's bytes. `template` is relative to the package: `review/review.html`."""
    return _ENVIRONMENT.get_template(template).render(**values).encode()


def amount(value: Decimal | None) -> str:
    """An exact quantity, or a dash for one that is not known."""
    return "–" if value is None else text(value)


def utc(ms: int | None) -> str:
    """A moment to the second."""
    return "–" if ms is None else datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(ms: int | None) -> str:
    """A length of time in its two largest units: `3 d 4 h`, `12 min 5 s`, `1.2 s`."""
    if ms is None:
        return "–"
    if ms < 60_000:
        return f"{ms // 1000}.{ms % 1000 // 100} s" if ms < 10_000 and ms % 1000 else f"{ms // 1000} s"
    units = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
    first = next(i for i, (_, size) in enumerate(units) if ms >= size)
    parts = []
    for name, size in units[first:first + 2]:
        if ms // size:
            parts.append(f"{ms // size} {name}")
        ms %= size
    return " ".join(parts)


def money(cents: int | None) -> str:
    """Whole cents as `1,234.56`."""
    if cents is None:
        return "–"
    sign, cents = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{cents // 100:,}.{cents % 100:02}"


def usdt(value: Decimal | None) -> str:
    """A notional to the cent, as `1,234.56`; the exact one stands in the CSV and the JSON."""
    return "–" if value is None else f"{value.quantize(Decimal('0.01'), ROUND_HALF_EVEN, _WIDE):,f}"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 break`, `3 breaks`, `no breaks`."""
    word = one if number == 1 else many or f"{one}s"
    return f"{number:,} {word}" if number else f"no {word}"


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(ROOT), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
    lstrip_blocks=True)
_ENVIRONMENT.filters |= {"amount": amount, "utc": utc, "span": span, "money": money, "usdt": usdt}
_ENVIRONMENT.globals["counted"] = counted
