"""Messages as they stand in the streams, turned into rows. One decoder a table; nothing here knows Redis or files.

A message that a decoder cannot read is kept whole in `raw`, its columns empty and `problem` saying why: it is archived
like any other and becomes a finding. So is a quantity with more digits than the column has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from p33_pipeline.archive.values import Fields, Row, Said, amount, checked, known, price
from p33_pipeline.archive.verdicts import REPEATING, decision
from p33_sidecar.core.permit import read_permit
from p33_sidecar.core.plan import plan_of
from p33_sidecar.core.quantity import text
from p33_sidecar.core.results import result_of


class _Taking(Said, gc=False):
    plan_id: str
    symbol: str
    nonce: str
    at_ms: int
    by: str = ""
    gate: str = "both"
    permit: str | None = None


class _Held(msgspec.Struct, gc=False):
    symbol: str
    position_amt: str | None
    side: str = ""
    entry_price: str = ""
    mark_price: str = ""
    update_time_ms: int = 0


class _Poll(Said, gc=False):
    requested_ms: int
    received_ms: int
    outcome: str
    positions: list[_Held] = []
    detail: str = ""
    bad_rows: dict[str, Any] = {}
    older_rows: list[str] = []
    missing_rows: list[str] = []
    scope: list[str] | None = None


class _Booking(Said, gc=False):
    symbol: str
    rev: int
    cause: str
    delta: str
    at_ms: int
    amt_before: str | None = None
    amt_after: str | None = None
    order_id: str = ""
    plan_id: str = ""
    result_id: str = ""
    by: str = ""
    why: str = ""
    anomaly: str | None = None


class _Event(Said, gc=False):
    kind: str
    at_ms: int | None = None
    by: str = ""
    symbol: str | None = None
    why: str = ""
    reason: str = ""


class _Rejected(Said, gc=False):
    stream: str
    id: str
    reason: str
    at_ms: int | None = None


class _Step(msgspec.Struct, gc=False):
    refusal: str = ""


_TAKING, _POLL, _BOOKING, _EVENT, _REJECTED = (
    msgspec.json.Decoder(kind) for kind in (_Taking, _Poll, _Booking, _Event, _Rejected))
_STEPS = msgspec.json.Decoder(list[_Step])
_ENCODE = msgspec.json.Encoder().encode


def _taking(fields: Fields) -> Row:
    r = known(_TAKING.decode(fields["json"]))
    permit = read_permit(r.permit.encode()) if r.permit else None
    return (r.plan_id, r.symbol, r.nonce, r.by, r.gate, r.at_ms, text(permit.safe_close_qty) if permit else None)


def _poll(fields: Fields) -> Row:
    r = known(_POLL.decode(fields["json"]))
    positions = [(p.symbol, amount(p.position_amt), p.side, price(p.entry_price), price(p.mark_price),
                  p.update_time_ms) for p in r.positions]
    return (fields.get("poll_id", ""), r.outcome, r.detail, r.requested_ms, r.received_ms, positions,
            sorted({*r.bad_rows, *r.older_rows, *r.missing_rows}), r.scope)


def _booking(fields: Fields) -> Row:
    r = known(_BOOKING.decode(fields["json"]))
    return (r.symbol, r.cause, r.order_id, r.plan_id, r.result_id, r.by, r.why, r.anomaly, r.rev, r.delta,
            r.amt_before, r.amt_after, r.at_ms)


def _event(fields: Fields) -> Row:
    r = known(_EVENT.decode(fields["json"]))
    return r.kind, r.symbol, r.by, r.why or r.reason, r.at_ms


def _rejected(fields: Fields) -> Row:
    r = known(_REJECTED.decode(fields["json"]))
    return r.stream, r.id, r.reason, r.at_ms


def _plan(fields: Fields) -> Row:
    plan = plan_of(fields, entry_ms=0)
    return (plan.plan_id, plan.symbol, plan.action, fields.get("decision", ""), plan.side, text(plan.close_qty),
            plan.timestamp_ms)


def _result(fields: Fields) -> Row:
    result = result_of(fields)
    orders = [(o.names[0], o.order_id, o.side, text(checked(o.executed_qty)), o.settled, o.reduce_only)
              for o in result.reports]
    would = fields.get("would_execute", "").strip().lower() in ("true", "1", "yes")
    return (result.plan_id, result.symbol, fields.get("decision", ""), fields.get("error", ""), _refusal(fields),
            result.executed, would, orders)


DECODERS: Final[dict[str, Callable[[Fields], Row]]] = {
    "decisions": decision, "taken": _taking, "snapshots": _poll, "ledger": _booking, "events": _event,
    "rejected": _rejected, "plans": _plan, "results": _result,
}
"""Table to decoder: the values of the table's columns, in their order; amounts as text, times as ms, structs as tuples.
"""
PARTS: Final[dict[str, tuple[int, ...]]] = {"decisions": REPEATING}
"""Tables whose rows end in parts, each a tuple of the values of so many columns: a few different ones come, again and
again.
"""


def raw_of(table: str, fields: Fields) -> str | bytes:
    """What is kept of the message as received: a record's JSON, or all fields of a message of the stack."""
    if table not in ("plans", "results") and "json" in fields:
        return fields["json"]
    return _ENCODE(fields)


def _refusal(fields: Fields) -> str:
    """What the gate said, where the result is a refusal."""
    try:
        return next((step.refusal for step in _STEPS.decode(fields.get("steps_results") or "[]") if step.refusal), "")
    except (msgspec.MsgspecError, RecursionError):
        return ""
