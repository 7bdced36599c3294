"""The path of a plan: entry, verdict, permit, result, order, trade. What left it is a finding; one deed is one finding.

What is younger than `SETTLED_MS` at the archive's end is not judged yet: its other half may still be on its way.
Entries from before the first poll belong to a stack without this gate.
"""

from __future__ import annotations

from p33_pipeline.audit.findings import FlowFinding
from p33_pipeline.audit.orders import order_findings
from p33_pipeline.audit.scope import Scope, rows
from p33_sidecar.core.plan import EXECUTE
from p33_sidecar.core.reasons import FINAL

SETTLED_MS = 120_000


def flow_findings(scope: Scope) -> list[FlowFinding]:
    """All of them, oldest first; verdicts that do not come out again are `reproduce`'s."""
    found = [*_plans_without_verdict(scope), *_verdicts_without_plan(scope), *order_findings(scope)]
    return sorted((f for f in found if scope.judged(f.at_ms)), key=lambda f: (f.at_ms, f.finding, f.plan_id or ""))


def _plans_without_verdict(scope: Scope) -> list[FlowFinding]:
    """EXECUTE entries that nobody answered, other than a settled plan published again."""
    found = rows(scope, """
        SELECT p.id, p.plan_id, p.symbol, p.action, epoch_ms(p."at") AS at_ms
        FROM plans p ANTI JOIN decisions d ON d.stream_id = p.id AND d.plan_id = p.plan_id
        WHERE p.decision = $execute AND p.problem IS NULL AND epoch_ms(p."at") BETWEEN $begin AND $settled
          AND NOT EXISTS (
            SELECT 1 FROM decisions e WHERE e.plan_id = p.plan_id AND (
              (e.outcome = 'ALLOW' AND (
                e.expires_at > p."at" OR EXISTS (SELECT 1 FROM taken t WHERE t.nonce = e.nonce)))
              OR (e.outcome = 'DENY' AND list_contains($final, e.reason))))
          AND NOT EXISTS (
            SELECT 1 FROM gaps g WHERE g."table" = 'decisions' AND epoch_ms(p."at") <= epoch_ms(g.noticed_at)
            AND epoch_ms(p."at") >= split_part(g.after_id, '-', 1)::BIGINT)
        """, execute=EXECUTE, begin=scope.begin_ms, settled=scope.until_ms - SETTLED_MS, final=sorted(FINAL))
    return [FlowFinding("plan_without_verdict", row["symbol"], row["plan_id"], None, row["at_ms"],
                        f"entry {row['id']} ({row['action']}) has no verdict") for row in found]


def _verdicts_without_plan(scope: Scope) -> list[FlowFinding]:
    """Verdicts on entries that the plan stream never had; one that was trimmed too early is the archive's gap."""
    found = rows(scope, """
        SELECT d.stream_id, d.plan_id, d.symbol, d.outcome, epoch_ms(d.decided_at) AS at_ms
        FROM decisions d ANTI JOIN plans p ON p.id = d.stream_id AND p.plan_id = d.plan_id
        WHERE d.problem IS NULL AND NOT EXISTS (
          SELECT 1 FROM gaps g WHERE g."table" = 'plans'
            AND split_part(d.stream_id, '-', 1)::BIGINT >= split_part(g.after_id, '-', 1)::BIGINT
            AND (g.before_id = ''
                 OR split_part(d.stream_id, '-', 1)::BIGINT <= split_part(g.before_id, '-', 1)::BIGINT))
        """)
    return [FlowFinding("verdict_without_plan", row["symbol"], row["plan_id"], None, row["at_ms"],
                        f"{row['outcome']} on entry {row['stream_id']}, which the plan stream does not have")
            for row in found]
