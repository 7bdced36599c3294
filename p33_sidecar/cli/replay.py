"""`p33 replay`: the logged decisions taken again; under the same thresholds byte for byte, or under others.

Under other thresholds it lists which verdicts flip. What a threshold did to the world before the decision is not
undone: the facts stay what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ..core.model import Policy
from ..core.permit import signature_holds, unsigned
from ..core.reasons import Reason
from ..core.record import Record, policy_of, reproduce, take_again
from ..errors import ConfigurationInvalid
from ..settings import SETTINGS
from ..store import keys
from ..store.connect import store_errors
from ..store.reading import Logged
from . import paper
from .session import Session

THRESHOLDS: Final = {
    "P33_STALE_THRESHOLD_SEC": "stale_threshold_ms", "P33_COOLDOWN_SEC": "cooldown_ms",
    "P33_QTY_TOLERANCE_PCT": "qty_tolerance_pct", "P33_PERMIT_TTL": "permit_ttl_ms",
    "P33_PLAN_MAX_AGE_SEC": "plan_max_age_ms", "P33_POLL_SEC": "poll_ms",
}
"""Setting to threshold of the policy."""


class Unlike(msgspec.Struct, frozen=True):
    """A record that does not come out again as it is logged."""

    entry_id: str
    plan_id: str
    why: str


class Flip(msgspec.Struct, frozen=True):
    """A decision that other thresholds change; `verdict_flips` where ALLOW and DENY change places."""

    entry_id: str
    plan_id: str
    symbol: str
    was: str
    becomes: str
    was_reason: str | None
    becomes_reason: str | None
    verdict_flips: bool


class Failed(msgspec.Struct, frozen=True):
    """A denial because the evaluation itself raised: what the recorded facts give now."""

    entry_id: str
    plan_id: str
    symbol: str
    now: str


class Told(msgspec.Struct):
    """What became of the decisions of a range."""

    changed: dict[str, Any]
    count: int = 0
    unlike: list[Unlike] = []
    errors: list[Failed] = []
    flips: list[Flip] = []

    @property
    def reproduced(self) -> int:
        return self.count - len(self.unlike) - len(self.errors)


def thresholds_of(settings: Iterable[str]) -> dict[str, Any]:
    """Policy field -> value, from `NAME=VALUE` texts. Raises ConfigurationInvalid with every problem."""
    changed, problems = {}, []
    table = {s.name: s for s in SETTINGS}
    for given in settings:
        name, equals, value = given.partition("=")
        if name not in THRESHOLDS or not equals:
            problems.append(f"--set {given}: NAME=VALUE with one of {', '.join(THRESHOLDS)}")
            continue
        try:
            changed[THRESHOLDS[name]] = table[name].read(value)
        except (ValueError, ArithmeticError):
            problems.append(f"--set {given}: allowed is {table[name].allowed}")
    if problems:
        raise ConfigurationInvalid(problems)
    return changed


def replay(session: Session, *, from_ms: int, to_ms: int | None, changed: dict[str, Any], as_json: bool) -> int:
    """Take the decisions of the range again. 0: every one of them could be, and came out as it must."""
    told = Told(changed)
    for entry in session.reading.decisions(from_ms=from_ms, to_ms=to_ms, newest_first=False):
        told.count += 1
        if entry.record and (entry.record.outcome, entry.record.reason) == ("DENY", Reason.EVALUATION_ERROR):
            told.errors.append(_failed_then(entry))
        elif problem := _unlike(session, entry):
            told.unlike.append(Unlike(entry.entry_id, entry.fields.get("plan_id", ""), problem))
        elif changed and (flip := _flip(entry, changed)):
            told.flips.append(flip)
    if as_json:
        paper.emit({"decisions": told.count, "reproduced": told.reproduced, "irreproducible": told.unlike,
                    "evaluation_errors": told.errors, "set": _shown(changed), "flips": told.flips})
    else:
        _print(told)
    return 1 if told.unlike else 0


def _failed_then(entry: Logged) -> Failed:
    """What the verdict would have been without the error; the error itself lies outside of what a record holds."""
    try:
        again = take_again(entry.record)
    except (ValueError, ArithmeticError) as error:
        becomes = f"cannot be taken again: {error}"
    else:
        becomes = "ALLOW" if again.allow else f"DENY {again.reason}"
    return Failed(entry.entry_id, entry.record.plan_id, entry.record.symbol, becomes)


def _unlike(session: Session, entry: Logged) -> str:
    """What differs between the logged decision and the same one taken again; empty where nothing does."""
    if entry.record is None:
        return "the record cannot be read"
    try:
        record_again, permit_again = reproduce(entry.record)
    except (ValueError, ArithmeticError) as error:
        return f"it cannot be taken again: {error}"
    if record_again != entry.raw.encode():
        again = take_again(entry.record)
        outcome = "ALLOW" if again.allow else f"DENY {again.reason}"
        logged = "ALLOW" if entry.record.outcome == "ALLOW" else f"DENY {entry.record.reason}"
        return f"logged {logged}, taken again {outcome}" if outcome != logged else "the record's bytes differ"
    if entry.fields.get("outcome") != entry.record.outcome:
        return "the entry's outcome is not the record's"
    return _permit_unlike(session, entry.record, permit_again)


def _permit_unlike(session: Session, record: Record, expected: bytes) -> str:
    """The permit, while it still exists, must be the one the record describes."""
    if record.permit.expires_ms <= session.reading.now_ms() - 1000:
        return ""
    with store_errors():
        if session.redis.type(keys.permit(record.plan_id)) != "string":
            return ""
        found = (session.redis.get(keys.permit(record.plan_id)) or "").encode()
    if not found or f'"nonce":"{record.permit.nonce}"'.encode() not in found:
        return ""
    if session.keys_known and not signature_holds(found, session.keys_known):
        return "the permit's signature does not hold"
    return "" if unsigned(found) == expected else "the permit's bytes differ from the record's"


def _flip(entry: Logged, changed: dict[str, Any]) -> Flip | None:
    record = entry.record
    again = take_again(record, under(policy_of(record), changed))
    becomes = "ALLOW" if again.allow else "DENY"
    if (becomes, again.reason) == (record.outcome, record.reason):
        return None
    return Flip(entry.entry_id, record.plan_id, record.symbol, record.outcome, becomes, record.reason, again.reason,
                becomes != record.outcome)


def under(policy: Policy, changed: dict[str, Any]) -> Policy:
    """The recorded thresholds with others in place of some."""
    return msgspec.structs.replace(policy, **changed)


def _shown(changed: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in changed.items()}


def _print(told: Told) -> None:
    out = paper.console()
    out.print(f"{told.count} decisions taken again, {told.reproduced} of them came out byte for byte.")
    if told.unlike:
        rows = [(u.entry_id, u.plan_id, u.why) for u in told.unlike]
        out.print("", paper.table("Irreproducible", ("entry", "plan", "why"), rows), sep="\n")
    if told.errors:
        rows = [(e.entry_id, e.plan_id, e.symbol, e.now) for e in told.errors]
        columns = ("entry", "plan", "symbol", "without the error")
        out.print("", paper.table("Denied because the evaluation failed", columns, rows), sep="\n")
    if told.changed:
        _print_flips(out, told)


def _print_flips(out: Any, told: Told) -> None:
    said = ", ".join(f"{name} = {value}" for name, value in _shown(told.changed).items())
    verdicts = sum(flip.verdict_flips for flip in told.flips)
    out.print("", f"With {said}: {verdicts} verdicts flip, {len(told.flips) - verdicts} keep their verdict "
                  "for another reason.", sep="\n")
    if told.flips:
        rows = [(f.entry_id, f.plan_id, f.symbol, f"{f.was} → {f.becomes}",
                 f"{f.was_reason or '-'} → {f.becomes_reason or '-'}") for f in told.flips]
        out.print("", paper.table("", ("entry", "plan", "symbol", "verdict", "reason"), rows), sep="\n")
