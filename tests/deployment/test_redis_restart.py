"""A server with the shipped configuration and users is killed: what scripts and transactions wrote is there again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from p33_sidecar.store import rights
from tests.deployment.conftest import Deployed

PATIENCE_S = 60
WRITES_A_BOOK = "redis.call('HSET', KEYS[1], 'rev', '7') redis.call('XADD', KEYS[2], '*', 'json', '{}') return 1"


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Deployed]:
    """One of this test's own, that writes its file at every command."""
    made = Deployed(tmp_path, "--appendfsync", "always")
    with made.server:
        yield made


def restart(durable: Deployed) -> redis.Redis:
    """Killed, started, and its file read to the end: until then it lets nobody in."""
    durable.server.restart()
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        client = durable.client()
        try:
            client.ping()
            return client
        except redis.BusyLoadingError:
            assert time.monotonic() < deadline_s, "still loading"
            client.close()


def test_what_a_script_wrote_survives_a_restart(durable: Deployed) -> None:
    """A book, a mark, a record: more than one write of a script is a transaction in the append-only file."""
    with durable.client(rights.SIDECAR) as sidecar:
        sidecar.evalsha(sidecar.script_load(WRITES_A_BOOK), 2, "quantum:p33:book:BTCUSDT", "quantum:p33:ledger")
    with restart(durable) as client:
        assert client.hgetall("quantum:p33:book:BTCUSDT") == {"rev": "7"}
        assert client.xlen("quantum:p33:ledger") == 1


def test_what_a_transaction_wrote_survives_a_restart(durable: Deployed) -> None:
    """As the poller writes all snapshots of a poll."""
    with durable.client(rights.SIDECAR) as sidecar, sidecar.pipeline(transaction=True) as pipe:
        for symbol in ("BTCUSDT", "ETHUSDT"):
            pipe.hset(f"quantum:position:snapshot:{symbol}", "position_amt", "0.038")
        pipe.execute()
    with restart(durable) as client:
        assert client.hget("quantum:position:snapshot:ETHUSDT", "position_amt") == "0.038"


def test_nobody_becomes_default_all_the_same(durable: Deployed) -> None:
    """Not without a password, not with any, not by RESET from another user."""
    nameless = redis.Redis.from_url(durable.server.url, protocol=2)
    with nameless, pytest.raises(redis.AuthenticationError):
        nameless.get("quantum:p33:venue")
    for password in ("", "anything"):
        with durable.client() as client, pytest.raises(redis.AuthenticationError):
            client.execute_command("AUTH", "default", password)
    with durable.client(rights.OPERATOR) as operator:
        connection = operator.connection_pool.get_connection()
        connection.send_command("RESET")
        connection.read_response()
        connection.send_command("GET", "quantum:p33:venue")
        with pytest.raises(redis.AuthenticationError):
            connection.read_response()
