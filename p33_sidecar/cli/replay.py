"""`p33 replay`: the logged decisions taken again; under the same thresholds byte for byte, or under others.

Under other thresholds it lists which verdicts flip. What a threshold did to the world before the decision is not
undone: the facts stay what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ..core.model import Policy
from ..core.permit import SIG_MARK
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
    taken_again, unlike, flips, reasons_only = 0, [], [], 0
    for entry in session.reading.decisions(from_ms=from_ms, to_ms=to_ms, newest_first=False):
        taken_again += 1
        problem = _unlike(session, entry)
        if problem:
            unlike.append(Unlike(entry.entry_id, entry.fields.get("plan_id", ""), problem))
        elif changed:
            flip = _flip(entry, changed)
            if flip is not None:
                flips.append(flip)
                reasons_only += not flip.verdict_flips
    if as_json:
        paper.emit({"decisions": taken_again, "reproduced": taken_again - len(unlike), "irreproducible": unlike,
                    "set": _shown(changed), "flips": flips})
    else:
        _print(taken_again, unlike, flips, reasons_only, changed)
    return 1 if unlike else 0


def _unlike(session: Session, entry: Logged) -> str:
    """What differs between the logged decision and the same one taken again; empty where nothing does."""
    if entry.record is None:
        return "the record cannot be read"
    try:
        record_again, permit_again = reproduce(entry.record, key=session.settings.permit_key)
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
    if not session.settings.permit_key:
        found, mark, _ = found.partition(SIG_MARK)
        found += b"}" if mark else b""
    return "" if found == expected else "the permit's bytes differ from the record's"


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


def _print(count: int, unlike: list[Unlike], flips: list[Flip], reasons_only: int, changed: dict[str, Any]) -> None:
    out = paper.console()
    out.print(f"{count} decisions taken again, {count - len(unlike)} of them came out byte for byte.")
    if unlike:
        rows = [(u.entry_id, u.plan_id, u.why) for u in unlike]
        out.print("", paper.table("Irreproducible", ("entry", "plan", "why"), rows), sep="\n")
    if not changed:
        return
    said = ", ".join(f"{name} = {value}" for name, value in _shown(changed).items())
    out.print("", f"With {said}: {len(flips) - reasons_only} verdicts flip, {reasons_only} keep their verdict "
                  "for another reason.", sep="\n")
    if flips:
        rows = [(f.entry_id, f.plan_id, f.symbol, f"{f.was} → {f.becomes}",
                 f"{f.was_reason or '-'} → {f.becomes_reason or '-'}") for f in flips]
        out.print("", paper.table("", ("entry", "plan", "symbol", "verdict", "reason"), rows), sep="\n")
