"""The archive: streams and trades from Redis and the exchange into typed Parquet, exactly once."""

import time
from datetime import timedelta

import dagster as dg

from p33_pipeline.assets.common import COMMON
from p33_pipeline.history import TABLES, History
from p33_pipeline.history.layout import id_text
from p33_pipeline.partitions import DAILY
from p33_pipeline.render.markdown import table
from p33_pipeline.resources import P33, sentences
from p33_pipeline.running import archive_now

WRITER = "history_writer"
"""One writer of the archive at a time; the archive's own locks hold where this pool does not reach."""
SWEPT_DAYS = 7
"""So many days before the one that is merged are seen to: nights without a run leave nothing behind."""
COMPLETE = dg.AssetCheckSpec(
    "nothing_was_trimmed_unread", asset="stream_archive",
    description="Every entry of every stream since the last run was still there to be archived.")


@dg.asset(group_name="archive", kinds={"redis", "parquet"}, check_specs=[COMPLETE], pool=WRITER, **COMMON,
          freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=30),
                                                          warn_window=timedelta(minutes=15)),
          description="Everything new of the sidecar's and the stack's streams and of the account's trades, exactly "
                      "once, in typed Parquet by day. Streams are trimmed only behind it.")
def stream_archive(p33: P33) -> dg.MaterializeResult:
    with sentences():
        run = archive_now(p33.settings())
    missing = [done for done in run.streams if done.missing != 0]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": run.entries, "trades": run.trades or 0,
            "summary": dg.MetadataValue.md(_sentence(run.entries, run.trades)),
            "streams": dg.MetadataValue.md(table(
                ("table", "new", "missing", "trimmed", "until"),
                [(d.table, d.entries, "?" if d.missing is None else d.missing, d.trimmed, d.until)
                 for d in run.streams])),
            "history": dg.MetadataValue.path(str(p33.history().place)),
        },
        check_results=[dg.AssetCheckResult(
            check_name=COMPLETE.name, passed=not missing, severity=dg.AssetCheckSeverity.ERROR,
            metadata={"streams": ", ".join(done.table for done in missing) or "none"})])


def standing(history: History) -> dg.AssetMaterialization:
    """The archive as it stands, for an instance that did not see it being written. Raises HistoryUnreadable."""
    marks = {kind.name: history.mark(kind) for kind in TABLES.values()}
    held = [(name, mark.count, id_text(mark.last)) for name, mark in marks.items() if mark.count]
    entries = sum(count for _, count, _ in held)
    return dg.AssetMaterialization(stream_archive.key, metadata={
        "dagster/row_count": entries,
        "summary": dg.MetadataValue.md(f"{entries:,} entries that stood here already; no stream was read for them."),
        "streams": dg.MetadataValue.md(table(("table", "entries", "until"), held)),
        "history": dg.MetadataValue.path(str(history.place))})


def _sentence(entries: int, trades: int | None) -> str:
    if trades is None:
        return f"{entries:,} new entries; without credentials the exchange was not asked for trades."
    return f"{entries:,} new entries and {trades:,} trades." if entries or trades else "Nothing new."


@dg.asset(group_name="archive", kinds={"parquet"}, partitions_def=DAILY, deps=[stream_archive], pool=WRITER,
          **COMMON,
          description="The day's many small files merged into few. What they cover is removed by the next run, when no "
                      "reader holds it any more: a night later, of the seven days before.")
def compacted_history(context: dg.AssetExecutionContext, p33: P33) -> dg.MaterializeResult:
    day = context.partition_time_window.start.date()
    merged, swept = {}, 0
    with sentences():
        history = p33.history()
        for kind in TABLES.values():
            with history.place.alone(kind.name):
                merged[kind.name] = history.compact(kind, day)
                for earlier in range(SWEPT_DAYS + 1):
                    swept += history.sweep(kind, day - timedelta(days=earlier), now_ms=time.time_ns() // 1_000_000)
    return dg.MaterializeResult(metadata={
        "merged": sum(merged.values()), "removed": swept,
        "tables": dg.MetadataValue.md(table(("table", "files merged"), [m for m in merged.items() if m[1]]))})
