"""Which Redis user may do what: one table, from which users.acl and docs/redis-rights.md are written.

What may not happen here: a right that no program needs. The Apply Layer can take permits and write none; the sidecar
can write ours, delete none and touch nobody else's; nobody but the operator can lift a halt.

Facts, tried on Redis 7.0 and Valkey 9: a script's inner commands are checked against its caller's rights; KEYS of
EVALSHA need read and write, whatever the script does with them, so scripts get a selector of their own that allows
nothing but to run them. A command's keys must all lie within one selector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import redis

from . import keys

SIDECAR: Final = "p33-sidecar"
APPLY: Final = "p33-apply"
PIPELINE: Final = "p33-pipeline"
OPERATOR: Final = "p33-operator"
GOVERNOR: Final = "p33-governor"

READ: Final = "%R~"
WRITE: Final = "%W~"
BOTH: Final = "~"

CONNECTION: Final = ("ping", "time", "info", "select", "client|setname", "acl|whoami", "acl|dryrun", "multi", "exec")
LOOK: Final = ("get", "mget", "exists", "type", "pttl", "pexpiretime", "hget", "hmget", "hgetall", "hkeys", "hvals",
               "hlen", "hexists", "hscan", "smembers", "sismember", "xlen", "xrange", "xrevrange", "xread",
               "xinfo|stream")
GROUP: Final = ("xreadgroup", "xautoclaim", "xack", "xgroup|create")


class Right(NamedTuple):
    """`commands` on keys that match one of `patterns`; `mode` is READ, WRITE or BOTH. No pattern: commands alone."""

    what: str
    commands: tuple[str, ...]
    mode: str = BOTH
    patterns: tuple[str, ...] = ()

    def rules(self) -> str:
        """As it stands in an ACL rule."""
        return " ".join([*(f"+{c}" for c in self.commands), *(f"{self.mode}{p}" for p in self.patterns)])


class User(NamedTuple):
    """A user of the deployment: who it is for, and its rights, the first without keys."""

    name: str
    purpose: str
    rights: tuple[Right, ...]


def users(plans: str = "quantum:apply.plan", results: str = "quantum:apply.result") -> tuple[User, ...]:
    """Every user of the deployment, for these two streams (P33_PLAN_STREAM, P33_RESULT_STREAM)."""
    return (_sidecar(plans, results), _apply(plans, results), _pipeline(plans, results), _operator(plans, results),
            _governor(plans, results))


def user(name: str, *, plans: str, results: str) -> User:
    """One of them by its name."""
    return next(u for u in users(plans, results) if u.name == name)


def _all(prefix: str) -> str:
    return f"{prefix}*"


def _scripts(plans: str, results: str) -> Right:
    return Right("runs the scripts; what they do inside is checked against the rights below", ("evalsha",), BOTH,
                 tuple(dict.fromkeys(("quantum:*", plans, results))))


_BOOKS: Final = (
    Right("keeps the books", ("hset", "hdel", "pexpire"), WRITE,
          (_all(keys.LEDGER), _all(keys.BOOK), _all(keys.ORDERS), keys.UNSETTLED, keys.CURSOR, keys.ISSUED)),
    Right("knows which books there are", ("sadd",), WRITE, (keys.BOOKS,)),
    Right("ends an open permit, rebuilds a ledger's hash", ("del",), WRITE, (_all(keys.OPEN), _all(keys.LEDGER))),
    Right("remembers plans, says why a permit ended", ("set",), WRITE, (_all(keys.PLAN), _all(keys.ENDED))),
    Right("notes which kill switches were journalled", ("hset", "hdel"), WRITE, (keys.SWITCHES,)),
)

_PASSES_ON_A_BAN: Final = Right("obeys and passes on a ban of the exchange", ("set",), WRITE, (keys.BAN,))
"""Whoever asks the exchange may earn one, and it holds for the address: the next must read of it."""


def _sidecar(plans: str, results: str) -> User:
    return User(SIDECAR, "the service", (
        Right("connects, loads scripts, finds its keys", (*CONNECTION, "script|load", "scan", "config|get")),
        _scripts(plans, results),
        Right("reads what a verdict rests on", LOOK, READ, ("quantum:p33:*", "quantum:position:*", _all(keys.HOLD),
                                                            plans, results)),
        Right("reads plans as a group", GROUP, BOTH, (plans,)),
        Right("writes its permits, and deletes none", ("set",), WRITE, (_all(keys.PERMIT),)),
        *_BOOKS,
        Right("writes snapshots, lot rules and incidents", ("hset", "hdel", "pexpire"), WRITE,
              (_all(keys.SNAPSHOT), _all(keys.FILTERS), keys.ROW_VERSIONS, keys.MISMATCHES)),
        Right("replaces the lot rules in one step", ("rename",), BOTH, (_all(keys.FILTERS),)),
        Right("sets aside a book that cannot be read", ("rename",), BOTH,
              (_all(keys.BOOK), _all(keys.ORDERS), _all(keys.WRECKED))),
        Right("clears what it replaces", ("del",), WRITE, (_all(keys.SNAPSHOT), f"{keys.FILTERS}:new")),
        Right("opens permits and remembers gaps, bans, the server and its exchange", ("set",), WRITE,
              (_all(keys.OPEN), keys.GAP, keys.BAN, keys.RUN_ID, keys.VENUE, keys.POLICY, _all(keys.SEEN))),
        Right("records", ("xadd",), WRITE, (keys.DECISIONS, keys.SNAPSHOTS, keys.JOURNAL, keys.EVENTS, keys.REJECTED)),
        Right("trims records that are old", ("xtrim",), WRITE, keys.RECORD_STREAMS),
    ))


def _apply(plans: str, results: str) -> User:
    return User(APPLY, "the Apply Layer", (
        Right("connects, loads scripts", (*CONNECTION, "script|load")),
        _scripts(plans, results),
        Right("reads both permits and what a taking rests on", LOOK, READ,
              ("quantum:permit:*", "quantum:p33:*", "quantum:position:*", _all(keys.HOLD))),
        Right("reads plans as a group, and sees where they end", (*GROUP, "xrevrange"), BOTH, (plans,)),
        Right("takes permits, and writes none", ("del",), WRITE, ("quantum:permit:*",)),
        Right("marks what it took and answered", ("set",), WRITE, (_all(keys.TAKEN), _all(keys.TAKEN_ENTRY))),
        Right("records what it took", ("xadd",), WRITE, (keys.TAKINGS,)),
        Right("keeps the orders that are on their way", ("hset", "hdel"), WRITE, (keys.ORDER_INTENTS,)),
        Right("writes results", ("xadd", "type"), BOTH, (results,)),
        _PASSES_ON_A_BAN,
        Right("says that there is a ban", ("xadd",), WRITE, (keys.EVENTS,)),
    ))


def _pipeline(plans: str, results: str) -> User:
    everything = ("quantum:p33:*", "quantum:position:*", "quantum:permit:*", _all(keys.HOLD), plans, results)
    return User(PIPELINE, "the archive and the audit", (
        Right("connects, loads scripts, finds keys", (*CONNECTION, "script|load", "scan")),
        _scripts(plans, results),
        Right("reads everything", (*LOOK, "xinfo|groups", "xpending"), READ, everything),
        Right("trims what it has archived", ("xtrim",), WRITE, (*keys.RECORD_STREAMS, plans, results)),
        _PASSES_ON_A_BAN,
        Right("says what it did, and that there is a ban", ("xadd",), WRITE, (keys.EVENTS,)),
        Right("notes how far archive and audit reach", ("hset",), WRITE, (keys.PIPELINE,)),
    ))


def _operator(plans: str, results: str) -> User:
    everything = ("quantum:p33:*", "quantum:position:*", "quantum:permit:*", _all(keys.HOLD), plans, results)
    return User(OPERATOR, "people, with the command p33", (
        Right("connects, loads scripts, finds keys", (*CONNECTION, "script|load", "scan", "config|get")),
        _scripts(plans, results),
        Right("reads everything", (*LOOK, "xinfo|groups"), READ, everything),
        Right("halts and resumes", ("set", "del"), WRITE, (keys.HALT, f"{keys.HALT}:*")),
        *_BOOKS,
        Right("journals what it did", ("xadd",), WRITE, (keys.JOURNAL, keys.EVENTS)),
        Right("publishes the canary plan, which is answered like any other", ("xadd",), WRITE, (plans,)),
        Right("notes how the canary fared", ("set",), WRITE, (keys.CANARY,)),
    ))


def _governor(plans: str, results: str) -> User:
    theirs = keys.GOVERNOR_PERMIT
    not_ours = (f"{theirs}[^p]*", f"{theirs}p", f"{theirs}p[^3]*", f"{theirs}p3", f"{theirs}p3[^3]*", f"{theirs}p33",
                f"{theirs}p33[^:]*")
    return User(GOVERNOR, "the Governor, a neighbour", (
        Right("connects", CONNECTION),
        Right("reads plans and results as a group", GROUP, BOTH, tuple(dict.fromkeys((plans, results)))),
        Right("writes its own permits, and none of ours", ("set", "get", "del", "exists", "pttl"), BOTH, not_ours),
    ))


# -- as an ACL file -------------------------------------------------------------------------------------------


def acl_line(of: User, password_sha256: str = "") -> str:
    """The user's line of an ACL file. Without a password nobody can log in as it."""
    root, *rest = of.rights
    login = f" #{password_sha256}" if password_sha256 else ""
    selectors = "".join(f" ({right.rules()})" for right in rest)
    return f"user {of.name} on{login} resetchannels -@all {root.rules()}{selectors}"


def acl_file(of: tuple[User, ...], passwords: dict[str, str] | None = None) -> str:
    """The whole file; `passwords` are SHA-256 in hex by user name. `default` is off.

    Off, and still with every right: nobody can log in as it, but Redis 7.0 replays its append-only file as `default`,
    and without rights throws away every transaction and all that scripts wrote (7.0.15 tried; Valkey 9.1 does not).
    """
    lines = ["user default off resetpass ~* &* +@all", *(acl_line(u, (passwords or {}).get(u.name, "")) for u in of)]
    return "\n".join(lines) + "\n"


# -- tried at the start ---------------------------------------------------------------------------------------

_ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "client|setname": ("p33",), "select": ("0",), "script|load": ("return 1",), "scan": ("0",),
    "config|get": ("appendonly",), "acl|dryrun": ("default", "ping"), "evalsha": ("0" * 40, "1", "KEY"),
    "hget": ("KEY", "f"), "hmget": ("KEY", "f"), "hexists": ("KEY", "f"), "hscan": ("KEY", "0"),
    "sismember": ("KEY", "v"), "hdel": ("KEY", "f"),
    "hset": ("KEY", "f", "v"), "set": ("KEY", "v"), "sadd": ("KEY", "v"), "pexpire": ("KEY", "1"),
    "rename": ("KEY", "KEY"), "xadd": ("KEY", "*", "f", "v"), "xtrim": ("KEY", "MINID", "0"),
    "xrange": ("KEY", "-", "+"), "xrevrange": ("KEY", "+", "-"), "xread": ("STREAMS", "KEY", "0"),
    "xreadgroup": ("GROUP", "g", "c", "STREAMS", "KEY", ">"), "xautoclaim": ("KEY", "g", "c", "0", "0-0"),
    "xack": ("KEY", "g", "0-1"), "xgroup|create": ("KEY", "g", "0", "MKSTREAM"), "xpending": ("KEY", "g"),
    **dict.fromkeys(("ping", "time", "info", "acl|whoami", "multi", "exec"), ()),
}
"""What a command is tried with; one that is not named takes just a key."""


def probes(of: User) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(the rule, a command that needs it) for every command and pattern of the user's rights."""
    for right in of.rights:
        for command in right.commands:
            given = _ARGUMENTS.get(command, ("KEY",))
            for pattern in right.patterns or ("",):
                key = pattern.replace("[^p]", "x").replace("[^3]", "x").replace("[^:]", "x").replace("*", "x")
                rule = f"+{command}" + (f" {right.mode}{pattern}" if pattern else "")
                yield rule, (*command.split("|"), *(key if word == "KEY" else word for word in given))


def missing(client: redis.Redis, of: User) -> list[str]:
    """Every right of this user that the connection's user lacks, as ACL rules. Nothing is done: the server is asked."""
    wanted = list(probes(of))
    try:
        name = client.execute_command("ACL WHOAMI")
        pipe = client.pipeline(transaction=False)
        for _, probe in wanted:
            pipe.execute_command("ACL DRYRUN", name, *probe)
        replies = pipe.execute(raise_on_error=False)
        if isinstance(replies[0], redis.ResponseError):
            raise replies[0]
    except redis.exceptions.NoPermissionError:
        return ["+acl|whoami +acl|dryrun (without them no other right can be tried)"]
    return [rule for (rule, _), reply in zip(wanted, replies, strict=True) if reply not in ("OK", b"OK")]


def in_short(lacking: list[str], most: int = 8) -> str:
    """For a line of a log."""
    more = f" and {len(lacking) - most} more" if len(lacking) > most else ""
    return ", ".join(lacking[:most]) + more
