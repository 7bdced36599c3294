"""`p33 decisions`: the verdicts, newest first, or counted by their reason with what to do about each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from ..core.reasons import Reason
from ..store.reading import Logged, entry_ms
from . import paper
from .session import Session
from .symbols import meant
from .units import age, moment, plain


class Filter(msgspec.Struct, frozen=True):
    """Which verdicts are meant. Empty: all."""

    symbol: str = ""
    outcome: str = ""
    reason: str = ""

    def holds(self, entry: Logged) -> bool:
        """Whether this verdict is meant."""
        if self.symbol and entry.fields.get("symbol") != self.symbol:
            return False
        if self.outcome and entry.fields.get("outcome") != self.outcome.upper():
            return False
        return not self.reason or (entry.record is not None and entry.record.reason == self.reason)


def meant_by(session: Session, *, symbol: str, outcome: str, reason: str) -> Filter:
    """What was typed, and a word on stderr about a name that nobody knows: of its verdicts there are seldom any."""
    if reason and reason not in list(Reason):
        paper.note(f"no reason {reason} is known here; docs/reasons.md lists them")
    return Filter(symbol=meant(session, symbol), outcome=outcome, reason=reason)


def chosen(session: Session, wanted: Filter, *, from_ms: int, to_ms: int | None,
           newest_first: bool = True) -> Iterator[Logged]:
    """The verdicts that are meant."""
    found = session.reading.decisions(from_ms=from_ms, to_ms=to_ms, newest_first=newest_first)
    return (entry for entry in found if wanted.holds(entry))


def listed(session: Session, wanted: Filter, *, from_ms: int, limit: int | None, as_json: bool) -> int:
    """Print the newest verdicts."""
    now_ms = session.reading.now_ms()
    found = list(islice(chosen(session, wanted, from_ms=from_ms, to_ms=None), limit))
    if as_json:
        paper.emit([_plainly(entry) for entry in found])
        return 0
    rows = [_row(entry, now_ms) for entry in found]
    columns = ("decided", "ago", "plan", "symbol", "action", "verdict", "reason or quantity", "latency")
    out = paper.console()
    out.print(paper.table("", columns, rows, right=("ago", "latency")) if rows else "No verdict in this range.")
    return 0


def counted(session: Session, wanted: Filter, *, from_ms: int, as_json: bool) -> int:
    """Print how often each reason decided, with its remedy."""
    counts: Counter[str] = Counter()
    symbols: dict[str, Counter[str]] = {}
    for entry in chosen(session, wanted, from_ms=from_ms, to_ms=None):
        name = "unreadable_record" if entry.record is None else entry.record.reason or "ALLOW"
        counts[name] += 1
        symbols.setdefault(name, Counter())[entry.fields.get("symbol", "")] += 1
    lines = [{"reason": name, "count": count, "symbols": dict(symbols[name].most_common(5)),
              "meaning": _text(name, "meaning"), "remedy": _text(name, "remedy")}
             for name, count in counts.most_common()]
    if as_json:
        paper.emit(lines)
        return 0
    rows = [(str(line["count"]), line["reason"], ", ".join(line["symbols"]), line["remedy"]) for line in lines]
    out = paper.console()
    out.print(paper.table("", ("count", "reason", "symbols", "what to do"), rows, right=("count",))
              if rows else "No verdict in this range.")
    return 0


def _text(name: str, which: str) -> str:
    try:
        return getattr(Reason(name), which)
    except ValueError:
        return {"ALLOW": "", "unreadable_record": "`p33 replay` lists records that were altered."}.get(name, "")


def _plainly(entry: Logged) -> dict[str, Any]:
    base = {"entry_id": entry.entry_id, **{k: v for k, v in entry.fields.items() if k != "json"}}
    if entry.record is None:
        return base | {"record": None}
    return base | {"reason": entry.record.reason, "record": msgspec.Raw(entry.raw.encode())}


def _row(entry: Logged, now_ms: int) -> tuple[Any, ...]:
    fields, record = entry.fields, entry.record
    outcome = fields.get("outcome", "")
    verdict = paper.cell(outcome, paper.GOOD if outcome == "ALLOW" else paper.BAD)
    at_ms = record.times.decided_ms if record else entry_ms(entry.entry_id)
    said = (record.reason or record.safe_close_qty or "") if record else "unreadable record"
    action = record.plan.get("action", "") if record else ""
    latency = f"{at_ms - record.times.published_ms} ms" if record else "-"
    return (moment(at_ms), age(now_ms - at_ms), fields.get("plan_id", ""), fields.get("symbol", ""), plain(action),
            verdict, said, latency)
