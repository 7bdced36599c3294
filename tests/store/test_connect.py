"""What a server says of itself, as far as the promises rest on it."""

from __future__ import annotations

import pytest
import redis

from p33_sidecar.rehearsal.server import EmbeddedServer
from p33_sidecar.store.connect import may_evict


@pytest.mark.parametrize(("options", "evicts"), [
    ((), False),
    (("--maxmemory-policy", "allkeys-lru"), False),
    (("--maxmemory", "64mb"), False),
    (("--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"), True),
    (("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"), True),
])
def test_a_server_evicts_only_with_a_limit_and_a_policy_that_does(options: tuple[str, ...], evicts: bool) -> None:
    """Without a limit no policy removes anything; without a policy the limit refuses writes: nothing is forgotten."""
    with EmbeddedServer(options=options) as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert may_evict(client) is evicts
