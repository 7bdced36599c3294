"""The Apply Layer's side of the store: what there is of a permit pair, taking it, and waiting for it.

What may not happen here: a judgement. What was read is handed on as it is; a key that holds another type of value
reads as `WRONG_TYPE` and never raises. Works on a bytes connection: permits are compared by their very bytes.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
import redis

from ..core.permit import Permit, read_permit
from ..core.quantity import text
from ..errors import StoreUnavailable
from . import keys, scripts
from .connect import Link, store_errors

SEARCHED_TAKINGS: Final = 512
WRONG_TYPE: Final = b"\x00wrong type"
"""Stands for a value that is no string, as lua/pair.lua says it. No permit begins with NUL."""
_ENCODE = msgspec.json.Encoder().encode


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One look at a pair. `now_ms` is the server's time, `mono_ns` ours at that moment; None: there is no such key."""

    now_ms: int
    mono_ns: int
    mark: bytes | None
    halted: bool
    held: bool
    governor: bytes | None
    permit: bytes | None


class Word(msgspec.Struct, frozen=True, gc=False):
    """A script's answer and when it was given (server's ms)."""

    word: str
    at_ms: int


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Who takes what: all that the taking step is given. `permit` is None where only the Governor's counts."""

    plan_id: str
    symbol: str
    token: str
    by: str
    reading: Reading
    permit: Permit | None = None
    intent: bytes = b""

    @property
    def nonce(self) -> str:
        return self.permit.nonce if self.permit else "governor"

    def mark(self) -> str:
        """What `quantum:p33:taken:<plan_id>` says once it is taken."""
        return f"{self.nonce} {self.token}"


class _Taking(msgspec.Struct, gc=False):
    """What is read again of a record."""

    nonce: str
    token: str
    at_ms: int
    permit: str


_DECODE = msgspec.json.Decoder(_Taking).decode
NOT_JSON: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class Takings:
    """Permit pairs of one connection. Raises StoreUnavailable wherever Redis does not answer. For one thread."""

    def __init__(self, link: Link, *, patience_ms: int) -> None:
        self.line = link.line(timeout_s=patience_ms / 1000, decode=False)
        self._link, self._redis, self._patience_ms = link, link.redis, patience_ms
        self._seen_id = b"0-0"

    def read(self, plan_id: str, symbol: str) -> Reading:
        """Everything a client judges by, in one step and one round trip; also where the decisions end, so that none
        after them is slept through."""
        names = _pair_names(plan_id, symbol)
        reply = self._once_more(lambda: self._run("pair", [*names, keys.DECISIONS], []))
        self._seen_id = reply[-1]
        return _reading(reply)

    def read_next(self, plan_id: str, symbol: str, *, at_most_ms: int) -> Reading:
        """The same once a verdict on any plan was recorded, at the latest after `at_most_ms`: still one round trip.

        The server takes the second command up in the moment that ends the first.
        """
        commands = (("XREAD", "BLOCK", max(at_most_ms, 1), "STREAMS", keys.DECISIONS, self._seen_id),
                    scripts.call("pair", _pair_names(plan_id, symbol), []))
        decided, reply = self._once_more(lambda: self.line.ask_all(commands))
        if isinstance(decided, redis.ResponseError):
            time.sleep(at_most_ms / 1000)  # somebody's value at the stream's key: what is left is looking
        elif decided:
            self._seen_id = decided[0][1][-1][0]
        return self.read(plan_id, symbol) if isinstance(reply, redis.ResponseError) else _reading(reply)

    def take(self, claim: Claim) -> Word:
        """Take the pair. After a broken connection asked once more: the same token gets the same answer."""
        return self._settle("take", claim)

    def look(self, claim: Claim) -> Word:
        """What `take` would say: `free` instead of `taken`."""
        return self._settle("look", claim)

    def taken_permit(self, plan_id: str, mark: bytes) -> tuple[Permit, int] | None:
        """The permit behind a taken mark and when it was taken, from the record; None if it is out of reach."""
        with store_errors():
            entries = self._redis.xrevrange(keys.TAKINGS, count=SEARCHED_TAKINGS)
        for _, fields in entries:
            record = _taking(fields.get(b"json", b"")) if fields.get(b"plan_id") == plan_id.encode() else None
            if record and f"{record.nonce} {record.token}".encode() == mark:
                permit = read_permit(record.permit.encode())
                return (permit, record.at_ms) if permit else None
        return None

    def _settle(self, step: str, claim: Claim) -> Word:
        word, at_ms = self._once_more(lambda: self._run(*self._command(step, claim)))
        return Word(word.decode(), int(at_ms))

    def _command(self, step: str, claim: Claim) -> tuple[str, list[str], list]:
        """(script, KEYS, ARGV), made anew for each try: it names the server process that it is meant for."""
        elapsed_ms = (time.monotonic_ns() - claim.reading.mono_ns) // 1_000_000
        not_after_ms = claim.reading.now_ms + elapsed_ms + self._patience_ms
        return self._pair(step, claim, not_after_ms) if claim.permit else _governor(step, claim, not_after_ms)

    def _once_more(self, ask):
        """Ask again after a broken connection. The ping connects, so that the run id is the new server's by then."""
        with store_errors():
            try:
                return ask()
            except (StoreUnavailable, redis.ConnectionError):
                self.line.ask(("PING",))
                return ask()

    def _run(self, name: str, names: list[str], args: list) -> list:
        command = scripts.call(name, names, args)
        try:
            return self.line.ask(command)
        except redis.ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        self.line.ask(("SCRIPT", "LOAD", scripts.source(name)))
        return self.line.ask(command)

    def _pair(self, step: str, claim: Claim, not_after_ms: int) -> tuple[str, list[str], list]:
        """(script, KEYS, ARGV) of lua/take.lua or lua/look.lua."""
        permit, reading, symbol = claim.permit, claim.reading, claim.symbol
        names = [*_switches(claim), keys.governor_permit(claim.plan_id), keys.permit(claim.plan_id),
                 keys.open_permit(symbol), keys.snapshot(symbol), keys.ledger(symbol), keys.ENDED + claim.plan_id,
                 keys.RUN_ID]
        args = [reading.governor, reading.permit, claim.plan_id, symbol, permit.nonce, claim.token,
                text(permit.exchange_position_amt), permit.ledger_rev, int(permit.max_snapshot_age_sec.scaleb(3)),
                permit.expires_ms, not_after_ms, self._link.run_id]
        if step == "look":
            return step, names, args
        names += [keys.TAKINGS, keys.ORDER_INTENTS]
        return step, names, [*args, keys.TAKEN_TTL_MS, _record(claim), claim.intent]


def _taking(raw: bytes) -> _Taking | None:
    """An entry's record; None for one that somebody else wrote in another way."""
    try:
        return _DECODE(raw)
    except NOT_JSON:
        return None


def _governor(step: str, claim: Claim, not_after_ms: int) -> tuple[str, list[str], list]:
    """(script, KEYS, ARGV) of lua/take_governor.lua."""
    names = [*_switches(claim), keys.governor_permit(claim.plan_id), keys.TAKINGS, keys.ORDER_INTENTS]
    return "take_governor", names, [
        claim.reading.governor, claim.plan_id, claim.symbol, claim.mark(), not_after_ms, keys.TAKEN_TTL_MS,
        _record(claim), claim.intent, int(step == "look")]


def _switches(claim: Claim) -> list[str]:
    """The KEYS of lua/_switches.lua."""
    return [keys.taken(claim.plan_id), keys.HALT, keys.halt(claim.symbol), keys.hold(claim.symbol)]


def _record(claim: Claim) -> bytes:
    """One entry of quantum:p33:taken: what was taken, by whom, when (by the server's clock as last read)."""
    elapsed_ms = (time.monotonic_ns() - claim.reading.mono_ns) // 1_000_000
    permit = claim.reading.permit if claim.permit else None
    return _ENCODE({
        "v": 1, "plan_id": claim.plan_id, "symbol": claim.symbol, "nonce": claim.nonce, "token": claim.token,
        "by": claim.by, "at_ms": claim.reading.now_ms + elapsed_ms, "gate": "both" if claim.permit else "governor",
        "permit": permit.decode() if permit else None,
    })


def _pair_names(plan_id: str, symbol: str) -> list[str]:
    """The KEYS of lua/pair.lua."""
    return [keys.taken(plan_id), keys.HALT, keys.halt(symbol), keys.hold(symbol), keys.governor_permit(plan_id),
            keys.permit(plan_id)]


def _reading(reply: list) -> Reading:
    """What lua/pair.lua said."""
    now_ms, mark, halts, holds, governor, permit, _ = reply
    return Reading(int(now_ms), time.monotonic_ns(), mark, halts > 0, holds > 0, governor, permit)
