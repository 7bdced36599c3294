"""What was taken lately: every pair belongs to a recorded ALLOW, and led to a result.

Source: the record of takings (contract, chapter 2). An order still on its way, or looked for, is no problem yet.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...store import keys
from ...store.connect import store_errors
from ...store.reading import entry_ms
from ..session import Session
from ..units import age

LAST: Final = 20
PATIENCE_MS: Final = 120_000
"""Longer than an order of unknown fate is looked for: permit, recvWindow and 30 s (contract, chapter 4)."""


class Taken(msgspec.Struct, frozen=True):
    """`said` is for people where there is no problem."""

    said: str
    problems: list[str]


def look(session: Session) -> Taken:
    """The last takings. Raises StoreUnavailable."""
    reading, now_ms = session.reading, session.reading.now_ms()
    lately: list[tuple[str, int]] = []
    for entry_id, fields in reading.entries(keys.TAKINGS, newest_first=True):
        lately.append((fields.get("plan_id", ""), entry_ms(entry_id)))
        if len(lately) == LAST:
            break
    if not lately:
        return Taken("no pair of permits was taken yet", [])
    problems: list[str] = []
    for plan_id, at_ms in lately:
        problems += _problems(session, plan_id, at_ms, now_ms)
    plan_id, at_ms = lately[0]
    return Taken(f"the last {len(lately)} pairs taken each had their ALLOW and one result; newest {plan_id}, "
                 f"{age(now_ms - at_ms)} ago", problems)


def _problems(session: Session, plan_id: str, at_ms: int, now_ms: int) -> list[str]:
    reading, stream = session.reading, session.settings["P33_RESULT_STREAM"]
    found = []
    ttl_ms = session.policy.permit_ttl_ms
    near = reading.decisions(from_ms=max(at_ms - ttl_ms - 1_000, 0), to_ms=at_ms)
    if not any(e.fields.get("plan_id") == plan_id and e.fields.get("outcome") == "ALLOW" for e in near):
        found.append(f"{plan_id} was taken without a recorded ALLOW")
    if now_ms - at_ms > PATIENCE_MS and not reading.messages(stream, plan_id, from_ms=at_ms) and _kept_since(
            session, stream, at_ms):
        found.append(f"{plan_id} was taken and has no result")
    return found


def _kept_since(session: Session, stream: str, at_ms: int) -> bool:
    """Whether the stream still reaches back to that time: what was trimmed says nothing."""
    with store_errors():
        oldest = session.redis.xrange(stream, count=1)
    return bool(oldest) and entry_ms(oldest[0][0]) <= at_ms
