"""A server that is not one: fakeredis with its Lua, on a clock that only moves when told to.

For the simulation and for pure units; what a real server does beyond fakeredis (rights, blocking reads, being killed)
is tested on a real one. `store contract` tests run on both, so that the two do not drift apart.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import fakeredis
import redis

from p33_sidecar.store.connect import Link, ServerClock
from p33_sidecar.store.line import Command, Line

START_MS, BOOTED_MS = 1_769_301_000_000, 5_000_000


class HandClock:
    """Wall time of the server, monotonic time of the machine, and the exchange's own. All stand still unless moved."""

    def __init__(self) -> None:
        self.wall_ms, self.mono_ms = START_MS, BOOTED_MS

    @property
    def exchange_ms(self) -> int:
        """The exchange's clock: nobody here can set it."""
        return START_MS + self.mono_ms - BOOTED_MS

    @property
    def set_by_ms(self) -> int:
        """By how much the server's clock was set, all in all."""
        return self.wall_ms - self.exchange_ms

    def pass_ms(self, ms: int) -> None:
        """Time goes by."""
        self.wall_ms += ms
        self.mono_ms += ms

    def set_wall(self, by_ms: int) -> None:
        """Somebody sets the server's clock; no time goes by."""
        self.wall_ms += by_ms

    def time(self) -> float:
        """What fakeredis takes for time.time(). Half a millisecond on, so that no rounding falls below."""
        return (self.wall_ms + 0.5) / 1000

    def mono_ns(self) -> int:
        return self.mono_ms * 1_000_000


class _Time:
    """The module `time`, as fakeredis shall see it."""

    def __init__(self, clock: HandClock) -> None:
        self.time = clock.time

    def __getattr__(self, name: str):
        return getattr(time, name)


@contextlib.contextmanager
def on_clock(clock: HandClock) -> Iterator[None]:
    """Within: fakeredis lives by `clock`; nothing else does."""
    modules = [module for name, module in list(sys.modules.items())
               if name.startswith("fakeredis") and getattr(module, "time", None) is time]
    for module in modules:
        module.time = _Time(clock)
    try:
        yield
    finally:
        for module in modules:
            module.time = time


class _Client(fakeredis.FakeRedis):
    """fakeredis lacks CONFIG and INFO. They are asked for an append-only file, and whether keys are evicted."""

    def execute_command(self, *args, **options):
        try:
            return super().execute_command(*args, **options)
        except redis.ResponseError as error:
            raise _no_group(error) if args[0] == "XAUTOCLAIM" else error from None

    def config_get(self, pattern: str = "*", *args, **options) -> dict[str, str]:
        return {"appendonly": "yes"}

    def info(self, section: str | None = None, *args, **options) -> dict[str, Any]:
        return {"maxmemory": 0}


class FakeLine(Line):
    """The line's two questions, put to a fake connection."""

    def __init__(self, connection: redis.Connection) -> None:
        self._connection = connection

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Replies as the server gives them, errors among them."""
        return [self._answer(command) for command in commands]

    def close(self) -> None:
        """Nothing to end."""

    def _answer(self, command: Command) -> Any:
        self._connection.send_command(*command)
        try:
            return self._connection.read_response()
        except redis.exceptions.NoScriptError:
            return redis.ResponseError("NOSCRIPT")
        except redis.ResponseError as error:
            return _no_group(error)


class FakeLink(Link):
    """A connection to the fake server. The process at its other end has the name it was given."""

    def __init__(self, store: FakeStore, *, decode: bool = True) -> None:
        self.store = store
        self.redis = _Client(server=store.server, decode_responses=decode, protocol=2)

    def line(self, *, timeout_s: float = 5.0, decode: bool = True) -> FakeLine:
        """Straight to the fake server; there is no socket to read from."""
        client = _Client(server=self.store.server, decode_responses=decode, protocol=2)
        return FakeLine(client.connection_pool.make_connection())

    @property
    def run_id(self) -> str:
        """Known at once: a fake connection has no reconnect to learn it from."""
        return self.store.run_id


def _no_group(error: redis.ResponseError) -> redis.ResponseError:
    """fakeredis has words of its own for a stream that is not there."""
    return redis.ResponseError(f"NOGROUP {error}") if "requires the key to exist" in str(error) else error


class FakeStore:
    """One server's data, its clock, and the name of its process."""

    def __init__(self, clock: HandClock) -> None:
        self.clock, self.server = clock, fakeredis.FakeServer(version=(7,))
        self.run_id, self._starts = "run-1", 1
        self._saved: dict[bytes, tuple[int, bytes]] = {}

    def link(self, *, decode: bool = True) -> FakeLink:
        return FakeLink(self, decode=decode)

    def server_clock(self) -> ServerClock:
        clock = ServerClock(self.clock.mono_ns)
        clock.sync(self.clock.wall_ms)
        return clock

    def save(self) -> None:
        """What a crash from now on would come back to."""
        raw = fakeredis.FakeRedis(server=self.server, protocol=2)
        self._saved = {name: (max(raw.execute_command("PEXPIRETIME", name), 0), raw.dump(name))
                       for name in raw.scan_iter()}

    def crash(self) -> None:
        """The server loses power and comes back with what was saved last: another process."""
        raw = fakeredis.FakeRedis(server=self.server, protocol=2)
        raw.flushall()
        for name, (expires_ms, value) in self._saved.items():
            if expires_ms == 0 or expires_ms > self.clock.wall_ms:
                raw.restore(name, expires_ms and expires_ms - self.clock.wall_ms, value)
        self._starts += 1
        self.run_id = f"run-{self._starts}"
