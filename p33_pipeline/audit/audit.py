"""One audit: a range of an archive in, all findings out. Run twice it says the same."""

from __future__ import annotations

from p33_pipeline.audit.accounts import accounts_of
from p33_pipeline.audit.between import passing
from p33_pipeline.audit.breaks import AGREEING_POLLS, breaks_of
from p33_pipeline.audit.findings import Audit, Break
from p33_pipeline.audit.flow import flow_findings
from p33_pipeline.audit.grounds import groundless
from p33_pipeline.audit.moments import Moment, moments
from p33_pipeline.audit.reproduce import retake
from p33_pipeline.audit.scope import DAY_MS, Scope, open_scope, rows
from p33_pipeline.audit.sources import source_findings
from p33_pipeline.history import History
from p33_sidecar.core.model import Policy

LATE_MOST_MS = 7 * DAY_MS
"""So long after its permit an order's result is still held against it."""


def audit(history: History, *, from_ms: int, to_ms: int, policy: Policy, exact: bool = False) -> Audit:
    """Audit a range; `exact`: the bytes of every verdict, however many. Raises HistoryUnreadable.

    A break that is open where the range begins began earlier: the look back goes on until every account agrees or the
    archive begins, so that it is the same break with the same beginning; each step is twice as long as the one before,
    since a break may have been open for months. It begins with the polls before the range that a break's end still
    waits for.
    """
    start_ms, step_ms = from_ms - from_ms % DAY_MS, DAY_MS
    while True:
        scope = open_scope(history, from_ms=start_ms, to_ms=to_ms, policy=policy)
        accounts = accounts_of(scope)
        found = moments(scope, accounts, since_ms=_last_polls(scope, start_ms))
        if start_ms <= scope.begin_ms or not _open_at_the_start(found):
            break
        start_ms, step_ms = start_ms - step_ms, step_ms * 2
    between = passing(scope, accounts, since_ms=start_ms)
    breaks = [b for b in breaks_of(scope, accounts, found, between) if _touches(b, from_ms, to_ms)]
    if _told_late(_narrowed(scope, from_ms)) and scope.begin_ms < start_ms - DAY_MS:
        scope = open_scope(history, from_ms=start_ms - LATE_MOST_MS, to_ms=to_ms, policy=policy)
    return findings_of(_narrowed(scope, from_ms), breaks, exact=exact)


def findings_of(scope: Scope, breaks: list[Break], *, exact: bool = False) -> Audit:
    """The audit of an opened range whose breaks are known."""
    retaken = retake(scope, exact=exact)
    found = [*flow_findings(scope), *retaken.found, *groundless(scope, unlike=list(retaken.found))]
    flow = sorted(found, key=lambda f: (f.at_ms, f.finding))
    counts = {"verdicts": retaken.verdicts, "verdicts_compared_by_byte": retaken.exactly, **_counts(scope)}
    return Audit(scope.from_ms, scope.to_ms, scope.until_ms, tuple(breaks), tuple(flow), tuple(source_findings(scope)),
                 counts)


def _told_late(scope: Scope) -> bool:
    """Whether a result of the range has no verdict in view: it may tell of an order that was looked up days later."""
    return bool(rows(scope, """
        WITH told AS (SELECT plan_id FROM results WHERE len(orders) > 0 AND NOT would_execute AND problem IS NULL
                      AND epoch_ms("at") >= $begin AND epoch_ms("at") < $end)
        SELECT 1 FROM told WHERE plan_id NOT IN (
            SELECT plan_id FROM decisions WHERE plan_id IN (SELECT plan_id FROM told)) LIMIT 1
        """, begin=scope.from_ms, end=scope.to_ms))


def _last_polls(scope: Scope, before_ms: int) -> int:
    """When the last polls before a moment began that may still have to be confirmed; the moment, if there are none."""
    polls = rows(scope, "SELECT epoch_ms(requested_at) AS at_ms FROM snapshots WHERE outcome = 'ok' "
                        "AND problem IS NULL AND epoch_ms(requested_at) < $before ORDER BY at_ms DESC LIMIT $most",
                 before=before_ms, most=AGREEING_POLLS)
    return polls[-1]["at_ms"] if polls else before_ms


def _open_at_the_start(found: list[Moment]) -> bool:
    """Whether some symbol differs at its first look of the range."""
    return any(moment.differs and moment.before_ms is None for moment in found)


def _touches(found: Break, from_ms: int, to_ms: int) -> bool:
    """A break belongs to a range while it is open, and to the one in which it is known to be closed."""
    return found.opened_ms < to_ms and (found.confirmed_ms is None or found.confirmed_ms >= from_ms)


def _narrowed(scope: Scope, from_ms: int) -> Scope:
    return Scope(scope.db, from_ms, scope.to_ms, scope.begin_ms, scope.until_ms, scope.reach, scope.policy)


def _counts(scope: Scope) -> dict[str, int]:
    """How much there was to look at."""
    values = {"begin": scope.from_ms, "end": scope.to_ms}
    inside = "epoch_ms(\"at\") >= $begin AND epoch_ms(\"at\") < $end"
    tables = {"polls": "snapshots", "plans": "plans", "results": "results", "trades": "trades", "bookings": "ledger"}
    asked = {name: f"SELECT count(*) AS n FROM {table} WHERE {inside}"  # noqa: S608 - names of ours
             for name, table in tables.items()}
    return {name: rows(scope, query, **values)[0]["n"] for name, query in asked.items()}
