"""What an ALLOW and its taking rest on, held against what was recorded: polls, bookings, takings, withdrawals.

A record that gives its verdict again may still rest on facts that somebody wrote into Redis past the gate: a snapshot
that no poll saw, a book that the journal does not know, a symbol set free while its order was under way, an open permit
that had been withdrawn. Denials are left out: on false facts they cost time and no money. What the archive cannot know
of (a gap) is no finding.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from p33_pipeline.audit.findings import FlowFinding
from p33_pipeline.audit.scope import Scope, rows
from p33_sidecar.core.quantity import text
from p33_sidecar.core.results import ENDS_TAKEN

_DECODE = msgspec.json.Decoder(dict)


def groundless(scope: Scope, *, unlike: list[FlowFinding]) -> list[FlowFinding]:
    """All of the range: ALLOWs on facts that nobody recorded, less those that are known to be `unlike` their record,
    and takings of what was withdrawn."""
    known = {(finding.plan_id, finding.at_ms) for finding in unlike}
    found = {(finding.plan_id, finding.at_ms): finding for finding in _verdicts(scope)}
    return [*(finding for verdict, finding in found.items() if verdict not in known), *_takings(scope)]


def _verdicts(scope: Scope) -> Iterator[FlowFinding]:
    for row in [*_without_booking(scope), *_without_poll(scope)]:
        yield FlowFinding("irreproducible_verdict", row["symbol"], row["plan_id"], None, row["at_ms"],
                          f"it rests on a {row['what']} of {text(row['amt'])} that nobody recorded; "
                          f"{text(row['known'])} was known")
    for row in _while_taken(scope):
        yield FlowFinding("irreproducible_verdict", row["symbol"], row["plan_id"], None, row["at_ms"],
                          f"it rests on a free symbol, {row['since_ms']} ms after the permit of plan "
                          f"{row['taken_plan']} was taken (nonce {row['taken_nonce']}), which no result had ended, "
                          "nor its time")


def _without_poll(scope: Scope) -> list[dict]:
    """Neither the last good poll up to the snapshot's time nor the first after it saw that position.

    Nearly every verdict rests on what a poll of that very time saw: those are passed over before polls are searched.
    """
    return rows(scope, """
        WITH polls AS (SELECT requested_at, positions, unknown_symbols AS unknown FROM snapshots
                       WHERE outcome = 'ok' AND problem IS NULL),
        held AS (SELECT requested_at, unnest(positions) AS p FROM polls),
        unsure AS (SELECT d.* FROM decisions d ANTI JOIN held h ON h.requested_at = d.snapshot_at
                   AND h.p.symbol = d.symbol AND h.p.position_amt = d.exchange_amt
                   WHERE d.outcome = 'ALLOW'),
        seen AS (
          SELECT d.symbol, d.plan_id, epoch_ms(d."at") AS at_ms, d.exchange_amt AS amt, b.requested_at AS before_at,
            coalesce(list_filter(b.positions, lambda p: p.symbol = d.symbol)[1].position_amt, 0) AS known,
            coalesce(list_filter(a.positions, lambda p: p.symbol = d.symbol)[1].position_amt, 0) AS later,
            coalesce(list_contains(b.unknown, d.symbol), false) AS unknown
          FROM unsure d ASOF LEFT JOIN polls b ON d.snapshot_at >= b.requested_at
          ASOF LEFT JOIN polls a ON d.snapshot_at < a.requested_at
          WHERE d.outcome = 'ALLOW' AND d.problem IS NULL AND epoch_ms(d."at") >= $begin AND epoch_ms(d."at") < $end
            AND NOT EXISTS (SELECT 1 FROM gaps g WHERE g."table" = 'snapshots' AND d.decided_at <= g.noticed_at))
        SELECT 'position' AS what, * FROM seen
        WHERE before_at IS NOT NULL AND NOT unknown AND amt <> known AND amt <> later ORDER BY at_ms
        """, begin=scope.from_ms, end=scope.to_ms)


def _without_booking(scope: Scope) -> list[dict]:
    """Neither the last booking before the verdict's entry nor the first after it left the book at that amount.

    Nearly every verdict rests on the booking it names, while that was the last: those are passed over first.
    """
    return rows(scope, """
        WITH bookings AS (SELECT symbol, "at", any_value(amt_after) AS amt, list(amt_after) AS amounts FROM ledger
                          WHERE amt_after IS NOT NULL AND problem IS NULL GROUP BY symbol, "at"),
        spans AS (SELECT symbol, rev, amt_after AS amt, "at" AS since,
                    lead("at", 1, 'infinity'::TIMESTAMPTZ) OVER (PARTITION BY symbol ORDER BY "at", seq) AS until_at
                  FROM ledger WHERE amt_after IS NOT NULL AND problem IS NULL),
        unsure AS (SELECT d.* FROM decisions d ANTI JOIN spans s ON s.symbol = d.symbol AND s.rev = d.ledger_rev
                   AND s.amt = d.ledger_amt AND d."at" >= s.since AND d."at" < s.until_at WHERE d.outcome = 'ALLOW'),
        seen AS (
          SELECT d.symbol, d.plan_id, epoch_ms(d."at") AS at_ms, d.ledger_amt AS amt, b.amt AS known,
            list_concat(b.amounts, coalesce(a.amounts, [])) AS amounts
          FROM unsure d ASOF JOIN bookings b ON b.symbol = d.symbol AND d."at" >= b."at"
          ASOF LEFT JOIN bookings a ON a.symbol = d.symbol AND d."at" < a."at"
          WHERE d.outcome = 'ALLOW' AND d.problem IS NULL AND epoch_ms(d."at") >= $begin AND epoch_ms(d."at") < $end
            AND NOT EXISTS (SELECT 1 FROM gaps g WHERE g."table" = 'ledger' AND d.decided_at <= g.noticed_at))
        SELECT 'book' AS what, * FROM seen WHERE NOT list_contains(amounts, amt) ORDER BY at_ms
        """, begin=scope.from_ms, end=scope.to_ms)


def _while_taken(scope: Scope) -> list[dict]:
    """No result had ended the symbol's last taken permit, nor its time: the gate's word for that is `taken`.

    A person's adoption, forced or not, frees no symbol. The gate's clock may be ahead of the server's by as much as the
    issuing step lets it: in the last second either may be right. A taking that no ALLOW stands for is a forged one.
    """
    return rows(scope, """
        WITH takings AS (
          SELECT t.symbol, t.plan_id, t.nonce, min(t."at") AS "at", min(d.issued_at) AS issued_at
          FROM taken t JOIN decisions d ON d.nonce = t.nonce AND d.plan_id = t.plan_id AND d.symbol = t.symbol
          WHERE t.gate = 'both' AND t.problem IS NULL AND d.outcome = 'ALLOW' GROUP BY t.symbol, t.plan_id, t.nonce),
        early AS (
          SELECT d.symbol, d.plan_id, d."at", epoch_ms(d."at") - epoch_ms(t."at") AS since_ms,
            t.plan_id AS taken_plan, t.nonce AS taken_nonce, t.issued_at
          FROM decisions d ASOF JOIN takings t ON t.symbol = d.symbol AND d."at" > t."at"
          WHERE d.outcome = 'ALLOW' AND d.problem IS NULL AND epoch_ms(d."at") >= $begin AND epoch_ms(d."at") < $end
            AND epoch_ms(d."at") - epoch_ms(t."at") < d.permit_ttl_ms + d.cooldown_ms - d.skew_ms)
        SELECT symbol, plan_id, epoch_ms("at") AS at_ms, since_ms, taken_plan, taken_nonce FROM early e
        WHERE NOT EXISTS (
            SELECT 1 FROM results r WHERE r.plan_id = e.taken_plan AND r.symbol = e.symbol
              AND r."at" >= e.issued_at AND r."at" <= e."at" AND (r.executed OR list_contains($ends, r.error)))
          AND NOT EXISTS (
            SELECT 1 FROM gaps g WHERE g."table" = 'results'
              AND split_part(g.after_id, '-', 1)::BIGINT <= epoch_ms(e."at")
              AND (g.before_id = '' OR split_part(g.before_id, '-', 1)::BIGINT >= epoch_ms(e.issued_at)))
        ORDER BY at_ms
        """, begin=scope.from_ms, end=scope.to_ms, ends=sorted(ENDS_TAKEN))


def _takings(scope: Scope) -> Iterator[FlowFinding]:
    """Server time and order of the entries tell which came first."""
    gone: dict[str, tuple[int, int]] = {}
    for row in rows(scope, "SELECT raw, epoch_ms(\"at\") AS at_ms, seq FROM events WHERE kind = 'withdrawal' "
                           "AND problem IS NULL ORDER BY \"at\", seq"):
        gone.setdefault(_DECODE.decode(row["raw"]).get("nonce", ""), (row["at_ms"], row["seq"]))
    for row in rows(scope, "SELECT plan_id, symbol, nonce, epoch_ms(\"at\") AS at_ms, seq FROM taken "
                           "WHERE problem IS NULL AND nonce <> '' ORDER BY \"at\", seq"):
        withdrawn = gone.get(row["nonce"])
        if withdrawn and withdrawn[0] < row["at_ms"] and scope.judged(row["at_ms"]):
            yield FlowFinding("permit_reuse", row["symbol"], row["plan_id"], None, row["at_ms"],
                              f"taken {row['at_ms'] - withdrawn[0]} ms after it was withdrawn")
