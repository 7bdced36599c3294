"""The sources themselves: polls that did not come, clocks that differ, messages nobody understood, forged papers."""

from __future__ import annotations

from collections.abc import Iterator

from p33_pipeline.audit.findings import SourceFinding
from p33_pipeline.audit.scope import Scope, rows

MOST_POLLS_APART = 3
LEAST_GAP_MS = 10_000
RECORD_TABLES = ("decisions", "taken", "snapshots", "ledger", "events", "rejected")


def source_findings(scope: Scope) -> list[SourceFinding]:
    """All of the range, oldest first."""
    found = [*_snapshot_gaps(scope), *_skews(scope), *_rejected(scope), *_archive_gaps(scope), *_tampered(scope),
             *_forged(scope)]
    return sorted((f for f in found if scope.judged(f.at_ms)), key=lambda f: (f.at_ms, f.finding))


def _snapshot_gaps(scope: Scope) -> Iterator[SourceFinding]:
    """Longer than three polls of that time, at least 10 s, without a good poll; the last one up to the archive's end.

    One that began before the range is the range's as well where so much of it lies inside, from the range's begin on.
    """
    spans = _spans(scope)
    times = [row["at_ms"] for row in rows(
        scope, "SELECT epoch_ms(requested_at) AS at_ms FROM snapshots WHERE outcome = 'ok' AND problem IS NULL "
               "ORDER BY at_ms")]
    if 0 < scope.begin_ms <= scope.from_ms and (not times or times[0] > scope.from_ms):
        times.insert(0, scope.from_ms)  # the last poll was made longer ago than one looks back
    end_ms = min(scope.to_ms, scope.until_ms)
    for before_ms, after_ms in zip(times, [*times[1:], *(max(end_ms, last) for last in times[-1:])], strict=True):
        begin_ms = max(before_ms, scope.from_ms)
        inside_ms = after_ms - before_ms if begin_ms == before_ms else min(after_ms, scope.to_ms) - begin_ms
        if inside_ms > LEAST_GAP_MS and inside_ms > MOST_POLLS_APART * _poll_ms(scope, spans, before_ms, after_ms):
            why = _why(scope, before_ms, after_ms)
            yield SourceFinding("snapshot_gap", begin_ms, f"no good poll for {after_ms - before_ms} ms{why}")


def _spans(scope: Scope) -> list[dict]:
    """From the first to the last verdict of each poll interval: the setting may have been another then."""
    return rows(scope, "SELECT poll_ms, epoch_ms(min(decided_at)) AS first_ms, epoch_ms(max(decided_at)) AS last_ms "
                       "FROM decisions WHERE poll_ms IS NOT NULL AND problem IS NULL GROUP BY poll_ms")


def _poll_ms(scope: Scope, spans: list[dict], before_ms: int, after_ms: int) -> int:
    """The poll interval of a time: the longest around it, else the one before it, else the one after it."""
    around = [span for span in spans if span["first_ms"] <= after_ms and span["last_ms"] >= before_ms]
    if around:
        return max(span["poll_ms"] for span in around)
    earlier = [span for span in spans if span["last_ms"] < before_ms]
    nearest = (max(earlier, key=lambda span: span["last_ms"]) if earlier
               else min(spans, key=lambda span: span["first_ms"], default=None))
    return nearest["poll_ms"] if nearest else scope.policy.poll_ms


def _why(scope: Scope, from_ms: int, to_ms: int) -> str:
    """What the polls in between said, if there were any."""
    found = rows(scope, "SELECT outcome, count(*) AS polls FROM snapshots WHERE outcome <> 'ok' "
                        "AND epoch_ms(requested_at) BETWEEN $begin AND $end GROUP BY outcome ORDER BY outcome",
                 begin=from_ms, end=to_ms)
    said = ", ".join(f"{row['polls']} times {row['outcome']}" for row in found)
    return f": {said}" if said else ""


def _skews(scope: Scope) -> Iterator[SourceFinding]:
    """Plans from the future, and an exchange whose clock runs ahead of ours by more than the rules bear."""
    for row in rows(scope, "SELECT plan_id, symbol, epoch_ms(decided_at) AS at_ms FROM decisions "
                           "WHERE reason = 'clock_skew' ORDER BY at_ms"):
        yield SourceFinding("clock_skew", row["at_ms"], f"plan {row['plan_id']} or the snapshot of {row['symbol']} lay "
                                                        "in the future")
    for row in rows(scope, """
            WITH held AS (
              SELECT epoch_ms(received_at) AS seen_ms, unnest(positions) AS p FROM snapshots WHERE outcome = 'ok'
            ), told AS (SELECT seen_ms, p.symbol AS symbol, epoch_ms(p.update_time) AS update_ms FROM held)
            SELECT symbol, min(seen_ms) AS at_ms, max(update_ms - seen_ms) AS ahead_ms FROM told
            WHERE update_ms > seen_ms + $skew GROUP BY symbol, update_ms ORDER BY 2""",
                    skew=scope.policy.skew_ms):
        yield SourceFinding("clock_skew", row["at_ms"],
                            f"the exchange's position of {row['symbol']} is {row['ahead_ms']} ms ahead of our clock")


def _rejected(scope: Scope) -> Iterator[SourceFinding]:
    """What the sidecar could not understand, and what the archive could not."""
    for row in rows(scope, "SELECT stream, entry_id, reason, epoch_ms(\"at\") AS at_ms FROM rejected "
                           "WHERE problem IS NULL ORDER BY \"at\", seq"):
        yield SourceFinding("rejected_message", row["at_ms"], f"{row['stream']} {row['entry_id']}: {row['reason']}")
    for table in RECORD_TABLES:
        for row in rows(scope, f"SELECT id, problem, epoch_ms(\"at\") AS at_ms FROM {table} "  # noqa: S608 - a constant
                               "WHERE problem IS NOT NULL ORDER BY \"at\", seq"):
            if table != "decisions":
                yield SourceFinding("rejected_message", row["at_ms"], f"{table} {row['id']}: {row['problem']}")


def _archive_gaps(scope: Scope) -> Iterator[SourceFinding]:
    for row in rows(scope, 'SELECT "table", after_id, before_id, missing, epoch_ms(noticed_at) AS at_ms FROM gaps '
                           "ORDER BY \"at\", seq"):
        missing = row["missing"]
        count = "an unknown number of entries" if missing is None else f"{missing} entr{'y' if missing == 1 else 'ies'}"
        yield SourceFinding("archive_gap", row["at_ms"], f"{count} of {row['table']} gone before the archive came, "
                            f"after {row['after_id']}")


def _tampered(scope: Scope) -> Iterator[SourceFinding]:
    for row in rows(scope, "SELECT symbol, epoch_ms(coalesce(happened_at, \"at\")) AS at_ms FROM events "
                           "WHERE kind = 'tampering' ORDER BY \"at\", seq"):
        yield SourceFinding("ledger_tampered", row["at_ms"],
                            f"somebody else changed the ledger hash of {row['symbol']}")


def _forged(scope: Scope) -> Iterator[SourceFinding]:
    """Permits that the gate refused as forged, and permits taken that no verdict stands for."""
    for row in rows(scope, "SELECT plan_id, symbol, epoch_ms(\"at\") AS at_ms FROM results "
                           "WHERE refusal = 'forged_permit' ORDER BY \"at\", seq"):
        yield SourceFinding("forged_permit", row["at_ms"],
                            f"a forged permit of plan {row['plan_id']} ({row['symbol']}) was refused")
    for row in rows(scope, "SELECT t.plan_id, t.symbol, epoch_ms(t.taken_at) AS at_ms FROM taken t "
                           "ANTI JOIN decisions d ON d.nonce = t.nonce AND d.plan_id = t.plan_id "
                           "WHERE t.gate = 'both' AND t.problem IS NULL AND NOT EXISTS ("
                           "SELECT 1 FROM gaps g WHERE g.\"table\" = 'decisions' "
                           "AND epoch_ms(t.taken_at) <= epoch_ms(g.noticed_at)) ORDER BY at_ms"):
        yield SourceFinding("forged_permit", row["at_ms"], f"a permit of plan {row['plan_id']} ({row['symbol']}) was "
                                                           "taken that no verdict stands for")
