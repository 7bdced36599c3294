"""Verdicts as the sidecar recorded them, turned into rows: what was decided, and all that the rules looked at.

Only the facts are taken out, not the findings that follow from them: the audit takes every verdict again from these
columns. Texts of the plan stay as they were received, the side in capitals. Of the symbol's filters, what a column
cannot hold is left out, and such a verdict is taken again from its `raw`. Policy and filters are the same in thousands
of records, byte for byte: their text is looked up, and read only where it is new.
"""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter

import msgspec
from msgspec.structs import astuple

from p33_pipeline.archive.values import Fields, Row, Said, known, price
from p33_sidecar.core.model import LATEST_MS, Context
from p33_sidecar.core.plan import timestamp_of
from p33_sidecar.core.quantity import MAX_DIGITS


class _Book(msgspec.Struct, gc=False):
    rev: int
    last_known_amt: str
    last_order_time_ms: int = 0


class _Snapshot(msgspec.Struct, gc=False):
    ts_ms: int
    position_amt: str | None = None
    mark_price: str = ""
    side: str = "NONE"


class _Filters(msgspec.Struct, gc=False):
    status: str
    step: str
    min_qty: str
    max_qty: str


class _Context(Context, gc=False):
    """The rules' own, also with a phase that they do not know: absent members mean what they mean to the rules."""

    phase: str = "free"


_REMEMBERED = ("in_scope", "halted", "held", "venue_ok", "store_restarted", "configured", "filters_read", "hedge",
               "tampered", "gap", "unsettled_orders", "unbooked_results", "answered", "phase", "released_ms")
"""Of the context, in the order of the columns."""
_CONTEXT = attrgetter(*_REMEMBERED)


class _Policy(msgspec.Struct, frozen=True, gc=False):
    """In the order of the columns."""

    stale_threshold_ms: int | None = None
    cooldown_ms: int | None = None
    qty_tolerance_pct: str | None = None
    permit_ttl_ms: int | None = None
    plan_max_age_ms: int | None = None
    poll_ms: int | None = None
    skew_ms: int | None = None


class _Plan(msgspec.Struct, gc=False):
    """What the rules read of it; the rest is in `raw`."""

    action: str = ""
    side: str = ""
    close_qty: str = ""
    timestamp: str = ""
    steps: str = ""


class _Permit(msgspec.Struct, gc=False):
    issued_ms: int
    expires_ms: int
    nonce: str


class _Times(msgspec.Struct, gc=False):
    published_ms: int
    read_ms: int
    decided_ms: int


class _Decision(Said, gc=False):
    decision_id: str
    stream_id: str
    plan_id: str
    symbol: str
    plan: _Plan
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
    filters: _Filters | None = None
    policy: _Policy = _Policy()


class _Unopened(_Decision, gc=False):
    """The same with the parts that repeat left as they are written."""

    filters: msgspec.Raw = msgspec.Raw(b"null")
    policy: msgspec.Raw = msgspec.Raw(b"{}")


_WHOLE, _DECISION = msgspec.json.Decoder(_Decision), msgspec.json.Decoder(_Unopened)
_FILTERS, _POLICY = msgspec.json.Decoder(_Filters | None), msgspec.json.Decoder(_Policy)
_NO_FILTERS = (None, None, None, None)
REPEATING = (len(_NO_FILTERS), len(_REMEMBERED), len(_Policy.__struct_fields__))
"""How many columns each of the row's last values stands for: filters, context, policy."""


def decision(fields: Fields) -> Row:
    """The row of one verdict, each of the parts that repeat as one value.

    Raises what `rows.UNREADABLE` names for a record that cannot be read.
    """
    try:
        r = known(_DECISION.decode(fields["json"]))
        filters, policy = _filters(bytes(r.filters)), _policy(bytes(r.policy))
    except msgspec.MsgspecError:
        _WHOLE.decode(fields["json"])  # says what is wrong, and where
        raise
    plan, shot, book, context, times, permit = r.plan, r.snapshot, r.ledger, r.context, r.times, r.permit
    return (r.decision_id, r.stream_id, r.plan_id, r.symbol, plan.action, r.outcome, r.reason, permit.nonce,
            r.venue, r.instance, r.policy_hash, r.requested_qty, r.safe_close_qty, shot and shot.position_amt,
            book and book.last_known_amt, price(shot.mark_price) if shot else None, book and book.rev,
            context.snapshot_age_ms, context.last_order_age_ms, times.published_ms, times.read_ms, times.decided_ms,
            permit.issued_ms, permit.expires_ms, shot and shot.ts_ms, plan.side.upper(), plan.close_qty,
            plan.timestamp, plan.steps, shot and shot.side, book and book.last_order_time_ms,
            _made_ms(plan.timestamp, times.published_ms),
            filters, _CONTEXT(context), policy)


def _made_ms(stamp: str, published_ms: int) -> int | None:
    """From when on the rules count the plan's age: `timestamp_of`, quickly for nearly all, else when it was published.

    Nearly all: ten digits, with a fraction or without. None for a timestamp that is none, or none of a calendar's.
    """
    whole, _, fraction = stamp.partition(".")
    digits = whole + fraction
    if len(whole) == 10 and len(digits) < MAX_DIGITS and digits.isdecimal() and digits.isascii():
        return int(digits[:13].ljust(13, "0"))
    if not stamp:
        return published_ms
    found, _ = timestamp_of(stamp)
    return found if found is not None and abs(found) <= LATEST_MS else None


@lru_cache(maxsize=4_096)
def _filters(written: bytes) -> Row:
    lot = _FILTERS.decode(written)
    return (lot.status, price(lot.step), price(lot.min_qty), price(lot.max_qty)) if lot else _NO_FILTERS


@lru_cache(maxsize=256)
def _policy(written: bytes) -> Row:
    return astuple(_POLICY.decode(written))
