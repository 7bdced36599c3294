"""`p33 breaks`: the breaks that audits found, and what people say of them.

Exit codes: 0 done, 1 there is no such break or none to show, 2 it could not be done.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from typing import Any

import msgspec

from p33_pipeline.audit.findings import Audit, Break
from p33_pipeline.auditing import AUDITS
from p33_pipeline.errors import HistoryUnreadable
from p33_pipeline.history import History
from p33_pipeline.outermost import outermost, say
from p33_pipeline.ranges import iso
from p33_pipeline.registry import registry_of
from p33_pipeline.render.page import amount, span, usdt
from p33_pipeline.report.report import STATES, Note
from p33_pipeline.running import history_of
from p33_sidecar.settings import load

DONE, NONE = 0, 1


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code."""
    options = _parser().parse_args(arguments)
    return outermost("p33 breaks", lambda: _act(options))


def _act(options: argparse.Namespace) -> int:
    settings = load(os.environ)
    history, registry = history_of(settings), registry_of(settings)
    found = known_breaks(history)
    if options.act == "list":
        return _list(found, registry.notes(), options)
    if options.break_id not in found:
        print(f"p33 breaks: no audit found a break {options.break_id}; `p33 breaks list` shows them", file=sys.stderr)
        return NONE
    if options.act == "annotate":
        if (options.state, options.owner, options.comment) == ("", None, None):
            raise ValueError("nothing is said: give --state, --owner or --comment")
        registry.annotate(options.break_id, by=_person(), state=options.state, owner=options.owner,
                          comment=options.comment)
    return _show(found[options.break_id], registry.history(options.break_id), options)


def _person() -> str:
    """Who is at the keyboard; in a container often somebody without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid{os.getuid()}"


def known_breaks(history: History) -> dict[str, Break]:
    """Every break of the kept audits by its id, as the audit that reached furthest saw it. Raises HistoryUnreadable."""
    found: dict[str, tuple[int, Break]] = {}
    names, _ = history.place.names(AUDITS)
    for name in names:
        raw = history.place.read(f"{AUDITS}/{name}") if "-" in name else None
        if raw is None:
            continue
        try:
            audit = msgspec.json.decode(raw, type=Audit)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HistoryUnreadable(f"{AUDITS}/{name} at {history.place} cannot be read: delete it and audit the range "
                                    "again") from error
        for one in audit.breaks:
            if one.break_id not in found or audit.until_ms >= found[one.break_id][0]:
                found[one.break_id] = (audit.until_ms, one)
    return {key: one for key, (_, one) in found.items()}


def _list(found: dict[str, Break], notes: dict[str, Note], options: argparse.Namespace) -> int:
    rows = [_row(one, notes.get(key, Note())) for key, one in found.items()
            if options.all or one.closed_ms is None]
    rows.sort(key=lambda row: row["opened"])
    if options.json:
        print(msgspec.json.encode(rows).decode())
    for row in [] if options.json else rows:
        say(f"{row['break_id']}  {row['class']}  {row['symbol']}  {row['opened']}  "
            f"{'open' if row['closed'] is None else span(row['lasted_ms'])}  {row['max_difference']}  "
            f"{row['notional_usdt']} USDT  {row['state']}  {row['owner']}")
    if not rows and not options.json:
        print("no break that is open; --all shows the closed ones too")
    return DONE if rows else NONE


def _show(found: Break, changes: list[dict], options: argparse.Namespace) -> int:
    note = Note(*(changes[-1][part] for part in ("state", "owner", "comment"))) if changes else Note()
    row = _row(found, note) | {"evidence": msgspec.to_builtins(found.evidence), "history": changes}
    if options.json:
        print(msgspec.json.encode(row).decode())
        return DONE
    for name, value in row.items():
        if name not in ("history", "evidence"):
            say(f"{name:15} {value}")
    for kind, ids in row["evidence"].items():
        say(f"{kind:15} {' '.join(ids) or '-'}")
    for change in changes:
        say(f"{iso(change['at_ms'])} {change['by']}: {change['state']} {change['owner']} {change['comment']}")
    return DONE


def _row(found: Break, note: Note) -> dict[str, Any]:
    closed = found.closed_ms
    return {
        "break_id": found.break_id, "class": found.kind, "symbol": found.symbol, "opened": iso(found.opened_ms),
        "closed": None if closed is None else iso(closed), "max_difference": amount(found.max_difference),
        "lasted_ms": (closed or found.last_seen_ms) - found.opened_ms, "notional_usdt": usdt(found.notional),
        "state": note.state, "owner": note.owner, "comment": note.comment,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="p33 breaks",
                                     description="Breaks that audits found, and what people say of them.")
    acts = parser.add_subparsers(dest="act", required=True)
    shown = acts.add_parser("list", help="the open breaks")
    shown.add_argument("--all", action="store_true", help="closed ones too")
    acts.add_parser("show", help="one break with its evidence and history").add_argument("break_id")
    said = acts.add_parser("annotate", help="say who looks at it, how it stands, and why")
    said.add_argument("break_id")
    said.add_argument("--state", default="", choices=STATES)
    said.add_argument("--owner")
    said.add_argument("--comment")
    for act in acts.choices.values():
        act.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
