"""A plan's message turned into a value, or refused by name. What is odd but attributable becomes a denial later.

Only a message that cannot be given a verdict at all (no usable plan_id or symbol) is refused here; everything
else that cannot be read is carried along as `unreadable`, so that the plan gets its DENY.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache, wraps
from typing import Any

import msgspec

from .actions import FRACTIONS
from .model import Plan
from .quantity import ZERO, parse, scaled

EXECUTE = "EXECUTE"
PLAN_ID_MAX, SYMBOL_MAX = 128, 40
TIMESTAMP_MS_MAX = 10**17
"""Beyond any clock, three million years from now; what lies further off is not a time and fits no JSON integer."""

USUAL_LENGTH = 200
"""Of a field in characters; longer ones are read anew each time."""


class MessageRefused(ValueError):
    """The message cannot be understood. `reason` is a short label for records and metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Step(msgspec.Struct, gc=False):
    """One entry of a plan's `steps`, as far as it matters here."""

    step: str = ""
    type: str = ""
    side: str = ""
    pct: msgspec.Raw = msgspec.Raw(b"null")
    """As written: 75.0, 75 or "75" mean the same, and no float may stand between."""

    def closes(self) -> bool:
        return self.step in FRACTIONS or self.side.lower() == "close" or "reduce_only" in self.type.lower()


_STEPS = msgspec.json.Decoder(list[Step])


def plan_id_of(text: str | None) -> str:
    """1 to 128 printable ASCII characters without spaces, not beginning with `p33:`. Raises MessageRefused."""
    if not text:
        raise MessageRefused("missing_plan_id")
    printable = text.isascii() and text.isprintable() and " " not in text
    if not printable or len(text) > PLAN_ID_MAX or text.startswith("p33:"):
        raise MessageRefused("malformed_plan_id")
    return text


def symbol_of(text: str | None) -> str:
    """1 to 40 characters without white space, control characters or `:`. Raises MessageRefused."""
    if not text:
        raise MessageRefused("missing_symbol")
    # Of all white space, only the space counts as printable.
    if len(text) > SYMBOL_MAX or ":" in text or " " in text or not text.isprintable():
        raise MessageRefused("malformed_symbol")
    return text


def plan_of(fields: dict[str, str], *, entry_ms: int) -> Plan:
    """The plan a stream entry carries. Raises MessageRefused where no verdict can be addressed to anybody."""
    plan_id, symbol = plan_id_of(fields.get("plan_id")), symbol_of(fields.get("symbol"))
    unreadable: list[str] = []
    fraction = _read(_closing_fraction, fields.get("steps", ""), "steps", unreadable)
    close_qty = _read(_close_qty, fields.get("close_qty", ""), "close_qty", unreadable)
    stamp, bad_stamp = timestamp_of(fields.get("timestamp", ""))
    return Plan(
        plan_id=plan_id, symbol=symbol, action=fields.get("action", ""), entry_ms=entry_ms, fields=fields,
        side=fields.get("side", "").upper(), close_qty=close_qty or ZERO, step_fraction=fraction,
        timestamp_ms=stamp, bad_timestamp=bad_stamp, unreadable="; ".join(unreadable),
    )


def _read(reader: Callable[[str], Decimal | None], text: str, name: str, unreadable: list[str]) -> Decimal | None:
    try:
        return reader(text) if text else None
    except (ValueError, RecursionError) as error:
        unreadable.append(f"{name} cannot be read: {str(error)[:120]}")
        return None


def _remembered(reader: Callable[[str], Any]) -> Callable[[str], Any]:
    """`reader`, with what the last texts of usual length meant: the same few come all day. No refusal is kept."""
    remembering = lru_cache(maxsize=256)(reader)

    @wraps(reader)
    def read(text: str) -> Any:
        return remembering(text) if len(text) <= USUAL_LENGTH else reader(text)

    return read


@_remembered
def _closing_fraction(text: str) -> Decimal | None:
    closing = [step for step in _STEPS.decode(text) if step.closes()]
    if len(closing) > 1:
        raise ValueError(f"{len(closing)} closing steps")
    if not closing:
        return None
    named, pct = FRACTIONS.get(closing[0].step), _pct(closing[0].pct)
    if pct is not None and named is not None and pct != named:
        raise ValueError(f"step {closing[0].step} with pct {bytes(closing[0].pct).decode()}")
    return pct if pct is not None else named


def _pct(raw: msgspec.Raw) -> Decimal | None:
    written = bytes(raw).decode().strip('"')
    if written in ("null", ""):
        return None
    pct = parse(written)
    if not 0 < pct <= 100:
        raise ValueError(f"pct {written} is not within 0 to 100")
    return scaled(pct, -2)


@_remembered
def _close_qty(text: str) -> Decimal:
    qty = parse(text)
    if qty < 0:
        raise ValueError(f"{text} is negative")
    return qty


@_remembered
def timestamp_of(text: str) -> tuple[int | None, bool]:
    """Unix seconds, fractions allowed, as whole ms; (None, True) for a text that is no such thing."""
    if not text:
        return None, False
    try:
        stamp_ms = int(scaled(parse(text), 3))
    except ValueError:
        return None, True
    return (stamp_ms, False) if abs(stamp_ms) <= TIMESTAMP_MS_MAX else (None, True)
