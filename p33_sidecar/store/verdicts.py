"""The permit desk's side of the store: plans in, verdicts out, in atomic steps.

A plan entry is acknowledged only by the step that leaves its effect. The desk says what it believes the state
to be; the issuing step refuses if it is not, and says what it is.
"""

from __future__ import annotations

from typing import Any

import msgspec
import redis

from ..core.model import Decision, Facts, Policy
from ..core.permit import Stamp, permit_bytes
from ..core.quantity import text
from ..core.record import Origin, record_bytes
from . import keys, scripts
from .connect import Link, store_errors, unavailable
from .groups import make_group
from .line import Command
from .state import Issued, State, mark_after, state_keys

Entry = tuple[str, dict[str, str] | None]
"""A stream entry: its id and its fields; None for one that was deleted after delivery."""

CLAIM_IDLE_MS = 30_000
_ENCODE = msgspec.json.Encoder().encode


class Moved(msgspec.Struct, frozen=True):
    """The state was not what the decision rests on."""

    state: State
    now_ms: int


class Issue(msgspec.Struct, frozen=True):
    """A verdict ready to be issued."""

    decision: Decision
    facts: Facts
    state: State
    stamp: Stamp
    origin: Origin
    booked_to: str = ""
    """A result up to which all are booked, as far as is known here; empty: the store is to say."""


class VerdictStore:
    """Reads plans of one group as one consumer, and issues verdicts. Not for use by two threads."""

    def __init__(self, link: Link, *, plan_stream: str, result_stream: str, consumer: str, policy: Policy,
                 key: bytes | None) -> None:
        self.link, self.line = link, link.line()
        self._redis = link.redis
        self._plans, self._results, self._consumer = plan_stream, result_stream, consumer
        self._policy, self._key = policy, key

    # -- plans ------------------------------------------------------------------------------------------------

    def ensure_group(self, now_ms: int) -> bool:
        """Create the group at the oldest entry that may still be answered. True if it did not exist."""
        with store_errors():
            return make_group(self._redis, self._plans, keys.GROUP, now_ms=now_ms,
                              max_age_ms=self._policy.plan_max_age_ms)

    def own_pending(self, after: str = "0") -> list[Entry]:
        """What was delivered to this consumer and never acknowledged. Raises GroupMissing."""
        return self._read(after, count=100, block_ms=None)

    def new_plans(self, *, count: int, block_ms: int | None) -> list[Entry]:
        """Entries nobody has seen yet; waits up to `block_ms` for the first (None: not at all). Raises GroupMissing."""
        return self._read(">", count=count, block_ms=block_ms)

    def claim_abandoned(self) -> list[Entry]:
        """Entries that a dead consumer has left for 30 s become ours."""
        with store_errors():
            try:
                reply = self._redis.xautoclaim(self._plans, keys.GROUP, self._consumer, CLAIM_IDLE_MS, "0-0", count=100)
            except redis.ResponseError as error:
                raise _named(error) from error
        return [(entry_id, fields or None) for entry_id, fields in reply[1]]

    def pass_over(self, entry_id: str) -> None:
        """Acknowledge an entry that has no effect: not EXECUTE, dealt with already, or a settled plan's repetition."""
        with store_errors():
            self._redis.xack(self._plans, keys.GROUP, entry_id)

    def reject(self, entry_id: str, fields: dict[str, str], *, reason: str, now_ms: int) -> bool:
        """Keep a message that cannot be understood, whole, with the reason. False: it was kept already."""
        return reject(self._redis, self._plans, entry_id, fields, reason=reason, now_ms=now_ms, group=keys.GROUP) == 1

    def _read(self, after: str, *, count: int, block_ms: int | None) -> list[Entry]:
        wait = () if block_ms is None else ("BLOCK", block_ms)
        try:
            reply = self.line.ask(("XREADGROUP", "GROUP", keys.GROUP, self._consumer, "COUNT", count, *wait,
                                   "STREAMS", self._plans, after))
        except redis.ResponseError as error:
            raise _named(error) from error
        return [(entry_id, _fields(flat)) for entry_id, flat in reply[0][1]] if reply else []

    # -- verdicts ---------------------------------------------------------------------------------------------

    def read_state(self, symbol: str, plan_id: str) -> Moved:
        """The state as it is now."""
        with store_errors():
            reply = scripts.run(self._redis, "facts", state_keys(symbol, plan_id, results=self._results),
                                [symbol, plan_id])
        return Moved(State(*reply[1:]), int(reply[0]))

    def issue(self, issues: list[Issue]) -> list[Moved | int | None]:
        """Issue verdicts in one round trip: the server's time for each issued, Moved, or None if it came too late.

        Raises StoreUnavailable; what was issued before the connection broke stays issued and is recognised later.
        """
        commands = [self._issue_command(issue) for issue in issues]
        try:
            return [self._outcome(reply) for reply in self._run_all(commands)]
        except redis.RedisError as error:
            raise unavailable(error) from error

    def _run_all(self, commands: list[Command]) -> list[Any]:
        replies = self.line.ask_all(commands)
        if redis.ResponseError in map(type, replies):
            self._run_unknown(commands, replies)
        return replies

    def _run_unknown(self, commands: list[Command], replies: list[Any]) -> None:
        """A server that lost its scripts is given them again; a command it did not know had no effect."""
        unknown = [index for index, reply in enumerate(replies) if _unknown_script(reply)]
        if unknown:
            scripts.load_all(self._redis)
            for index, reply in zip(unknown, self.line.ask_all([commands[i] for i in unknown]), strict=True):
                replies[index] = reply

    def _issue_command(self, issue: Issue) -> Command:
        decision, facts, stamp = issue.decision, issue.facts, issue.stamp
        plan = facts.plan
        state = issue.state
        keys_ = state_keys(plan.symbol, plan.plan_id, results=self._results, issued_for=state.issued.partition(" ")[0])
        keys_ += [self._plans, keys.DECISIONS, keys.permit(plan.plan_id)]
        line = ""
        if decision.allow:
            line = Issued(plan.plan_id, stamp.nonce, stamp.issued_ms, stamp.expires_ms,
                          text(facts.snapshot.amt), str(facts.book.rev)).line()
        permit = permit_bytes(decision, facts, self._policy, stamp=stamp, key=self._key)
        record = record_bytes(decision, facts, self._policy, stamp=stamp, origin=issue.origin)
        outcome = "ALLOW" if decision.allow else "DENY"
        mark = mark_after(state.mark, entry=issue.origin.stream_id, outcome=outcome,
                          retryable=decision.retry_after_ms is not None, nonce=stamp.nonce)
        return scripts.call("issue", keys_, [
            plan.symbol, plan.plan_id, state.expectation(), facts.now_ms, issue.origin.stream_id, keys.GROUP, outcome,
            stamp.nonce, stamp.expires_ms, line, permit, record, mark, keys.PLAN_TTL_MS, issue.booked_to,
        ])

    def _outcome(self, reply) -> Moved | int | None:
        if isinstance(reply, Exception):
            raise reply
        kind = reply[0]
        if kind == "issued":
            return int(reply[1]) * 1000 + int(reply[2]) // 1000
        if kind == "moved":
            return Moved(State(*reply[2:]), int(reply[1]))
        if kind == "late":
            return None
        raise redis.ResponseError(f"{reply[1]} holds another type of value: nothing can be recorded")


def _fields(flat: list[str] | None) -> dict[str, str] | None:
    if not flat:
        return None
    parts = iter(flat)
    return dict(zip(parts, parts, strict=True))


def _named(error: redis.ResponseError) -> Exception:
    """GroupMissing where the stream or its group is gone, before or while we waited for it; else StoreUnavailable."""
    return GroupMissing(str(error)) if str(error).startswith(("NOGROUP", "UNBLOCKED")) else unavailable(error)


def _unknown_script(reply: Any) -> bool:
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("NOSCRIPT")


class GroupMissing(Exception):
    """The plan stream or its group was deleted: make it anew."""


def reject(client: redis.Redis, stream: str, entry_id: str, fields: dict[str, str], *, reason: str, now_ms: int,
           group: str = "", cursor: tuple[str, str] | None = None) -> int:
    """Record a message that cannot be understood, once. 1 recorded, 0 known already, -1 the cursor had moved."""
    record = _ENCODE({"v": 1, "stream": stream, "id": entry_id, "reason": reason, "message": fields, "at_ms": now_ms})
    before, after = cursor or ("", "")
    with store_errors():
        return scripts.run(client, "reject", [keys.REJECTED, f"{keys.SEEN}{stream}:{entry_id}", stream, keys.CURSOR],
                           [stream, entry_id, record, group, before, after])
