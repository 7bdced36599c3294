"""What every test may ask for: a real server, and an empty database on it."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import redis

from p33_sidecar.rehearsal.server import EmbeddedServer

hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("steady")
"""The same examples everywhere, and no verdict on how fast this machine is at the moment."""


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One server for the whole run, on a socket file. Tests that kill or pause a server start one of their own."""
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def redis_url(server: EmbeddedServer) -> str:
    """The URL of an empty database."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A connection to the empty database, replies as text."""
    with redis.Redis.from_url(redis_url, decode_responses=True, protocol=2) as client:
        yield client
