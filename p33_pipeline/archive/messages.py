"""Messages as they stand in the streams, turned into rows. One decoder a table; nothing here knows Redis or files.

A message that a decoder cannot read is kept whole in `raw`, its columns empty and `problem` saying why: it is archived
like any other and becomes a finding. So is a quantity with more digits than the column has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from p33_pipeline.history.tables import AMOUNT
from p33_sidecar.core.permit import read_permit
from p33_sidecar.core.plan import plan_of
from p33_sidecar.core.quantity import parse, text
from p33_sidecar.core.results import result_of

Fields = dict[str, str]
Row = tuple[Any, ...]
KNOWN_VERSION: Final = 1


class _Said(msgspec.Struct, gc=False):
    """What every record carries."""

    v: int


class _Book(msgspec.Struct, gc=False):
    rev: int
    last_known_amt: str


class _Snapshot(msgspec.Struct, gc=False):
    ts_ms: int
    position_amt: str | None = None
    mark_price: str = ""


class _Context(msgspec.Struct, gc=False):
    snapshot_age_ms: int | None = None
    last_order_age_ms: int | None = None


class _Permit(msgspec.Struct, gc=False):
    issued_ms: int
    expires_ms: int
    nonce: str


class _Times(msgspec.Struct, gc=False):
    published_ms: int
    read_ms: int
    decided_ms: int


class _Decision(_Said, gc=False):
    decision_id: str
    stream_id: str
    plan_id: str
    symbol: str
    plan: dict[str, str]
    snapshot: _Snapshot | None
    ledger: _Book | None
    context: _Context
    outcome: str
    reason: str | None
    policy_hash: str
    requested_qty: str | None
    safe_close_qty: str | None
    permit: _Permit
    times: _Times
    venue: str
    instance: str


class _Taking(_Said, gc=False):
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


class _Poll(_Said, gc=False):
    requested_ms: int
    received_ms: int
    outcome: str
    positions: list[_Held] = []
    detail: str = ""
    bad_rows: dict[str, Any] = {}
    scope: list[str] | None = None


class _Booking(_Said, gc=False):
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


class _Event(_Said, gc=False):
    kind: str
    at_ms: int | None = None
    by: str = ""
    symbol: str | None = None
    why: str = ""
    reason: str = ""


class _Rejected(_Said, gc=False):
    stream: str
    id: str
    reason: str
    at_ms: int | None = None


class _Step(msgspec.Struct, gc=False):
    refusal: str = ""


_DECISION, _TAKING, _POLL, _BOOKING, _EVENT, _REJECTED = (
    msgspec.json.Decoder(kind) for kind in (_Decision, _Taking, _Poll, _Booking, _Event, _Rejected))
_STEPS = msgspec.json.Decoder(list[_Step])
_SIMPLE = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_ENCODE = msgspec.json.Encoder().encode


def _decision(fields: Fields) -> Row:
    r = _known(_DECISION.decode(fields["json"]))
    shot, book, times = r.snapshot, r.ledger, r.times
    return (r.decision_id, r.stream_id, r.plan_id, r.symbol, r.plan.get("action", ""), r.outcome, r.reason,
            r.permit.nonce, r.venue, r.instance, r.policy_hash,
            r.requested_qty, r.safe_close_qty, shot and shot.position_amt, book and book.last_known_amt,
            _price(shot.mark_price) if shot else None,
            book and book.rev, r.context.snapshot_age_ms, r.context.last_order_age_ms,
            times.published_ms, times.read_ms, times.decided_ms, r.permit.issued_ms, r.permit.expires_ms,
            shot and shot.ts_ms)


def _taking(fields: Fields) -> Row:
    r = _known(_TAKING.decode(fields["json"]))
    permit = read_permit(r.permit.encode()) if r.permit else None
    return (r.plan_id, r.symbol, r.nonce, r.by, r.gate, r.at_ms, text(permit.safe_close_qty) if permit else None)


def _poll(fields: Fields) -> Row:
    r = _known(_POLL.decode(fields["json"]))
    positions = [(p.symbol, _amount(p.position_amt), p.side, _price(p.entry_price), _price(p.mark_price),
                  p.update_time_ms) for p in r.positions]
    return (fields.get("poll_id", ""), r.outcome, r.detail, r.requested_ms, r.received_ms, positions,
            sorted(r.bad_rows), r.scope)


def _booking(fields: Fields) -> Row:
    r = _known(_BOOKING.decode(fields["json"]))
    return (r.symbol, r.cause, r.order_id, r.plan_id, r.result_id, r.by, r.why, r.anomaly, r.rev, r.delta,
            r.amt_before, r.amt_after, r.at_ms)


def _event(fields: Fields) -> Row:
    r = _known(_EVENT.decode(fields["json"]))
    return r.kind, r.symbol, r.by, r.why or r.reason, r.at_ms


def _rejected(fields: Fields) -> Row:
    r = _known(_REJECTED.decode(fields["json"]))
    return r.stream, r.id, r.reason, r.at_ms


def _plan(fields: Fields) -> Row:
    plan = plan_of(fields, entry_ms=0)
    return (plan.plan_id, plan.symbol, plan.action, fields.get("decision", ""), plan.side, text(plan.close_qty),
            plan.timestamp_ms)


def _result(fields: Fields) -> Row:
    result = result_of(fields)
    orders = [(o.names[0], o.order_id, o.side, text(_checked(o.executed_qty)), o.settled, o.reduce_only)
              for o in result.reports]
    would = fields.get("would_execute", "").strip().lower() in ("true", "1", "yes")
    return (result.plan_id, result.symbol, fields.get("decision", ""), fields.get("error", ""), _refusal(fields),
            result.executed, would, orders)


DECODERS: Final[dict[str, Callable[[Fields], Row]]] = {
    "decisions": _decision, "taken": _taking, "snapshots": _poll, "ledger": _booking, "events": _event,
    "rejected": _rejected, "plans": _plan, "results": _result,
}
"""Table to decoder: the values of the table's columns, in their order; amounts as text, times as ms, structs as tuples.
"""


def raw_of(table: str, fields: Fields) -> str:
    """What is kept of the message as received: a record's JSON, or all fields of a message of the stack."""
    if table not in ("plans", "results") and "json" in fields:
        return fields["json"]
    return _ENCODE(fields).decode()


def _known(record: Any) -> Any:
    if record.v != KNOWN_VERSION:
        raise ValueError(f"version {record.v} of the record is not known")
    return record


def _refusal(fields: Fields) -> str:
    """What the gate said, where the result is a refusal."""
    try:
        return next((step.refusal for step in _STEPS.decode(fields.get("steps_results") or "[]") if step.refusal), "")
    except (msgspec.MsgspecError, RecursionError):
        return ""


def _amount(written: str | None) -> str | None:
    return None if written is None else text(_checked(parse(written)))


def _checked(value: Decimal) -> Decimal:
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


def _price(written: str) -> str | None:
    """A price only colours a finding: one that does not fit is left out, and stays in `raw`."""
    if len(written) <= AMOUNT.scale and _SIMPLE.fullmatch(written):
        return written
    try:
        price = parse(written)
    except ValueError:
        return None
    return text(price) if fits(price) else None
