"""The report's three files beside the archive, and the contract's JSON (chapter 8).

The same range is the same files. Amounts stand in them exactly: as numbers in the JSON, as text in the CSV.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec

from p33_pipeline.audit.findings import Break
from p33_pipeline.history import History
from p33_pipeline.ranges import iso, stamp
from p33_pipeline.report.page import page
from p33_pipeline.report.report import Report, notional_of
from p33_sidecar.core.quantity import number, text

FOLDER = "reports"
COLUMNS = ("break_id", "class", "symbol", "opened", "closed", "max_difference", "notional", "state", "owner", "comment",
           "trade_ids", "order_ids", "plan_ids", "decision_ids")
_RISKY = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""


def write(report: Report, history: History) -> dict[str, str]:
    """Write HTML, CSV and JSON; where each lies, as an absolute path or a URL."""
    audit = report.audit
    stem = f"{FOLDER}/mismatch-{stamp(audit.from_ms)}-{stamp(audit.to_ms)}"
    paths = {kind: f"{stem}.{kind}" for kind in ("html", "csv", "json")}
    places = {kind: f"{history.place}/{path}" for kind, path in paths.items()}
    history.place.write(paths["html"], page(report))
    history.place.write(paths["csv"], as_csv(report))
    history.place.write(paths["json"], msgspec.json.format(
        msgspec.json.encode(as_json(report, places=places)), indent=1))
    return places


def as_json(report: Report, *, places: dict[str, str]) -> dict[str, Any]:
    """What `p33-audit --json` prints."""
    audit = report.audit
    return {
        "from_ms": audit.from_ms, "to_ms": audit.to_ms, "summary": summary(report),
        "breaks": [_break(report, found) for found in audit.breaks],
        "flow": [msgspec.to_builtins(found) for found in audit.flow],
        "sources": [msgspec.to_builtins(found) for found in audit.sources],
        "report": places,
    }


def summary(report: Report) -> dict[str, Any]:
    """The range in a few figures."""
    audit, still = report.audit, report.open_breaks
    return {
        "sentence": report.sentence, "clean": report.clean, "until_ms": audit.until_ms, "breaks": len(audit.breaks),
        "open": len(still), "open_notional": number(notional_of(still)), "flow": len(audit.flow),
        "errors": report.errors, "sources": len(audit.sources), "allows": report.facts.allows,
        "denials": dict(report.facts.denials), **audit.counts,
    }


def as_csv(report: Report) -> bytes:
    """Every break, one a line, with all of its evidence."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(COLUMNS)
    for found in report.audit.breaks:
        note, evidence = report.note(found), found.evidence
        writer.writerow([
            found.break_id, found.kind, _cell(found.symbol), iso(found.opened_ms),
            "" if found.closed_ms is None else iso(found.closed_ms), text(found.max_difference), text(found.notional),
            note.state, _cell(note.owner), _cell(note.comment),
            *(_cell(" ".join(ids)) for ids in (evidence.trade_ids, evidence.order_ids, evidence.plan_ids,
                                               evidence.decision_ids))])
    return sheet.getvalue().encode()


def _cell(value: str) -> str:
    return f"'{value}" if value.startswith(_RISKY) else value


def _break(report: Report, found: Break) -> dict[str, Any]:
    return {
        "break_id": found.break_id, "class": found.kind, "symbol": found.symbol, "opened_ms": found.opened_ms,
        "closed_ms": found.closed_ms, "max_difference": number(found.max_difference),
        "notional": number(found.notional), "state": report.note(found).state,
        "evidence": msgspec.to_builtins(found.evidence),
    }
