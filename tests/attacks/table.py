"""What each Redis user tries, and the page that says what came of it.

An attempt is a list of commands and, for the users that may give them, a deed that goes through with it. Every other
user has to be refused by the server, for each command, given plainly and from within a script.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import redis

from p33_sidecar.store import rights
from tests.attacks import accounts, permits
from tests.attacks.scene import Scene
from tests.deployment.conftest import PLANS, RESULTS

S, A, P, O, G = USERS = (rights.SIDECAR, rights.APPLY, rights.PIPELINE, rights.OPERATOR,  # noqa: E741 - table columns
                         rights.GOVERNOR)
REFUSED = "–"
PERMIT, OPEN, TAKEN, THEIRS = "quantum:permit:p33:x", "quantum:p33:open:X", "quantum:p33:taken:x", "quantum:permit:x"
LEDGER, BOOK, SNAPSHOT = "quantum:position:ledger:X", "quantum:p33:book:X", "quantum:position:snapshot:X"
ISSUED = "quantum:p33:issued"
SHOWN = {RESULTS: "quantum:apply.result", PLANS: "quantum:apply.plan"}


class Attempt(NamedTuple):
    """`who` may try it in earnest; `deed` does, with their rights."""

    commands: tuple[str, ...]
    who: tuple[str, ...] = ()
    deed: Callable[[Scene, str], str] | None = None
    does: str = ""
    """What it is, where no deed's docstring says so."""

    @property
    def what(self) -> str:
        return " ".join((self.does or self.deed.__doc__).split())

    def shown(self) -> str:
        text = " · ".join(f"`{command}`" for command in self.commands)
        for ours, plain in SHOWN.items():
            text = text.replace(ours, plain)
        return text


ATTEMPTS = (
    Attempt((f"SET {PERMIT} v", f"SET {OPEN} v"), (S,), permits.write),
    Attempt((f"SET {PERMIT} v",), (S,), permits.change),
    Attempt((f"SET {PERMIT} v",), (S,), permits.replay),
    Attempt((f"SET {PERMIT} v",), (S,), permits.for_another_plan),
    Attempt((f"SET {PERMIT} v PX 600000",), (S,), permits.prolong),
    Attempt((f"PEXPIRE {PERMIT} 600000", f"PERSIST {PERMIT}", f"RENAME {PERMIT} {PERMIT}y", f"COPY {PERMIT} {PERMIT}y",
             f"APPEND {PERMIT} v", f"SETRANGE {PERMIT} 0 v", f"GETEX {PERMIT} PERSIST"),
            does="A permit's life prolonged, its bytes moved or altered in place."),
    Attempt((f"SET {OPEN} v",), (S,), permits.reopen),
    Attempt((f"SET {TAKEN} v",), (A,), permits.mark_taken),
    Attempt((f"SET {TAKEN} v PX 1",), (A,), permits.forget_taken),
    Attempt((f"DEL {TAKEN}", f"PEXPIRE {TAKEN} 1", f"RENAME {TAKEN} {TAKEN}y", f"UNLINK {TAKEN}"),
            does="The mark of a taking deleted."),
    Attempt(("HSET quantum:p33:taken-orders x v",), (A,), permits.order_by_hand),
    Attempt(("XADD quantum:p33:taken * f v",), (A,), permits.taking_by_hand),
    Attempt((f"SET {THEIRS} v",), (G,), permits.governors_permit),
    Attempt((f"HSET {LEDGER} last_known_amt 1",), (S, O), accounts.ledger),
    Attempt((f"HSET {BOOK} amt 1", f"HSET {LEDGER} rev 1"), (S, O), accounts.book),
    Attempt((f"HSET {BOOK} amt 1", f"HSET {LEDGER} rev 1"), (S, O), accounts.book_to_match),
    Attempt((f"RENAME {BOOK} quantum:p33:wrecked:x",), (S,), accounts.lose_book),
    Attempt((f"DEL {BOOK}", "DEL quantum:p33:cursor", "SREM quantum:p33:books X",
             "DEL quantum:p33:unsettled"), does="The book, or where it stands in the results, deleted."),
    Attempt((f"HSET {SNAPSHOT} position_amt 1",), (S,), accounts.snapshot),
    Attempt((f"XADD {PLANS} * f v",), (O,), permits.plan_by_hand),
    Attempt((f"XADD {RESULTS} * f v",), (A,), accounts.result),
    Attempt(("XADD quantum:p33:decisions * f v",), (S,), accounts.decision),
    Attempt(("XADD quantum:p33:ledger * f v",), (S, O), accounts.journal),
    Attempt(("XADD quantum:p33:events * f v",), (S, A, P, O), accounts.event),
    Attempt((f"XDEL {PLANS} 1-1", f"XDEL {RESULTS} 1-1", "XDEL quantum:p33:decisions 1-1", "XDEL quantum:p33:taken 1-1",
             f"DEL {RESULTS}", f"XSETID {PLANS} 9-9", f"XGROUP DESTROY {PLANS} p33", f"XGROUP SETID {PLANS} p33 $"),
            does="Entries deleted from a stream, a stream deleted, the gate's place in it moved."),
    Attempt((f"XREADGROUP GROUP p33 thief STREAMS {PLANS} >", f"XACK {PLANS} p33 1-1"), (S, A, G), permits.swallow),
    Attempt(("DEL quantum:p33:halt:X", "DEL quantum:p33:halt"), (O,), accounts.lift_halt),
    Attempt(("DEL quantum:reconcile:hold:X", "SET quantum:reconcile:hold:X v PX 1",
             "RENAME quantum:reconcile:hold:X y"), does="A hold lifted."),
    Attempt(("SET quantum:p33:plan:x v",), (S, O), accounts.plan_mark),
    Attempt((f"HDEL {ISSUED} X",), (S, O), accounts.free_symbol),
    Attempt((f"HDEL {ISSUED} X", f"DEL {OPEN}"), (S, O), accounts.replace_open),
    Attempt((f"HDEL {ISSUED} X",), (S, O), accounts.free_taken),
    Attempt((f"HDEL {ISSUED} X", f"DEL {OPEN}"), (S, O), accounts.replace_taken),
    Attempt(("SET quantum:p33:venue v",), (S,), permits.gates_venue),
    Attempt(("EVAL return(1) 0", "FUNCTION FLUSH", "FCALL f 0", "SCRIPT FLUSH", "CONFIG SET appendonly no",
             "ACL SETUSER x on", "FLUSHALL", "RESTORE y 0 v", "REPLICAOF no one"),
            does="A script of one's own by EVAL, functions; the server's settings, users and data."),
)
"""In the page's order. `EVALSHA` of a script of one's own is tried with every command above."""
TRIMS = (
    Attempt((f"XTRIM {RESULTS} MAXLEN 0",), (P,), accounts.trim_results),
    Attempt(("XTRIM quantum:p33:decisions MAXLEN 0",), (S, P), accounts.trim_decisions),
)
"""Tried last: what is gone excuses the audit from judging what it would have proved."""

_BY_RIGHTS = ("user executing the script can't", "acl failure", "not allowed from script", "no permissions to run",
              "unknown redis command", "unknown command")
"""How Redis and Valkey say inside a script that it may not be."""


def refused(client: redis.Redis, sha: str, command: str) -> bool:
    """Whether the server refuses the command for want of a right, plainly and from within a script."""
    words = command.split()
    try:
        client.execute_command(*words)
    except redis.exceptions.NoPermissionError:
        pass
    except redis.ResponseError:
        return False
    else:
        return False
    try:
        client.evalsha(sha, 0, *words)
    except redis.ResponseError as error:
        return any(word in str(error).lower() for word in _BY_RIGHTS)
    return False


def play(scene: Scene) -> list[tuple[Attempt, dict[str, str]]]:
    """Every attempt with every user. Returns what came of each. Whatever it was, no order may be without a verdict."""
    sha = scene.admin.script_load("return redis.pcall(unpack(ARGV))")
    outcomes = []
    for attempts in (ATTEMPTS, TRIMS):
        for attempt in attempts:
            cells = {user: _tried(scene, attempt, user, sha) for user in USERS}
            outcomes.append((attempt, cells))
            assert scene.orders_without_verdict() == [], attempt.what
        scene.keep_promises()
    return outcomes


def _tried(scene: Scene, attempt: Attempt, user: str, sha: str) -> str:
    if user in attempt.who:
        return attempt.deed(scene, user)
    client = scene.client(user)
    passed = [command for command in attempt.commands if not refused(client, sha, command)]
    return f"may `{passed[0]}`" if passed else REFUSED


# -- the page -------------------------------------------------------------------------------------------------


def page(outcomes: list[tuple[Attempt, dict[str, str]]]) -> str:
    """docs/attacks.md."""
    rows = [f"| {attempt.what} | {attempt.shown()} | {' | '.join(cells[user] for user in USERS)} |"
            for attempt, cells in outcomes]
    names = " | ".join(name.removeprefix("p33-") for name in USERS)
    return f"""# The attack table

<!-- written by `make attacks`; a test plays it and compares -->

Each Redis user of the deployment in turn, as if its password had leaked, tries to get an order through without a
verdict: on a server with the deployment's `users.acl`, beside a running gate and Apply Layer with signed permits, on a
simulated exchange. After each attempt every order at the exchange has to have a permit with a valid signature that was
taken for it, at most of its quantity, reduce-only: **that held after every one of them.**

`–`: the server refuses the commands (`NOPERM`), given plainly and from within a script. `code`: what the gate or the
Apply Layer answered. **Bold**: it went through, and is found by what stands behind it. An alert's name stands for its
rule in `deployment/prometheus/p33.rules.yml`, `audit` for a finding of `p33-audit`; both were seen.

| attempt | commands | {names} |
|---|---|{'---|' * len(USERS)}
{chr(10).join(rows)}

What went through, in words: whoever has the gate's or the operator's password can rewrite the facts that a verdict
rests on (the book, and which ALLOW a symbol waits for; the gate's also snapshots and which permit is open), and the
gate then signs in good faith. The order is a close of at most the position, since every order is reduce-only. False
facts are named by the audit, also that a symbol was free while its order was under way. The Apply Layer's password can
make a plan count as not taken yet, so that the gate judges it again. None of them can sign. An operator's plan, and a
halt that the operator lifts, are their rights.

What is not tried here: the signing key and the exchange keys, which open what they open
([handbook](P3_3_POSITION_STATE_BRAIN.md#who-can-do-what)), and attempts that only stop orders (deleting permits,
a ban that is none), which fail closed.
"""
