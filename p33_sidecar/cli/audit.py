"""`p33 audit-permits`: every permit in the store that is not what this gate would have written (incident I07).

Reads only. A finding is proof that somebody else writes permits, or that a permit outlives its verdict. Permits are
read as bytes: a signature is over bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
import redis

from ..core.permit import SIG_MARK, Permit, read_permit, signature_holds, unsigned
from ..core.record import Record, reproduce
from ..store import keys
from ..store.connect import Link, store_errors
from ..store.reading import Reading
from . import paper
from .session import Session
from .units import span

BATCH = 500
WINDOW_MS = 5_000
"""How far from `issued_ms` the verdict's record is looked for."""
TTL_SLACK_MS = 1_000


class Found(msgspec.Struct, frozen=True):
    """One thing wrong with one key."""

    key: str
    finding: str
    detail: str


class Seen(msgspec.Struct, frozen=True):
    """A key as found: its type, its life in ms (-1: for ever), and its bytes where it is a string."""

    key: str
    kind: str
    life_ms: int
    raw: bytes


def audit(session: Session, *, as_json: bool) -> int:
    """Look at every permit. 1: something was found."""
    link = Link(session.settings.redis_url, name="cli-audit", decode=False)
    try:
        with store_errors():
            ours = list(_seen(link.redis, keys.PERMIT + "*"))
            others = [s for s in _seen(link.redis, keys.GOVERNOR_PERMIT + "*") if not s.key.startswith(keys.PERMIT)]
            opens = list(_seen(link.redis, keys.OPEN + "*"))
    finally:
        link.close()
    auditor = Auditor(session)
    found = [f for seen in ours for f in auditor.permit(seen)] + auditor.opens(opens, ours)
    notes = [Found(s.key, "no_ttl", "a permit of another gate that never expires") for s in others if s.life_ms == -1]
    if as_json:
        paper.emit({"ok": not found, "permits": len(ours), "other_permits": len(others), "found": found,
                    "notes": notes})
    else:
        _print(found, notes, len(ours), len(others))
    return 1 if found else 0


class Auditor:
    """Judges what was found, by the keys and records of this session."""

    def __init__(self, session: Session) -> None:
        self.reading: Reading = session.reading
        self.keys, self.ttl_ms = session.keys_known, session.policy.permit_ttl_ms

    def permit(self, seen: Seen) -> Iterator[Found]:
        """Everything wrong with one permit."""
        if seen.life_ms == -1:
            yield Found(seen.key, "no_ttl", "it never expires; ours live at most " + span(self.ttl_ms))
        elif seen.life_ms > self.ttl_ms + TTL_SLACK_MS:
            yield Found(seen.key, "ttl_too_long", f"it lives another {span(seen.life_ms)}; at most {span(self.ttl_ms)}")
        if seen.kind != "string":
            yield Found(seen.key, "wrong_type", f"a {seen.kind}; permits are strings")
            return
        permit = read_permit(seen.raw)
        if permit is None:
            yield Found(seen.key, "not_a_permit", "it is no JSON of a permit")
            return
        yield from self._signature(seen)
        yield from self._contents(seen, permit)

    def _signature(self, seen: Seen) -> Iterator[Found]:
        if not self.keys:
            return
        if SIG_MARK not in seen.raw:
            yield Found(seen.key, "unsigned", "it has no signature although a key is set")
        elif not signature_holds(seen.raw, self.keys):
            yield Found(seen.key, "bad_signature", "its signature does not hold under P33_PERMIT_KEY")

    def _contents(self, seen: Seen, permit: Permit) -> Iterator[Found]:
        plan_id = seen.key[len(keys.PERMIT):]
        if permit.plan_id != plan_id:
            yield Found(seen.key, "plan_mismatch", f"it says it is for plan {permit.plan_id}")
        record = self._record(permit)
        if record is None:
            yield Found(seen.key, "no_decision", f"no decision is recorded for its nonce {permit.nonce}")
        elif not self._as_recorded(seen.raw, record):
            yield Found(seen.key, "altered", f"it is not what decision {record.decision_id} became")

    def _record(self, permit: Permit) -> Record | None:
        """The verdict this permit claims to be."""
        if not 0 < permit.issued_ms < 10**15:
            return None
        near = self.reading.decisions(from_ms=max(permit.issued_ms - WINDOW_MS, 0), to_ms=permit.issued_ms + WINDOW_MS)
        return next((e.record for e in near if e.record and e.record.permit.nonce == permit.nonce
                     and e.record.plan_id == permit.plan_id), None)

    def _as_recorded(self, raw: bytes, record: Record) -> bool:
        """The same bytes as the recorded verdict gives, but for the signature, which is judged by itself."""
        try:
            _, expected = reproduce(record)
        except (ValueError, ArithmeticError):
            return False
        return unsigned(raw) == expected

    def opens(self, opens: list[Seen], permits: list[Seen]) -> list[Found]:
        """Open ALLOWs that name no permit of ours, unless it was taken: the mark of the taking explains that."""
        by_plan = {s.key[len(keys.PERMIT):]: read_permit(s.raw) for s in permits if s.kind == "string"}
        return [Found(seen.key, "open_mismatch", "it names no ALLOW that exists or was taken")
                for seen in opens if not self._open_holds(seen, by_plan)]

    def _open_holds(self, seen: Seen, by_plan: dict[str, Permit | None]) -> bool:
        plan_id, _, nonce = seen.raw.decode(errors="replace").partition(" ")
        if _is_its_permit(by_plan.get(plan_id), seen.key, nonce) or self._held_since(seen, plan_id, nonce):
            return True
        with store_errors():
            if self.reading.redis.type(keys.taken(plan_id)) != "string":
                return False
            mark = self.reading.redis.get(keys.taken(plan_id)) or ""
        return bool(nonce) and mark.partition(" ")[0] == nonce

    def _held_since(self, seen: Seen, plan_id: str, nonce: str) -> bool:
        """Both keys once more, in one step: the gate goes on issuing while its permits are looked through."""
        with store_errors():
            now, permit = self.reading.redis.mget(seen.key, keys.permit(plan_id))
        moved = (now or "") != seen.raw.decode(errors="backslashreplace")
        return moved or _is_its_permit(read_permit((permit or "").encode()), seen.key, nonce)


def _is_its_permit(permit: Permit | None, open_key: str, nonce: str) -> bool:
    """Whether this is the ALLOW that the key names."""
    return (permit is not None and permit.allow and permit.nonce == nonce
            and keys.open_permit(permit.symbol) == open_key)


def _seen(client: redis.Redis, pattern: str) -> Iterator[Seen]:
    """Every key of this pattern that still exists, in batches of one round trip."""
    names = client.scan_iter(match=pattern, count=1000)
    for batch in iter(lambda: list(islice(names, BATCH)), []):
        yield from _looked_at(client, batch)


def _looked_at(client: redis.Redis, names: Iterable[bytes]) -> Iterator[Seen]:
    names = list(dict.fromkeys(names))
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.type(name).pttl(name).get(name)
    replies = pipe.execute(raise_on_error=False)
    for i, name in enumerate(names):
        kind, life_ms, raw = replies[3 * i:3 * i + 3]
        if life_ms != -2 and kind != b"none":
            yield Seen(name.decode(errors="backslashreplace"), kind.decode(), life_ms,
                       raw if isinstance(raw, bytes) else b"")


def _print(found: list[Found], notes: list[Found], permits: int, others: int) -> None:
    out = paper.console()
    columns = ("key", "finding", "detail")
    if found:
        rows = [(f.key, f.finding, f.detail) for f in found]
        out.print(paper.table("Permits this gate did not write", columns, rows))
    if notes:
        out.print(paper.table("Notes", columns, [(f.key, f.finding, f.detail) for f in notes[:50]]))
        if len(notes) > 50:
            out.print(f"and {len(notes) - 50} more without a TTL")
    keys_bad = len({f.key for f in found})
    out.print(f"{permits} permits of this gate, {keys_bad} keys with findings; {others} permits of others.")
