"""`python -m tests.apply.zygote`: starts real `p33-apply` processes quickly, each of which dies (kill -9) where told.

One line of JSON in, one process forked: `{"env": {...}, "at": 3, "executed": true}` dies at its worker's fourth round
trip, before or after the other side acted; `at` -1 lives until SIGTERM. Lines out: `{"pid"}`, then, when it has ended,
`{"status", "trips"}`. This process has one thread and everything imported, so that a fork costs milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from p33_sidecar.apply import intent, main
from p33_sidecar.exchange import connection
from p33_sidecar.store import line, scripts

WORKERS = "p33-apply"
"""How the workers' threads are named; what reader and finder do beside them has no order to be enumerated in."""
NO_LAG_MS = -65_000
"""With a permit's life of 60 s and recvWindow: it is certain at once that an order never went out. Whoever could still
send it is dead here, and the simulated exchange shows an order the moment it has it; so no test has to wait."""


class Trips:
    """Counts a worker's round trips, and ends the process at one of them."""

    def __init__(self, at: int, *, executed: bool, say: int) -> None:
        self.at, self.executed, self.count, self._say = at, executed, 0, say

    def guard(self, owner: type, name: str) -> None:
        real = getattr(owner, name)

        def trip(*args, **more):
            if not threading.current_thread().name.startswith(WORKERS):
                return real(*args, **more)
            index, self.count = self.count, self.count + 1
            os.write(self._say, f"{_label(name, args)}\n".encode())
            if index == self.at and not self.executed:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = real(*args, **more)
            if index == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(owner, name, trip)


def _label(name: str, args: tuple) -> str:
    """What a round trip is, for the names of the tests."""
    if name == "send":
        return args[1].name
    command = args[1][0] if name == "ask_all" else args[1:]
    known = {scripts.sha(script): script for script in scripts.NAMES}
    return known.get(command[1], command[1]) if command and command[0] == "EVALSHA" else str((command or [name])[0])


def child(told: dict, say: int) -> int:
    """What the forked process does."""
    import redis

    trips = Trips(told["at"], executed=told["executed"], say=say)
    trips.guard(redis.Redis, "execute_command")
    trips.guard(redis.client.Pipeline, "execute")
    trips.guard(line.Line, "ask_all")
    trips.guard(connection.Connection, "send")
    intent.READ_LAG_MS = NO_LAG_MS
    return main.run(told["env"])


def serve() -> None:
    for text in sys.stdin:
        told = json.loads(text)
        hear, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(hear)
            os._exit(child(told, say))
        os.close(say)
        print(json.dumps({"pid": pid}), flush=True)
        with os.fdopen(hear) as trips:
            said = trips.read().split()
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "trips": said}), flush=True)


if __name__ == "__main__":
    serve()
