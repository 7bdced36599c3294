"""Turns the body of a 200 into typed values, or into a named reason why it is none.

What may not happen here: an odd body read as data, or any exception but ExchangeUnavailable.

Facts: 200 with HTML, an empty or cut-off body, or an error body have all been seen (python-binance#1198, ccxt#27438);
during the cutover of 2026-06 `{"239999": "The system is under maintenance..."}` came without code and msg.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from p33_sidecar.core import quantity
from p33_sidecar.core.plan import symbol_of
from p33_sidecar.errors import ExchangeUnavailable

T = TypeVar("T")
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for bytes that are not the JSON asked for."""

_ANY = msgspec.json.Decoder()
_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])
ZEROS = frozenset({"0"} | {"0." + "0" * digits for digits in range(1, 17)})
"""The ways the exchange writes zero: recognised without building a number, since most rows are flat."""


class BadField(ValueError):
    """A field that cannot be used; the message says which and why."""


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The typed value of a body. Raises ExchangeUnavailable with the name of what came instead."""
    try:
        return decoder.decode(body)
    except NOT_JSON as error:
        odd = ExchangeUnavailable(oddity(body), str(error)[:200] if isinstance(error, msgspec.ValidationError) else "")
    raise odd


def raw_rows(body: bytes) -> list[msgspec.Raw]:
    """The elements of a list, undecoded. Raises ExchangeUnavailable."""
    return decode(body, _RAW_LIST)


def oddity(body: bytes) -> str:
    """A short label for a body that is not what was asked for."""
    start = body[:200].lstrip()
    if not start:
        return "empty_body"
    if start.startswith(b"<"):
        return "html"
    try:
        value = _ANY.decode(body)
    except NOT_JSON as error:
        return "truncated_json" if "truncated" in str(error) else "not_json"
    return _oddity_of(value)


def _oddity_of(value: Any) -> str:
    if isinstance(value, dict):
        if "code" in value:
            return "error_body"
        if "239999" in value:
            return "maintenance"
    return "unexpected_shape"


@lru_cache(maxsize=4096)
def usable_symbol(text: str) -> bool:
    """Whether the text is a symbol by the contract's rule."""
    try:
        return symbol_of(text) == text
    except ValueError:
        return False


def amount(text: str, *, field: str) -> Any:
    """The exact Decimal of a quantity. Raises BadField."""
    if text in ZEROS:
        return quantity.ZERO
    try:
        return quantity.parse(text)
    except ValueError:
        raise BadField(f"{field} is not a number: {text[:40]!r}") from None


def price_text(text: str, *, field: str) -> str:
    """The canonical notation of a price, without building a number where the text is nearly canonical already."""
    if text in ZEROS:
        return "0"
    whole, dot, fraction = text.partition(".")
    if len(text) <= quantity.MAX_DIGITS and text.isascii() and whole.isdigit() and (whole[0] != "0" or whole == "0"):
        if not dot:
            return text
        if fraction.isdigit():
            return text.rstrip("0").rstrip(".")
    return quantity.text(amount(text, field=field))
