"""One canary plan through the whole path, watched to its end: verdict, permit by its bytes, the Apply Layer's result.

What may not happen here: a canary taken for fine because something of it could not be seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...core.permit import read_permit, signature_holds
from ...core.reasons import Reason, Refusal
from ...store import canary, keys
from ...store.connect import store_errors
from ...store.reading import entry_ms
from .. import paper
from ..session import Session
from ..units import plain

LOOK_EVERY_S: Final = 0.02
RIGHT: Final = frozenset({Reason.SYMBOL_NOT_ALLOWED, Reason.UNSUPPORTED_ACTION})


class Flown(msgspec.Struct, frozen=True):
    """What became of it. A problem is empty where there is none; `verdict_ms`, `result_ms`: after the publication."""

    plan_id: str
    at_ms: int
    permit_problem: str
    apply_problem: str
    verdict: str = ""
    verdict_ms: int | None = None
    signed: bool | None = None
    refusal: str = ""
    result_ms: int | None = None

    @property
    def ok(self) -> bool:
        return not (self.permit_problem or self.apply_problem)

    @property
    def problem(self) -> str:
        return self.permit_problem or self.apply_problem


def command(session: Session, *, wait_ms: int, as_json: bool) -> int:
    """`p33 proof --canary`: send one, leave a note for the alert, say how it fared. 0: as it should."""
    flown = fly(session, wait_ms=wait_ms)
    if as_json:
        paper.emit({"ok": flown.ok, "canary": flown})
    else:
        paper.console().print(paper.cell(in_words(flown), paper.GOOD if flown.ok else paper.BAD))
    return 0 if flown.ok else 1


def in_words(flown: Flown) -> str:
    """One line."""
    if not flown.ok:
        return f"canary {flown.plan_id}: {flown.problem}"
    return f"canary {flown.plan_id}: {permit_words(flown)}; {apply_words(flown)}"


def permit_words(flown: Flown) -> str:
    signed = {True: "signature holds", False: "", None: "signature not checked: no key here"}[flown.signed]
    return f"denied {flown.verdict} after {flown.verdict_ms} ms, {signed}"


def apply_words(flown: Flown) -> str:
    return f"BLOCKED by the Apply Layer ({flown.refusal}) after {flown.result_ms} ms"


def fly(session: Session, *, wait_ms: int) -> Flown:
    """Send one and watch it for up to `wait_ms`; the note is left whatever happened. Raises StoreUnavailable."""
    now_ms = session.reading.now_ms()
    plan_id, entry_id = canary.publish(session.redis, plan_stream=session.settings["P33_PLAN_STREAM"], now_ms=now_ms)
    ends_s = time.monotonic() + wait_ms / 1000
    permit = _Permit(session, plan_id, entry_ms(entry_id))
    result = _Result(session, plan_id, entry_ms(entry_id))
    _until(lambda: permit.seen() and result.seen(), ends_s)
    flown = Flown(plan_id, entry_ms(entry_id), permit.problem(), result.problem(), permit.verdict, permit.took_ms,
                  permit.signed, result.refusal, result.took_ms)
    canary.keep(session.redis, plan_id=plan_id, at_ms=session.reading.now_ms(), ok=flown.ok,
                detail=flown.problem or "ok")
    return flown


def _until(holds: Callable[[], object], ends_s: float) -> None:
    while not holds() and time.monotonic() < ends_s:
        time.sleep(LOOK_EVERY_S)


class _Permit:
    """The verdict on it: the record, and the permit as it stands in its key."""

    def __init__(self, session: Session, plan_id: str, sent_ms: int) -> None:
        self._session, self._plan_id, self._sent_ms = session, plan_id, sent_ms
        self.verdict, self.took_ms, self.signed = "", None, None
        self._raw = b""

    def seen(self) -> bool:
        """Look; the permit is kept as soon as there is one, before its life is over."""
        if not self._raw:
            with store_errors():
                self._raw = (self._session.redis.get(keys.permit(self._plan_id)) or "").encode()
        if not self.verdict:
            self._look_for_record()
        return bool(self._raw and self.verdict)

    def _look_for_record(self) -> None:
        for entry in self._session.reading.decisions(from_ms=self._sent_ms):
            if entry.fields.get("plan_id") == self._plan_id:
                self.verdict = entry.record.reason or "ALLOW" if entry.record else "unreadable record"
                self.took_ms = entry_ms(entry.entry_id) - self._sent_ms

    def problem(self) -> str:
        """What is wrong; also finds out whether the signature holds, where a key is known."""
        if not self.verdict:
            return "no verdict: is the sidecar running, on this plan stream?"
        permit = read_permit(self._raw)
        if permit is None:
            return "a verdict is recorded, but its permit cannot be read"
        if known := self._session.keys_known:
            self.signed = signature_holds(self._raw, known)
        if self.verdict == "ALLOW" or permit.allow:
            return "it was ALLOWED: halt the gate and find out why"
        if self.verdict not in RIGHT or permit.reason != self.verdict:
            return plain(f"denied {self.verdict} (the permit says {permit.reason}), not unsupported_action")
        return "its permit is not signed with our key" if self.signed is False else ""


class _Result:
    """The Apply Layer's answer to it."""

    def __init__(self, session: Session, plan_id: str, sent_ms: int) -> None:
        self._session, self._plan_id, self._sent_ms = session, plan_id, sent_ms
        self.refusal, self.took_ms = "", None
        self._fields: dict[str, str] | None = None

    def seen(self) -> bool:
        if self._fields is None:
            stream = self._session.settings["P33_RESULT_STREAM"]
            found = self._session.reading.messages(stream, self._plan_id, from_ms=self._sent_ms)
            if found:
                self.took_ms, self._fields = entry_ms(found[0][0]) - self._sent_ms, found[0][1]
                self.refusal = plain(_step(self._fields).get("refusal") or self._fields.get("error", ""))
        return self._fields is not None

    def problem(self) -> str:
        if self._fields is None:
            return "no result: is the Apply Layer running, on these streams?"
        executed = self._fields.get("executed", "").lower() in ("true", "1")
        if executed or self._fields.get("decision") != "BLOCKED":
            return plain(f"the Apply Layer says {self._fields.get('decision')} executed={self._fields.get('executed')}")
        if self.refusal in (Refusal.FORGED_PERMIT, Refusal.INVALID_PERMIT_TYPE):
            return f"the Apply Layer refuses the sidecar's permits ({self.refusal}): have both the same key?"
        return ""


def _step(fields: dict[str, str]) -> dict[str, Any]:
    try:
        return msgspec.json.decode(fields.get("steps_results", ""), type=list[dict[str, Any]])[0]
    except (msgspec.MsgspecError, IndexError):
        return {}
