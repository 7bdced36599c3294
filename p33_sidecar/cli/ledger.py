"""`p33 ledger show|adopt|adjust`: what a book says beside the exchange, and a person setting it right."""

from __future__ import annotations

from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from ..core.quantity import text
from ..store import keys
from ..store.books import BookStore, Unsettled
from ..store.reading import Standing
from ..store.settling import Person, Settled, Settler, SettlingRefused, not_free
from . import paper
from .session import Session, person
from .symbols import meant
from .units import age, amount, moment, plain, signed

JOURNAL_LINES = 10


# -- show -------------------------------------------------------------------------------------------------------


def show(session: Session, symbol: str, *, as_json: bool) -> int:
    """Print one book, or all that are not flat on both sides. 1: the symbol has none."""
    if not symbol:
        return _show_all(session, as_json=as_json)
    return _show_one(session, meant(session, symbol), as_json=as_json)


def _show_one(session: Session, symbol: str, *, as_json: bool) -> int:
    standing = session.reading.standing(symbol)
    books = BookStore(session.redis, result_stream=session.reading.result_stream)
    orders = [o for o in books.unsettled() if o.symbol == symbol]
    journal = list(islice((entry for _, entry in session.reading.noted(
        keys.JOURNAL, newest_first=True, symbol=symbol)), JOURNAL_LINES))
    blocked = not_free(standing, session.policy, orders=orders)
    known = standing.line.book is not None
    if as_json:
        paper.emit(_plainly(standing) | {"unsettled_orders": orders, "not_free": blocked, "journal": journal})
    elif known or standing.snapshot or standing.line.ver:
        paper.console().print(_drawn(standing, orders, journal, blocked))
    if not known and not as_json:
        paper.note(f"there is no book for {symbol}")
    return 0 if known else 1


def _show_all(session: Session, *, as_json: bool) -> int:
    standings = session.reading.standings(session.reading.symbols())
    if as_json:
        paper.emit([_plainly(s) for s in standings])
        return 0
    shown = [s for s in standings if not s.flat or s.tampered or s.gap]
    rows = [(s.symbol, amount(s.exchange_amt), amount(s.line.book.amt if s.line.book else None), signed(s.difference),
             str(s.line.book.rev) if s.line.book else "-", s.line.book.source if s.line.book else "-",
             age(s.order_age_ms), paper.cell(", ".join(_flags(s)), paper.BAD)) for s in shown]
    columns = ("symbol", "exchange", "ledger", "difference", "rev", "source", "last order", "flags")
    out = paper.console()
    if rows:
        out.print(paper.table("", columns, rows, right=("exchange", "ledger", "difference", "rev", "last order")))
    out.print(f"{len(standings) - len(rows)} symbols are flat on both sides." if standings else "There is no book yet.")
    return 0


def _flags(standing: Standing) -> list[str]:
    named = (("tampered", standing.tampered), ("gap", standing.gap), ("unsettled", bool(standing.line.unsettled)),
             ("view missing", standing.view == "missing"), ("unreadable", bool(standing.unreadable)),
             ("no book", standing.line.book is None), ("no snapshot", standing.snapshot is None))
    return [name for name, holds in named if holds]


def _plainly(standing: Standing) -> dict[str, Any]:
    book, snapshot = standing.line.book, standing.snapshot
    return {
        "symbol": standing.symbol, "at_ms": standing.now_ms,
        "book": None if book is None else {
            "amt": text(book.amt), "rev": book.rev, "source": book.source, "last_order_id": book.last_order_id,
            "last_order_ms": book.last_order_ms, "opened_ms": book.opened_ms},
        "exchange": None if snapshot is None else {
            "amt": None if snapshot.amt is None else text(snapshot.amt), "ts_ms": snapshot.ts_ms,
            "age_ms": standing.snapshot_age_ms, "side": snapshot.side},
        "difference": None if standing.difference is None else text(standing.difference),
        "view": standing.view, "tampered": standing.tampered, "gap": standing.gap,
        "unsettled": standing.line.unsettled, "ver": standing.line.ver, "unreadable": standing.unreadable or None,
    }


def _drawn(standing: Standing, orders: list[Unsettled], journal: list[dict], blocked: list[str]) -> Any:
    book, snapshot = standing.line.book, standing.snapshot
    view = {"ok": "as the book says", "missing": "missing; the sidecar rebuilds it from the book",
            "changed": "changed by somebody else"}.get(standing.view, standing.view)
    seen = f"{amount(standing.exchange_amt)} ({age(standing.snapshot_age_ms)} ago)"
    rows = [
        ("exchange", seen if snapshot else "unknown"),
        ("ledger", f"{text(book.amt)} (rev {book.rev}, {book.source})" if book else "no book"),
        ("difference", signed(standing.difference)),
        ("last order", f"{plain(book.last_order_id) or '-'}, {moment(book.last_order_ms)}" if book else "-"),
        ("hash", paper.cell(view, "" if standing.view == "ok" else paper.BAD)),
        ("doubts", paper.cell(", ".join(_flags(standing)) or "none", paper.BAD if _flags(standing) else "")),
        ("state", "; ".join(blocked) or "free"),
    ]
    rows += [("unsettled", f"order {o.order_id or o.key} of plan {o.plan_id}, {o.side}, since {moment(o.since_ms)}")
             for o in orders]
    return paper.page(paper.pairs(standing.symbol, rows), _journal(journal))


def _journal(journal: list[dict]) -> Any:
    rows = [(moment(e.get("at_ms")), str(e.get("rev", "")), e.get("cause", ""), e.get("amt_before") or "-",
             e.get("delta", ""), e.get("amt_after") or "-", e.get("order_id") or "-", e.get("by", ""),
             e.get("why") or e.get("anomaly") or "") for e in journal]
    columns = ("at", "rev", "cause", "before", "change", "after", "order", "by", "why")
    return paper.table("Journal, newest first", columns, rows, right=("rev", "before", "change", "after"))


# -- adopt and adjust -------------------------------------------------------------------------------------------


def settle(session: Session, symbol: str, amt: Decimal | None, *, reason: str, force: bool, as_json: bool) -> int:
    """Adopt the exchange's amount, or the given one, with who and why. 1: refused, nothing was changed."""
    symbol = meant(session, symbol)
    settler = Settler(session.redis, reading=session.reading, policy=session.policy)
    who = Person(by=person(), why=reason)
    try:
        if amt is None:
            settled = settler.adopt(symbol, person=who, force=force)
        else:
            settled = settler.adjust(symbol, amt, person=who, force=force)
    except SettlingRefused as refused:
        return _refused(refused, symbol, as_json=as_json)
    if as_json:
        paper.emit({"ok": True} | msgspec.to_builtins(settled))
    else:
        paper.console().print(_settled(settled))
    return 0


def _refused(refused: SettlingRefused, symbol: str, *, as_json: bool) -> int:
    if as_json:
        paper.emit({"ok": False, "symbol": symbol, "reasons": refused.reasons, "forcible": refused.forcible})
        return 1
    paper.note(f"the book of {symbol} was not changed:")
    for reason in refused.reasons:
        paper.note(f"  {reason}")
    if refused.forcible:
        paper.note("  wait until the symbol is free, or --force if you know that no order of ours is on its way")
    return 1


def _settled(done: Settled) -> Any:
    also = [words for words, holds in (
        ("the hash that somebody changed is rewritten", done.was_tampered), ("the gap is settled", done.was_gap),
        (f"orders given up: {', '.join(done.orders_settled)}", bool(done.orders_settled)),
        (f"forced over: {'; '.join(done.overruled)}", bool(done.overruled))) if holds]
    said = f"{done.symbol}: {done.amt_before or 'no book'} → {done.amt_after} (rev {done.rev}), journalled"
    return paper.lines([said, *also])
