"""Connections: one per loop, never retried behind our back, each knowing which server process it talks to.

A verdict or a taking that is silently sent twice would be worse than one that fails: retries are off, and the
loops decide. On every connect the server's `run_id` is read, so that a restart between two commands is noticed. A
server that has become a replica (READONLY) is left: after a fail-over its name leads elsewhere, and not every fail-over
closes the connections to it.
Times are the server's: kept as an offset to the monotonic clock, renewed from every reply that carries one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import StoreUnavailable
from .line import Line

CONNECT_TIMEOUT_S = 2.0
BREAKS = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError)
"""After these redis-py gives the connection up; the next command opens another."""
_NOT_IN_NAMES = re.compile(r"[^!-~]")
"""What CLIENT SETNAME refuses, and with it every connection."""
OFFSET_ERROR_MS = 500
"""How far our idea of the server's time may lag behind it."""
NOT_DURABLE = "Redis keeps no append-only file: what it loses in a crash is lost to the ledger"
"""The warning wherever a server is known not to be durable."""
EVICTS = "Redis pushes keys out when its memory is full, a taken permit's mark too: set maxmemory-policy noeviction"
"""The warning wherever a server may evict: the promises rest on marks and books that nobody but us removes."""


class ServerClock:
    """The server's time without asking: monotonic time plus the offset last seen. Shared by all loops."""

    def __init__(self, mono_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.mono_ns = mono_ns
        self._offset_ms = time.time_ns() // 1_000_000 - mono_ns() // 1_000_000

    def now_ms(self) -> int:
        return self.mono_ns() // 1_000_000 + self._offset_ms

    def now_ms_at(self, stamped_ms: int) -> int:
        """The server's time, not before a stamp it gave a moment ago: the offset is only as good as a reply's way back.

        A denial that bore a time before its plan's entry would be no answer to it (contract, chapter 4). A stamp from
        further ahead comes from a clock that was wrong (timeline T13) and proves nothing.
        """
        now_ms = self.now_ms()
        return stamped_ms if now_ms < stamped_ms <= now_ms + OFFSET_ERROR_MS else now_ms

    def sync(self, server_ms: int) -> None:
        """The server just said it is `server_ms`."""
        self._offset_ms = server_ms - self.mono_ns() // 1_000_000


class Link:
    """A connection and what is known of the server at its other end."""

    def __init__(self, url: str, *, name: str, timeout_s: float = 5.0, decode: bool = True) -> None:
        self.run_id = ""
        self._own: redis.Connection | None = None
        over_tcp = {} if url.startswith("unix:") else {"socket_keepalive": True}
        self.redis = redis.Redis.from_url(
            url, protocol=2, decode_responses=decode, encoding_errors="backslashreplace",
            socket_timeout=timeout_s, socket_connect_timeout=CONNECT_TIMEOUT_S, max_connections=4,
            retry=Retry(NoBackoff(), 0, BREAKS), redis_connect_func=self._on_connect,
            client_name="p33-" + _NOT_IN_NAMES.sub("_", name), **over_tcp,
        )

    def _on_connect(self, connection: redis.Connection) -> None:
        connection.on_connect()
        connection.send_command("INFO", "server")
        info = connection.read_response()
        text = info.decode() if isinstance(info, bytes) else info
        self.run_id = next((line[7:].strip() for line in text.splitlines() if line.startswith("run_id:")), "")

    def line(self, *, timeout_s: float = 5.0, decode: bool = True) -> Line:
        """A line that signs in as this link does and tells it the server's `run_id`."""
        return Line(self, timeout_s=timeout_s, decode=decode)

    def own_connection(self) -> redis.Connection:
        """A signed-in connection of a `Line` alone; the one before is closed. Raises StoreUnavailable."""
        self._close_own()
        with store_errors():
            self._own = self.redis.connection_pool.get_connection()
        return self._own

    def reconnect(self) -> None:
        """The next command opens a connection, to wherever the name leads by then; whose it is, is not known before."""
        self.run_id = ""
        self._close_own()
        self.redis.connection_pool.disconnect()

    def close(self) -> None:
        self._close_own()
        self.redis.close()

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.disconnect()
            self.redis.connection_pool.release(self._own)  # else the pool counts it for ever, and is full one day
        self._own = None


class store_errors:  # noqa: N801 - used like contextlib's, which cost a verdict a generator and four frames
    """Whatever redis-py raises for a server that is not there becomes StoreUnavailable."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, redis.RedisError):
            raise unavailable(error) from error


def unavailable(error: redis.RedisError) -> StoreUnavailable:
    """What redis-py raised, as ours."""
    return StoreUnavailable(f"{type(error).__name__}: {error}")


def server_ms(client: redis.Redis) -> int:
    """The server's TIME in ms."""
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


def is_wrong_type(error: redis.ResponseError) -> bool:
    """Whether a command met a key that holds another type of value."""
    return str(error).startswith("WRONGTYPE")


def may_evict(client: redis.Redis) -> bool:
    """Whether the server would remove keys of its own accord rather than refuse a write."""
    memory = client.info("memory")
    return bool(memory.get("maxmemory")) and memory.get("maxmemory_policy") != "noeviction"


def is_durable(client: redis.Redis) -> bool | None:
    """Whether the server keeps an append-only file; None where it does not say."""
    try:
        return client.config_get("appendonly").get("appendonly") == "yes"
    except redis.ResponseError:
        info = client.info("persistence")
        return bool(info.get("aof_enabled")) if "aof_enabled" in info else None
