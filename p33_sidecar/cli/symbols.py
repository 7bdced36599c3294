"""The symbol a person means: a switch on `btcusdt` would hold nothing up, while its setter believes that it does.

What may not happen here: a kill switch that cannot be set because something else cannot be read. A name that nobody
knows is taken as it was typed, and said to be unknown.
"""

from __future__ import annotations

import redis

from ..store import keys
from ..store.connect import store_errors
from . import paper
from .session import Session


def meant(session: Session, typed: str) -> str:
    """`typed` where the gate knows it, or nothing like it; else the known symbol that differs in case alone."""
    if not typed or _known(session, typed):
        return typed
    if _known(session, typed.upper()):
        paper.note(f"{typed} is taken for {typed.upper()}")
        return typed.upper()
    paper.note(f"no symbol {typed} is known here; check its spelling")
    return typed


def _known(session: Session, symbol: str) -> bool:
    """Whether it is listed at the exchange or in the settings, was met, or has a switch of its own."""
    if symbol in (session.settings["P33_ALLOWLIST"] or ()):
        return True
    with store_errors():
        if session.redis.exists(keys.book(symbol), keys.snapshot(symbol), keys.halt(symbol)):
            return True
        try:
            return bool(session.redis.hexists(keys.FILTERS, symbol))
        except redis.ResponseError:
            return False
