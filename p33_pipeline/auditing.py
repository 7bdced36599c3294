"""Audits and their reports beside the archive: what the command, the assets, the checks and the sensors speak of.

An audit is kept under its range, so that a report made of it later tells the same findings.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from p33_pipeline.archive.everything import archived_until_ms
from p33_pipeline.archive.trades import reaches
from p33_pipeline.audit.accounts import Accounts, accounts_of
from p33_pipeline.audit.audit import audit
from p33_pipeline.audit.between import TRADES_LATE_MS
from p33_pipeline.audit.findings import Audit
from p33_pipeline.audit.flow import SETTLED_MS
from p33_pipeline.audit.scope import DAY_MS, open_scope, reading
from p33_pipeline.errors import HistoryUnreadable
from p33_pipeline.history import History
from p33_pipeline.ranges import stamp
from p33_pipeline.report.facts import facts_of
from p33_pipeline.report.report import Note, Report
from p33_sidecar.core.model import Policy

AUDITS = "audits"


def audit_range(history: History, *, from_ms: int, to_ms: int, policy: Policy, exact: bool = False) -> Audit:
    """Audit a range and keep the result; `exact`: the bytes of every verdict, however many there are.

    Raises HistoryUnreadable, HistoryUnavailable.
    """
    whole = is_settled(history, to_ms)
    with reading(history):
        found = audit(history, from_ms=from_ms, to_ms=to_ms, policy=policy, exact=exact)
    # How far the archive went beyond the range says nothing about it: a closed range audited again is the same bytes.
    found = msgspec.structs.replace(found, until_ms=min(found.until_ms, to_ms), whole=whole)
    history.place.write(_kept(from_ms, to_ms), msgspec.json.encode(found))
    return found


def is_settled(history: History, at_ms: int) -> bool:
    """Whether the archive reaches so far beyond a moment that all before it can be judged. Raises HistoryUnreadable.

    A symbol whose trades are a day behind the others' is not asked for any more, and nothing waits for it.
    """
    read = [reach.until_ms for reach in reaches(history).values()]
    waited_for = [until_ms for until_ms in read if until_ms > max(read) - DAY_MS]
    return (archived_until_ms(history) >= at_ms + SETTLED_MS
            and all(until_ms >= at_ms + TRADES_LATE_MS for until_ms in waited_for))


def is_outdated(history: History, *, from_ms: int, to_ms: int) -> bool:
    """Whether a range was audited before all of it was archived, which it is by now. Raises HistoryUnreadable."""
    kept = kept_audit(history, from_ms=from_ms, to_ms=to_ms)
    return kept is not None and not kept.whole and is_settled(history, to_ms)


def kept_audit(history: History, *, from_ms: int, to_ms: int) -> Audit | None:
    """The audit of exactly this range, if there was one. Raises HistoryUnreadable."""
    raw = history.place.read(_kept(from_ms, to_ms))
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Audit)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HistoryUnreadable(f"{_kept(from_ms, to_ms)} at {history.place} cannot be read: delete it and audit the "
                                "range again") from error


def report_of(history: History, found: Audit, *, policy: Policy, notes: Mapping[str, Note]) -> Report:
    """The report of an audit: its findings, what people said of them, and what the archive shows around them.

    Raises HistoryUnreadable, HistoryUnavailable.
    """
    with reading(history):
        scope = open_scope(history, from_ms=found.from_ms, to_ms=found.to_ms, policy=policy)
        symbols = sorted({b.symbol for b in found.breaks})
        accounts = accounts_of(scope) if symbols else Accounts({}, {})
        facts = facts_of(scope.db, from_ms=found.from_ms, to_ms=found.to_ms, until_ms=found.until_ms,
                         symbols=symbols, ledger=accounts.ledger, redis=accounts.redis)
    return Report(found, facts, notes)


def _kept(from_ms: int, to_ms: int) -> str:
    return f"{AUDITS}/{stamp(from_ms)}-{stamp(to_ms)}.json"


