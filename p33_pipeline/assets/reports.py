"""The mismatch report of a closed day, made from its audit: the same findings, told for people."""

import dagster as dg

from p33_pipeline.assets.audit import day_audit
from p33_pipeline.assets.common import COMMON
from p33_pipeline.auditing import audit_range, kept_audit, report_of
from p33_pipeline.partitions import DAILY, window_ms
from p33_pipeline.registry import notes_of
from p33_pipeline.render.markdown import picture, table
from p33_pipeline.render.page import usdt
from p33_pipeline.report.output import write
from p33_pipeline.report.page import largest_timeline
from p33_pipeline.report.picture import denials_svg
from p33_pipeline.report.report import Report, notional_of
from p33_pipeline.report.thumbnail import breaks_thumbnail, denials_thumbnail
from p33_pipeline.resources import P33, sentences


@dg.asset(group_name="report", kinds={"html", "csv", "json"}, partitions_def=DAILY, deps=[day_audit], **COMMON,
          description="The day in one sentence, open breaks by age and notional, the accounts over time, flow "
                      "findings, denials and freshness: an HTML file that opens offline, and the same as CSV and JSON.")
def mismatch_report(context: dg.AssetExecutionContext, p33: P33) -> dg.MaterializeResult:
    from_ms, to_ms = window_ms(context)
    with sentences():
        settings, history = p33.settings(), p33.history()
        found = kept_audit(history, from_ms=from_ms, to_ms=to_ms) or audit_range(
            history, from_ms=from_ms, to_ms=to_ms, policy=settings.policy)
        report = report_of(history, found, policy=settings.policy, notes=notes_of(settings))
        places = write(report, history)
    context.log.info("%s %s", report.sentence, places["html"])
    return dg.MaterializeResult(metadata=_metadata(report, places))


def _metadata(report: Report, places: dict[str, str]) -> dict[str, dg.MetadataValue | int]:
    facts = report.facts
    found: dict[str, dg.MetadataValue | int] = {
        "summary": dg.MetadataValue.md(report.sentence),
        "report": dg.MetadataValue.path(places["html"]), "csv": dg.MetadataValue.path(places["csv"]),
        "json": dg.MetadataValue.path(places["json"]),
        "breaks": len(report.audit.breaks), "open_breaks": len(report.open_breaks),
        "open_notional_usdt": dg.MetadataValue.text(usdt(notional_of(report.open_breaks))),
        "allowed": facts.allows, "denied": sum(count for _, count in facts.denials),
        "denials": dg.MetadataValue.md(table(("reason", "denials"), facts.denials, most=8)),
        "denials_by_hour": dg.MetadataValue.md(denials_thumbnail(facts.hours)),
        "breaks_by_symbol": dg.MetadataValue.md(breaks_thumbnail(report.audit)),
        "picture_of_denials": dg.MetadataValue.md(picture(denials_svg(facts.hours), "denials by hour")),
    }
    drawn = largest_timeline(report)
    if drawn:
        symbol, svg = drawn
        found["picture_of_accounts"] = dg.MetadataValue.md(picture(svg, f"accounts of {symbol}"))
    return found
