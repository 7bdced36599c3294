"""`p33 halt` and `p33 resume`: the kill switches, global or of a symbol, with who and why."""

from __future__ import annotations

from ..store import switches
from . import paper
from .session import Session, person
from .symbols import meant
from .units import moment


def halt(session: Session, symbol: str, *, reason: str, for_ms: int, as_json: bool) -> int:
    """Set the switch; open permits under it are withdrawn in the same step."""
    symbol = meant(session, symbol)
    at_ms, by = session.reading.now_ms(), person()
    withdrawn = switches.halt(session.redis, symbol=symbol, by=by, reason=reason, at_ms=at_ms, for_ms=for_ms)
    until_ms = at_ms + for_ms if for_ms else None
    if as_json:
        paper.emit({"halted": symbol or "*", "by": by, "reason": reason, "since_ms": at_ms, "until_ms": until_ms,
                    "withdrawn": withdrawn})
        return 0
    until = f"until {moment(until_ms)}" if until_ms else "until `p33 resume`" + (f" {symbol}" if symbol else "")
    out = paper.console()
    out.print(paper.cell(f"{symbol or 'Everything'} is halted {until}."))
    out.print(paper.cell(f"Withdrawn: the open permits of {', '.join(withdrawn)}." if withdrawn
                         else "No permit was open."))
    out.print("What was taken before is on its way to the exchange.")
    return 0


def resume(session: Session, symbol: str, *, as_json: bool) -> int:
    """Lift the switch; says which others still hold."""
    symbol = meant(session, symbol)
    lifted = switches.resume(session.redis, symbol=symbol, by=person(), at_ms=session.reading.now_ms())
    left = switches.halts(session.redis)
    if as_json:
        paper.emit({"resumed": symbol or "*", "was_halted": lifted, "still_halted": sorted(s or "*" for s in left)})
        return 0
    out = paper.console()
    out.print(paper.cell(f"{symbol or 'Everything'} " + ("is no longer halted." if lifted else "was not halted.")))
    for name in sorted(left):
        out.print(paper.cell(f"Still halted: {name or 'everything'}: {left[name].get('reason') or 'no reason given'}",
                             "yellow"))
    return 0
