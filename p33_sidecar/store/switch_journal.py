"""Kill switches that came or went without a word: set or deleted by hand, or over by their time; each journalled once.

`p33 halt` and `p33 resume` say themselves what they did. Everything else is found by comparing the switches that stand
with those that were last journalled (`quantum:p33:switches`), so that a halt which ends while no sidecar runs is said
by the next one. A switch is never changed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import redis

from . import keys, scripts
from .connect import store_errors
from .switches import event_json

EVERYTHING: Final = "*"
"""The global switch's field."""
UNREADABLE: Final = "!"
BY_HAND: Final = "unknown"
CLOCKS_APART_MS: Final = 1_000
OVER: Final = "its time was over"
DELETED: Final = "deleted by hand"
EXPIRED: Final = "deleted by hand, or the key expired"


def catch_up(client: redis.Redis, standing: Iterable[str], *, at_ms: int, by: str) -> int:
    """Journal what was not said yet. `standing`: symbols whose switch is set, empty for the global one. Returns how
    many events that were; none where what was noted cannot be read."""
    with store_errors():
        try:
            noted = client.hgetall(keys.SWITCHES)
        except redis.ResponseError:
            return 0
        symbols = {*standing, *("" if field == EVERYTHING else field for field in noted)}
        return sum(_settle(client, symbol, noted.get(symbol or EVERYTHING, ""), at_ms, by) for symbol in symbols)


def _settle(client: redis.Redis, symbol: str, noted: str, at_ms: int, by: str) -> int:
    found = _found(client, symbol)
    if found == noted:
        return 0
    kind, what = ("halt", _halt(found)) if found else ("resume", {"why": _why(noted, at_ms)})
    who = what.pop("by", by if what.get("why") == OVER else BY_HAND)
    event = event_json(kind, at_ms=at_ms, by=who, symbol=symbol or None, **what)
    return scripts.run(client, "switched", [keys.halt(symbol), keys.EVENTS, keys.SWITCHES],
                       [symbol or EVERYTHING, noted, found, kind, event])


def _found(client: redis.Redis, symbol: str) -> str:
    try:
        value = client.get(keys.halt(symbol))
    except redis.ResponseError:
        return UNREADABLE
    return "" if value is None else f"={value}"


def _halt(found: str) -> dict[str, Any]:
    """What a switch says of itself, else that it was set by hand."""
    said = _said(found)
    return {"reason": str(said.get("reason") or f"set by hand to {found.removeprefix('=')!r}"),
            "until_ms": said.get("until_ms")} | ({"by": str(said["by"])} if said.get("by") else {})


def _why(noted: str, at_ms: int) -> str:
    until_ms = _said(noted).get("until_ms", 0)
    if until_ms is None:
        return DELETED
    if not isinstance(until_ms, int) or not until_ms:
        return EXPIRED
    return OVER if at_ms >= until_ms - CLOCKS_APART_MS else DELETED


def _said(value: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(value.removeprefix("="), type=dict)
    except (msgspec.DecodeError, RecursionError):
        return {}
