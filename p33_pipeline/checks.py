"""What the audit concludes, as asset checks with a severity. Pure: findings in, check results out.

A bypass, an over-execution and a verdict that does not come out again are errors whatever they amount to; breaks weigh
by their notional. Findings do not block: the report is made all the same. Only an archive that does not reach into the
partition blocks, since a clean report on nothing would be a lie.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import dagster as dg
import msgspec

from p33_pipeline.audit.findings import ERRORS, Audit, Break
from p33_pipeline.render.page import amount, usdt, utc

MATERIAL_USDT: Final = Decimal(100)
"""A break of at least this notional is an error, a smaller one a warning."""
SHOWN: Final = 20
"""Findings that stand in a check's own metadata."""
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


class Conclusion(msgspec.Struct, frozen=True):
    """One check: its name and sentence, what of an audit speaks against it, and how bad that is."""

    name: str
    says: str
    against: Callable[[Audit], list[tuple[str, str]]]
    severity: dg.AssetCheckSeverity
    blocking: bool = False


def _flow(*kinds: str) -> Callable[[Audit], list[tuple[str, str]]]:
    return lambda audit: [(utc(f.at_ms), f"{f.finding} {f.symbol} {f.plan_id or ''}: {f.detail}")
                          for f in audit.flow if f.finding in kinds]


def _breaks(material: bool) -> Callable[[Audit], list[tuple[str, str]]]:
    return lambda audit: [_told(b) for b in audit.breaks if is_material(b) == material]


def is_material(found: Break) -> bool:
    """Whether a break is worth an error; one that nobody can put a price on is."""
    return found.kind != "timing" and (found.notional >= MATERIAL_USDT or not found.notional)


def _told(found: Break) -> tuple[str, str]:
    still = "" if found.closed_ms else ", still open"
    return (utc(found.opened_ms), f"{found.kind} {found.symbol}: off by {amount(found.max_difference)} "
                                  f"({usdt(found.notional)} USDT){still}")


CONCLUSIONS: Final = (
    Conclusion("archive_reaches_into_the_range", "There is something to judge.",
               lambda a: [] if a.judged else [(utc(a.from_ms), f"no poll; the archive ends at {utc(a.until_ms)}")],
               ERROR, blocking=True),
    Conclusion("gate_was_not_bypassed", "Every executed order had an ALLOW.", _flow("bypass"), ERROR),
    Conclusion("nothing_over_executed", "No order closed more than its permit said.", _flow("over_execution"), ERROR),
    Conclusion("verdicts_reproduce", "Archived verdicts, taken again, come out the same: outcome, reason and "
               "quantities of all, the bytes of as many as `counted_verdicts_compared_by_byte` says.",
               _flow("irreproducible_verdict"), ERROR),
    Conclusion("no_material_break", f"No break of {MATERIAL_USDT} USDT or more, or of unknown worth, passing ones "
               "aside.", _breaks(True),
               ERROR),
    Conclusion("no_small_break", "No smaller or passing break either.", _breaks(False), WARN),
    Conclusion("flow_is_whole", "Every plan has its verdict, every result its permit and trade, in time and once.",
               lambda a: [(utc(f.at_ms), f"{f.finding} {f.symbol}: {f.detail}") for f in a.flow
                          if f.finding not in ERRORS], WARN),
    Conclusion("sources_are_sound", "Polls came in time, clocks agreed, every message was understood.",
               lambda a: [(utc(f.at_ms), f"{f.finding}: {f.detail}") for f in a.sources], WARN),
)


def audit_checks(asset: str) -> list[dg.AssetCheckSpec]:
    """The checks an audit asset declares."""
    return [dg.AssetCheckSpec(c.name, asset=asset, description=c.says, blocking=c.blocking) for c in CONCLUSIONS]


def audit_results(audit: Audit) -> list[dg.AssetCheckResult]:
    """Their results for one audit."""
    return [_result(conclusion, conclusion.against(audit)) for conclusion in CONCLUSIONS]


def _result(conclusion: Conclusion, against: list[tuple[str, str]]) -> dg.AssetCheckResult:
    shown = [dg.TableRecord({"time": time, "finding": finding}) for time, finding in against[:SHOWN]]
    left = len(against) - len(shown)
    return dg.AssetCheckResult(
        check_name=conclusion.name, passed=not against, severity=conclusion.severity,
        metadata={"found": len(against)} | ({"what": dg.MetadataValue.table(shown)} if shown else {})
        | ({"left_out": f"{left} more stand in the report"} if left else {}))
