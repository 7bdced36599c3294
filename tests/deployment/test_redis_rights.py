"""Who may do what in Redis, tried on a server with the deployment's redis.conf and users."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import redis

from p33_sidecar.cli import redis_users
from p33_sidecar.cli.envfile import read_env_files
from p33_sidecar.settings import load
from p33_sidecar.store import rights
from tests.deployment.conftest import ADMIN, PLANS, RESULTS, Deployed
from tests.deployment.installation import Installation

NAMES = (rights.SIDECAR, rights.APPLY, rights.PIPELINE, rights.OPERATOR, rights.GOVERNOR)
S, A, P, O, G = NAMES  # noqa: E741 - a table reads by columns
EVERYBODY = frozenset(NAMES)
PERMIT, THEIRS = "quantum:permit:p33:a", "quantum:permit:a"

MAY: tuple[tuple[str, set[str]], ...] = (
    # permits: written by one, taken by one, seen by those who must
    (f"SET {PERMIT} x", {S}),
    (f"DEL {PERMIT}", {A}),
    (f"GET {PERMIT}", {A, P, O}),
    (f"EXPIRE {PERMIT} 5", set()),
    (f"RENAME {PERMIT} quantum:permit:p33:b", set()),
    (f"SET {THEIRS} x", {G}),
    (f"DEL {THEIRS}", {A, G}),
    (f"GET {THEIRS}", {A, P, O, G}),
    ("SET quantum:permit:p33x x", {G}),
    ("SET quantum:permit:p33 x", {G}),
    ("SET quantum:permit:p3 x", {G}),
    ("SET quantum:permit:plan x", {G}),
    ("GET quantum:permit:p33:a", {A, P, O}),
    # marks of what was taken
    ("SET quantum:p33:taken:a x", {A}),
    ("DEL quantum:p33:taken:a", set()),
    ("XADD quantum:p33:taken * f v", {A}),
    ("HSET quantum:p33:taken-orders a x", {A}),
    ("SET quantum:p33:open:BTCUSDT x", {S}),
    ("DEL quantum:p33:open:BTCUSDT", {S, O}),
    # switches
    ("SET quantum:p33:halt 1", {O}),
    ("DEL quantum:p33:halt", {O}),
    ("DEL quantum:p33:halt:BTCUSDT", {O}),
    ("DEL quantum:reconcile:hold:BTCUSDT", set()),
    ("EXISTS quantum:p33:halt", {S, A, P, O}),
    ("HSET quantum:p33:switches * 1", {S, O}),
    ("HSET quantum:p33:pipeline archived_ms 1", {P}),
    # accounts
    ("HSET quantum:position:snapshot:BTCUSDT position_amt 1", {S}),
    ("HSET quantum:position:ledger:BTCUSDT rev 1", {S, O}),
    ("HSET quantum:p33:book:BTCUSDT amt 1", {S, O}),
    ("DEL quantum:p33:book:BTCUSDT", set()),
    ("SET quantum:p33:venue x", {S}),
    ("SET quantum:p33:run_id x", {S}),
    ("SET quantum:p33:ban 1", {S, A, P}),
    ("DEL quantum:p33:ban", set()),
    # streams
    (f"XADD {PLANS} * f v", {O}),
    ("SET quantum:p33:canary x", {O}),
    (f"XADD {RESULTS} * f v", {A}),
    (f"XREADGROUP GROUP g c STREAMS {PLANS} >", {S, A, G}),
    (f"XREADGROUP GROUP g c STREAMS {RESULTS} >", {G}),
    (f"XRANGE {RESULTS} - +", {S, P, O}),
    (f"XREVRANGE {PLANS} + - COUNT 1", {S, A, P, O}),
    (f"XTRIM {RESULTS} MAXLEN 0", {P}),
    (f"XGROUP DESTROY {PLANS} p33", set()),
    (f"DEL {PLANS}", set()),
    ("XADD quantum:p33:decisions * f v", {S}),
    ("XADD quantum:p33:ledger * f v", {S, O}),
    ("XADD quantum:p33:events * f v", {S, A, P, O}),
    ("XTRIM quantum:p33:decisions MAXLEN 0", {S, P}),
    ("XDEL quantum:p33:decisions 1-1", set()),
    ("DEL quantum:p33:decisions", set()),
    # the server
    ("PING", set(EVERYBODY)),
    ("SCAN 0", {S, P, O}),
    ("CONFIG SET appendonly no", set()),
    ("CONFIG GET requirepass", {S, O}),
    ("FLUSHALL", set()),
    ("FLUSHDB", set()),
    ("SHUTDOWN NOSAVE", set()),
    ("KEYS *", set()),
    ("ACL SETUSER x on", set()),
    ("ACL LIST", set()),
    ("REPLICAOF localhost 1", set()),
    ("SCRIPT FLUSH", set()),
    ("CLIENT KILL ID 0", set()),
    ("MONITOR", set()),
    ("GET another:application", set()),
    ("SET another:application x", set()),
)


REFUSED = ("user executing the script can't", "acl failure", "not allowed from script", "no permissions to run")
"""How Redis and Valkey say inside a script that it is a matter of rights."""


def denied(client: redis.Redis, command: str) -> bool:
    """Whether the server refuses it for want of a right; any other error is no matter of rights."""
    try:
        client.execute_command(*command.split())
    except redis.exceptions.NoPermissionError:
        return True
    except redis.ResponseError:
        return False
    return False


@pytest.mark.parametrize("name", NAMES)
def test_every_user_may_what_the_table_says_and_nothing_else(deployed: Deployed, name: str) -> None:
    """The whole table, by really giving the commands."""
    client = deployed.client(name)
    wrong = [command for command, may in MAY if denied(client, command) is (name in may)]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_what_a_right_cannot_do_no_script_can(deployed: Deployed, name: str) -> None:
    """Inner commands are checked against the caller: a script of one's own is no way round."""
    client = deployed.client(name)
    sha = deployed.client().script_load("return redis.pcall(unpack(ARGV))")
    for command, may in MAY:
        words = command.split()
        if words[0] in ("MONITOR", "XREADGROUP", "SHUTDOWN", "REPLICAOF", "PING") or name in may:
            continue
        with pytest.raises(redis.ResponseError) as caught:
            client.evalsha(sha, 0, *words)
        assert any(word in str(caught.value).lower() for word in REFUSED), command


def test_the_default_user_is_off(deployed: Deployed) -> None:
    """Who does not say who he is gets nothing."""
    with redis.Redis.from_url(deployed.server.url) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()


def test_the_server_is_durable_and_never_evicts(deployed: Deployed) -> None:
    """redis.conf was really read."""
    found = deployed.client().config_get("*")
    assert (found["appendonly"], found["maxmemory-policy"]) == ("yes", "noeviction")


@pytest.mark.parametrize("name", NAMES)
def test_each_user_has_all_its_rights_and_another_lacks_some(deployed: Deployed, name: str) -> None:
    """What the programs try at their start."""
    wanted = rights.user(name, plans=PLANS, results=RESULTS)
    assert rights.missing(deployed.client(name), wanted) == []
    assert rights.missing(deployed.client(ADMIN), wanted) == []
    other = deployed.client(rights.GOVERNOR if name != rights.GOVERNOR else rights.PIPELINE)
    assert rights.missing(other, wanted)


def test_a_missing_right_is_named_as_a_rule(deployed: Deployed) -> None:
    """So that it can be pasted into ACL SETUSER."""
    admin = deployed.client()
    line = rights.acl_line(rights.user(rights.SIDECAR, plans=PLANS, results=RESULTS))
    line = line.replace("+xadd %W~quantum:p33:decisions", "+xadd").replace("user p33-sidecar on", "on >word")
    admin.execute_command("ACL", "SETUSER", "narrower", *_rules(line))
    client = redis.Redis.from_url(deployed.server.url, username="narrower", password="word", decode_responses=True)
    wanted = rights.user(rights.SIDECAR, plans=PLANS, results=RESULTS)
    assert rights.missing(client, wanted) == ["+xadd %W~quantum:p33:decisions"]
    admin.execute_command("ACL", "SETUSER", "narrower", "-acl|dryrun")
    assert "+acl|dryrun" in rights.missing(client, wanted)[0]
    admin.execute_command("ACL", "DELUSER", "narrower")


def _rules(line: str) -> list[str]:
    """The words of an ACL line, each selector as one."""
    root, *selectors = line.replace(")", "").split(" (")
    return [*root.split(), *(f"({selector})" for selector in selectors)]


def test_passwords_stay_with_their_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Files of one's own, kept when made again, hashes in the ACL file, nothing on the screen."""
    monkeypatch.setenv("P33_PLAN_STREAM", PLANS)
    assert redis_users.main([str(tmp_path)]) == 0
    secrets = {path.name: path.read_text().strip() for path in tmp_path.glob("*.password")}
    assert {f"{name}.password" for name in NAMES} == set(secrets)
    assert len(set(secrets.values())) == len(NAMES)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.glob("*.password"))
    assert redis_users.main([str(tmp_path)]) == 0
    assert secrets == {path.name: path.read_text().strip() for path in tmp_path.glob("*.password")}
    said = "".join(capsys.readouterr()) + (tmp_path / "users.acl").read_text()
    assert not any(secret in said for secret in secrets.values())
    assert PLANS in said


def test_the_users_may_use_the_streams_that_the_settings_file_names(tmp_path: Path) -> None:
    """As systemd and the programs read it: with a comment behind the name deploy.sh took the default streams."""
    settings = tmp_path / "position-state-brain.env"
    settings.write_text("  P33_PLAN_STREAM = team:plan   # ours\r\nP33_RESULT_STREAM='team:result'\n")
    given = load(read_env_files((settings,)))
    assert redis_users.main([str(tmp_path / "redis"), "--env-file", str(settings)]) == 0
    said = (tmp_path / "redis" / "users.acl").read_text()
    assert given["P33_PLAN_STREAM"] in said and given["P33_RESULT_STREAM"] in said and "quantum:apply" not in said
    deployed = Installation(tmp_path / "root").script("deploy.sh", "--dry-run", "--redis-users").stdout
    (line,) = [line for line in deployed.splitlines() if "cli.redis_users" in line]
    assert line.endswith("--env-file " + str(tmp_path / "root/etc/quantum/position-state-brain.env"))


def test_users_that_somebody_added_stay(tmp_path: Path) -> None:
    """A planner's went with the second deploy.sh --redis-users, and with the server's next start its plans."""
    redis_users.write(tmp_path, plans=PLANS, results=RESULTS)
    path = tmp_path / "users.acl"
    made, added = path.read_text(), f"user planner on >x -@all +xadd %W~{PLANS}\nuser {ADMIN} on >y ~* &* +@all\n"
    path.write_text(made.replace(f"user {O} on", f"user {O} off") + added)
    redis_users.write(tmp_path, plans=PLANS, results=RESULTS)
    assert path.read_text() == made + added
