"""Kill switches, holds, the venue a database belongs to, the server's identity, and the events about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import redis

from ..core.model import LATEST_MS
from . import keys, scripts
from .connect import is_wrong_type, store_errors
from .line import Line
from .state import UNREADABLE

_ENCODE = msgspec.json.Encoder().encode
TIMES = frozenset({"since_ms", "until_ms"})
NO_END = -1
"""PTTL of a key without one."""


def event_json(kind: str, *, at_ms: int, by: str, **what: Any) -> bytes:
    """One event of quantum:p33:events."""
    return _ENCODE({"v": 1, "kind": kind, "at_ms": at_ms, "by": by} | what)


def add_event(client: redis.Redis, kind: str, *, at_ms: int, by: str, **what: Any) -> None:
    with store_errors():
        client.xadd(keys.EVENTS, {"kind": kind, "json": event_json(kind, at_ms=at_ms, by=by, **what)})


class Halted(NamedTuple):
    """The symbols whose open permit was withdrawn, and what the switch says that stands now."""

    withdrawn: list[str]
    said: dict[str, Any]
    is_new: bool


def halt(client: redis.Redis, *, symbol: str = "", by: str, reason: str, at_ms: int, for_ms: int = 0) -> Halted:
    """Set the switch and withdraw what is open under it, also where the server's memory is full and refuses all other
    writes. One that stands already and would outlast this one stays: two people halt for the longer of their times."""
    until = at_ms + for_ms if for_ms else None
    said = {"by": by, "reason": reason, "since_ms": at_ms, "until_ms": until}
    event = event_json("halt", at_ms=at_ms, by=by, symbol=symbol or None, reason=reason, until_ms=until)
    with store_errors():
        what = [keys.halt(symbol), keys.EVENTS, keys.SWITCHES], [symbol, _ENCODE(said), for_ms, event, at_ms, by]
        try:
            left_ms, withdrawn = scripts.run(client, "halt", *what)
        except redis.exceptions.OutOfMemoryError:
            left_ms, withdrawn = scripts.run_over_limit(client, "halt", *what)
        if left_ms < NO_END:
            return Halted(withdrawn, said, is_new=True)
        stands = _said(client, keys.halt(symbol))
    return Halted(withdrawn, stands | {"until_ms": None if left_ms == NO_END else at_ms + left_ms}, is_new=False)


def resume(client: redis.Redis, *, symbol: str = "", by: str, at_ms: int) -> bool:
    """Lift the switch. False: it was not set."""
    event = event_json("resume", at_ms=at_ms, by=by, symbol=symbol or None)
    with store_errors():
        return scripts.run(client, "resume", [keys.halt(symbol), keys.EVENTS, keys.SWITCHES], [symbol, event]) > 0


def halts(client: redis.Redis) -> dict[str, dict]:
    """symbol, or empty for the global one -> who, why, until when; a switch set by hand says just its value."""
    found: dict[str, dict] = {}
    with store_errors():
        names = list(client.scan_iter(match=keys.HALT + "*", count=1000))
        for name in names:
            if name != keys.HALT and not name.startswith(keys.HALT + ":"):
                continue
            found[name[len(keys.HALT) + 1:]] = _said(client, name)
    return found


def halts_of(client: redis.Redis, symbols: Iterable[str]) -> dict[str, dict]:
    """Like `halts`, of these symbols and the global one only: one cheap question as long as nothing is halted, and two
    while something is. The database is not looked through, which for a million keys takes the server half a second."""
    names = {"": keys.HALT} | {symbol: keys.halt(symbol) for symbol in symbols}
    with store_errors():
        if not client.exists(*names.values()):
            return {}
        pipe = client.pipeline(transaction=False)
        for name in names.values():
            pipe.exists(name)
        there = pipe.execute()
        return {symbol: _said(client, name) for (symbol, name), set_ in zip(names.items(), there, strict=True) if set_}


def _said(client: redis.Redis, name: str) -> dict:
    """What the switch says of itself, less what is no time where one belongs: any program may have set it."""
    try:
        value = client.get(name)
    except redis.ResponseError:
        return {"reason": "set by hand"}
    try:
        said = msgspec.json.decode(value or "", type=dict)
    except (msgspec.DecodeError, RecursionError):
        return {"reason": f"set by hand to {value!r}"}
    return {what: told for what, told in said.items() if what not in TIMES or _is_time(told)}


def _is_time(told: Any) -> bool:
    """A moment, or that there is none."""
    return told is None or (type(told) is int and 0 < told <= LATEST_MS)


def claim_venue(client: redis.Redis, venue: str) -> str:
    """The exchange this database belongs to: ours if it had none yet; UNREADABLE where that cannot be known."""
    with store_errors():
        client.set(keys.VENUE, venue, nx=True)
        return _text_at(client, keys.VENUE)


def _text_at(client: redis.Redis, key: str) -> str:
    """What a key holds: empty for nothing, UNREADABLE for a value of another type, which ends no start."""
    try:
        return client.get(key) or ""
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        return UNREADABLE


class Glance(NamedTuple):
    """What the database says of itself: the server process trusted to hold what we wrote, the exchange it belongs to
    (empty where not said), and whether everything is halted."""

    run_id: str
    venue: str
    halted: bool


def glance(line: Line) -> Glance:
    """Asked several times a second for ever, hence one round trip on a line."""
    with store_errors():
        (run_id, venue), halted = line.ask_each((("MGET", keys.RUN_ID, keys.VENUE), ("EXISTS", keys.HALT)))
    return Glance(run_id or "", venue or "", halted > 0)


def known_run_id(client: redis.Redis) -> str:
    """The server process that was trusted last; UNREADABLE is nobody's name, so that no server is taken for it."""
    with store_errors():
        return _text_at(client, keys.RUN_ID)


def accept_run_id(client: redis.Redis, run_id: str) -> None:
    """From now on this server process is trusted to hold what we wrote."""
    with store_errors():
        client.set(keys.RUN_ID, run_id)


def knows_us(client: redis.Redis) -> bool:
    """Whether a sidecar has written to this database before: then it ought to know the server it trusted, too."""
    with store_errors():
        return client.exists(keys.SNAPSHOTS, keys.DECISIONS, keys.BOOKS, keys.CURSOR, keys.POLICY) > 0


def doubt_server(client: redis.Redis) -> None:
    """A server that lost the name of the process we trusted: whoever starts now shall not take it for a new one."""
    with store_errors():
        client.set(keys.RUN_ID, "none", nx=True)


def note_policy(client: redis.Redis, policy: bytes, *, hash_: str, at_ms: int, by: str) -> bool:
    """Remember the thresholds in force; an event says so when they are not those of the last start, or these cannot be
    read: then nothing is said of what they were."""
    with store_errors():
        kept = _text_at(client, keys.POLICY)
        before, _, was = kept.partition(" ")
        if before == hash_:
            return False
        pipe = client.pipeline(transaction=True)
        pipe.set(keys.POLICY, hash_.encode() + b" " + policy)
        if before:
            pipe.xadd(keys.EVENTS, {"kind": "policy_changed", "json": event_json(
                "policy_changed", at_ms=at_ms, by=by, policy_hash=hash_, policy=msgspec.Raw(policy),
                was_hash=before, was=_json_or_none(was))})
        pipe.execute()
    return bool(before)


def _json_or_none(text: str) -> msgspec.Raw | None:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return msgspec.Raw(text.encode())


def withdraw_all(client: redis.Redis, *, at_ms: int, by: str, why: str) -> list[str]:
    """End every open permit, with its event; taken ones are out of reach."""
    with store_errors():
        symbols = client.hkeys(keys.ISSUED)
    return withdraw(client, symbols, at_ms=at_ms, by=by, why=why)


def withdraw(client: redis.Redis, symbols: Iterable[str], *, at_ms: int, by: str, why: str) -> list[str]:
    """End the open permits of these symbols, each with its event. Returns those that had one."""
    with store_errors():
        gone = [s for s in symbols if client.delete(keys.open_permit(s))]
    for symbol in gone:
        add_event(client, "withdrawal", at_ms=at_ms, by=by, symbol=symbol, why=why)
    return gone


def outliving(client: redis.Redis, *, longest_ms: int) -> list[str]:
    """Symbols whose open permit would still be open after so long, or for ever, whatever else is known of them."""
    with store_errors():
        names = list(client.scan_iter(match=keys.OPEN + "*", count=1000))
        pipe = client.pipeline(transaction=False)
        for name in names:
            pipe.pttl(name)
        lives_ms = pipe.execute()
    return sorted(name[len(keys.OPEN):] for name, life_ms in zip(names, lives_ms, strict=True)
                  if life_ms == NO_END or life_ms > longest_ms)
