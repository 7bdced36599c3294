"""Which findings are worth a message, and which were told already: once each, however often they are audited."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from p33_pipeline.audit.findings import ERRORS, Audit
from p33_pipeline.checks import is_material
from p33_pipeline.errors import HistoryUnreadable
from p33_pipeline.history import History
from p33_pipeline.ranges import iso
from p33_pipeline.render.page import amount, usdt
from p33_pipeline.webhook import Message

NOTE = "audits/told.json"
REMEMBERED = 20_000


def errors_of(audit: Audit, *, link: str) -> dict[str, Message]:
    """Every finding of error severity as a message, by what makes it the same finding in every audit."""
    found: dict[str, Message] = {}
    for f in audit.flow:
        if f.finding in ERRORS:
            key = f"{f.finding} {f.symbol} {f.plan_id} {f.order_id} {f.at_ms}"
            found[key] = _message(f"{f.finding} on {f.symbol}", iso(f.at_ms), f.detail, link)
    for b in audit.breaks:
        if is_material(b):
            much = f"{amount(b.max_difference)} ({usdt(b.notional)} USDT)"
            found[f"break {b.break_id}"] = _message(f"{b.kind} break on {b.symbol}", iso(b.opened_ms), much, link)
    return found


def untold(history: History, found: dict[str, Message]) -> dict[str, Message]:
    """Those that were not told yet. Raises HistoryUnreadable."""
    told = set(_told(history))
    return {key: message for key, message in found.items() if key not in told}


def remember(history: History, keys: Iterable[str]) -> None:
    """Note what was told; the oldest are forgotten beyond REMEMBERED."""
    noted = [*_told(history), *keys]
    history.place.write(NOTE, msgspec.json.encode(noted[-REMEMBERED:]))


def _told(history: History) -> list[str]:
    raw = history.place.read(NOTE)
    try:
        return msgspec.json.decode(raw, type=list[str]) if raw is not None else []
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HistoryUnreadable(f"{NOTE} at {history.place} cannot be read: delete it; open errors are told again"
                                ) from error


def _message(what: str, since: str, how_much: str, link: str) -> Message:
    return Message(f"p33: {what} since {since}: {how_much} · {link}", what, since, how_much, link)
