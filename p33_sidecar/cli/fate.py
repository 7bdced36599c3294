"""What became of a permit: still open, taken by whom, expired, or ended before its time and by what."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.record import Record
from ..store import keys
from ..store.connect import store_errors
from ..store.reading import Reading, entry_ms


class Fate(msgspec.Struct, frozen=True):
    """`state` is denial, open, taken, withdrawn, facts_changed or expired; `taking` the record of who took it."""

    state: str
    words: str
    taking: dict[str, Any] | None = None
    results: tuple[dict[str, Any], ...] = ()


def fate_of(reading: Reading, record: Record, now_ms: int) -> Fate:
    """What the store says of the permit that this verdict became."""
    results = tuple(_result(entry) for entry in reading.messages(
        reading.result_stream, record.plan_id, from_ms=record.permit.issued_ms))
    if record.outcome != "ALLOW":
        left_ms = record.permit.expires_ms - now_ms
        return Fate("denial", "a denial, " + (f"readable for another {left_ms} ms" if left_ms > 0 else "gone by now"),
                    results=results)
    taking = _taking(reading, record)
    if taking is not None:
        return Fate("taken", "taken", taking, results)
    state, words = _untaken(reading, record, now_ms)
    return Fate(state, words, results=results)


def _taking(reading: Reading, record: Record) -> dict[str, Any] | None:
    """The record of the taking; at least that it happened, where only its mark is left."""
    permit = record.permit
    for entry_id, taking in reading.noted(keys.TAKINGS, from_ms=permit.issued_ms, to_ms=permit.expires_ms + 1000,
                                          plan_id=record.plan_id):
        if taking.get("nonce") == permit.nonce:
            return taking | {"entry_ms": entry_ms(entry_id)}
    with store_errors():
        mark = reading.redis.get(keys.taken(record.plan_id)) or ""
    return {"nonce": permit.nonce} if mark.partition(" ")[0] == permit.nonce else None


def _untaken(reading: Reading, record: Record, now_ms: int) -> tuple[str, str]:
    permit = record.permit
    with store_errors():
        open_now = reading.redis.get(keys.open_permit(record.symbol))
        ended = reading.redis.get(keys.ENDED + record.plan_id) or ""
    if open_now == f"{record.plan_id} {permit.nonce}" and now_ms < permit.expires_ms:
        return "open", f"open, can be taken for another {permit.expires_ms - now_ms} ms"
    nonce, _, why = ended.partition(" ")
    if nonce == permit.nonce:
        return why, f"ended before it was taken: {why}"
    cause = _cause(reading, record)
    if cause or now_ms < permit.expires_ms:
        return "withdrawn", "ended before it was taken" + (f": {cause}" if cause else "")
    return "expired", "expired, nobody took it"


def _cause(reading: Reading, record: Record) -> str:
    """The first thing in the journals that ended an open permit during its life; empty where nothing did."""
    life = {"from_ms": record.permit.issued_ms, "to_ms": record.permit.expires_ms}
    for _, event in reading.noted(keys.EVENTS, **life):
        if event.get("kind") in ("halt", "withdrawal") and event.get("symbol") in (None, record.symbol):
            why = event.get("reason") or event.get("why") or "no reason given"
            return f"{event['kind']} by {event.get('by', '?')} ({why})"
    for _, change in reading.noted(keys.JOURNAL, symbol=record.symbol, **life):
        if change.get("rev") != (record.ledger or {}).get("rev"):
            return f"the book changed ({change.get('cause', '?')}, rev {change.get('rev')})"
    return ""


def _result(entry: tuple[str, dict[str, str]]) -> dict[str, Any]:
    entry_id, fields = entry
    named = ("decision", "executed", "would_execute", "error", "steps_results")
    return {"entry_id": entry_id, "at_ms": entry_ms(entry_id)} | {n: fields[n] for n in named if fields.get(n)}
