"""The three-way audit, by the hour for the running day, by the day for the closed one. Run again it finds the same."""

from typing import Any

import dagster as dg
from pydantic import Field

from p33_pipeline.assets.archive import stream_archive
from p33_pipeline.assets.common import COMMON
from p33_pipeline.audit.findings import Audit
from p33_pipeline.auditing import audit_range
from p33_pipeline.checks import audit_checks, audit_results
from p33_pipeline.partitions import DAILY, HOURLY, window_ms
from p33_pipeline.render.markdown import table, when
from p33_pipeline.render.page import amount, counted, span, usdt, utc
from p33_pipeline.report.thumbnail import breaks_thumbnail
from p33_pipeline.resources import P33, sentences
from p33_pipeline.running import note_audited

HOURS_AUDIT = "hour_audit"
DAYS_AUDIT = "day_audit"


class AuditConfig(dg.Config):
    """How the verdicts are taken again."""

    exact: bool = Field(default=False, description="Compare the bytes of every verdict, also where there are so many "
                                                   "that otherwise a sample is compared")


@dg.asset(name=HOURS_AUDIT, group_name="audit", kinds={"duckdb"}, partitions_def=HOURLY, deps=[stream_archive],
          check_specs=audit_checks(HOURS_AUDIT), **COMMON,
          description="Exchange, ledger and Redis held against each other over one hour of the archive: breaks, what "
                      "left the path from plan to trade, and what the sources were not told.")
def hour_audit(context: dg.AssetExecutionContext, config: AuditConfig, p33: P33) -> dg.MaterializeResult:
    return _audited(context, config, p33)


@dg.asset(name=DAYS_AUDIT, group_name="audit", kinds={"duckdb"}, partitions_def=DAILY, deps=[stream_archive],
          check_specs=audit_checks(DAYS_AUDIT), **COMMON,
          description="The audit of a whole day, from which its report is made.")
def day_audit(context: dg.AssetExecutionContext, config: AuditConfig, p33: P33) -> dg.MaterializeResult:
    return _audited(context, config, p33)


def _audited(context: dg.AssetExecutionContext, config: AuditConfig, p33: P33) -> dg.MaterializeResult:
    from_ms, to_ms = window_ms(context)
    with sentences():
        settings = p33.settings()
        found = audit_range(p33.history(), from_ms=from_ms, to_ms=to_ms, policy=settings.policy, exact=config.exact)
        note_audited(settings, found.until_ms)
    context.log.info("%s", _sentence(found))
    return dg.MaterializeResult(metadata=_metadata(found), check_results=audit_results(found))


def _sentence(found: Audit) -> str:
    if not found.judged:
        return "The archive has no poll of this partition: nothing was judged."
    if found.clean:
        return f"Nothing found in {_verdicts(found)}."
    return (f"{counted(len(found.breaks), 'break')}, {counted(len(found.flow), 'flow finding')}, "
            f"{counted(len(found.sources), 'source finding')}.")


def _verdicts(found: Audit) -> str:
    """How many verdicts there were and, where it was not all of them, how many were compared byte by byte."""
    total, exactly = (found.counts.get(name, 0) for name in ("verdicts", "verdicts_compared_by_byte"))
    return f"{total:,} verdicts" + (f", {exactly:,} of them compared byte by byte" if exactly < total else "")


def _metadata(found: Audit) -> dict[str, Any]:
    dearest = sorted(found.breaks, key=lambda b: -b.notional)
    return {
        "summary": dg.MetadataValue.md(_sentence(found)),
        "breaks": len(found.breaks), "open_breaks": sum(b.closed_ms is None for b in found.breaks),
        "flow_findings": len(found.flow), "source_findings": len(found.sources),
        "breaks_by_symbol": dg.MetadataValue.md(breaks_thumbnail(found)),
        "archive_reaches_to": utc(found.until_ms),
        "dearest_breaks": dg.MetadataValue.md(table(
            ("symbol", "class", "since", "age", "off by", "USDT"),
            [(b.symbol, b.kind, when(b.opened_ms), span(b.age_ms(found.until_ms)), amount(b.max_difference),
              usdt(b.notional)) for b in dearest], most=8)),
        **{f"counted_{name}": count for name, count in found.counts.items()},
    }
