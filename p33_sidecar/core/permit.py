"""The permit: its canonical bytes, its signature, and the reading of one that somebody hands us.

The members and their order are the contract's (chapter 2). Quantities are JSON numbers with their exact
digits. `sig` is the last member: HMAC-SHA256 over every byte before `,"sig":`, so that a reader in any
language cuts there and compares. An ALLOW without a positive quantity cannot be built.
"""

from __future__ import annotations

import hmac
from decimal import Decimal
from functools import lru_cache

import msgspec

from .model import Book, Decision, Facts, Finding, Policy, Scalar, Snapshot
from .quantity import number, seconds, text, within_digits

SIG_MARK = b',"sig":"'
LEAST_KEY_BYTES = 32
"""Of a signing key."""


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """What makes a verdict this one: where and when it was issued, and its nonce."""

    venue: str
    issued_ms: int
    expires_ms: int
    nonce: str


class _Allow(msgspec.Struct, gc=False):
    v: int
    plan_id: str
    symbol: str
    allow: bool
    safe_close_qty: msgspec.Raw
    close_side: str
    exchange_position_amt: msgspec.Raw
    ledger_position_amt: msgspec.Raw
    ledger_rev: int
    snapshot_age_sec: msgspec.Raw
    max_snapshot_age_sec: msgspec.Raw
    action: str
    venue: str
    ts_epoch: int
    issued_ms: int
    expires_ms: int
    nonce: str


class _Deny(msgspec.Struct, gc=False):
    v: int
    plan_id: str
    symbol: str
    allow: bool
    reason: str
    details: dict[str, Scalar]
    retryable: bool
    venue: str
    ts_epoch: int
    issued_ms: int
    expires_ms: int
    nonce: str


class _DenyRetryable(msgspec.Struct, gc=False):
    v: int
    plan_id: str
    symbol: str
    allow: bool
    reason: str
    details: dict[str, Scalar]
    retryable: bool
    retry_after_sec: int
    venue: str
    ts_epoch: int
    issued_ms: int
    expires_ms: int
    nonce: str


_ENCODE = msgspec.json.Encoder().encode


def permit_bytes(decision: Decision, facts: Facts, policy: Policy, *, stamp: Stamp, key: bytes | None) -> bytes:
    """The permit's canonical bytes, signed where there is a key. Raises ValueError for an ALLOW of nothing."""
    body = _allow(decision, facts, policy, stamp) if decision.allow else _deny(decision, facts, stamp)
    return sign(_ENCODE(body), key)


def sign(body: bytes, key: bytes | None) -> bytes:
    """`body`, a JSON object, with `sig` as its last member; unchanged without a key."""
    if not key:
        return body
    signed = body[:-1]
    return signed + SIG_MARK + _signature(key, signed) + b'"}'


def unsigned(raw: bytes) -> bytes:
    """The permit as it was before it was signed; a permit without `sig` is that already."""
    body, mark, _ = raw.partition(SIG_MARK)
    return body + b"}" if mark else raw


def signature_holds(raw: bytes, keys: tuple[bytes, ...]) -> bool:
    """Whether `raw` ends in a valid `sig` under one of `keys`, compared in constant time."""
    signed, mark, tail = raw.partition(SIG_MARK)
    if not mark or not tail.endswith(b'"}'):
        return False
    given = tail[:-2]
    return any(hmac.compare_digest(_signature(key, signed), given) for key in keys)


def usable_keys(keys: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """`keys`, none of them too short. Raises ValueError: under an empty key anybody signs, and an empty text or a key
    that is not within a tuple would count as none at all."""
    if isinstance(keys, str | bytes) or not all(isinstance(key, bytes) and len(key) >= LEAST_KEY_BYTES for key in keys):
        raise ValueError(f"key: allowed is a tuple of keys, each of at least {LEAST_KEY_BYTES} bytes")
    return keys


def _signature(key: bytes, signed: bytes) -> bytes:
    keyed = _keyed(key).copy()
    keyed.update(signed)
    return keyed.hexdigest().encode()


@lru_cache(maxsize=4)
def _keyed(key: bytes) -> hmac.HMAC:
    """The key worked in, to be copied: half of what a signature costs otherwise."""
    return hmac.new(key, digestmod="sha256")


def details_of(failed: Finding) -> dict[str, Scalar]:
    """The numbers behind a denial: the check, what was seen, what is allowed, and the margin."""
    return {"check": failed.name, "value": failed.value, "threshold": failed.threshold, "margin": failed.margin}


def _allow(decision: Decision, facts: Facts, policy: Policy, stamp: Stamp) -> _Allow:
    qty, snapshot, book = decision.safe_close_qty, facts.snapshot, facts.book
    age_ms = facts.context.snapshot_age_ms
    if not qty or qty < 0 or not snapshot or snapshot.amt is None or not book or age_ms is None:
        raise ValueError("an ALLOW needs a positive quantity, a snapshot and a book")
    held, booked, limit = _lasting(snapshot, book, policy)
    return _Allow(
        1, facts.plan.plan_id, facts.plan.symbol, True, number(qty), decision.close_side, held,
        booked, book.rev, number(seconds(max(age_ms, 0))), limit,
        facts.plan.action, stamp.venue, stamp.issued_ms // 1000, stamp.issued_ms, stamp.expires_ms, stamp.nonce,
    )


@lru_cache(maxsize=64)
def _lasting(snapshot: Snapshot, book: Book, policy: Policy) -> tuple[msgspec.Raw, msgspec.Raw, msgspec.Raw]:
    """The numbers that stay the same between two polls: both amounts, and the oldest a snapshot may be."""
    return number(snapshot.amt), number(book.amt), number(seconds(policy.stale_threshold_ms))


def _deny(decision: Decision, facts: Facts, stamp: Stamp) -> _Deny | _DenyRetryable:
    details = details_of(decision.failed) if decision.failed else {}
    head = (1, facts.plan.plan_id, facts.plan.symbol, False, decision.reason, details)
    tail = (stamp.venue, stamp.issued_ms // 1000, stamp.issued_ms, stamp.expires_ms, stamp.nonce)
    if decision.retry_after_ms is None:
        return _Deny(*head, False, *tail)
    return _DenyRetryable(*head, True, -(-decision.retry_after_ms // 1000), *tail)


class Permit(msgspec.Struct, frozen=True, gc=False):
    """A permit as a reader sees it. Fields that the other kind carries are at their defaults."""

    plan_id: str
    symbol: str
    allow: bool
    venue: str
    issued_ms: int
    expires_ms: int
    nonce: str
    v: int = 1
    safe_close_qty: Decimal = Decimal(0)
    close_side: str = ""
    exchange_position_amt: Decimal = Decimal(0)
    ledger_position_amt: Decimal = Decimal(0)
    ledger_rev: int = 0
    snapshot_age_sec: Decimal = Decimal(0)
    max_snapshot_age_sec: Decimal = Decimal(0)
    action: str = ""
    reason: str = ""
    retryable: bool = False
    retry_after_sec: int = 0
    ts_epoch: int = 0
    sig: str = ""

    def quantity_text(self) -> str:
        """The quantity to order, canonical."""
        return text(self.safe_close_qty)


_PERMIT = msgspec.json.Decoder(Permit)


def read_permit(raw: bytes) -> Permit | None:
    """The permit these bytes hold, or None if they hold none. Says nothing about its signature."""
    try:
        permit = _PERMIT.decode(raw.decode())  # of members that nobody reads it would not look whether they are text
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    numbers = (permit.safe_close_qty, permit.exchange_position_amt, permit.ledger_position_amt,
               permit.snapshot_age_sec, permit.max_snapshot_age_sec)
    return permit if permit.v == 1 and all(within_digits(value) for value in numbers) else None
