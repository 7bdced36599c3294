"""The gate, as an Apply Layer imports it: take both permits of a plan, or learn why not.

    gate = Gate("redis://localhost", key=(KEY,), venue="demo-fapi.binance.com", by="apply-1")
    match gate.take("f1a8d7f48713d5cf", "BTCUSDT", entry_ms=1769301008976):
        case Taken(permit=permit): ...send permit.safe_close_qty, permit.close_side, before permit.expires_ms
        case Refused() as no: ...block the order and report no.named

What may not happen here: a permit given out that was not verified on its very bytes; a key deleted on a refusal; an
answer other than a refusal when Redis does not answer. Source of the order of refusals: contract, chapter 4.

Two things end the wait only if they speak of this publication of the plan: a denial, and a permit that ended
(`withdrawn`, `facts_changed`). Those issued before the entry being handled belong to an earlier one, whose successor
may be a millisecond behind (timeline T15).
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from .core.permit import Permit, read_permit, signature_holds, usable_keys
from .core.plan import plan_id_of, symbol_of
from .core.reasons import Refusal
from .errors import StoreUnavailable
from .store.connect import Link
from .store.takings import WRONG_TYPE, Claim, Reading, Takings

log = logging.getLogger("p33.gate")

WAIT_MS: Final = 1200
PATIENCE_MS: Final = 1000
"""How long one answer of Redis is waited for."""
MOVED_TRIES: Final = 20
POLLS_MS: Final = (2, 2, 4, 8, 16, 25)
"""Between two looks while only the Governor's permit is missing, whose writer wakes nobody; the last holds on."""
BLOCK_MS: Final = 50
"""How long the stream is waited for at a time. An idle server ends a blocking read late, by up to 100 ms (its `hz`)."""
GOVERNORS: Final = frozenset({Refusal.MISSING_GOVERNOR_PERMIT, Refusal.GOVERNOR_DENIED})

ENDS: Final = frozenset({
    Refusal.REDIS_UNAVAILABLE, Refusal.ALREADY_CONSUMED, Refusal.HALTED, Refusal.RECONCILE_HOLD_ACTIVE,
    Refusal.GOVERNOR_DENIED, Refusal.P33_DENIED, Refusal.WITHDRAWN, Refusal.FACTS_CHANGED,
})
"""Refusals that no waiting mends. All others may be mended by the permit that is still on its way."""
OF_A_PERMIT: Final = frozenset({Refusal.WITHDRAWN, Refusal.FACTS_CHANGED})
"""These end the wait only where the permit was issued for the entry being handled."""
REPORTED: Final = frozenset({Refusal.FORGED_PERMIT, Refusal.INVALID_PERMIT_TYPE})


class Taken(msgspec.Struct, frozen=True):
    """Both permits are ours. `permit` is None only where the Governor's alone was taken. Times are the server's ms."""

    plan_id: str
    symbol: str
    permit: Permit | None
    token: str
    taken_ms: int
    waited_ms: int = 0


class Free(msgspec.Struct, frozen=True):
    """Both permits are there and could be taken; nothing was."""

    permit: Permit | None
    waited_ms: int = 0


class Refused(msgspec.Struct, frozen=True):
    """Neither permit was touched. `reason` is p33's own where it denied; `detail` is for people."""

    refusal: Refusal
    reason: str = ""
    detail: str = ""
    waited_ms: int = 0
    final: bool = True
    """Whether waiting could not have mended it."""

    @property
    def named(self) -> str:
        """The refusal as it stands in results: `p33_denied:<reason>` names the reason, too."""
        return f"{self.refusal}:{self.reason}" if self.reason else str(self.refusal)


class Forgery(msgspec.Struct, frozen=True):
    """Something at a permit's key that the sidecar did not write. Reported once for each value."""

    plan_id: str
    symbol: str
    refusal: Refusal


Intent = Callable[[Permit | None, int], bytes]
"""Makes the note of the order about to be sent from the permit and the server's ms; kept in the same step."""


class Gate:
    """Takes permit pairs over one connection. For one thread; `close()` it.

    `key`: the signing keys in force, all of them valid while one is replaced by another; (): nothing is verified.
    `venue`: the exchange's `host[:port]` the order would go to. `by`: who takes, for the record.
    `stopping`: asked while waiting; once it says so the last answer stands.
    """

    def __init__(self, where: str | Link, *, key: tuple[bytes, ...], venue: str, by: str = "apply",
                 on_forgery: Callable[[Forgery], None] | None = None,
                 stopping: Callable[[], bool] = lambda: False) -> None:
        self._link = where if isinstance(where, Link) else Link(where, name=by, decode=False,
                                                                timeout_s=PATIENCE_MS / 1000)
        self._takings = Takings(self._link, patience_ms=PATIENCE_MS)
        self._keys, self._venue, self._by = usable_keys(key), venue, by
        self._on_forgery, self._stopping = on_forgery or (lambda forgery: None), stopping
        self._reported: tuple[str, bytes | None] | None = None

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def take(self, plan_id: str, symbol: str, *, entry_ms: int, wait_ms: int = WAIT_MS, token: str = "",
             intent: Intent | None = None) -> Taken | Refused:
        """Take both permits in one step, waiting up to `wait_ms` for them.

        `entry_ms`: when the plan entry being handled was published (its stream id). A `token` of an earlier call gets
        that call's answer. Raises MessageRefused for ids that no permit can have; nothing else.
        """
        return self._ask(_Question(plan_id, symbol, entry_ms, token or new_token(), True, False, intent), wait_ms)

    def take_governor(self, plan_id: str, symbol: str, *, entry_ms: int, wait_ms: int = WAIT_MS, token: str = "",
                      intent: Intent | None = None) -> Taken | Refused:
        """The rollback to Governor-only mode: take the Governor's permit alone."""
        return self._ask(_Question(plan_id, symbol, entry_ms, token or new_token(), False, False, intent), wait_ms)

    def look(self, plan_id: str, symbol: str, *, entry_ms: int, wait_ms: int = WAIT_MS,
             both: bool = True) -> Free | Refused:
        """What taking would say; takes nothing."""
        return self._ask(_Question(plan_id, symbol, entry_ms, new_token(), both, True, None), wait_ms)

    def _ask(self, question: _Question, wait_ms: int) -> Taken | Free | Refused:
        plan_id_of(question.plan_id), symbol_of(question.symbol)
        started_ns = time.monotonic_ns()
        waited_ms = polls = 0
        try:
            reading = self._takings.read(question.plan_id, question.symbol)
            answer = self._answer(question, reading)
            while isinstance(answer, Refused) and not answer.final and waited_ms < wait_ms and not self._stopping():
                polls = polls + 1 if _only_the_governor_is_awaited(question, reading, answer) else 0
                reading = self._next(question, polls, wait_ms - waited_ms)
                answer = self._answer(question, reading)
                waited_ms = (time.monotonic_ns() - started_ns) // 1_000_000
        except StoreUnavailable as error:
            answer = Refused(Refusal.REDIS_UNAVAILABLE, detail=str(error))
        return msgspec.structs.replace(answer, waited_ms=waited_ms)

    def _next(self, question: _Question, polls: int, left_ms: int) -> Reading:
        """The next look: after a pause where nobody would wake us, else with the next verdict."""
        if not polls:
            return self._takings.read_next(question.plan_id, question.symbol, at_most_ms=min(BLOCK_MS, left_ms))
        time.sleep(min(POLLS_MS[min(polls, len(POLLS_MS)) - 1], left_ms) / 1000)
        return self._takings.read(question.plan_id, question.symbol)

    def _answer(self, question: _Question, reading: Reading) -> Taken | Free | Refused:
        """What was read, judged, and taken if nothing speaks against it; read again where it moved in between."""
        for _ in range(MOVED_TRIES):
            if reading.mark is not None:
                return self._first_answer(question, reading.mark)
            judged = judge(reading, question, keys=self._keys, venue=self._venue)
            if isinstance(judged, Refused):
                self._report(question, reading, judged)
                return judged
            if answer := self._settle(question, reading, judged):
                return answer
            reading = self._takings.read(question.plan_id, question.symbol)
        return Refused(Refusal.MISSING_P33_PERMIT, detail="the permits kept changing", final=False)

    def _settle(self, question: _Question, reading: Reading, permit: Permit | None) -> Taken | Free | Refused | None:
        """Take, or look, by what was read. None: it is not there any more."""
        note = question.intent(permit, reading.now_ms) if question.intent else b""
        claim = Claim(question.plan_id, question.symbol, question.token, self._by, reading, permit, note)
        said = self._takings.look(claim) if question.only_look else self._takings.take(claim)
        match said.word:
            case "taken":
                return Taken(question.plan_id, question.symbol, permit, question.token, said.at_ms)
            case "free":
                return Free(permit)
            case "changed":
                return None
        refusal = Refusal(said.word)
        earlier = permit is not None and permit.issued_ms < question.entry_ms
        return Refused(refusal, final=refusal in ENDS and not (refusal in OF_A_PERMIT and earlier))

    def _first_answer(self, question: _Question, mark: bytes) -> Taken | Refused:
        """The plan was taken. By this very taker: then its first answer, from the record."""
        nonce, _, token = mark.partition(b" ")
        if token == question.token.encode():
            if nonce == b"governor":
                return Taken(question.plan_id, question.symbol, None, question.token, 0)
            if found := self._takings.taken_permit(question.plan_id, mark):
                return Taken(question.plan_id, question.symbol, found[0], question.token, found[1])
        return Refused(Refusal.ALREADY_CONSUMED)

    def _report(self, question: _Question, reading: Reading, refused: Refused) -> None:
        """A forged or wrong-typed permit is somebody's doing: said once for each value."""
        deed = (question.plan_id, reading.permit)
        if refused.refusal not in REPORTED or deed == self._reported:
            return
        self._reported = deed
        log.error("permit.forged", extra={"fields": {
            "gate": "P3.3", "plan_id": question.plan_id, "symbol": question.symbol, "refusal": refused.refusal}})
        self._on_forgery(Forgery(question.plan_id, question.symbol, refused.refusal))


def new_token() -> str:
    """A taker's token: who holds it gets the first answer again."""
    return secrets.token_hex(16)


class _Question(msgspec.Struct, frozen=True):
    """What is asked for. `entry_ms`: denials issued before it answer an earlier publication of the plan."""

    plan_id: str
    symbol: str
    entry_ms: int
    token: str
    both: bool
    only_look: bool
    intent: Intent | None


def _only_the_governor_is_awaited(question: _Question, reading: Reading, refused: Refused) -> bool:
    """Whether ours is there, or not asked for: its record has woken us and will not again."""
    return refused.refusal in GOVERNORS and (reading.permit is not None or not question.both)


class _Governor(msgspec.Struct):
    """The Governor's permit. One that says when it was issued may be an answer to an earlier publication."""

    granted: bool = False
    issued_ms: Any = None

    def earlier_than(self, entry_ms: int) -> bool:
        return isinstance(self.issued_ms, int) and self.issued_ms < entry_ms


_GOVERNOR: Final = msgspec.json.Decoder(_Governor)


def judge(reading: Reading, question: _Question, *, keys: tuple[bytes, ...], venue: str) -> Permit | None | Refused:
    """The first thing that speaks against taking what was read, else our permit (None where it is not asked for)."""
    if reading.halted:
        return Refused(Refusal.HALTED)
    if reading.held:
        return Refused(Refusal.RECONCILE_HOLD_ACTIVE)
    if reading.governor is None:
        return Refused(Refusal.MISSING_GOVERNOR_PERMIT, final=False)
    if (said := _governor(reading.governor)) is None or not said.granted:
        return Refused(Refusal.GOVERNOR_DENIED, final=said is None or not said.earlier_than(question.entry_ms))
    return _judge_ours(reading, question, keys, venue) if question.both else None


def _governor(raw: bytes) -> _Governor | None:
    """Only a JSON object that says `granted` true is a permit; everything else the Governor's key may hold denies."""
    try:
        return None if raw == WRONG_TYPE else _GOVERNOR.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _judge_ours(reading: Reading, question: _Question, keys: tuple[bytes, ...], venue: str) -> Permit | Refused:
    raw = reading.permit
    if raw is None:
        return Refused(Refusal.MISSING_P33_PERMIT, final=False)
    permit = None if raw == WRONG_TYPE else read_permit(raw)
    if permit is None:
        return Refused(Refusal.INVALID_PERMIT_TYPE, final=False)
    if keys and not signature_holds(raw, keys):
        return Refused(Refusal.FORGED_PERMIT, final=False)
    if not permit.allow and permit.issued_ms < question.entry_ms:
        return Refused(Refusal.MISSING_P33_PERMIT, detail=f"an earlier denial: {permit.reason}", final=False)
    if not permit.allow:
        return Refused(Refusal.P33_DENIED, reason=permit.reason)
    for wrong, holds in ((Refusal.EXPIRED_PERMIT, reading.now_ms >= permit.expires_ms),
                         (Refusal.PLAN_MISMATCH, permit.plan_id != question.plan_id),
                         (Refusal.SYMBOL_MISMATCH, permit.symbol != question.symbol),
                         (Refusal.VENUE_MISMATCH, permit.venue != venue),
                         (Refusal.INVALID_QUANTITY, not _closes(permit))):
        if holds:
            return Refused(wrong, final=False)
    return permit


def _closes(permit: Permit) -> bool:
    """Whether the order it allows closes at most the position it names, and opens nothing."""
    amt = permit.exchange_position_amt
    side = "SELL" if amt > 0 else "BUY"
    return 0 < permit.safe_close_qty <= abs(amt) and permit.close_side == side
