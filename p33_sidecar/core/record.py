"""The decision's record: everything that led to a verdict, enough to take it again and get the same bytes.

Decimals stand in records as canonical text, like in the hashes. What a record holds is decided here and
nowhere else; `facts_of` is its exact inverse.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from .checks import decide
from .model import Book, Context, Decision, Facts, Filters, Finding, Policy, Scalar, Snapshot
from .permit import Stamp, details_of, permit_bytes
from .plan import plan_of
from .quantity import text, within_digits

RECORD_VERSION = 1


class Times(msgspec.Struct, frozen=True, gc=False):
    """`published_ms` is the stream entry's, `read_ms` when the desk got it, `decided_ms` the moment decided on."""

    published_ms: int
    read_ms: int
    decided_ms: int


class PermitRef(msgspec.Struct, frozen=True, gc=False):
    """Which permit the verdict became."""

    issued_ms: int
    expires_ms: int
    nonce: str


class Record(msgspec.Struct, frozen=True, gc=False):
    """One entry of quantum:p33:decisions."""

    v: int
    decision_id: str
    stream_id: str
    plan_id: str
    symbol: str
    plan: dict[str, str]
    snapshot: Any
    ledger: Any
    filters: Any
    context: Context
    policy: Any
    policy_hash: str
    checks: tuple[Finding, ...]
    outcome: str
    reason: str | None
    details: dict[str, Scalar]
    requested_qty: str | None
    safe_close_qty: str | None
    retry_after_ms: int | None
    permit: PermitRef
    times: Times
    venue: str
    instance: str
    version: str


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Which entry a verdict answers and who gives it."""

    stream_id: str
    published_ms: int
    read_ms: int
    instance: str
    version: str


_ENCODE = msgspec.json.Encoder().encode
_RECORD = msgspec.json.Decoder(Record)


def record_bytes(decision: Decision, facts: Facts, policy: Policy, *, stamp: Stamp, origin: Origin) -> bytes:
    """The record's JSON. Pure: the same facts, policy, stamp and origin give the same bytes."""
    snapshot, book, filters, rules, rules_hash = _written(facts.snapshot, facts.book, facts.filters, policy)
    return _ENCODE(Record(
        v=RECORD_VERSION, decision_id=stamp.nonce, stream_id=origin.stream_id,
        plan_id=facts.plan.plan_id, symbol=facts.plan.symbol, plan=facts.plan.fields,
        snapshot=snapshot, ledger=book, filters=filters, context=facts.context, policy=rules, policy_hash=rules_hash,
        checks=decision.findings, outcome="ALLOW" if decision.allow else "DENY", reason=decision.reason,
        details=details_of(decision.failed) if decision.failed else {},
        requested_qty=_text(decision.requested_qty), safe_close_qty=_text(decision.safe_close_qty),
        retry_after_ms=decision.retry_after_ms,
        permit=PermitRef(stamp.issued_ms, stamp.expires_ms, stamp.nonce),
        times=Times(facts.plan.entry_ms, origin.read_ms, facts.now_ms),
        venue=stamp.venue, instance=origin.instance, version=origin.version,
    ))


@lru_cache(maxsize=8)
def policy_hash(policy: Policy) -> str:
    """Twelve hex digits that change with any threshold."""
    return hashlib.sha256(value_json(policy)).hexdigest()[:12]


def value_json(value: msgspec.Struct) -> bytes:
    """A flat value as JSON with canonical texts for its decimals."""
    names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
    plain = {written: _plain(getattr(value, name)) for name, written in names}
    return _ENCODE(plain)


def read_record(raw: bytes | str) -> Record:
    """The record these bytes hold. Raises msgspec.DecodeError for anything else."""
    return _RECORD.decode(raw)


def facts_of(record: Record) -> Facts:
    """The facts a recorded verdict was taken on. Raises ValueError where the record was altered beyond reading."""
    return Facts(
        now_ms=record.times.decided_ms,
        plan=plan_of(record.plan, entry_ms=record.times.published_ms),
        snapshot=_value(record.snapshot, Snapshot),
        book=_value(record.ledger, Book),
        filters=_value(record.filters, Filters),
        context=record.context,
    )


def policy_of(record: Record) -> Policy:
    """The thresholds a recorded verdict was taken under."""
    policy = _value(record.policy, Policy)
    if policy is None:
        raise ValueError("the record names no policy")
    return policy


def take_again(record: Record, policy: Policy | None = None) -> Decision:
    """The verdict on the recorded facts, under the recorded policy or another."""
    return decide(facts_of(record), policy or policy_of(record))


def reproduce(record: Record, *, key: bytes | None = None) -> tuple[bytes, bytes]:
    """(record bytes, permit bytes) of the recorded verdict taken again: equal to the originals or it was not ours."""
    facts, policy = facts_of(record), policy_of(record)
    decision = decide(facts, policy)
    stamp = Stamp(record.venue, record.permit.issued_ms, record.permit.expires_ms, record.permit.nonce)
    origin = Origin(record.stream_id, record.times.published_ms, record.times.read_ms, record.instance, record.version)
    return (record_bytes(decision, facts, policy, stamp=stamp, origin=origin),
            permit_bytes(decision, facts, policy, stamp=stamp, key=key))


def write_beforehand(snapshot: Snapshot, book: Book | None, filters: Filters | None, policy: Policy) -> None:
    """The same for the records to come: what a poll brought is written once, before a plan waits for it."""
    _written(snapshot, book, filters, policy)


@lru_cache(maxsize=128)
def _written(snapshot: Snapshot | None, book: Book | None, filters: Filters | None, policy: Policy) -> tuple[Any, ...]:
    """What stays the same between two polls, as JSON, and the policy's hash."""
    return _raw(snapshot), _raw(book), _raw(filters), _raw(policy), policy_hash(policy)


@lru_cache(maxsize=256)
def _raw(value: msgspec.Struct | None) -> msgspec.Raw | None:
    return None if value is None else msgspec.Raw(value_json(value))


def _value(plain: Any, kind: type) -> Any:
    if plain is None:
        return None
    value = msgspec.convert(plain, kind)
    for name in value.__struct_fields__:
        held = getattr(value, name)
        if isinstance(held, Decimal) and not within_digits(held):
            raise ValueError(f"{name} of the recorded {kind.__name__.lower()} is not a quantity")
    return value


def _plain(value: Any) -> Any:
    return text(value) if isinstance(value, Decimal) else value


def _text(value: Decimal | None) -> str | None:
    return None if value is None else text(value)
