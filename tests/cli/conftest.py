"""The operator's tool on a real server, with a history that the loops themselves have made."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
import redis

from p33_sidecar import cli
from p33_sidecar.gate import Gate, Taken
from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.settings import SETTINGS, load
from p33_sidecar.store import keys
from tests.service.world import VENUE, World

KEY = "k" * 32
POLICY = {"P33_COOLDOWN_SEC": "60", "P33_POLL_SEC": "10", "P33_STALE_THRESHOLD_SEC": "30", "P33_PERMIT_TTL": "600"}
"""So long that no slow machine lives to see one of them end."""


class Answer:
    """What a command said: its exit code, both outputs, and the JSON where it was asked for."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


class Tool:
    """`p33` as typed, in this process: the command line and the environment are all it is given."""

    def __init__(self, **env: str) -> None:
        self.env = env

    def __call__(self, *args: str, **more: str) -> Answer:
        names = {s.name for s in SETTINGS} | {f"{s.name}_FILE" for s in SETTINGS}
        before, argv = dict(os.environ), sys.argv
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        for name in names & set(os.environ):
            del os.environ[name]
        os.environ.update(self.env | more)
        sys.argv = ["p33", *args]
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = cli.run()
        finally:
            sys.argv = argv
            os.environ.clear()
            os.environ.update(before)
        return Answer(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def environment(url: str, **more: str) -> dict[str, str]:
    """The settings that belong to the world of these tests."""
    return {"REDIS_URL": url, "P33_METRICS_PORT": "0", "P33_PERMIT_KEY": KEY, "BINANCE_API_KEY": "key",
            "BINANCE_API_SECRET": "secret", **POLICY, **more}


def world_of(url: str) -> World:
    """The loops under the same settings."""
    return World(url, policy=load(environment(url)).policy, key=KEY.encode(), instance="desk-1",
                 allowlist=frozenset({"BTCUSDT", "ETHUSDT"}))


def take(world: World, url: str, plan_id: str, symbol: str = "BTCUSDT") -> None:
    """Both permits of an ALLOW, taken as an Apply Layer takes them."""
    world.redis.set(keys.governor_permit(plan_id), '{"granted":true}', px=60_000)
    gate = Gate(url, key=(KEY.encode(),), venue=VENUE, by="apply-1")
    assert isinstance(gate.take(plan_id, symbol, entry_ms=0, wait_ms=0), Taken)
    gate.close()


@pytest.fixture(scope="session")
def opened(server: EmbeddedServer) -> dict[bytes, bytes]:
    """Every key of a database whose books were just opened: two polls half a second apart, waited for once."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        world_of(server.url).open_books().close()
        return {key: client.dump(key) for key in client.scan_iter()}


@pytest.fixture
def world(redis_url: str, opened: dict[bytes, bytes]) -> Iterator[World]:
    """Loops that started again on open books: BTCUSDT 0.038, ETHUSDT flat."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        for key, value in opened.items():
            client.restore(key, 0, value)
    built = world_of(redis_url)
    yield built.start_again()
    built.close()


@pytest.fixture
def p33(redis_url: str) -> Tool:
    """The tool, aimed at the same database."""
    return Tool(**environment(redis_url))


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedServer]:
    """A server of this module's own, so that a history can be made once and only looked at."""
    with EmbeddedServer(durable=True) as running:
        yield running
