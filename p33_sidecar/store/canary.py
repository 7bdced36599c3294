"""The canary: a plan that goes the whole path, from plan stream to the Apply Layer's result, and can be no order.

What may not happen here: a plan that anybody could execute. Its symbol is listed on no exchange and its action is no
close, so that each of gate, Apply Layer and exchange would refuse it alone; without a permit none of them is asked.
The alert rests on the note that is left here: `p33_canary_last_ok_timestamp_seconds`.
"""

from __future__ import annotations

import secrets
from typing import Final

import msgspec
import redis

from . import keys
from .connect import store_errors

SYMBOL: Final = "P33CANARY"
ACTION: Final = "P33_CANARY"


class Note(msgspec.Struct, frozen=True):
    """How the last one fared. `last_ok_ms`: when one last went through as it should; 0: never."""

    plan_id: str
    at_ms: int
    ok: bool
    detail: str
    last_ok_ms: int = 0
    v: int = 1


_DECODE: Final = msgspec.json.Decoder(Note).decode


def publish(client: redis.Redis, *, plan_stream: str, now_ms: int) -> tuple[str, str]:
    """Publish one. Returns (plan_id, entry id)."""
    plan_id = f"canary-{secrets.token_hex(8)}"
    fields = {"plan_id": plan_id, "symbol": SYMBOL, "action": ACTION, "decision": "EXECUTE", "steps": "[]",
              "close_qty": "0", "timestamp": f"{now_ms // 1000}.{now_ms % 1000:03d}"}
    with store_errors():
        return plan_id, client.xadd(plan_stream, fields)


def keep(client: redis.Redis, *, plan_id: str, at_ms: int, ok: bool, detail: str) -> Note:
    """Leave a note of how it fared."""
    note = Note(plan_id, at_ms, ok, detail, at_ms if ok else last_ok_ms(client))
    with store_errors():
        client.set(keys.CANARY, msgspec.json.encode(note))
    return note


def last(client: redis.Redis) -> Note | None:
    """The last note; None where there is none that can be read."""
    with store_errors():
        try:
            return _DECODE(client.get(keys.CANARY) or "")
        except (msgspec.MsgspecError, redis.ResponseError):
            return None


def last_ok_ms(client: redis.Redis) -> int:
    """When a canary last went through as it should; 0: never."""
    note = last(client)
    return note.last_ok_ms if note else 0
