"""The parameters of one request, decoded once from its raw query and body.

No default of an endpoint may live here. Where a name stands in both, the query's value wins (documented).
"""

from __future__ import annotations

import re
from decimal import Decimal
from urllib.parse import parse_qsl

from p33_sidecar.rehearsal.exchange.errors import refusal

LEGAL_QTY = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
LEGAL_INT = r"^[0-9]{1,20}$"


class Params:
    """Typed access; every getter raises ApiError with the exchange's own refusal."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    @classmethod
    def of(cls, query: bytes, body: bytes) -> Params:
        return cls(_pairs(body) | _pairs(query))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str | None = None) -> str:
        """The value as sent; mandatory (-1102) when no default is given."""
        value = self._values.get(name, default)
        if value is None:
            raise refusal(-1102, name)
        return value

    def optional(self, name: str) -> str | None:
        return self._values.get(name)

    def integer(self, name: str, default: int | None = None) -> int:
        if name not in self._values and default is not None:
            return default
        return int(self._matching(name, LEGAL_INT))

    def decimal(self, name: str) -> Decimal:
        """An exact quantity or price: no sign, no exponent (-1100)."""
        return Decimal(self._matching(name, LEGAL_QTY))

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise refusal(-1130, name)
        return value.lower() == "true"

    def _matching(self, name: str, pattern: str) -> str:
        value = self.text(name)
        if not re.fullmatch(pattern, value, re.ASCII):
            raise refusal(-1100, name, pattern)
        return value


def _pairs(raw: bytes) -> dict[str, str]:
    pairs = parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True)
    values = dict(pairs)
    if len(values) != len(pairs):
        raise refusal(-1101)
    for name, value in pairs:
        if not value:
            raise refusal(-1105, name)
    return values
