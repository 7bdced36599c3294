"""What all messages share: a record's version, and amounts that the archive's columns can hold."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec

from p33_pipeline.history.tables import AMOUNT
from p33_sidecar.core.quantity import parse, text

Fields = dict[str, str]
Row = tuple[Any, ...]
KNOWN_VERSION: Final = 1
_SIMPLE = re.compile(r"-?\d+(\.\d+)?", re.ASCII)


class Said(msgspec.Struct, gc=False):
    """What every record carries."""

    v: int


def known(record: Any) -> Any:
    if record.v != KNOWN_VERSION:
        raise ValueError(f"version {record.v} of the record is not known")
    return record


def amount(written: str | None) -> str | None:
    return None if written is None else text(checked(parse(written)))


def checked(value: Decimal) -> Decimal:
    """The value, if the column holds it exactly. Raises ValueError."""
    if not fits(value):
        raise ValueError(f"more digits than the archive's columns have: {text(value)}")
    return value


def fits(value: Decimal) -> bool:
    """Whether an amount has no more digits than DECIMAL(38, 18) holds, before and behind the point."""
    _, digits, exponent = value.as_tuple()
    behind = max(-int(exponent), 0)
    while behind > AMOUNT.scale and digits and digits[-1] == 0:
        digits, behind = digits[:-1], behind - 1
    return behind <= AMOUNT.scale and value.adjusted() < AMOUNT.precision - AMOUNT.scale


@lru_cache(maxsize=65_536)
def price(written: str) -> str | None:
    """A price only colours a finding: one that does not fit is left out, and stays in `raw`."""
    if len(written) <= AMOUNT.scale and _SIMPLE.fullmatch(written):
        return written
    try:
        price = parse(written)
    except ValueError:
        return None
    return text(price) if fits(price) else None
