"""`p33 explain PLAN_ID`: every verdict on a plan, check by check, what would have had to differ, the permit's fate."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.checks import not_halted
from ..core.reasons import Reason
from ..core.record import Record, facts_of, policy_of
from ..store import keys
from ..store.reading import Logged, Reading, entry_ms
from . import paper
from .differ import Flip, Step, flips, path_to_allow
from .fate import Fate, fate_of
from .halted import Halt, halts_behind
from .session import Session
from .units import age, moment, plain, seen


class Explained(msgspec.Struct, frozen=True):
    """One verdict, as `--json` shows it. `differ` is the way to the ALLOW, `margins` the ways out of it, `halts` what
    kill switches stood."""

    entry_id: str
    record: Any
    differ: list[Step]
    margins: list[Flip]
    fate: Fate | None
    problem: str = ""
    halts: list[Halt] = []


def explain(session: Session, plan_id: str, *, as_json: bool) -> int:
    """Print every verdict on the plan. 1: there is none."""
    reading = session.reading
    entries, now_ms = reading.verdicts_on(plan_id), reading.now_ms()
    if not entries:
        return _unknown(reading, plan_id, as_json=as_json)
    explained = [_explained(reading, entry, now_ms) for entry in entries]
    if as_json:
        paper.emit({"plan_id": plan_id, "verdicts": explained})
        return 0
    out = paper.console()
    for index, (entry, told) in enumerate(zip(entries, explained, strict=True)):
        if index:
            out.rule(style=paper.DIM)
        out.print(_drawn(entry, told, number=index + 1, of=len(entries), now_ms=now_ms))
    return 0


def _explained(reading: Reading, entry: Logged, now_ms: int) -> Explained:
    record = entry.record
    if record is None:
        return Explained(entry.entry_id, entry.raw, [], [], None, "the record cannot be read")
    raw, fate = msgspec.Raw(entry.raw.encode()), fate_of(reading, record, now_ms)
    was_halted = any(finding.name == not_halted.__name__ and not finding.ok for finding in record.checks)
    halts = halts_behind(reading, record.symbol, entry_ms(entry.entry_id)) if was_halted else []
    try:
        facts, policy = facts_of(record), policy_of(record)
        denied = record.outcome != "ALLOW"
        return Explained(entry.entry_id, raw, path_to_allow(facts, policy) if denied else [],
                         [] if denied else flips(facts, policy), fate, halts=halts)
    except (ValueError, ArithmeticError, KeyError) as error:
        return Explained(entry.entry_id, raw, [], [], fate, f"the decision cannot be taken again: {error}", halts)


def _unknown(reading: Reading, plan_id: str, *, as_json: bool) -> int:
    """No verdict: say what is known of the plan, if anything."""
    found = []
    for entry_id, _ in reading.messages(reading.plan_stream, plan_id):
        found.append({"where": reading.plan_stream, "entry_id": entry_id, "at_ms": entry_ms(entry_id)})
    for entry_id, rejected in reading.noted(keys.REJECTED):
        message = rejected.get("message")
        if isinstance(message, dict) and message.get("plan_id") == plan_id:
            found.append({"where": keys.REJECTED, "entry_id": entry_id, "at_ms": entry_ms(entry_id),
                          "reason": rejected.get("reason")})
    if as_json:
        paper.emit({"plan_id": plan_id, "verdicts": [], "found": found})
        return 1
    paper.note(f"no verdict on plan {plan_id}")
    for hit in found:
        said = f": {hit['reason']}" if hit.get("reason") else ""
        paper.note(f"  it is in {hit['where']} as {hit['entry_id']} ({moment(hit['at_ms'])}){said}")
    return 1


# -- drawing ----------------------------------------------------------------------------------------------------


def _drawn(entry: Logged, told: Explained, *, number: int, of: int, now_ms: int) -> Any:
    record = entry.record
    if record is None:
        return paper.cell(f"{entry.entry_id}: {told.problem}", paper.BAD)
    problem = paper.cell(told.problem, paper.BAD) if told.problem else None
    headline = _headline(record, told.halts, number, of, now_ms)
    return paper.page(headline, _checks(record), problem, _differ(told), _fate(told.fate))


def _headline(record: Record, halts: list[Halt], number: int, of: int, now_ms: int) -> Any:
    allowed = record.outcome == "ALLOW"
    verdict = f"ALLOW {record.safe_close_qty} {record.symbol}" if allowed else f"DENY {record.reason}"
    rows = [(paper.cell(verdict, paper.GOOD if allowed else paper.BAD), _meaning(record)),
            *(("halted", halt.words) for halt in halts),
            ("plan", f"{record.plan_id}: {plain(record.plan.get('action', ''))} of {record.symbol}, "
                     f"entry {record.stream_id}" + (f", verdict {number} of {of}" if of > 1 else "")),
            ("decided", f"{moment(record.times.decided_ms)}, {age(now_ms - record.times.decided_ms)} ago, "
                        f"{record.times.decided_ms - record.times.published_ms} ms after publication, "
                        f"by {record.instance} {record.version}"),
            ("accounts", f"exchange {_field(record.snapshot, 'position_amt')}, "
                         f"ledger {_field(record.ledger, 'last_known_amt')} (rev {_field(record.ledger, 'rev')})"),
            ("quantity", f"asked for {record.requested_qty or '-'}, may close {record.safe_close_qty or 'nothing'}")]
    return paper.pairs("", rows)


def _meaning(record: Record) -> str:
    if record.reason is None:
        return "every check passed"
    try:
        reason = Reason(record.reason)
    except ValueError:
        return "a reason this version does not know"
    return f"{reason.meaning} {reason.remedy}"


def _field(value: Any, name: str) -> str:
    held = value.get(name) if isinstance(value, dict) else None
    return "-" if held is None else plain(str(held))


def _checks(record: Record) -> Any:
    deciding = next((f.name for f in record.checks if not f.ok), "")
    rows = []
    for finding in record.checks:
        style = (paper.BAD if finding.name == deciding else "yellow") if not finding.ok else ""
        words = "✓ pass" if finding.ok else "✗ fail, decides" if finding.name == deciding else "✗ fail"
        rows.append([paper.cell(words, style or paper.GOOD), *(paper.cell(part, style) for part in (
            finding.name, seen(finding.name, finding.value), seen(finding.name, finding.threshold),
            seen(finding.name, finding.margin), finding.reason or ""))])
    return paper.table("Checks", ("", "check", "value", "threshold", "margin", "reason"), rows,
                       right=("value", "threshold", "margin"))


def _differ(told: Explained) -> Any:
    if told.differ:
        rows = [(step.check, step.needed, _then(step)) for step in told.differ]
        return paper.table("What would have had to differ", ("check", "needed", "then"), rows)
    if told.margins:
        rows = [(f.check, seen(f.check, f.margin), f.change, f"DENY {f.reason}" if f.proven else "still ALLOW")
                for f in told.margins]
        return paper.table("What would have turned it", ("check", "margin", "with", "then"), rows, right=("margin",))
    return None


def _then(step: Step) -> str:
    if step.then is None:
        return "cannot be computed"
    if not step.proven:
        return "not enough"
    return "ALLOW" if step.then == "ALLOW" else f"DENY {step.then}"


def _fate(fate: Fate | None) -> Any:
    if fate is None:
        return None
    rows = [("permit", fate.words)]
    if fate.taking:
        at_ms, by = fate.taking.get("entry_ms"), fate.taking.get("by", "nobody knows whom")
        rows.append(("taken", f"{moment(at_ms)} by {plain(str(by))}"))
    for result in fate.results:
        told = ", ".join(f"{k}={v}" for k, v in result.items() if k not in ("entry_id", "at_ms"))
        rows.append(("result", f"{moment(result['at_ms'])}: {told}"))
    return paper.pairs("", rows)
