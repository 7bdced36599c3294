"""`p33 halt` and `p33 resume`: the kill switches, global or of a symbol, with who and why."""

from __future__ import annotations

from ..store import switches
from . import paper
from .session import Session, person
from .symbols import meant
from .units import moment


def halt(session: Session, symbol: str, *, reason: str, for_ms: int, as_json: bool) -> int:
    """Set the switch; open permits under it are withdrawn in the same step. One that lasts longer already stays."""
    symbol = meant(session, symbol)
    done = switches.halt(session.redis, symbol=symbol, by=person(), reason=reason, at_ms=session.reading.now_ms(),
                         for_ms=for_ms)
    said = {name: done.said.get(name) for name in ("by", "reason", "since_ms", "until_ms")}
    if as_json:
        paper.emit({"halted": symbol or "*", **said, "withdrawn": done.withdrawn, "stood_already": not done.is_new})
        return 0
    lift = "`p33 resume" + (f" {symbol}`" if symbol else "`")
    until = f"until {moment(said['until_ms'])}" if said["until_ms"] else f"until {lift}"
    out = paper.console()
    out.print(paper.cell(f"{symbol or 'Everything'} is halted {until}."))
    if not done.is_new:
        out.print(paper.cell(f"That is the switch of {said['by'] or 'an unknown hand'} "
                             f"({said['reason'] or 'no reason given'}): it stood already and lasts longer than yours. "
                             f"To end it sooner, {lift} first.", "yellow"))
    out.print(paper.cell(f"Withdrawn: the open permits of {', '.join(done.withdrawn)}." if done.withdrawn
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
