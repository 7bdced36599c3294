"""`p33-audit`: archives what is new, audits a range, writes the mismatch report, prints what was found.

Exit codes: 0 nothing found, 1 something found, 2 it could not be done or there was nothing to judge: one line on stderr
says why and what to do.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import msgspec

from p33_pipeline.auditing import audit_range, report_of
from p33_pipeline.errors import NothingToJudge
from p33_pipeline.outermost import outermost, say
from p33_pipeline.ranges import add_range, iso, range_of
from p33_pipeline.registry import notes_of
from p33_pipeline.render.page import amount, span, usdt
from p33_pipeline.report.output import as_json, write
from p33_pipeline.report.report import Report
from p33_pipeline.running import archive_now, history_of, note_audited
from p33_sidecar.settings import load

NOTHING, SOMETHING = 0, 1
SHOWN = 20


def main() -> int:
    """The command. Returns the exit code."""
    options = _parser().parse_args()
    return outermost("p33-audit", lambda: _audit(options))


def _audit(options: argparse.Namespace) -> int:
    settings = load(os.environ)
    from_ms, to_ms = range_of(options, now_ms=time.time_ns() // 1_000_000)
    if options.archive:
        archive_now(settings)
    history = history_of(settings)
    found = audit_range(history, from_ms=from_ms, to_ms=to_ms, policy=settings.policy, exact=options.exact)
    if options.archive:
        note_audited(settings, found.until_ms)
    report = report_of(history, found, policy=settings.policy, notes=notes_of(settings))
    places = write(report, history)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(as_json(report, places=places)), indent=2).decode())
    else:
        for line in summary(report, html=places["html"]):
            say(line)
    if not found.judged:
        raise NothingToJudge(f"the archive at {history.place} has no poll of this range and ends at "
                             f"{iso(found.until_ms)}: see that P33_HISTORY_URL and the range are right")
    return NOTHING if found.clean else SOMETHING


def summary(report: Report, *, html: str) -> list[str]:
    """The audit in a few lines, for a terminal."""
    audit = report.audit
    lines = [f"{iso(audit.from_ms)} to {iso(audit.to_ms)}", report.sentence]
    lines += [f"  {b.break_id}  {b.kind}  {b.symbol}  {amount(b.max_difference)}  {usdt(b.notional)} USDT  "
              f"{span(b.age_ms(audit.until_ms))}{'' if b.closed_ms else '  open'}" for b in audit.breaks[:SHOWN]]
    lines += [f"  {f.finding}  {f.symbol}  {iso(f.at_ms)}  {f.detail}" for f in audit.flow[:SHOWN]]
    lines += [f"  {f.finding}  {iso(f.at_ms)}  {f.detail}" for f in audit.sources[:SHOWN]]
    left = sum(max(len(found) - SHOWN, 0) for found in (audit.breaks, audit.flow, audit.sources))
    return [*lines, *([f"  {left} more stand in the report"] if left else []), f"Report: {html}"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="p33-audit", description="Exchange, ledger and Redis held against each other over a range of the archive.")
    add_range(parser)
    parser.add_argument("--json", action="store_true", help="the result for programs on stdout")
    parser.add_argument("--no-archive", dest="archive", action="store_false",
                        help="audit what is archived already; asks neither Redis nor the exchange")
    parser.add_argument("--exact", action="store_true",
                        help="compare the bytes of every verdict, where there are more than a day's audit compares")
    return parser


if __name__ == "__main__":
    sys.exit(main())
