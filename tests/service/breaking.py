"""A store that dies at its n-th round trip: before it reached the server, or before the reply came back.

Stands for kill -9 and for a lost connection at every single step; the server is real. Both ways to the server are
guarded: redis-py's client, and the desk's own line.
"""

from __future__ import annotations

import redis

from p33_sidecar.store.line import Line


class Died(redis.ConnectionError):
    """The process, or its connection, ended here."""


class Breaking:
    """Arms a client and a line: their n-th round trip (from 0) raises Died, executed or not. -1: never."""

    def __init__(self, client: redis.Redis, line: Line | None = None, *, at: int = -1, executed: bool = False) -> None:
        self.at, self.executed, self.count = at, executed, 0
        self._run = client.execute_command
        self._pipeline = client.pipeline
        client.execute_command = self._command
        client.pipeline = self._piped
        if line is not None:
            self._ask_all = line.ask_all
            line.ask_all = lambda commands: self._guard(lambda: self._ask_all(commands))

    def _command(self, *args, **options):
        return self._guard(lambda: self._run(*args, **options))

    def _piped(self, *args, **options):
        pipe = self._pipeline(*args, **options)
        execute = pipe.execute
        pipe.execute = lambda *a, **o: self._guard(lambda: execute(*a, **o))
        return pipe

    def _guard(self, act):
        index, self.count = self.count, self.count + 1
        if index != self.at:
            return act()
        if self.executed:
            act()
        raise Died(f"round trip {index}")
