"""`p33 status` and `p33 watch`: one look at everything, drawn once or again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from ..errors import StoreUnavailable
from . import paper
from .session import Session
from .status import Overview, overview
from .units import age, moment, signed


def show(session: Session, *, as_json: bool, everything: bool) -> int:
    """Print one look. 0: ready."""
    seen = overview(session, everything=everything)
    if as_json:
        paper.emit(seen)
    else:
        paper.console().print(draw(seen))
    return 0 if seen.ready else 1


def watch(session: Session, *, every_s: float, count: int | None, everything: bool) -> int:
    """Look again and again until Ctrl-C or `count` times; a server that goes away is said, and waited for."""
    console = paper.console()
    first = draw(overview(session, everything=everything))
    try:
        if console.is_terminal:
            _live(session, console, first, every_s=every_s, count=count, everything=everything)
        else:
            _snapshots(session, console, first, every_s=every_s, count=count, everything=everything)
    except KeyboardInterrupt:
        pass
    return 0


def _live(session: Session, console, first, *, every_s: float, count: int | None, everything: bool) -> None:
    from rich.live import Live
    with Live(first, console=console, screen=False, auto_refresh=False) as live:
        live.refresh()
        for drawn in _looks(session, every_s=every_s, count=count, everything=everything):
            live.update(drawn, refresh=True)


def _snapshots(session: Session, console, first, *, every_s: float, count: int | None, everything: bool) -> None:
    console.print(first)
    for drawn in _looks(session, every_s=every_s, count=count, everything=everything):
        console.print("", drawn, sep="\n")
        console.file.flush()


def _looks(session: Session, *, every_s: float, count: int | None, everything: bool) -> Iterator[Any]:
    """What is drawn after the first look."""
    done = 1
    while count is None or done < count:
        time.sleep(every_s)
        done += 1
        try:
            yield draw(overview(session, everything=everything))
        except StoreUnavailable as gone:
            yield paper.cell(f"Redis does not answer: {gone}", paper.BAD)


# -- drawing ----------------------------------------------------------------------------------------------------


def draw(seen: Overview) -> Any:
    """One look, for people."""
    return paper.page(_headline(seen), _warning_lines(seen), _symbols_table(seen), _verdicts_table(seen))


def _headline(seen: Overview) -> Any:
    sidecar = seen.sidecar
    word = "READY" if seen.ready else "NOT READY"
    if sidecar.ready is None:
        says = f"no answer from {sidecar.address} ({sidecar.error})"
    else:
        says = ", ".join(sidecar.reasons) or ("ready" if sidecar.ready else "not ready")
    waiting = f"{seen.plans['pending']} being evaluated, {seen.plans['unread'] or 0} unread"
    venue = seen.store["venue"] or "not claimed yet"
    return paper.pairs("", [(paper.cell(word, paper.GOOD if seen.ready else paper.BAD), moment(seen.at_ms)),
                            ("sidecar", says), ("exchange", venue), ("plans", waiting)])


def _warning_lines(seen: Overview) -> Any:
    lines = [f"warning: {words}" for words in seen.warnings]
    for symbol, said in sorted(seen.halts.items()):
        until = said.get("until_ms")
        lines.append(f"halted {symbol or 'everything'}: {said.get('reason') or 'no reason given'}"
                     f" (by {said.get('by', 'hand')}, since {moment(said.get('since_ms'))}"
                     + (f", until {moment(until)})" if until else ")"))
    return paper.lines(lines, "yellow") if lines else None


def _symbols_table(seen: Overview) -> Any:
    rows = [(s["symbol"], s["exchange_amt"] or "-", s["ledger_amt"] or "-",
             paper.cell(signed(Decimal(s["difference"])) if s["difference"] else "-",
                        paper.BAD if s["difference"] not in (None, "0") else ""),
             age(s["snapshot_age_ms"]), age(s["last_order_age_ms"]),
             f"{s['phase']} {s['plan_id'] or ''}".rstrip(), paper.cell(", ".join(s["flags"]), paper.BAD))
            for s in seen.symbols]
    columns = ("symbol", "exchange", "ledger", "off by", "seen", "last order", "state", "flags")
    if not rows:
        return paper.cell("No symbol is known yet.")
    return paper.table("Positions", columns, rows, right=columns[1:6])


def _verdicts_table(seen: Overview) -> Any:
    rows = [(age(v["age_ms"]), v["plan_id"], v["symbol"],
             paper.cell(v["outcome"], paper.GOOD if v["outcome"] == "ALLOW" else paper.BAD),
             v["reason"] or v["safe_close_qty"] or "") for v in seen.verdicts]
    return paper.table("Last verdicts", ("ago", "plan", "symbol", "verdict", "reason or quantity"), rows,
                       right=("ago",)) if rows else paper.cell("No verdict yet.")
